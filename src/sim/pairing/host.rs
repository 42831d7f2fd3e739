//! What a paired device runs on: a clock, a flash, a network, and the hub it belongs to. [`Front`] is what a Bluetooth
//! stack sees of it, [`Host`] is its life.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::machine::{Joined, Machine, Output, Setup, SigningIn};
use super::message::{Delivery, INFO, MODEL_PART, RX, SERVICE, TX, Wifi, voucher_parts};
use super::{Event, Fault};
use crate::sim::device::{self, Backoff, DeviceError};
use crate::sim::gatt::{Advertisement, Changed, Characteristic, GattDevice, Link, Refused, Service, Signal};
use crate::sim::identity::{Credential, DeviceSecret, HubId};
use crate::sim::mqtt::{self, Client, ConnectOptions, Version};
use crate::sim::state::{Flash, Place};
use crate::sim::things;
use crate::sim::tls::{self, Address, DialError, Security, Stream, Trust};

/// Pause between two rounds over the addresses of a hub.
const AGAIN: Duration = Duration::from_secs(1);

/// A device that is paired before it knows any hub.
#[derive(Debug)]
pub struct Options {
    /// The secret it was born with.
    pub secret: DeviceSecret,
    /// Directory of the state file; nothing keeps the state in memory.
    pub state: Option<PathBuf>,
    /// Version of its firmware, at most 64 characters.
    pub firmware: String,
    /// The content of its voucher file, when it has one.
    pub voucher: Option<Vec<u8>>,
    /// What goes wrong with pairing.
    pub fault: Option<Fault>,
    /// Networks in reach by name and passphrase; without any, every network is joined.
    pub networks: Vec<(String, String)>,
    /// What it is; from the model's name when absent.
    pub kind: Option<things::Kind>,
    /// What is wrong with the thing.
    pub thing_fault: Option<things::Fault>,
    /// Protocol version of MQTT.
    pub version: Version,
    /// How much faster than life the thing moves.
    pub speed: f64,
    /// Pause before it connects to its hub again.
    pub backoff: Backoff,
    /// Time for each step of a connection.
    pub step: Duration,
    /// What a hand at the device does; absent when nobody is near.
    pub hand: Option<mpsc::Receiver<Press>>,
}

/// What a hand does at a device that can be paired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// The button: it can be paired for 15 minutes, also when a hub has it.
    Pair,
    /// The button, held: credentials are forgotten, the reset is counted, and it can be paired.
    Reset,
    /// Everything else.
    Control(device::Control),
}

