//! A simulated device that speaks Improv Wi-Fi over Bluetooth Low Energy: the device side, for a hub that helps others'
//! devices into the Wi-Fi. It has no encryption, as the protocol has none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::gatt::{Advertisement, Changed, Characteristic, GattDevice, Link, Refused, Service, Signal};

/// The service.
pub const SERVICE: Uuid = improv(0x8000);
/// The state.
pub const STATE: Uuid = improv(0x8001);
/// The last error.
pub const ERROR: Uuid = improv(0x8002);
/// Commands to the device.
pub const COMMAND: Uuid = improv(0x8003);
/// Results of commands.
pub const RESULT: Uuid = improv(0x8004);
/// What it can do.
pub const CAPABILITIES: Uuid = improv(0x8005);
/// The UUID of the service data in the advertisement, `0x4677`.
pub const ADVERTISED: Uuid = Uuid::from_u128(0x0000_4677_0000_1000_8000_0080_5f9b_34fb);

/// Authorization required: somebody must press its button.
pub const AUTHORIZE: u8 = 1;
/// Waits for a network.
pub const AUTHORIZED: u8 = 2;
/// Joins it.
pub const PROVISIONING: u8 = 3;
/// Has joined it.
pub const PROVISIONED: u8 = 4;

const IDENTIFIES: u8 = 1;
const TELLS_ITSELF: u8 = 2;
const SCANS: u8 = 4;
/// The longest command: two bytes, 255 of data, a checksum.
const LONGEST: usize = 258;

/// What the device is and what surrounds it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Somebody must press its button first.
    pub button: bool,
    /// Networks in reach: name and passphrase.
    pub networks: Vec<(String, String)>,
    /// Firmware, version, chip, name.
    pub info: [String; 4],
    /// Where a person goes on, once it has joined.
    pub url: Option<String>,
}

/// The device; a clone is the same one, so that a test can keep a hand on it.
#[derive(Clone)]
pub struct Improv(Arc<Mutex<Inner>>);

struct Inner {
    options: Options,
    state: u8,
    error: u8,
    result: Vec<u8>,
    incoming: Vec<u8>,
    identified: u32,
    joined: Option<String>,
    mtu: u16,
    link: Option<Link>,
    changed: Changed,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            button: false,
            networks: vec![("Hearth".into(), "correct horse".into())],
            info: ["sim".into(), "1.0".into(), "none".into(), "Plug".into()],
            url: Some("http://192.0.2.9/".into()),
        }
    }
}

impl Improv {
    /// A device that has not joined a network.
    pub fn new(options: Options) -> Self {
        let state = if options.button { AUTHORIZE } else { AUTHORIZED };
        Self(Arc::new(Mutex::new(Inner {
            options,
            state,
            error: 0,
            result: Vec::new(),
            incoming: Vec::new(),
            identified: 0,
            joined: None,
            mtu: 23,
            link: None,
            changed: Changed::default(),
        })))
    }

    /// The button is pressed.
    pub fn press(&self) {
        let mut inner = self.lock();
        if inner.state == AUTHORIZE {
            inner.set_state(AUTHORIZED);
        }
    }

    /// How often it was asked to show which one it is.
    pub fn identified(&self) -> u32 {
        self.lock().identified
    }

