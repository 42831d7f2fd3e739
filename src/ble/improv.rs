//! Gives a stock device its Wi-Fi by Improv: carries what [`Client`] says between the radio and the service.

use super::drive::{network, reach};
use super::radio::{Link, Radio, RadioError};
use super::room::{Need, Room};
use super::words;
use crate::domain::improv::{Characteristic, Client, Event, Fault, Outcome};
use crate::domain::pairing::{Wifi, value_max};
use crate::service::{Job, NearbyKind, PairingProblem, PairingStep};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// One device, until it is in the network or not.
pub(super) async fn run<R: Radio>(room: &Room<R>, job: &Job, cancel: &CancellationToken) -> Result<(), PairingProblem> {
    let chosen = job.nearby.clone().ok_or_else(words::not_heard)?;
    let wifi = network(room, job.wifi.clone(), job.wants_system_wifi).await?.ok_or_else(words::wifi_needed)?;
    let mut link = tokio::select! {
        () = cancel.cancelled() => return Err(words::cancelled()),
        link = reach(room, job, |thing| Some(thing.kind == NearbyKind::Improv && thing.id == chosen), None) => link?,
    };
    let _need = room.need(Need::Link);
    let outcome = talk(room, job, cancel, &mut link, wifi).await;
    link.close().await;
    outcome
}

async fn talk<R: Radio>(
    room: &Room<R>,
    job: &Job,
    cancel: &CancellationToken,
    link: &mut R::Link,
    wifi: Wifi,
) -> Result<(), PairingProblem> {
    let said = [Characteristic::State, Characteristic::Error, Characteristic::Result].map(Characteristic::uuid);
    link.listen(&said).await.map_err(|error| words::link(&error))?;
    let began = Instant::now();
    let now = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut client = Client::start(&wifi.ssid, &wifi.passphrase, value_max(link.mtu()), now());
    drop(wifi);
    let (mut linked, mut cancelled) = (true, false);
    loop {
        while let Some(event) = client.poll() {
            match event {
                Event::Read(of) => match link.read(of.uuid()).await {
                    Ok(value) => client.value(of, &value, now()),
                    // A device need not have everything: what it does not have, it cannot do.
                    Err(RadioError::Missing) if of == Characteristic::Capabilities => client.value(of, &[0], now()),
                    Err(error) => linked = lost(&mut client, &error),
                },
                Event::Write(value) => match link.write(Characteristic::Command.uuid(), &value).await {
                    Ok(()) => client.written(now()),
                    Err(error) => linked = lost(&mut client, &error),
                },
                Event::Press => room.service.pairing_step(&job.id, PairingStep::Proving),
                Event::Info(info) => tracing::info!(pairing = job.id, ?info, "an Improv device says what it is"),
                Event::Joining => room.service.pairing_step(&job.id, PairingStep::Joining),
                Event::Ended(Outcome::Complete { url }) => {
                    if let Some(url) = url {
                        room.service.pairing_result(&job.id, &url);
                    }
                    return Ok(());
                }
                Event::Ended(Outcome::Failed(fault)) => return Err(words::improv(fault)),
            }
        }
        let Some(deadline) = client.deadline() else { return Err(words::improv(Fault::Lost)) };
        tokio::select! {
            () = cancel.cancelled(), if !cancelled => {
                cancelled = true;
                client.cancel();
            }
            value = link.next(), if linked => match value {
                Some((uuid, value)) => {
                    if let Some(of) = Characteristic::of(uuid) {
                        client.value(of, &value, now());
                    }
                }
                None => {
                    linked = false;
                    client.lost();
                }
            },
            () = sleep_until(began + Duration::from_millis(deadline)) => client.tick(now()),
        }
    }
}

/// The device does not answer any more; some take the service away when they are in the network.
fn lost(client: &mut Client, error: &RadioError) -> bool {
    tracing::debug!(%error, "an Improv device does not answer any more");
    client.lost();
    false
}