/// Why there can be no such device.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The voucher file.
    #[error("the voucher file: {0}")]
    Voucher(&'static str),
    /// The firmware's version is too long.
    #[error("the version of a firmware has at most 64 characters")]
    Firmware,
    /// Its state, its kind, or no randomness.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What a Bluetooth stack sees of the device.
pub struct Front {
    shared: Arc<Shared>,
}

/// The life of the device; it begins with [`Host::run`].
pub struct Host {
    shared: Arc<Shared>,
    options: Options,
    flash: Flash,
    life: Option<Life>,
    sign_in: Option<CancellationToken>,
}

/// What both hold.
struct Shared {
    begin: Instant,
    inner: Mutex<Inner>,
    /// The machine has got something to do.
    wake: Notify,
}

struct Inner {
    machine: Machine,
    link: Option<Link>,
    changed: Changed,
}

/// The device at its hub.
struct Life {
    stop: CancellationToken,
    task: JoinHandle<Result<(), DeviceError>>,
    events: mpsc::Receiver<device::Event>,
    controls: mpsc::Sender<device::Control>,
}

/// What a try to sign in has come to.
enum Report {
    Going(SigningIn),
    Accepted(Box<Client<Stream>>, Address),
}

/// A device and what a Bluetooth stack sees of it. It can be paired at once when no hub has it.
///
/// # Errors
/// [`HostError`].
pub fn device(options: Options) -> Result<(Front, Host), HostError> {
    let flash = match &options.state {
        Some(directory) => Flash::open(directory, &options.secret.device_id).map_err(DeviceError::from)?,
        None => Flash::volatile(),
    };
    if options.firmware.chars().count() > 64 {
        return Err(HostError::Firmware);
    }
    let (voucher, model) = options.voucher.as_deref().map(voucher_parts).transpose().map_err(HostError::Voucher)?.unwrap_or_default();
    let setup = Setup {
        secret: options.secret.clone(),
        firmware: options.firmware.clone(),
        voucher,
        model,
        model_piece: MODEL_PART,
        fault: options.fault,
    };
    let home = flash.home().is_some();
    let mut machine = Machine::new(setup, flash.resets(), home);
    if let Some((hub, place)) = flash.arriving() {
        machine.resume(hub, addresses(&place), 0);
    }
    if !home {
        machine.open_window(random()?, 0);
    }
    let inner = Inner { machine, link: None, changed: Changed::default() };
    let shared = Arc::new(Shared { begin: Instant::now(), inner: Mutex::new(inner), wake: Notify::new() });
    Ok((Front { shared: Arc::clone(&shared) }, Host { shared, options, flash, life: None, sign_in: None }))
}

impl Options {
    /// A device in life's own time that forgets at the end of the process, and that nothing is wrong with.
    pub fn new(secret: DeviceSecret) -> Self {
        Self {
            secret,
            state: None,
            firmware: concat!("sim ", env!("CARGO_PKG_VERSION")).to_owned(),
            voucher: None,
            fault: None,
            networks: Vec::new(),
            kind: None,
            thing_fault: None,
            version: Version::V5,
            speed: 1.0,
            backoff: Backoff::HOME,
            step: Duration::from_secs(10),
            hand: None,
        }
    }
}

impl Host {
    /// Lives until `shutdown`. Events are offered, never waited for.
    ///
    /// # Errors
    /// [`DeviceError`]: its flash failed, or it is nothing that exists.
    pub async fn run(mut self, events: mpsc::Sender<Event>, shutdown: CancellationToken) -> Result<(), DeviceError> {
        let (reports, mut reported) = mpsc::channel::<Report>(16);
        if let Some((hub, place)) = self.flash.home()
            && self.flash.arriving().is_none()
        {
            self.live(hub, &place, None)?;
        }
        loop {
            while let Some((output, link)) = self.shared.next() {
                if shutdown.is_cancelled() {
                    break;
                }
                self.act(output, link, &events, &reports).await?;
            }
            let deadline = self.shared.lock().machine.deadline().map(|at| self.shared.begin + Duration::from_millis(at));
            let far = Instant::now() + Duration::from_secs(3600);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = self.shared.wake.notified() => {}
                Some(report) = reported.recv() => self.report(report)?,
                press = pressed(&mut self.options.hand) => self.press(press, &events).await?,
                event = Life::event(&mut self.life) => match event {
                    Some(event) => {
                        let _ = events.try_send(Event::Device(event));
                    }
                    None => self.stop_living(&events).await?,
                },
                () = tokio::time::sleep_until(deadline.unwrap_or(far)) => {
                    let now = self.shared.now();
                    self.shared.lock().machine.tick(now);
                }
            }
        }
        if let Some(sign_in) = self.sign_in.take() {
            sign_in.cancel();
        }
        self.stop_living(&events).await
    }

    async fn act(
        &mut self,
        output: Output,
        link: Option<Link>,
        events: &mpsc::Sender<Event>,
        reports: &mpsc::Sender<Report>,
    ) -> Result<(), DeviceError> {
        match output {
            // A link that is gone takes nothing, and the machine will hear of it.
            Output::Notify(value) => {
                if let Some(link) = link {
                    let _ = link.send(Signal::Notify(TX, value)).await;
                }
            }
            Output::Disconnect => {
                if let Some(link) = link {
                    let _ = link.send(Signal::Disconnect).await;
                }
            }
            Output::Pause(pause) => tokio::time::sleep(pause).await,
            Output::Advertise => self.shared.lock().changed.ring(),
            Output::Store(delivery) => {
                let stored = self.store(&delivery);
                if let Err(error) = &stored {
                    tracing::warn!(%error, "a simulated device cannot store what it was given");
                }
                let now = self.shared.now();
                self.shared.lock().machine.stored(stored.is_ok(), now);
            }
            Output::Join(wifi) => {
                // Its old network is left, and with it the old hub.
                self.stop_living(events).await?;
                let joined = self.join(wifi.as_ref());
                self.shared.lock().machine.joined(joined);
            }
            Output::SignIn(hub, addresses) => {
                self.stop_living(events).await?;
                if let Some(credential) = self.flash.pending(hub) {
                    let stop = CancellationToken::new();
                    let client = self.connect_options();
                    let (step, reports) = (self.options.step, reports.clone());
                    let stopped = stop.clone();
                    tokio::spawn(async move {
                        stopped.run_until_cancelled(sign_in(addresses, credential, client, step, reports)).await;
                    });
                    self.sign_in = Some(stop);
                }
            }
            Output::RollBack(hub) => {
                if let Some(sign_in) = self.sign_in.take() {
                    sign_in.cancel();
                }
                self.flash.drop_pending(hub)?;
                if let Some((hub, place)) = self.flash.home()
                    && self.life.is_none()
                {
                    self.live(hub, &place, None)?;
                }
            }
            Output::Tell(told) => {
                let _ = events.try_send(Event::Pairing(told));
            }
        }
        Ok(())
    }

    fn store(&mut self, delivery: &Delivery) -> Result<(), DeviceError> {
        let wifi = delivery.wifi.as_ref().map(|wifi| (wifi.ssid.as_slice(), wifi.passphrase.as_str()));
        let place = Place::new(delivery.addresses.iter().map(ToString::to_string).collect(), wifi);
        Ok(self.flash.store_paired(delivery.hub, &delivery.credential, place)?)
    }

    fn join(&self, wifi: Option<&Wifi>) -> Joined {
        let Some(wifi) = wifi.filter(|_| !self.options.networks.is_empty()) else { return Joined::Well };
        match self.options.networks.iter().find(|(ssid, _)| ssid.as_bytes() == wifi.ssid) {
            None => Joined::NotFound,
            Some((_, passphrase)) if *passphrase == *wifi.passphrase => Joined::Well,
            Some(_) => Joined::Refused,
        }
    }

    fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new(self.options.secret.device_id.clone()).version(self.options.version);
        options.username = Some(self.options.secret.device_id.clone());
        options.keep_alive_s = 30;
        options.step = self.options.step;
        options
    }

    /// How signing in goes. What a try reports that was given up since is of no account.
    fn report(&mut self, report: Report) -> Result<(), DeviceError> {
        let Some(stop) = self.sign_in.take_if(|stop| !stop.is_cancelled()) else { return Ok(()) };
        let now = self.shared.now();
        match report {
            Report::Going(how) => {
                self.sign_in = Some(stop);
                self.shared.lock().machine.signing_in(how, now);
            }
            Report::Accepted(client, address) => {
                let Some((hub, place)) = self.flash.arriving() else { return Ok(()) };
                // The hub has recorded the claim before it answered: from here on the old credential is void.
                self.flash.promote(hub)?;
                self.flash.found_at(hub, &address.to_string())?;
                self.shared.lock().machine.signing_in(SigningIn::Accepted, now);
                self.live(hub, &place, Some((*client, address)))?;
            }
        }
        Ok(())
    }

    async fn press(&mut self, press: Press, events: &mpsc::Sender<Event>) -> Result<(), DeviceError> {
        let now = self.shared.now();
        match press {
            Press::Pair => self.shared.lock().machine.open_window(random()?, now),
            Press::Reset => {
                self.stop_living(events).await?;
                self.flash.reset()?;
                let salt = random()?;
                let mut inner = self.shared.lock();
                inner.machine.reset(self.flash.resets());
                inner.machine.open_window(salt, now);
            }
            Press::Control(control) => {
                if let Some(life) = &self.life {
                    let _ = life.controls.try_send(control);
                }
            }
        }
        Ok(())
    }

    /// Begins its life at a hub, with the connection that pairing left or a new one.
    fn live(&mut self, hub: HubId, place: &Place, signed_in: Option<(Client<Stream>, Address)>) -> Result<(), DeviceError> {
        let (client, address) = match signed_in {
            Some((client, address)) => (Some(client), Some(address)),
            None => (None, addresses(place).into_iter().next()),
        };
        let address = address.ok_or_else(|| DeviceError::Kind("the address of its hub cannot be read".into()))?;
        let mut options = device::Options::new(self.options.secret.clone(), address, hub);
        options.kind = self.options.kind;
        options.fault = self.options.thing_fault;
        options.version = self.options.version;
        options.speed = self.options.speed;
        options.backoff = self.options.backoff;
        options.step = self.options.step;
        let (controls, hand) = mpsc::channel(16);
        options.controls = Some(hand);
        let (sender, events) = mpsc::channel(256);
        let stop = CancellationToken::new();
        let task = tokio::spawn(device::run_on(options, self.flash.clone(), client, sender, stop.clone()));
        self.life = Some(Life { stop, task, events, controls });
        Ok(())
    }

    /// Ends its life at its hub, and tells what it still had to say.
    async fn stop_living(&mut self, events: &mpsc::Sender<Event>) -> Result<(), DeviceError> {
        let Some(mut life) = self.life.take() else { return Ok(()) };
        life.stop.cancel();
        let ended = (&mut life.task).await;
        while let Ok(event) = life.events.try_recv() {
            let _ = events.try_send(Event::Device(event));
        }
        ended.unwrap_or(Ok(()))
    }
}

