//! What is nearby: advertisements become a list of things, as long as somebody wants to know.

use super::radio::{AdapterState, Heard, Radio, Sighting};
use super::room::Room;
use crate::domain::improv;
use crate::domain::pairing::{Advertised, SERVICE};
use crate::service::{Nearby, NearbyKind};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Things that are remembered; the weakest go first.
const THINGS: usize = 128;
/// How long a thing is shown after it was last heard, ms.
const SHOWN_MS: u64 = 30_000;
/// How often the list is told, when it has changed.
const TOLD: Duration = Duration::from_millis(250);
/// Longest name that is shown, in characters.
const NAME: usize = 40;
/// Waits after scans that did not begin: the first and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// UUID of the Hearthkey service as a number.
pub(super) const HEARTHKEY: u128 = u128::from_be_bytes(SERVICE);

/// The things nearby, by what they are found with.
#[derive(Default)]
pub(super) struct List(HashMap<String, Nearby>);

impl List {
    /// Takes what was heard at `now` (ms since 1970); false when it is nothing that can be paired.
    pub(super) fn hear(&mut self, sighting: Sighting, now: u64) -> bool {
        let has = |uuid: u128| sighting.services.contains(&uuid) || sighting.data.contains_key(&uuid);
        let kind = if has(HEARTHKEY) {
            NearbyKind::Hearthkey
        } else if has(improv::SERVICE) || has(improv::SERVICE_DATA) {
            NearbyKind::Improv
        } else {
            // It no longer is what it was.
            return self.0.remove(&sighting.id).is_some();
        };
        let advertised = sighting.data.get(&HEARTHKEY).and_then(|data| Advertised::parse(data));
        let name = shown(sighting.name.as_deref().unwrap_or_default());
        let thing = Nearby { id: sighting.id, kind, name, signal: sighting.signal, advertised, seen_ms: now };
        self.0.insert(thing.id.clone(), thing);
        if self.0.len() > THINGS
            && let Some(weakest) = self.0.values().min_by_key(|t| (t.signal, t.seen_ms)).map(|t| t.id.clone())
        {
            self.0.remove(&weakest);
        }
        true
    }

    /// Drops what was not heard for a while; true when something was dropped.
    pub(super) fn age(&mut self, now: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|_, thing| now.saturating_sub(thing.seen_ms) < SHOWN_MS);
        before != self.0.len()
    }

    /// The strongest first.
    pub(super) fn things(&self) -> Vec<Nearby> {
        let mut things: Vec<Nearby> = self.0.values().cloned().collect();
        things.sort_by(|a, b| (b.signal, &a.id).cmp(&(a.signal, &b.id)));
        things
    }
}

/// A name as a person can read it: what somebody nearby advertises is not trusted to be one.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(NAME).collect::<String>().trim().to_owned()
}

/// Looks around whenever that is wanted and the radio is free, and tells what is there.
pub(super) async fn run<R: Radio>(room: Arc<Room<R>>, shutdown: CancellationToken) {
    let (mut list, mut pause) = (List::default(), PAUSE.0);
    while !shutdown.is_cancelled() {
        let until = room.scan_stopped(&shutdown);
        let begun = tokio::select! {
            () = shutdown.cancelled() => return,
            () = room.scan_wanted(), if list.0.is_empty() => true,
            begun = timeout(Duration::from_millis(SHOWN_MS / 10), room.scan_wanted()), if !list.0.is_empty() => begun.is_ok(),
        };
        if begun {
            match look(&room, &mut list, until).await {
                Ok(()) => pause = PAUSE.0,
                Err(error) => {
                    tracing::warn!(%error, "looking for devices nearby did not begin; it is tried again");
                    room.trouble.notify_one();
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = sleep(pause) => pause = (pause * 2).min(PAUSE.1),
                    }
                }
            }
        }
        if list.age(room.service.now()) || room.adapter().state != AdapterState::Ready {
            if room.adapter().state != AdapterState::Ready {
                list = List::default();
            }
            room.tell(list.things());
        }
    }
}

/// Looks around until `until`.
async fn look<R: Radio>(room: &Room<R>, list: &mut List, until: impl Future<Output = ()>) -> Result<(), super::radio::RadioError> {
    let mut heard = room.radio.scan().await?;
    let mut told = interval(TOLD);
    told.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut changed, begun) = (false, Instant::now());
    tokio::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => break,
            heard = heard.recv() => match heard {
                Some(Heard::Device(sighting)) => changed |= list.hear(sighting, room.service.now()),
                Some(Heard::Adapter) => room.trouble.notify_one(),
                None => {
                    // The radio's side has ended: it is looked after, and not begun again at once.
                    room.trouble.notify_one();
                    if begun.elapsed() < PAUSE.0 {
                        sleep(PAUSE.0).await;
                    }
                    break;
                }
            },
            _ = told.tick() => {
                changed |= list.age(room.service.now());
                if std::mem::take(&mut changed) {
                    room.tell(list.things());
                }
            }
        }
    }
    room.radio.stop_scan().await;
    if changed {
        room.tell(list.things());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(id: &str, services: &[u128], data: &[(u128, &[u8])]) -> Sighting {
        Sighting {
            id: id.into(),
            name: Some("La\u{7}mp".into()),
            signal: Some(-50),
            services: services.to_vec(),
            data: data.iter().map(|(uuid, data)| (*uuid, data.to_vec())).collect(),
        }
    }

    #[test]
    fn a_thing_is_known_by_its_service_or_its_service_data() {
        let mut list = List::default();
        let info = [1, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6];
        assert!(list.hear(sighting("a", &[HEARTHKEY], &[]), 1));
        assert!(list.hear(sighting("b", &[], &[(HEARTHKEY, &info)]), 1));
        assert!(list.hear(sighting("c", &[], &[(improv::SERVICE_DATA, &[2, 0, 0, 0, 0, 0])]), 1));
        assert!(!list.hear(sighting("d", &[7], &[]), 1));
        let things = list.things();
        assert_eq!(
            things.iter().map(|t| (t.id.as_str(), t.kind, t.advertised.is_some())).collect::<Vec<_>>(),
            [("a", NearbyKind::Hearthkey, false), ("b", NearbyKind::Hearthkey, true), ("c", NearbyKind::Improv, false),]
        );
        assert_eq!(things[0].name, "Lamp");
    }

    #[test]
    fn what_is_not_heard_any_more_goes_and_so_does_what_became_something_else() {
        let mut list = List::default();
        list.hear(sighting("a", &[HEARTHKEY], &[]), 1_000);
        list.hear(sighting("b", &[HEARTHKEY], &[]), 20_000);
        assert!(!list.age(30_999));
        assert!(list.age(31_000));
        assert_eq!(list.things().len(), 1);
        assert!(list.hear(sighting("b", &[], &[]), 32_000));
        assert!(list.things().is_empty());
    }

    #[test]
    fn a_crowd_leaves_the_strongest() {
        let mut list = List::default();
        for n in 0..500u16 {
            let mut one = sighting(&n.to_string(), &[HEARTHKEY], &[]);
            one.signal = Some(-i16::try_from(n).unwrap());
            list.hear(one, 1);
        }
        assert_eq!(list.things().len(), THINGS);
        assert_eq!(list.things()[0].signal, Some(0));
    }
}
