//! A simulated device on a real Bluetooth controller of this machine, through BlueZ: what `sim::bluez` is to a device in
//! a test, this is to one on the air.
//!
//! It runs on a thread of its own with one task at a time, because writes must reach the device in their order. BlueZ
//! tells a GATT server nothing of connections: one begins with the first read or write, and ends with the subscription.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bluer::adv::{Advertisement, AdvertisementHandle};
use bluer::gatt::local::{
    Application, Characteristic, CharacteristicNotifier, CharacteristicNotify, CharacteristicNotifyMethod, CharacteristicRead,
    CharacteristicWrite, CharacteristicWriteMethod, ReqError, Service,
};
use bluer::{Adapter, Address};
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::gatt::{Changed, GattDevice, LINK_DEPTH, Signal};

/// After the last word of a device its link stays so long, so that the word arrives.
const LAST_WORD: Duration = Duration::from_millis(300);
/// Bytes in a legacy advertisement, and those that the flags take of them.
const ROOM: usize = 31;
const FLAGS: usize = 3;
/// What the short UUIDs have in common: their last 96 bits.
const SHORT: u128 = 0x0000_1000_8000_0080_5F9B_34FB;

/// Why the device cannot be on the air.
#[derive(Debug, thiserror::Error)]
pub enum PeripheralError {
    /// BlueZ, or the controller.
    #[error("Bluetooth: {0}; is bluetoothd running, and is there a controller (bluetoothctl list)?")]
    Bluetooth(#[from] bluer::Error),
    /// The thread did not start, or broke down.
    #[error("the device's thread: {0}")]
    Thread(String),
}

/// Puts the device on the air with the adapter of this name (`hci1`), or with the default one, until `shutdown`.
///
/// # Errors
/// [`PeripheralError`].
pub async fn run(
    adapter: Option<String>,
    name: Option<String>,
    device: Box<dyn GattDevice>,
    shutdown: CancellationToken,
) -> Result<(), PeripheralError> {
    let broken = |error: std::io::Error| PeripheralError::Thread(error.to_string());
    let (done, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    let serve = move || {
        let _ = done.send(runtime.block_on(serve(adapter, name, device, shutdown)));
    };
    std::thread::Builder::new().name("peripheral".into()).spawn(serve).map_err(broken)?;
    ended.await.map_err(|_| PeripheralError::Thread("it broke down".into()))?
}

/// The device and its connection.
struct Held {
    device: Box<dyn GattDevice>,
    central: Option<Address>,
}

#[derive(Clone)]
struct Server {
    held: Arc<Mutex<Held>>,
    adapter: Adapter,
    notifiers: Arc<tokio::sync::Mutex<HashMap<Uuid, CharacteristicNotifier>>>,
}

async fn serve(
    adapter: Option<String>,
    name: Option<String>,
    mut device: Box<dyn GattDevice>,
    shutdown: CancellationToken,
) -> Result<(), PeripheralError> {
    let session = bluer::Session::new().await?;
    let adapter = match adapter {
        Some(name) => session.adapter(&name)?,
        None => session.default_adapter().await?,
    };
    adapter.set_powered(true).await?;
    let changed = Changed::default();
    device.plugged(changed.clone());
    let services = device.services();
    let held = Arc::new(Mutex::new(Held { device, central: None }));
    let server = Server { held, adapter: adapter.clone(), notifiers: Arc::default() };
    let services = services.iter().map(|service| server.service(service)).collect();
    let _application = adapter.serve_gatt_application(Application { services, ..Application::default() }).await?;
    let mut advertised = None;
    let mut on_air = None;
    loop {
        let now = server.lock().device.advertised();
        if now != advertised {
            // One advertisement at a time: the old one goes before the new one comes.
            drop(on_air.take());
            on_air = match &now {
                Some(now) => Some(advertise(&adapter, now, name.as_deref()).await?),
                None => None,
            };
            advertised = now;
        }
        if shutdown.run_until_cancelled(changed.rung()).await.is_none() {
            return Ok(());
        }
    }
}

/// The list of services and the flags are left out when there is no room for them. What is too long is not even tried:
/// BlueZ 5.66 refuses it and leaves it in the kernel, where it goes out with the flags alone for as long as bluetoothd runs.
async fn advertise(adapter: &Adapter, what: &super::gatt::Advertisement, name: Option<&str>) -> bluer::Result<AdvertisementHandle> {
    let (list, flags) = room_for(what);
    let advertisement = Advertisement {
        service_uuids: what.services.iter().copied().filter(|_| list).collect(),
        service_data: what.service_data.iter().cloned().collect::<BTreeMap<_, _>>(),
        discoverable: flags.then_some(true),
        // It goes into the response to a scan.
        local_name: name.filter(|name| name.len() <= ROOM - 2).map(str::to_owned),
        ..Advertisement::default()
    };
    adapter.advertise(advertisement).await
}

/// Whether there is room for the list of services, and for the flags, beside the service data, which stays.
fn room_for(what: &super::gatt::Advertisement) -> (bool, bool) {
    let data: usize = what.service_data.iter().map(|(uuid, data)| 2 + length(*uuid) + data.len()).sum();
    // UUIDs of one length share a header.
    let headers = what.services.iter().map(|uuid| length(*uuid)).collect::<BTreeSet<_>>().len() * 2;
    let list = headers + what.services.iter().map(|uuid| length(*uuid)).sum::<usize>();
    (list > 0 && data + list + FLAGS <= ROOM, data + FLAGS <= ROOM)
}

/// Bytes of a UUID in the air (Bluetooth Core 5.4, vol. 3, part B, §2.5.1).
fn length(uuid: Uuid) -> usize {
    let (first, rest) = (uuid.as_u128() >> 96, uuid.as_u128() & (u128::MAX >> 32));
    match first {
        _ if rest != SHORT => 16,
        0..=0xFFFF => 2,
        _ => 4,
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn service(&self, service: &super::gatt::Service) -> Service {
        let characteristics = service.characteristics.iter().map(|of| self.characteristic(of)).collect();
        Service { uuid: service.uuid, primary: true, characteristics, ..Service::default() }
    }

    fn characteristic(&self, of: &super::gatt::Characteristic) -> Characteristic {
        let uuid = of.uuid;
        let (reader, writer, notifier) = (self.clone(), self.clone(), self.clone());
        let read = of.read.then(|| CharacteristicRead {
            read: true,
            fun: Box::new(move |request| {
                let server = reader.clone();
                async move {
                    let value = server.at(request.device_address, request.mtu)?.device.read(uuid).map_err(|_| ReqError::Failed)?;
                    value.get(usize::from(request.offset)..).map(<[u8]>::to_vec).ok_or(ReqError::InvalidOffset)
                }
                .boxed()
            }),
            ..CharacteristicRead::default()
        });
        let write = (of.write || of.write_without_response).then(|| CharacteristicWrite {
            write: of.write,
            write_without_response: of.write_without_response,
            method: CharacteristicWriteMethod::Fun(Box::new(move |value, request| {
                let server = writer.clone();
                async move {
                    if request.offset != 0 {
                        return Err(ReqError::InvalidOffset);
                    }
                    server.at(request.device_address, request.mtu)?.device.write(uuid, &value).map_err(|_| ReqError::Failed)
                }
                .boxed()
            })),
            ..CharacteristicWrite::default()
        });
        let notify = of.notify.then(|| CharacteristicNotify {
            notify: true,
            method: CharacteristicNotifyMethod::Fun(Box::new(move |session| {
                let server = notifier.clone();
                async move {
                    let stopped = session.stopped();
                    server.notifiers.lock().await.insert(uuid, session);
                    server.lock().device.subscribed(uuid, true);
                    tokio::spawn(async move {
                        stopped.await;
                        server.lock().device.subscribed(uuid, false);
                        server.gone();
                    });
                }
                .boxed()
            })),
            ..CharacteristicNotify::default()
        });
        Characteristic { uuid, read, write, notify, ..Characteristic::default() }
    }

    /// The device, connected with this central.
    fn at(&self, central: Address, mtu: u16) -> Result<MutexGuard<'_, Held>, ReqError> {
        let mut held = self.lock();
        match held.central {
            Some(known) if known == central => return Ok(held),
            Some(_) => return Err(ReqError::NotPermitted),
            None => {}
        }
        let (link, signals) = mpsc::channel(LINK_DEPTH);
        held.device.connected(mtu.max(23), link).map_err(|_| ReqError::NotPermitted)?;
        held.central = Some(central);
        tokio::spawn(self.clone().carry(central, signals));
        Ok(held)
    }

    /// Carries what the device says to the central, until the connection ends.
    async fn carry(self, central: Address, mut signals: mpsc::Receiver<Signal>) {
        while let Some(signal) = signals.recv().await {
            match signal {
                Signal::Notify(uuid, value) => {
                    if let Some(session) = self.notifiers.lock().await.get_mut(&uuid)
                        && let Err(error) = session.notify(value).await
                    {
                        tracing::debug!(%error, "a notification was not sent");
                    }
                }
                Signal::Disconnect => {
                    tokio::time::sleep(LAST_WORD).await;
                    if let Ok(device) = self.adapter.device(central) {
                        let _ = device.disconnect().await;
                    }
                    self.gone();
                }
            }
        }
    }

    fn gone(&self) {
        let mut held = self.lock();
        if held.central.take().is_some() {
            held.device.disconnected();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gatt::Advertisement;
    use super::*;

    #[test]
    fn what_has_no_room_is_left_out() {
        let (long, short) = (Uuid::from_u128(0xac94_43d2_687c_4c4c_aa78_2d61_b4d3_6cd2), Uuid::from_u128(0x4677 << 96 | SHORT));
        let room = |services: &[Uuid], of: Uuid, data: usize| {
            room_for(&Advertisement { services: services.to_vec(), service_data: vec![(of, vec![0; data])] })
        };
        assert_eq!(room(&[], long, 12), (false, false));
        assert_eq!(room(&[long], long, 10), (false, true));
        // Improv fills it to the last byte.
        assert_eq!(room(&[long], short, 6), (true, true));
        assert_eq!(room(&[long], short, 7), (false, true));
        assert_eq!(room(&[short, short], short, 16), (true, true));
    }
}