impl Life {
    /// The next event of a life; nothing when it has ended, and never any without one.
    async fn event(life: &mut Option<Self>) -> Option<device::Event> {
        match life {
            Some(life) => life.events.recv().await,
            None => std::future::pending().await,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What is next to do, and the connection it belongs to.
    fn next(&self) -> Option<(Output, Option<Link>)> {
        let mut inner = self.lock();
        let output = inner.machine.poll()?;
        Some((output, inner.link.clone()))
    }
}

impl GattDevice for Front {
    fn services(&self) -> Vec<Service> {
        let characteristics = vec![Characteristic::readable(INFO), Characteristic::writable(RX), Characteristic::notifying(TX)];
        vec![Service { uuid: SERVICE, characteristics }]
    }

    fn advertised(&self) -> Option<Advertisement> {
        let now = self.shared.now();
        let inner = self.shared.lock();
        let info = inner.machine.connectable(now).then(|| inner.machine.info())?;
        // With 12 bytes of service data, one advertisement has no room for the list of services as well.
        Some(Advertisement { services: Vec::new(), service_data: vec![(SERVICE, info.to_vec())] })
    }

    fn plugged(&mut self, changed: Changed) {
        self.shared.lock().changed = changed;
    }

    fn connected(&mut self, mtu: u16, link: Link) -> Result<(), Refused> {
        let ephemeral = zeroize::Zeroizing::new(random().map_err(|_| Refused)?);
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        if !inner.machine.connected(mtu, &ephemeral, now) {
            return Err(Refused);
        }
        inner.link = Some(link);
        drop(inner);
        self.shared.wake.notify_one();
        Ok(())
    }

    fn read(&mut self, characteristic: Uuid) -> Result<Vec<u8>, Refused> {
        if characteristic == INFO { Ok(self.shared.lock().machine.info().to_vec()) } else { Err(Refused) }
    }

    fn write(&mut self, characteristic: Uuid, value: &[u8]) -> Result<(), Refused> {
        if characteristic != RX {
            return Err(Refused);
        }
        let now = self.shared.now();
        self.shared.lock().machine.written(value, now);
        self.shared.wake.notify_one();
        Ok(())
    }

    fn subscribed(&mut self, _characteristic: Uuid, _on: bool) {}

    fn disconnected(&mut self) {
        // Without randomness the old salt serves once more.
        let salt = random().unwrap_or_default();
        let mut inner = self.shared.lock();
        inner.link = None;
        inner.machine.disconnected(salt);
        drop(inner);
        self.shared.wake.notify_one();
    }
}

/// Tries the addresses in their order, again and again, until the hub says yes or refuses the password.
async fn sign_in(
    addresses: Vec<Address>,
    credential: Credential,
    mut options: ConnectOptions,
    step: Duration,
    reports: mpsc::Sender<Report>,
) {
    options.password = Some(credential.password());
    let security = Security { trust: Trust::Pinned(credential.ca.clone()), client: None };
    loop {
        for address in &addresses {
            let how = match tls::dial(address, &security, step).await {
                Err(DialError::Untrusted(_)) => SigningIn::CertificateRefused,
                Err(_) => SigningIn::Unreachable,
                Ok(connection) => {
                    let _ = reports.send(Report::Going(SigningIn::Asking)).await;
                    match Client::connect(connection.stream, &options).await {
                        Ok(client) => {
                            let _ = reports.send(Report::Accepted(Box::new(client), address.clone())).await;
                            return;
                        }
                        Err(mqtt::Error::Refused(connack)) if connack.refuses_credentials() => SigningIn::PasswordRefused,
                        // It broke: the hub may have recorded the claim and died before CONNACK.
                        Err(_) => SigningIn::Unreachable,
                    }
                }
            };
            let _ = reports.send(Report::Going(how)).await;
            if how == SigningIn::PasswordRefused {
                return;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The next press of a hand; none ever when there is no hand (any more).
async fn pressed(hand: &mut Option<mpsc::Receiver<Press>>) -> Press {
    if let Some(receiver) = hand {
        if let Some(press) = receiver.recv().await {
            return press;
        }
        *hand = None;
    }
    std::future::pending().await
}

fn addresses(place: &Place) -> Vec<Address> {
    place.addresses.iter().filter_map(|address| address.parse().ok()).collect()
}

fn random<const N: usize>() -> Result<[u8; N], DeviceError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|error| DeviceError::Entropy(error.to_string()))?;
    Ok(bytes)
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Front(..)")
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("options", &self.options).finish_non_exhaustive()
    }
}
