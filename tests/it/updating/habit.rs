//! What a hub does about new versions by itself, by a clock that the test drives: when it looks, what it installs, and for what it waits.

use super::rig::{Fault, Rig, Site};
use crate::clock::Virtual;
use crate::firmware_hub::{Made, image};
use crate::house::{House, HouseOptions};
use hearthkey::service::{Change, NewPairing, RadioState, UpdatePhase, UpdateView};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const HOUR: u64 = 3_600_000;
/// The first look after a start comes at the latest then.
const FIRST: u64 = 11 * 60_000;
/// 12:00 UTC.
const NOON: u64 = 1_795_608_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// A vendor, a hub that takes its versions by itself at these hours (from now), and the hub's clock.
struct Home {
    rig: Rig,
    house: House,
    clock: Arc<Virtual>,
}

impl Home {
    async fn new(mut rig: Rig, hours: (u8, u8)) -> Home {
        Site::of(&mut rig).await;
        let clock = Virtual::at(NOON, true);
        let mut update = rig.config.update.clone();
        let zone = jiff::tz::TimeZone::system();
        let at = jiff::Timestamp::from_millisecond(NOON.cast_signed()).unwrap();
        let hour = u8::try_from(zone.to_datetime(at).hour()).unwrap();
        (update.enabled, update.automatic) = (true, true);
        update.window = ((hour + hours.0) % 24, (hour + hours.1) % 24);
        let set = Box::new(move |config: &mut hearthkey::hub::Config| {
            config.update = update;
            // A supervisor would carry out the order: here it lies there, and is looked at.
            config.supervised = true;
        });
        let house = House::build(HouseOptions { clock: Some(clock.clone()), set, ..HouseOptions::default() }).await;
        Home { rig, house, clock }
    }

    fn view(&self) -> UpdateView {
        self.house.hub.service().hub_update(&self.house.owner).unwrap()
    }

    /// What the supervisor was ordered, if anything.
    fn order(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.house.dir.path().join("hub/update/order.json")).ok()?).ok()
    }

    /// Waits until updates stand so.
    async fn until(&self, what: &str, wanted: impl Fn(&UpdateView) -> bool) -> UpdateView {
        let mut changes = self.house.hub.service().changes();
        let looking = async {
            loop {
                let view = self.view();
                if wanted(&view) {
                    return view;
                }
                while !matches!(changes.recv().await, Ok(Change::Update) | Err(_)) {}
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("not {what}: {:?}", self.view()))
    }

    /// Whatever is to be done at this moment is done: who asks now is answered after it.
    async fn settled(&self) {
        for _ in 0..2 {
            self.house.hub.service().check_update(&self.house.owner).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_looks_by_itself_and_installs_when_its_hours_come() {
    let rig = Rig::new();
    rig.release("7.1.0", Fault::None);
    let home = Home::new(rig, (3, 5)).await;
    home.clock.pass(FIRST);
    let found = home.until("found", |view| view.offered.is_some()).await;
    assert!(found.offered.unwrap().by_itself);
    home.settled().await;
    assert_eq!((home.order(), home.view().phase), (None, UpdatePhase::Idle), "it is not its hour");
    home.clock.pass(3 * HOUR);
    home.until("ordered", |_| home.order().is_some()).await;
    assert_eq!(home.order().unwrap(), json!({"do": "apply", "version": "7.1.0", "by": "hub"}));
    home.house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_comes_by_itself_when_its_share_has_grown_to_this_hub_and_not_before() {
    let rig = Rig::new();
    rig.release_as("7.1.0", Fault::None, |order| order.percent = 0);
    let home = Home::new(rig, (0, 0)).await;
    home.clock.pass(FIRST);
    let found = home.until("found", |view| view.offered.is_some()).await;
    assert!(!found.offered.unwrap().by_itself, "an owner who asks does not wait");
    home.settled().await;
    assert_eq!(home.order(), None, "it is not its turn");
    // The same archive, for everybody now: the next look finds that.
    home.rig.release_as("7.1.0", Fault::None, |order| order.percent = 100);
    home.clock.pass(30 * HOUR);
    home.until("ordered", |_| home.order().is_some()).await;
    assert_eq!(home.order().unwrap()["by"], "hub");
    home.house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_version_waits_until_nothing_is_paired_and_nothing_is_installed() {
    let rig = Rig::new();
    rig.release("7.1.0", Fault::None);
    let home = Home::new(rig, (0, 0)).await;
    let (house, service) = (&home.house, home.house.hub.service());
    // A pairing that waits for the radio, and a lamp that installs.
    let device = house.device("lamp").await;
    service.radio_changed(RadioState::Ready, None);
    let new = NewPairing { code: Some(device.code.clone().into()), device: Some(device.id.to_string()), ..NewPairing::default() };
    let pairing = service.begin_pairing(&house.owner, new).await.unwrap();
    house.policy(json!({"mode": "automatic"})).await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(1).await;
    house.taken(&Made::new(house, 2, image(2, 5_000)).await).await;
    let offer = lamp.offer().await;
    lamp.is(1, "installing", &offer, json!({})).await;

    home.clock.pass(FIRST);
    let says = |word: &'static str| {
        move |view: &UpdateView| view.phase == UpdatePhase::Waiting && view.problem.as_ref().is_some_and(|problem| problem.contains(word))
    };
    home.until("waiting for the pairing", says("being paired")).await;
    assert_eq!(home.order(), None);
    service.cancel_pairing(&house.owner, &pairing.id).unwrap();
    home.until("waiting for the lamp", says("installs firmware")).await;
    assert_eq!(home.order(), None);
    lamp.is(2, "confirmed", &offer, json!({})).await;
    home.until("ordered", |_| home.order().is_some()).await;
    assert_eq!(home.order().unwrap()["version"], "7.1.0");
    home.house.hub.shut_down().await;
}
