//! The life of a simulated device: how it signs in, is claimed, falls back, and tries again. What happens within one
//! connection is `session`'s; the derivations are `sim::identity`'s and what outlives a power cut is `sim::state`'s.

mod event;
mod firmware;
mod rehome;
mod session;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::firmware as image;
use super::identity::{Credential, DeviceSecret, HubId, HubKeys};
use super::mqtt::{self, Client, ConnectOptions, Version};
use super::state::{Flash, FlashError};
use super::things::{Fault, Kind, Thing};
use super::tls::{self, Address, Connection, DialError, Security, Stream, Trust};

pub use event::{Event, SignIn};
pub use rehome::Neighbour;
use session::{Session, Work};

/// A connection that lived shorter than this counts as a failure: what throws the device out at once would else be
/// met again every second.
const LIVED: Duration = Duration::from_secs(10);
/// Refusals of a credential after which a device stops believing in it.
const REFUSALS: u32 = 3;
/// Connections that a roaming device leaves open behind it.
const LEFT_BEHIND: usize = 4;

/// What a device is and where its hub is.
#[derive(Debug)]
pub struct Options {
    /// The secret it was born with.
    pub secret: DeviceSecret,
    /// The hub's MQTT listener.
    pub hub: Address,
    /// The hub's id; in a home the device learns it by mDNS or at pairing.
    pub hub_id: HubId,
    /// False only for a plain listener on the same machine.
    pub tls: bool,
    /// Directory of the state file; nothing keeps the state in memory.
    pub state: Option<PathBuf>,
    /// What it is; from the model's name when absent.
    pub kind: Option<Kind>,
    /// A fault it starts with.
    pub fault: Option<Fault>,
    /// Protocol version.
    pub version: Version,
    /// How much faster than life the thing moves; 1 is life.
    pub speed: f64,
    /// Pause before it connects again.
    pub backoff: Backoff,
    /// Keep-alive in seconds.
    pub keep_alive_s: u16,
    /// Time for each step of a connection.
    pub step: Duration,
    /// Hubs that it asks for an order to move when its own does not answer.
    pub nearby: Vec<Neighbour>,
    /// Whether it looks for more of them by mDNS, and on which interfaces (all but loopback when empty).
    pub search: Option<Vec<String>>,
    /// How it is updated; without it, or without a `state`, it never is.
    pub firmware: Option<image::Options>,
    /// What a hand at the device does; absent when nobody is near.
    pub controls: Option<mpsc::Receiver<Control>>,
}

/// A pause that doubles with each failure, with jitter, so that a house does not come back all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

/// What a hand at the device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Puts a fault in (true) or takes it away.
    Fault(Fault, bool),
    /// Puts something in that goes wrong with the next update, or takes it away.
    Firmware(image::Fault, bool),
    /// The reset button: credentials are forgotten, counters stay, and hubs are told that it was pressed.
    Reset,
    /// The flash is lost: credentials and counters.
    LoseFlash,
    /// The cable is pulled and put back: it connects again.
    Reconnect,
    /// It moves to another access point: the connection is left as it is, without a word and without a listener, and it
    /// connects again.
    Roam,
}

/// Why a device cannot run at all. What goes wrong on the way is an [`Event`].
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Its state cannot be read or written: without a stored counter it must not sign in.
    #[error(transparent)]
    Flash(#[from] FlashError),
    /// Nobody knows what it is.
    #[error("{0}")]
    Kind(String),
    /// The system gives no randomness.
    #[error("no randomness: {0}")]
    Entropy(String),
}

/// Runs a device until `shutdown`. Events are offered, never waited for: a watcher that falls behind misses some, so
/// give the channel room (256 is plenty). A watcher that went away does not stop the device.
///
/// # Errors
/// [`DeviceError`]: it could not start, or its flash failed.
pub async fn run(options: Options, events: mpsc::Sender<Event>, shutdown: CancellationToken) -> Result<(), DeviceError> {
    let flash = match &options.state {
        Some(directory) => Flash::open(directory, &options.secret.device_id)?,
        None => Flash::volatile(),
    };
    run_on(options, flash, None, events, shutdown).await
}

