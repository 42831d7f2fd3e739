//! What can be wrong with a device that is being paired.

use std::str::FromStr;

/// A fault, put in on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The link breaks here.
    Drop(At),
    /// It believes in another code than the one on its label, which it still goes by.
    WrongCode,
    /// It takes everything and never answers.
    Silent,
    /// It thinks long before each fragment.
    Slow,
    /// One fragment of its hello is lost.
    FragmentGap,
    /// Firmware that does not count resets: its hello lacks the counter.
    OldFirmware,
    /// Firmware of another version of the protocol: it says so in INFO.
    UnknownVersion,
    /// It knows the code and lacks the device key: a copy of the label.
    Clone,
    /// The access point refuses the passphrase.
    WifiRefused,
    /// The network is not in reach.
    WifiNotFound,
    /// It cannot store the credential.
    NotStored,
}

/// Where the link breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// As soon as it is connected.
    Connect,
    /// When the hub's first message has come.
    Handshake,
    /// Before it says hello.
    Hello,
    /// When it is asked for its model.
    Model,
    /// When the credential has come: it is not stored.
    Credential,
    /// When the credential is stored, before it says so; it goes on to sign in.
    Stored,
    /// When it has said so: its power is gone, and it never signs in.
    SignIn,
}

const NAMES: [(&str, Fault); 17] = [
    ("drop@connect", Fault::Drop(At::Connect)),
    ("drop@handshake", Fault::Drop(At::Handshake)),
    ("drop@hello", Fault::Drop(At::Hello)),
    ("drop@model", Fault::Drop(At::Model)),
    ("drop@credential", Fault::Drop(At::Credential)),
    ("drop@stored", Fault::Drop(At::Stored)),
    ("drop@sign-in", Fault::Drop(At::SignIn)),
    ("wrong-code", Fault::WrongCode),
    ("silent", Fault::Silent),
    ("slow", Fault::Slow),
    ("fragment-gap", Fault::FragmentGap),
    ("old-firmware", Fault::OldFirmware),
    ("unknown-version", Fault::UnknownVersion),
    ("clone", Fault::Clone),
    ("wifi-refused", Fault::WifiRefused),
    ("wifi-not-found", Fault::WifiNotFound),
    ("not-stored", Fault::NotStored),
];

impl FromStr for Fault {
    type Err = String;

    /// `drop@STEP` (connect, handshake, hello, model, credential, stored, sign-in), `wrong-code`, …
    fn from_str(text: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(name, _)| *name == text).map(|(_, fault)| *fault);
        found.ok_or_else(|| format!("{text} is none of {}", NAMES.map(|(name, _)| name).join(", ")))
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(NAMES.iter().find(|(_, fault)| fault == self).map_or("fault", |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_read_as_it_is_written() {
        for (name, fault) in NAMES {
            assert_eq!(name.parse(), Ok(fault));
            assert_eq!(fault.to_string(), name);
        }
        assert!("drop@moon".parse::<Fault>().is_err_and(|why| why.contains("drop@hello")));
    }
}
