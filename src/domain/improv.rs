//! Improv Wi-Fi over Bluetooth Low Energy, version 2.4 (improv-wifi.com/ble): how a device that knows nothing of this
//! hub is told a Wi-Fi network. Frames, states and errors are here; [`Client`] is the side of whoever tells.
//!
//! The protocol has no encryption: whoever is within reach of the radio reads the passphrase. A person is told so.

mod client;

pub use client::{Client, Event, Fault, Outcome};

use zeroize::Zeroizing;

/// The 128-bit UUIDs of the service and its characteristics differ in the last digits only.
const BASE: u128 = 0x0046_7768_6228_2272_4663_2774_7826_8000;
/// The primary service.
pub const SERVICE: u128 = BASE;
/// Under which the service data is advertised: the 16-bit UUID 0x4677 on the Bluetooth base UUID.
pub const SERVICE_DATA: u128 = 0x0000_4677_0000_1000_8000_0080_5f9b_34fb;
/// Longest redirect URL, name or version that is taken from a device, in bytes; the format's own bound.
pub const MAX_STRING: usize = 255;

/// A characteristic of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Characteristic {
    /// Current state: read, notify.
    State,
    /// Error state: read, notify.
    Error,
    /// RPC command: write.
    Command,
    /// RPC result: read, notify.
    Result,
    /// Capabilities: read.
    Capabilities,
}

impl Characteristic {
    /// Its UUID.
    #[must_use]
    pub const fn uuid(self) -> u128 {
        BASE + match self {
            Characteristic::State => 1,
            Characteristic::Error => 2,
            Characteristic::Command => 3,
            Characteristic::Result => 4,
            Characteristic::Capabilities => 5,
        }
    }

    /// The characteristic of a UUID.
    #[must_use]
    pub fn of(uuid: u128) -> Option<Characteristic> {
        use Characteristic::{Capabilities, Command, Error, Result, State};
        [State, Error, Command, Result, Capabilities].into_iter().find(|c| c.uuid() == uuid)
    }
}

/// What the device says it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Somebody has to press its button (1).
    AuthorizationRequired,
    /// It takes credentials (2).
    Authorized,
    /// It tries the network (3).
    Provisioning,
    /// It is in the network (4).
    Provisioned,
}

impl State {
    /// Reads the byte of the characteristic.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<State> {
        match value {
            [1] => Some(State::AuthorizationRequired),
            [2] => Some(State::Authorized),
            [3] => Some(State::Provisioning),
            [4] => Some(State::Provisioned),
            _ => None,
        }
    }
}

/// What the device could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// It could not read the command (1).
    BadPacket,
    /// It does not know the command (2).
    UnknownCommand,
    /// It did not get into the network (3).
    CannotConnect,
    /// Nobody pressed its button, or too long ago (4).
    NotAuthorized,
    /// It does not take the host name (5).
    BadHostName,
    /// Something else (255, and what later versions may add).
    Unknown(u8),
}

impl DeviceError {
    /// Reads the byte of the characteristic; 0 is no error.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<DeviceError> {
        match value {
            [] | [0] => None,
            [1, ..] => Some(DeviceError::BadPacket),
            [2, ..] => Some(DeviceError::UnknownCommand),
            [3, ..] => Some(DeviceError::CannotConnect),
            [4, ..] => Some(DeviceError::NotAuthorized),
            [5, ..] => Some(DeviceError::BadHostName),
            [other, ..] => Some(DeviceError::Unknown(*other)),
        }
    }
}

/// What a device can do besides, bit by bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u8);

impl Capabilities {
    /// It can show which one it is.
    #[must_use]
    pub fn identify(self) -> bool {
        self.0 & 1 != 0
    }

    /// It tells what it is.
    #[must_use]
    pub fn device_info(self) -> bool {
        self.0 & 2 != 0
    }

    /// It tells which networks it sees.
    #[must_use]
    pub fn scan(self) -> bool {
        self.0 & 4 != 0
    }
}

/// The service data of an advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// What the device is doing, when it says something known.
    pub state: Option<State>,
    /// What it can do.
    pub capabilities: Capabilities,
}

impl Advertised {
    /// Reads service data under [`SERVICE_DATA`]: state, capabilities, four bytes that mean nothing yet.
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Advertised> {
        let [state, capabilities, _, _, _, _] = data else { return None };
        Some(Advertised { state: State::read(&[*state]), capabilities: Capabilities(*capabilities) })
    }
}