/// As [`run`], with this flash, and with a connection that was signed in to with a credential that is the device's own
/// since: what pairing leaves.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    options: Options,
    flash: Flash,
    mut signed_in: Option<Client<Stream>>,
    events: mpsc::Sender<Event>,
    shutdown: CancellationToken,
) -> Result<(), DeviceError> {
    let mut device = Device::new(options, flash, events)?;
    let mut failures = 0u32;
    let mut up = device.switch_on()?;
    loop {
        if !up {
            // Nothing is heard of it until somebody pulls its plug.
            shutdown.cancelled().await;
            device.tell(Event::Stopped);
            return Ok(());
        }
        let end = match signed_in.take() {
            Some(client) => {
                device.tell(Event::SignedIn { with: SignIn::NewSecret });
                Some(Ok((client, SignIn::NewSecret)))
            }
            None => tokio::select! {
                biased;
                () = shutdown.cancelled() => None,
                connected = device.sign_in() => Some(connected?),
            },
        };
        let end = match end {
            None => End::Shutdown,
            Some(Err(end)) => end,
            Some(Ok((client, with))) => {
                let begin = Instant::now();
                let end = Session::new(&mut device, client, with).run(&shutdown).await?;
                if begin.elapsed() >= LIVED {
                    failures = 0;
                }
                end
            }
        };
        let pause = match end {
            End::Shutdown => {
                device.tell(Event::Stopped);
                return Ok(());
            }
            End::AtOnce | End::Roamed => continue,
            End::Restart | End::PowerCut => {
                up = device.switch_on()?;
                continue;
            }
            End::Failed => {
                failures = failures.saturating_add(1);
                device.backoff.after(failures)
            }
            End::LockedOut => device.backoff.most,
        };
        let pause = jitter(pause)?;
        device.tell(Event::Retrying { after: pause });
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How a connection, or the attempt at one, ended: it decides the pause before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The device is to stop.
    Shutdown,
    /// It has a reason to connect again now.
    AtOnce,
    /// It has gone out of reach of this one.
    Roamed,
    /// It starts again, with what lies on its flash.
    Restart,
    /// The same, and it is gone without a word.
    PowerCut,
    /// It broke, or did not come about.
    Failed,
    /// The hub does not want it for now.
    LockedOut,
}

/// A device between and during connections.
struct Device {
    secret: DeviceSecret,
    keys: HubKeys,
    hub_id: HubId,
    hub: Address,
    tls: bool,
    version: Version,
    speed: f64,
    backoff: Backoff,
    keep_alive_s: u16,
    step: Duration,
    nearby: Vec<Neighbour>,
    search: Option<Vec<String>>,
    controls: Option<mpsc::Receiver<Control>>,
    flash: Flash,
    firmware: Option<image::update::Update>,
    thing: Box<dyn Thing>,
    work: Work,
    events: mpsc::Sender<Event>,
    /// Refusals in a row of the credential at hand.
    refusals: u32,
    /// The active credential was refused too often: use the identity until a new one comes.
    fallen_back: bool,
    /// A re-base session may have been cut because its challenge was not awaited long enough.
    patient: bool,
    /// Drawn when it was switched on: tells this device from a copy of it.
    instance: [u8; 16],
    /// Connections left behind when it roamed.
    left: VecDeque<Client<Stream>>,
}

impl Device {
    fn new(options: Options, flash: Flash, events: mpsc::Sender<Event>) -> Result<Self, DeviceError> {
        let kind = match options.kind {
            Some(kind) => kind,
            None => options.secret.model.parse().map_err(DeviceError::Kind)?,
        };
        let mut thing = kind.build();
        if let Some(fault) = options.fault
            && !thing.fault(fault, true)
        {
            return Err(DeviceError::Kind(format!("a {kind} has no such fault")));
        }
        let hub_id = flash.moved_to().unwrap_or(options.hub_id);
        let firmware = match (options.firmware, &options.state) {
            (Some(firmware), Some(state)) => Some(image::update::Update::new(firmware, options.secret.clone(), state.clone())?),
            _ => None,
        };
        let device = Self {
            keys: options.secret.for_hub(hub_id),
            hub_id,
            hub: options.hub,
            tls: options.tls,
            version: options.version,
            speed: options.speed,
            backoff: options.backoff,
            keep_alive_s: options.keep_alive_s,
            step: options.step,
            nearby: options.nearby,
            search: options.search,
            controls: options.controls,
            flash,
            firmware,
            thing,
            work: Work::default(),
            events,
            refusals: 0,
            fallen_back: false,
            patient: false,
            instance: random()?,
            left: VecDeque::new(),
            secret: options.secret,
        };
        device.tell(Event::Started { device_id: device.secret.device_id.clone(), kind, claim_code: device.secret.claim_code() });
        Ok(device)
    }

    /// Comes up with what lies on its flash. False when it hangs.
    fn switch_on(&mut self) -> Result<bool, DeviceError> {
        self.instance = random()?;
        let Some(firmware) = &mut self.firmware else { return Ok(true) };
        let events = &self.events;
        let up = firmware.switch_on(&mut |event| {
            let _ = events.try_send(Event::Firmware(event));
        })?;
        Ok(up)
    }

    /// Leaves a connection as it is: nobody listens on it any more.
    fn leave_behind(&mut self, client: Client<Stream>) {
        if self.left.len() >= LEFT_BEHIND {
            self.left.pop_front();
        }
        self.left.push_back(client);
    }

    fn tell(&self, event: Event) {
        // A watcher that is behind or gone is no reason for a device to stop.
        let _ = self.events.try_send(event);
    }

    /// Connects with the best credential at hand. A refusal is told and remembered, and decides the pause.
    async fn sign_in(&mut self) -> Result<Result<(Client<Stream>, SignIn), End>, DeviceError> {
        let (with, credential) = self.credential();
        self.tell(Event::Connecting { address: self.hub.clone(), with });
        let trust = match (&credential, self.tls) {
            (_, false) => Trust::Plain,
            (Some(credential), true) => Trust::Pinned(credential.ca.clone()),
            (None, true) => self.flash.ordered_ca(self.hub_id).map_or(Trust::FirstUse, Trust::Pinned),
        };
        let connection = match tls::dial(&self.hub, &Security { trust, client: None }, self.step).await {
            Ok(connection) => connection,
            Err(error) => {
                self.tell(Event::Unreachable { reason: error.to_string() });
                // The pinned CA of a credential that never worked may itself be wrong.
                if matches!(error, DialError::Untrusted(_)) && with == SignIn::NewSecret {
                    self.refused(with)?;
                }
                // Nobody is there, or another: it may have been stolen.
                return Ok(Err(if self.look_for_order().await? { End::AtOnce } else { End::Failed }));
            }
        };
        let password = self.password(credential.as_ref(), &connection)?;
        let mut options = ConnectOptions::new(self.secret.device_id.clone()).version(self.version);
        options.username = Some(self.secret.device_id.clone());
        options.password = Some(password);
        options.keep_alive_s = self.keep_alive_s;
        options.step = self.step;
        match Client::connect(connection.stream, &options).await {
            Ok(client) => {
                self.refusals = 0;
                self.tell(Event::SignedIn { with });
                if with == SignIn::NewSecret {
                    // The hub has recorded the claim before it answered: from here on the old credential is void.
                    self.flash.promote(self.hub_id)?;
                    self.fallen_back = false;
                    self.tell(Event::Claimed);
                }
                Ok(Ok((client, with)))
            }
            Err(mqtt::Error::Refused(connack)) => {
                let reason = mqtt::Error::Refused(connack.clone()).to_string();
                self.tell(Event::SignInRefused { with, code: connack.code, reason });
                if connack.refuses_credentials() {
                    self.refused(with)?;
                }
                Ok(Err(if connack.bans() { End::LockedOut } else { End::Failed }))
            }
            Err(error) => {
                self.tell(Event::Unreachable { reason: error.to_string() });
                Ok(Err(End::Failed))
            }
        }
    }

    /// A credential that has just come is tried first; one that was refused too often is left alone.
    fn credential(&self) -> (SignIn, Option<Credential>) {
        if let Some(pending) = self.flash.pending(self.hub_id) {
            return (SignIn::NewSecret, Some(pending));
        }
        match self.flash.active(self.hub_id) {
            Some(active) if !self.fallen_back => (SignIn::Secret, Some(active)),
            _ => (SignIn::Token, None),
        }
    }

    fn password(&mut self, credential: Option<&Credential>, connection: &Connection) -> Result<Zeroizing<String>, DeviceError> {
        if let Some(credential) = credential {
            return Ok(credential.password());
        }
        let counter = self.flash.next_counter(self.hub_id)?;
        let spki = connection.spki.as_ref().map_or(&[][..], <[u8; 32]>::as_slice);
        Ok(Zeroizing::new(self.keys.token(counter, &random()?, spki)))
    }

    /// The hub does not take this credential.
    fn refused(&mut self, with: SignIn) -> Result<(), DeviceError> {
        self.refusals += 1;
        if self.refusals < REFUSALS {
            return Ok(());
        }
        match with {
            SignIn::Token => return Ok(()),
            SignIn::NewSecret => {
                self.flash.drop_pending(self.hub_id)?;
                self.tell(Event::CredentialForgotten);
            }
            SignIn::Secret => {
                self.fallen_back = true;
                self.tell(Event::FellBack);
            }
        }
        self.refusals = 0;
        Ok(())
    }
}

impl Backoff {
    /// For a home: 1 s to 60 s.
    pub const HOME: Self = Self { first: Duration::from_secs(1), most: Duration::from_secs(60) };
    /// For a demonstration: 0.1 s to 2 s.
    pub const FAST: Self = Self { first: Duration::from_millis(100), most: Duration::from_secs(2) };

    /// The pause after the n-th failure in a row.
    fn after(&self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.most)
    }
}

impl Options {
    /// A device in life's own time, over TLS and MQTT 5, that forgets at the end of the process.
    pub fn new(secret: DeviceSecret, hub: Address, hub_id: HubId) -> Self {
        Self {
            secret,
            hub,
            hub_id,
            tls: true,
            state: None,
            kind: None,
            fault: None,
            version: Version::V5,
            speed: 1.0,
            backoff: Backoff::HOME,
            keep_alive_s: 30,
            step: Duration::from_secs(10),
            nearby: Vec::new(),
            search: None,
            firmware: None,
            controls: None,
        }
    }
}

/// Between half of the pause and all of it.
fn jitter(pause: Duration) -> Result<Duration, DeviceError> {
    let share = f64::from(u16::from_be_bytes(random()?)) / f64::from(u16::MAX);
    Ok(pause.mul_f64(0.5 + share / 2.0))
}

fn random<const N: usize>() -> Result<[u8; N], DeviceError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|error| DeviceError::Entropy(error.to_string()))?;
    Ok(bytes)
}