    /// The network it has joined.
    pub fn joined(&self) -> Option<String> {
        self.lock().joined.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn capabilities() -> u8 {
        IDENTIFIES | TELLS_ITSELF | SCANS
    }

    fn set_state(&mut self, state: u8) {
        self.state = state;
        self.notify(STATE, vec![state]);
        self.changed.ring();
    }

    fn set_error(&mut self, error: u8) {
        self.error = error;
        self.notify(ERROR, vec![error]);
    }

    fn answer(&mut self, command: u8, texts: &[&str]) {
        self.result = frame(command, texts);
        let most = usize::from(self.mtu.max(23)) - 3;
        for part in self.result.clone().chunks(most) {
            self.notify(RESULT, part.to_vec());
        }
    }

    fn notify(&self, characteristic: Uuid, value: Vec<u8>) {
        if let Some(link) = &self.link {
            // A central that does not listen misses something.
            let _ = link.try_send(Signal::Notify(characteristic, value));
        }
    }

    /// Takes a command, or a piece of one.
    fn written(&mut self, value: &[u8]) {
        self.incoming.extend_from_slice(value);
        let wanted = self.incoming.get(1).map(|length| usize::from(*length) + 3);
        if wanted.is_none_or(|wanted| self.incoming.len() < wanted) && self.incoming.len() < LONGEST {
            return;
        }
        let packet = std::mem::take(&mut self.incoming);
        self.set_error(0);
        match open(&packet) {
            Some((command, data)) => self.command(command, &data),
            None => self.set_error(1),
        }
    }

    fn command(&mut self, command: u8, data: &[u8]) {
        match command {
            1 if self.state == AUTHORIZE => self.set_error(4),
            1 => match texts(data).as_deref() {
                Some([ssid, passphrase]) => self.join(ssid, passphrase),
                _ => self.set_error(1),
            },
            2 => self.identified += 1,
            3 => {
                let info = self.options.info.clone();
                self.answer(3, &info.each_ref().map(String::as_str));
            }
            4 => {
                for (ssid, passphrase) in self.options.networks.clone() {
                    self.answer(4, &[&ssid, "-50", if passphrase.is_empty() { "NO" } else { "YES" }]);
                }
                self.answer(4, &[]);
            }
            _ => self.set_error(2),
        }
    }

    fn join(&mut self, ssid: &str, passphrase: &str) {
        self.set_state(PROVISIONING);
        if self.options.networks.iter().any(|(name, right)| name == ssid && right == passphrase) {
            self.joined = Some(ssid.to_owned());
            self.set_state(PROVISIONED);
            let url = self.options.url.clone();
            self.answer(1, &url.iter().map(String::as_str).collect::<Vec<_>>());
        } else {
            self.set_error(3);
            self.set_state(AUTHORIZED);
        }
    }
}

impl GattDevice for Improv {
    fn services(&self) -> Vec<Service> {
        let both = |uuid| Characteristic { notify: true, ..Characteristic::readable(uuid) };
        let command = Characteristic { write_without_response: true, ..Characteristic::writable(COMMAND) };
        let characteristics = vec![both(STATE), both(ERROR), command, both(RESULT), Characteristic::readable(CAPABILITIES)];
        vec![Service { uuid: SERVICE, characteristics }]
    }

    fn advertised(&self) -> Option<Advertisement> {
        let data = vec![self.lock().state, Inner::capabilities(), 0, 0, 0, 0];
        Some(Advertisement { services: vec![SERVICE], service_data: vec![(ADVERTISED, data)] })
    }

    fn plugged(&mut self, changed: Changed) {
        self.lock().changed = changed;
    }

    fn connected(&mut self, mtu: u16, link: Link) -> Result<(), Refused> {
        let mut inner = self.lock();
        inner.mtu = mtu;
        inner.link = Some(link);
        inner.incoming.clear();
        Ok(())
    }

    fn read(&mut self, characteristic: Uuid) -> Result<Vec<u8>, Refused> {
        let inner = self.lock();
        match characteristic {
            STATE => Ok(vec![inner.state]),
            ERROR => Ok(vec![inner.error]),
            RESULT => Ok(inner.result.clone()),
            CAPABILITIES => Ok(vec![Inner::capabilities()]),
            _ => Err(Refused),
        }
    }

    fn write(&mut self, characteristic: Uuid, value: &[u8]) -> Result<(), Refused> {
        if characteristic != COMMAND {
            return Err(Refused);
        }
        self.lock().written(value);
        Ok(())
    }

    fn subscribed(&mut self, _characteristic: Uuid, _on: bool) {}