/// A command to the device, or what a result answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send Wi-Fi settings (1).
    SendWifi,
    /// Identify (2).
    Identify,
    /// Device information (3).
    DeviceInfo,
    /// Scan for networks (4).
    Scan,
    /// Host name (5).
    HostName,
    /// Device name (6).
    DeviceName,
}

impl Command {
    /// The byte that stands for it.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Command::SendWifi => 1,
            Command::Identify => 2,
            Command::DeviceInfo => 3,
            Command::Scan => 4,
            Command::HostName => 5,
            Command::DeviceName => 6,
        }
    }

    fn of(byte: u8) -> Option<Command> {
        use Command::{DeviceInfo, DeviceName, HostName, Identify, Scan, SendWifi};
        [SendWifi, Identify, DeviceInfo, Scan, HostName, DeviceName].into_iter().find(|c| c.byte() == byte)
    }
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More may come.
    #[error("the frame is not whole yet")]
    Short,
    /// Bytes follow the frame.
    #[error("bytes follow the frame")]
    Long,
    /// The sum of the bytes is another.
    #[error("the checksum is wrong")]
    Checksum,
    /// No such command.
    #[error("the result answers a command that nobody knows")]
    Command,
    /// The strings do not fill the frame, or are too long for it.
    #[error("the strings do not fit the frame")]
    Strings,
}

/// A command with its strings as a frame: command, length, `length of a string ‖ string` …, checksum.
///
/// # Errors
/// [`FrameError::Strings`] when they do not fit into 255 bytes.
pub fn frame(command: Command, strings: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    let length: usize = strings.iter().map(|s| s.len() + 1).sum();
    let length = u8::try_from(length).map_err(|_| FrameError::Strings)?;
    // Reserved whole, so that no copy of a passphrase is left where it grew.
    let mut frame = Zeroizing::new(Vec::with_capacity(usize::from(length) + 3));
    frame.extend([command.byte(), length]);
    for string in strings {
        frame.push(u8::try_from(string.len()).map_err(|_| FrameError::Strings)?);
        frame.extend_from_slice(string);
    }
    let sum = checksum(&frame);
    frame.push(sum);
    Ok(frame)
}

/// An answer of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it answers.
    pub command: Command,
    /// Its strings.
    pub strings: Vec<Vec<u8>>,
}

impl Answer {
    /// Reads a whole frame.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn parse(bytes: &[u8]) -> Result<Answer, FrameError> {
        let [command, length, rest @ ..] = bytes else { return Err(FrameError::Short) };
        let (data, sum) = rest.split_at_checked(usize::from(*length)).ok_or(FrameError::Short)?;
        let [sum] = sum else { return Err(if sum.is_empty() { FrameError::Short } else { FrameError::Long }) };
        let summed = bytes.split_last().map(|(_, before)| checksum(before));
        if summed != Some(*sum) {
            return Err(FrameError::Checksum);
        }
        let command = Command::of(*command).ok_or(FrameError::Command)?;
        let (mut strings, mut left) = (Vec::new(), data);
        while let Some((length, after)) = left.split_first() {
            let (string, after) = after.split_at_checked(usize::from(*length)).ok_or(FrameError::Strings)?;
            strings.push(string.to_vec());
            left = after;
        }
        Ok(Answer { command, strings })
    }

    /// A string as text for a person: no control characters, and nothing when it is empty.
    fn text(&self, at: usize) -> Option<String> {
        let text: String = String::from_utf8_lossy(self.strings.get(at)?).chars().filter(|c| !c.is_control()).collect();
        (!text.is_empty()).then_some(text)
    }
}

/// What a device tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What its program is called.
    pub firmware: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The chip.
    pub hardware: Option<String>,
    /// What the device is called.
    pub name: Option<String>,
}

impl DeviceInfo {
    /// From the answer to [`Command::DeviceInfo`]; later versions may add strings.
    #[must_use]
    pub fn of(answer: &Answer) -> DeviceInfo {
        DeviceInfo { firmware: answer.text(0), version: answer.text(1), hardware: answer.text(2), name: answer.text(3) }
    }
}

/// A network that the device sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub ssid: Vec<u8>,
    /// How strong, in dBm.
    pub signal: i16,
    /// Whether it wants a passphrase.
    pub secured: bool,
}

