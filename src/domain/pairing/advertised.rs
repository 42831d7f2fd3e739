//! What a device says before anybody is connected: whether it may be paired, and a short id by which only who has the label knows it.

use subtle::ConstantTimeEq;

use crate::domain::keys::PairingKey;

/// The length of INFO and of the service data, in bytes.
pub const ADVERTISED_BYTES: usize = 12;
const VERSION: u8 = 1;

/// The pairing window of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowState {
    /// It takes no pairing now.
    Closed,
    /// It takes one, and belongs to nobody.
    Open,
    /// It takes one, and belongs to some hub.
    Claimed,
}

/// INFO, or the service data of an advertisement: `version ‖ state ‖ salt ‖ short id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Advertised {
    /// Whether it may be paired.
    pub state: WindowState,
    /// Random, new for every window and after every connection.
    pub salt: [u8; 4],
    /// [`PairingKey::short_id`] of the device with this salt.
    pub short: [u8; 6],
}

impl Advertised {
    /// Reads the 12 bytes. `None` for another version, length or state.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [VERSION, state, s0, s1, s2, s3, short @ ..] = *<&[u8; ADVERTISED_BYTES]>::try_from(bytes).ok()? else {
            return None;
        };
        let state = match state {
            0 => WindowState::Closed,
            1 => WindowState::Open,
            2 => WindowState::Claimed,
            _ => return None,
        };
        Some(Self { state, salt: [s0, s1, s2, s3], short })
    }
}

impl PairingKey {
    /// Whether this is advertised by the device of this key. By 48 bits, it may be another by chance: the handshake decides.
    #[must_use]
    pub fn is_meant(&self, advertised: &Advertised) -> bool {
        self.short_id(&advertised.salt).ct_eq(&advertised.short).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_label_alone() {
        let (mine, other) = (PairingKey::from_bytes([1; 32]), PairingKey::from_bytes([2; 32]));
        let mut bytes = vec![1, 2, 9, 8, 7, 6];
        bytes.extend(mine.short_id(&[9, 8, 7, 6]));
        let advertised = Advertised::parse(&bytes).unwrap();
        assert_eq!((advertised.state, advertised.salt), (WindowState::Claimed, [9, 8, 7, 6]));
        assert!(mine.is_meant(&advertised));
        assert!(!other.is_meant(&advertised));
        // Another salt: what was seen yesterday says nothing today.
        bytes[2] ^= 1;
        assert!(!mine.is_meant(&Advertised::parse(&bytes).unwrap()));
    }

    #[test]
    fn other_versions_states_and_lengths_are_not_read() {
        let good = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(Advertised::parse(&good).is_some());
        assert_eq!(Advertised::parse(&good[1..]), None);
        assert_eq!(Advertised::parse(&[&good[..], &[0]].concat()), None);
        assert_eq!(Advertised::parse(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(Advertised::parse(&[1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