    fn disconnected(&mut self) {
        self.lock().link = None;
    }
}

/// A command or a result: `command, length, data, checksum`, the data as texts with their lengths. What is longer than
/// 255 bytes is cut.
pub fn frame(command: u8, texts: &[&str]) -> Vec<u8> {
    let mut data = Vec::new();
    for text in texts {
        data.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        data.extend(text.bytes().take(255));
    }
    data.truncate(255);
    let mut frame = vec![command, u8::try_from(data.len()).unwrap_or(u8::MAX)];
    frame.extend(data);
    frame.push(frame.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    frame
}

/// Command and data of a frame.
fn open(packet: &[u8]) -> Option<(u8, Vec<u8>)> {
    let (checksum, rest) = packet.split_last()?;
    let [command, length, data @ ..] = rest else { return None };
    let sum = rest.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
    (sum == *checksum && data.len() == usize::from(*length)).then(|| (*command, data.to_vec()))
}

/// The texts in data.
fn texts(mut data: &[u8]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        let (text, rest) = rest.split_at_checked(usize::from(*length))?;
        found.push(String::from_utf8(text.to_vec()).ok()?);
        data = rest;
    }
    Some(found)
}

const fn improv(last: u128) -> Uuid {
    Uuid::from_u128(0x0046_7768_6228_2272_4663_2774_7826_0000 + last)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn connected(options: Options) -> (Improv, mpsc::Receiver<Signal>) {
        let mut device = Improv::new(options);
        let (link, signals) = mpsc::channel(64);
        device.connected(247, link).unwrap();
        (device, signals)
    }

    fn said(signals: &mut mpsc::Receiver<Signal>, of: Uuid) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| signals.try_recv().ok())
            .filter_map(|signal| match signal {
                Signal::Notify(uuid, value) if uuid == of => Some(value),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_right_passphrase_joins_and_tells_where_to_go_on() {
        let (mut device, mut signals) = connected(Options::default());
        device.write(COMMAND, &frame(1, &["Hearth", "correct horse"])).unwrap();
        assert_eq!(device.joined().as_deref(), Some("Hearth"));
        assert_eq!(device.read(STATE).unwrap(), [PROVISIONED]);
        assert_eq!(said(&mut signals, RESULT), [frame(1, &["http://192.0.2.9/"])]);
    }

    #[test]
    fn a_wrong_passphrase_is_an_error_and_it_waits_again() {
        let (mut device, mut signals) = connected(Options::default());
        device.write(COMMAND, &frame(1, &["Hearth", "wrong"])).unwrap();
        assert_eq!(said(&mut signals, STATE), [[PROVISIONING], [AUTHORIZED]]);
        assert_eq!(device.read(ERROR).unwrap(), [3]);
    }

    #[test]
    fn a_device_with_a_button_wants_it_pressed_first() {
        let (mut device, _signals) = connected(Options { button: true, ..Options::default() });
        device.write(COMMAND, &frame(1, &["Hearth", "correct horse"])).unwrap();
        assert_eq!(device.read(ERROR).unwrap(), [4]);
        device.press();
        device.write(COMMAND, &frame(1, &["Hearth", "correct horse"])).unwrap();
        assert_eq!(device.read(STATE).unwrap(), [PROVISIONED]);
    }

    #[test]
    fn it_tells_itself_scans_and_shows_which_one_it_is() {
        let (mut device, mut signals) = connected(Options::default());
        for command in [2, 3, 4] {
            device.write(COMMAND, &frame(command, &[])).unwrap();
        }
        assert_eq!(device.identified(), 1);
        let results = said(&mut signals, RESULT);
        assert_eq!(results, [frame(3, &["sim", "1.0", "none", "Plug"]), frame(4, &["Hearth", "-50", "YES"]), frame(4, &[])]);
    }

    #[test]
    fn a_command_may_come_in_pieces_and_a_wrong_sum_or_an_unknown_one_is_refused() {
        let (mut device, _signals) = connected(Options::default());
        let whole = frame(1, &["Hearth", "correct horse"]);
        device.write(COMMAND, &whole[..7]).unwrap();
        device.write(COMMAND, &whole[7..]).unwrap();
        assert_eq!(device.read(STATE).unwrap(), [PROVISIONED]);
        device.write(COMMAND, &[2, 0, 9]).unwrap();
        assert_eq!(device.read(ERROR).unwrap(), [1]);
        device.write(COMMAND, &frame(77, &[])).unwrap();
        assert_eq!(device.read(ERROR).unwrap(), [2]);
    }
}