impl Network {
    /// The networks of one answer to [`Command::Scan`]: three strings each. An answer without strings is the last one.
    #[must_use]
    pub fn of(answer: &Answer) -> Vec<Network> {
        let networks = answer.strings.chunks_exact(3).filter_map(|three| {
            let [ssid, signal, secured] = three else { return None };
            let signal = std::str::from_utf8(signal).ok()?.trim().parse().ok()?;
            Some(Network { ssid: ssid.clone(), signal, secured: secured != b"NO" })
        });
        networks.collect()
    }
}

/// Where the person may go on, when the device has said it: an `http` or `https` URL and nothing else.
#[must_use]
pub fn redirect_url(answer: &Answer) -> Option<String> {
    let url = std::str::from_utf8(answer.strings.first()?).ok()?;
    let fits = (url.starts_with("http://") || url.starts_with("https://")) && url.chars().all(|c| c.is_ascii_graphic());
    fits.then(|| url.to_owned())
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_the_protocol_shows_it() {
        let bytes = frame(Command::SendWifi, &[b"MyWirelessAP", b"mysecurepassword"]).unwrap();
        assert_eq!(&bytes[..3], [1, 0x1e, 0x0c]);
        assert_eq!(&bytes[3..15], b"MyWirelessAP");
        assert_eq!(bytes[15], 0x10);
        assert_eq!(bytes.len(), 33);
        assert_eq!(bytes[32], 0xc0);
        assert_eq!(*frame(Command::Identify, &[]).unwrap(), [2, 0, 2]);
    }

    #[test]
    fn what_was_framed_is_read_again_and_every_cut_or_changed_byte_is_seen() {
        let bytes = frame(Command::DeviceInfo, &[b"ESPHome", b"2026.1", b"ESP32", b""]).unwrap();
        let answer = Answer::parse(&bytes).unwrap();
        let info = DeviceInfo::of(&answer);
        assert_eq!((info.firmware.as_deref(), info.hardware.as_deref(), info.name), (Some("ESPHome"), Some("ESP32"), None));
        for cut in 0..bytes.len() {
            assert_eq!(Answer::parse(&bytes[..cut]), Err(FrameError::Short), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert!(Answer::parse(&changed).is_err(), "{at}");
        }
        let mut long = bytes.to_vec();
        long.push(0);
        assert_eq!(Answer::parse(&long), Err(FrameError::Long));
    }

    #[test]
    fn strings_that_do_not_fit_are_refused_in_both_directions() {
        assert_eq!(frame(Command::SendWifi, &[&[0; 200], &[0; 54]]), Err(FrameError::Strings));
        assert!(frame(Command::SendWifi, &[&[0; 200], &[0; 53]]).is_ok());
        assert_eq!(Answer::parse(&[1, 2, 5, b'a', 5 + b'a' + 3]), Err(FrameError::Strings));
        assert_eq!(Answer::parse(&[9, 0, 9]), Err(FrameError::Command));
    }

    #[test]
    fn networks_are_read_by_threes() {
        let answer = Answer::parse(&frame(Command::Scan, &[b"home", b"-53", b"YES", b"cafe", b"-80", b"NO"]).unwrap()).unwrap();
        let networks = Network::of(&answer);
        assert_eq!(networks[0], Network { ssid: b"home".to_vec(), signal: -53, secured: true });
        assert_eq!(networks[1], Network { ssid: b"cafe".to_vec(), signal: -80, secured: false });
        assert!(Network::of(&Answer { command: Command::Scan, strings: Vec::new() }).is_empty());
    }

    #[test]
    fn only_a_web_address_is_taken_as_one() {
        let url = |s: &[u8]| redirect_url(&Answer { command: Command::SendWifi, strings: vec![s.to_vec()] });
        assert_eq!(url(b"http://192.0.2.7/setup"), Some("http://192.0.2.7/setup".to_owned()));
        for wrong in [&b"javascript:alert(1)"[..], b"http://a b", b"https://x\n", b"\xff", b""] {
            assert_eq!(url(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_advertisement_says_what_the_device_is_doing() {
        let read = Advertised::parse(&[2, 1, 0, 0, 0, 0]).unwrap();
        assert_eq!(read.state, Some(State::Authorized));
        assert!(read.capabilities.identify() && !read.capabilities.scan());
        assert_eq!(Advertised::parse(&[2, 1]), None);
        assert_eq!(Advertised::parse(&[9, 0, 0, 0, 0, 0]).unwrap().state, None);
    }

    #[test]
    fn characteristics_are_known_by_their_uuids() {
        assert_eq!(Characteristic::of(0x0046_7768_6228_2272_4663_2774_7826_8004), Some(Characteristic::Result));
        assert_eq!(Characteristic::of(SERVICE), None);
    }
}
