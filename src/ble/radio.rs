//! What the room needs of a radio, so that pairing does not know who drives it: [`Radio`], and a [`Link`] to one device.
//! Every call has a deadline of its own; none waits for ever.

use std::collections::HashMap;
use std::future::Future;
use tokio::sync::mpsc;

/// Sightings that wait to be looked at; more are dropped, for the next advertisement says the same.
pub const SIGHTINGS: usize = 256;

/// The adapter as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// What can be done with it.
    pub state: AdapterState,
    /// Its name, when there is one.
    pub name: Option<String>,
}

/// What can be done with an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterState {
    /// There is no bus to ask.
    NoBus,
    /// The bus is there, and nothing on it drives Bluetooth.
    NoDaemon,
    /// The daemon knows no such adapter.
    NoAdapter,
    /// It is switched off.
    Off,
    /// It is switched off, and something blocks it.
    Blocked,
    /// It is being switched on, or the daemon does not answer yet.
    Starting,
    /// It works.
    Ready,
}

/// Why a radio does not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RadioError {
    /// The bus or the daemon behind it is gone.
    #[error("the Bluetooth service is gone: {0}")]
    Gone(String),
    /// The adapter is not there, or off.
    #[error("the adapter does not work: {0}")]
    Adapter(String),
    /// The device is out of reach, or was never seen.
    #[error("the device is not in reach")]
    NotFound,
    /// It did not work.
    #[error("{step}: {reason}")]
    Failed {
        /// What was tried.
        step: &'static str,
        /// What the system says.
        reason: String,
    },
    /// It took too long.
    #[error("{0} took too long")]
    TimedOut(&'static str),
    /// The device has no such service or characteristic.
    #[error("the device does not have what it advertises")]
    Missing,
}

/// A device that is heard at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// By what [`Radio::connect`] finds it again.
    pub id: String,
    /// What it calls itself.
    pub name: Option<String>,
    /// How strong, dBm.
    pub signal: Option<i16>,
    /// The services that it advertises.
    pub services: Vec<u128>,
    /// Their service data.
    pub data: HashMap<u128, Vec<u8>>,
}

/// What a scan says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A device.
    Device(Sighting),
    /// The adapter has changed: look at it.
    Adapter,
}

/// A radio that looks for devices and connects to them.
pub trait Radio: Send + Sync + 'static {
    /// A connection to a device.
    type Link: Link;

    /// How the adapter is now. What was held of one that no longer works is given up.
    fn adapter(&self) -> impl Future<Output = Adapter> + Send;

    /// Looks for all devices there are, until [`Radio::stop_scan`]: who listens picks.
    ///
    /// # Errors
    /// [`RadioError`]: nothing is left running.
    fn scan(&self) -> impl Future<Output = Result<mpsc::Receiver<Heard>, RadioError>> + Send;

    /// Looks no longer. Harmless when it does not.
    fn stop_scan(&self) -> impl Future<Output = ()> + Send;

    /// Connects to a device that was heard, and finds the characteristics of a service; it must have those in `needed`.
    ///
    /// # Errors
    /// [`RadioError`]: the device is not left connected.
    fn connect(&self, id: &str, service: u128, needed: &[u128]) -> impl Future<Output = Result<Self::Link, RadioError>> + Send;
}

/// A connection to one device. Dropping it ends it as well, a little later.
pub trait Link: Send + Sync + 'static {
    /// The MTU of the connection; 23 when nothing is known.
    fn mtu(&self) -> u16;

    /// Reads a characteristic.
    ///
    /// # Errors
    /// [`RadioError`].
    fn read(&self, characteristic: u128) -> impl Future<Output = Result<Vec<u8>, RadioError>> + Send;

    /// Writes a characteristic, and waits for the response.
    ///
    /// # Errors
    /// [`RadioError`].
    fn write(&self, characteristic: u128, value: &[u8]) -> impl Future<Output = Result<(), RadioError>> + Send;

    /// Asks for the notifications of these characteristics.
    ///
    /// # Errors
    /// [`RadioError`].
    fn listen(&mut self, characteristics: &[u128]) -> impl Future<Output = Result<(), RadioError>> + Send;

    /// The next notification; `None` when the connection is gone. May be dropped while it waits, and loses nothing.
    fn next(&mut self) -> impl Future<Output = Option<(u128, Vec<u8>)>> + Send;

    /// Disconnects.
    fn close(self) -> impl Future<Output = ()> + Send;
}
