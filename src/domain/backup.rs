//! What a backup is: its id, its header as it stands at the beginning of the file, its footer at the end
//! (`docs/protocol/backup.md`); and in [`keep`] which of them are kept, and when the next one is due.

pub mod keep;
pub mod target;

use ciborium::Value;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;

use super::cbor::{self, CborError, Field, Record};
use super::ids::HubId;

/// What every file begins with; the digit is the version of the whole format.
pub const MAGIC: &[u8; 6] = b"hkbk1\n";
/// What comes before that digit.
const MAGIC_STEM: &[u8; 4] = b"hkbk";
/// What every footer begins with.
const END: &[u8; 8] = b"hkbkend1";
/// Bytes of a footer.
pub const FOOTER_BYTES: usize = 8 + 8 + 32 + 64;
/// Bytes of a header's CBOR at most.
pub const HEADER_MAX: usize = 16 * 1024;
/// Bytes of the beginning that a header needs at most.
pub const HEAD_MAX: usize = MAGIC.len() + 4 + HEADER_MAX;
/// The version of headers that is written here, and the newest that is read.
const VERSION: u64 = 1;
/// What the hub's signature of a backup begins with, so that it signs nothing else.
const SIGNED: &[u8] = b"hearthkey backup v1\0";
/// Ways in that a backup has at most.
const WRAPS_MAX: usize = 8;
/// Bytes of a sealed data key at most.
const WRAP_MAX: usize = 1024;
/// Increments that may follow a full backup at most.
pub const PLACE_MAX: u64 = 1_000;

/// What names a backup: 16 random bytes, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackupId([u8; 16]);

impl BackupId {
    /// An id of 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> BackupId {
        BackupId(bytes)
    }
    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
    /// Reads the text form.
    #[must_use]
    pub fn parse(text: &str) -> Option<BackupId> {
        data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok().map(BackupId)
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackupId({self})")
    }
}

/// A way to the data key: it is sealed, as an age file, to a key that only the named secret opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// The household's recovery code.
    Code {
        /// The data key as an age file.
        sealed: Vec<u8>,
    },
    /// A passphrase, stretched with Argon2id (version 0x13, 32 bytes) to an X25519 secret.
    Passphrase {
        /// The salt.
        salt: [u8; 16],
        /// KiB of memory.
        memory: u32,
        /// Passes.
        passes: u32,
        /// Lanes.
        lanes: u32,
        /// The data key as an age file.
        sealed: Vec<u8>,
    },
}

/// From what an increment goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follows {
    /// The backup directly before it.
    pub parent: BackupId,
    /// The full backup with which the chain begins.
    pub base: BackupId,
    /// Which increment of the chain it is, from 1.
    pub place: u64,
}

/// What a file says of itself in the clear. Every chunk is bound to it, and the hub has signed it with the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which backup.
    pub id: BackupId,
    /// Of which hub; the id is that of [`Header::identity`].
    pub hub: HubId,
    /// The hub's Ed25519 identity key, by which the footer is checked.
    pub identity: [u8; 32],
    /// The hub's epoch.
    pub epoch: u64,
    /// ms since 1970, by the hub's clock.
    pub made_at: u64,
    /// `None` for a full backup.
    pub follows: Option<Follows>,
    /// The layout of the tables.
    pub layout: u32,
    /// The program that wrote it.
    pub program: String,
    /// The ways in.
    pub wraps: Vec<Wrap>,
}

/// Why bytes are no beginning of a backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Something else altogether.
    #[error("this is no backup of a hub")]
    NotABackup,
    /// Newer than this program.
    #[error("it was written by a newer version of this program{}: install that version, or a newer one, and try again", by(.0))]
    Newer(String),
    /// It breaks off before its header's end.
    #[error("it breaks off in its header")]
    Short,
    /// Anything else.
    #[error("its header is damaged")]
    Damaged,
}

fn by(program: &str) -> String {
    if program.is_empty() { String::new() } else { format!(" ({program})") }
}

impl From<CborError> for HeaderError {
    fn from(_: CborError) -> Self {
        HeaderError::Damaged
    }
}

impl Header {
    /// The full backup with which its chain begins.
    #[must_use]
    pub fn base(&self) -> BackupId {
        self.follows.map_or(self.id, |f| f.base)
    }

    /// Which increment of its chain it is; 0 for a full backup.
    #[must_use]
    pub fn place(&self) -> u64 {
        self.follows.map_or(0, |f| f.place)
    }

    /// The beginning of the file: magic, length, header.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut fields = vec![
            (1, Value::from(VERSION)),
            (2, cbor::bytes(self.hub.as_bytes())),
            (3, cbor::bytes(&self.identity)),
            (4, Value::from(self.epoch)),
            (5, cbor::bytes(self.id.as_bytes())),
            (6, Value::from(self.made_at)),
            (9, Value::from(self.layout)),
            (10, cbor::text(&self.program)),
            (11, Value::Array(self.wraps.iter().map(wrap_value).collect())),
        ];
        if let Some(f) = self.follows {
            fields.push((7, cbor::bytes(f.parent.as_bytes())));
            fields.push((8, Value::Array(vec![cbor::bytes(f.base.as_bytes()), Value::from(f.place)])));
        }
        let header = cbor::encode(Value::Map(fields.into_iter().map(|(key, value): (u64, Value)| (key.into(), value)).collect()));
        let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
        [MAGIC.as_slice(), &length.to_be_bytes(), &header].concat()
    }

    /// Reads the beginning of a file, and how many bytes it takes.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn read(start: &[u8]) -> Result<(Header, usize), HeaderError> {
        let Some((magic, rest)) = start.split_first_chunk::<6>() else {
            let stem = start.len().min(MAGIC_STEM.len());
            return Err(if start.get(..stem) == MAGIC_STEM.get(..stem) { HeaderError::Short } else { HeaderError::NotABackup });
        };
        if magic != MAGIC {
            let newer = magic.starts_with(MAGIC_STEM) && magic.get(4).is_some_and(|digit| (b'2'..=b'9').contains(digit));
            return Err(if newer { HeaderError::Newer(String::new()) } else { HeaderError::NotABackup });
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(HeaderError::Short)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| HeaderError::Damaged)?;
        if length > HEADER_MAX {
            return Err(HeaderError::Damaged);
        }
        let header = Self::parse(rest.get(..length).ok_or(HeaderError::Short)?)?;
        Ok((header, MAGIC.len() + 4 + length))
    }

    fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let mut record = Record::decode("backup header", bytes)?;
        let version = record.take(1, "version")?.uint()?;
        let program = record.take(10, "program")?.text()?.chars().take(40).collect::<String>();
        if version > VERSION {
            return Err(HeaderError::Newer(program));
        }
        let follows = match (record.take_optional(7, "parent"), record.take_optional(8, "chain")) {
            (None, None) => None,
            (Some(parent), Some(chain)) => {
                let mut chain = chain.row()?;
                let base = BackupId(chain.take("base")?.fixed()?);
                let place = chain.take("place")?.uint()?;
                chain.finish()?;
                if place == 0 || place > PLACE_MAX {
                    return Err(HeaderError::Damaged);
                }
                Some(Follows { parent: BackupId(parent.fixed()?), base, place })
            }
            _ => return Err(HeaderError::Damaged),
        };
        let read = Header {
            hub: HubId::from_bytes(record.take(2, "hub")?.fixed()?),
            identity: record.take(3, "identity")?.fixed()?,
            epoch: record.take(4, "epoch")?.uint()?,
            id: BackupId(record.take(5, "id")?.fixed()?),
            made_at: record.take(6, "time")?.uint()?,
            follows,
            layout: u32::try_from(record.take(9, "layout")?.uint()?).map_err(|_| HeaderError::Damaged)?,
            program,
            wraps: record.take(11, "wraps")?.items()?.into_iter().take(WRAPS_MAX).map(wrap).collect::<Result<_, _>>()?,
        };
        record.finish()?;
        if HubId::from_public_key(&read.identity) != read.hub {
            return Err(HeaderError::Damaged);
        }
        Ok(read)
    }
}

fn wrap_value(wrap: &Wrap) -> Value {
    match wrap {
        Wrap::Code { sealed } => Value::Array(vec![1.into(), cbor::bytes(sealed)]),
        Wrap::Passphrase { salt, memory, passes, lanes, sealed } => {
            Value::Array(vec![2.into(), cbor::bytes(sealed), cbor::bytes(salt), (*memory).into(), (*passes).into(), (*lanes).into()])
        }
    }
}

fn wrap(field: Field) -> Result<Wrap, HeaderError> {
    let mut row = field.row()?;
    let kind = row.take("kind")?.uint()?;
    let sealed = row.take("data key")?.bytes()?;
    if sealed.len() > WRAP_MAX {
        return Err(HeaderError::Damaged);
    }
    let read = match kind {
        1 => Wrap::Code { sealed },
        2 => {
            let salt = row.take("salt")?.fixed()?;
            let mut number =
                |name| -> Result<u32, HeaderError> { u32::try_from(row.take(name)?.uint()?).map_err(|_| HeaderError::Damaged) };
            Wrap::Passphrase { salt, memory: number("memory")?, passes: number("passes")?, lanes: number("lanes")?, sealed }
        }
        _ => return Err(HeaderError::Newer(String::new())),
    };
    row.finish()?;
    Ok(read)
}

/// The end of a file: how long it is, the hash of everything before, and the hub's signature of both. By it a hub, or
/// anybody, knows without a secret that a file is whole and the hub's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Bytes of the whole file, with the footer.
    pub length: u64,
    /// SHA-256 of everything before the footer.
    pub sha256: [u8; 32],
}

impl Footer {
    /// As it stands in the file. `identity` is the hub's.
    #[must_use]
    pub fn sign(&self, identity: &SigningKey) -> [u8; FOOTER_BYTES] {
        let mut out = [0; FOOTER_BYTES];
        let signature = identity.sign(&self.signed()).to_bytes();
        let all = END.iter().chain(&self.length.to_be_bytes()).chain(&self.sha256).chain(&signature).copied().collect::<Vec<u8>>();
        out.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        out
    }

    /// Reads the last bytes of a file of `length` bytes; `None` when they are no footer of it by the hub with this
    /// identity key.
    #[must_use]
    pub fn read(bytes: &[u8], length: u64, identity: &[u8; 32]) -> Option<Footer> {
        let (end, rest) = bytes.split_first_chunk::<8>()?;
        let (said, rest) = rest.split_first_chunk::<8>()?;
        let (sha256, signature) = rest.split_first_chunk::<32>()?;
        let footer = Footer { length: u64::from_be_bytes(*said), sha256: *sha256 };
        let signature = Signature::from_bytes(signature.try_into().ok()?);
        let key = VerifyingKey::from_bytes(identity).ok()?;
        (end == END && footer.length == length && key.verify_strict(&footer.signed(), &signature).is_ok()).then_some(footer)
    }

    fn signed(&self) -> Vec<u8> {
        [SIGNED, &self.length.to_be_bytes(), &self.sha256].concat()
    }
}

/// What the chunks of a file are bound to: SHA-256 of its beginning as [`Header::to_bytes`] gives it.
#[must_use]
pub fn binding(start: &[u8]) -> [u8; 32] {
    Sha256::digest(start).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(key: &SigningKey) -> Header {
        let identity = key.verifying_key().to_bytes();
        Header {
            id: BackupId([7; 16]),
            hub: HubId::from_public_key(&identity),
            identity,
            epoch: 3,
            made_at: 1_700_000_000_000,
            follows: Some(Follows { parent: BackupId([6; 16]), base: BackupId([5; 16]), place: 2 }),
            layout: 1,
            program: "0.1.0".into(),
            wraps: vec![
                Wrap::Code { sealed: vec![1; 200] },
                Wrap::Passphrase { salt: [2; 16], memory: 65_536, passes: 3, lanes: 1, sealed: vec![3; 200] },
            ],
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_every_other_beginning_is_refused_by_name() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let written = header(&key).to_bytes();
        let whole = [written.as_slice(), b"more"].concat();
        assert_eq!(Header::read(&whole), Ok((header(&key), written.len())));
        let full = Header { follows: None, ..header(&key) };
        assert_eq!(Header::read(&full.to_bytes()).unwrap().0, full);
        for cut in 0..written.len() {
            assert_eq!(Header::read(&written[..cut]), Err(HeaderError::Short), "{cut}");
        }
        assert_eq!(Header::read(b"PK\x03\x04 something"), Err(HeaderError::NotABackup));
        let newer = [b"hkbk2\n".as_slice(), &written[6..]].concat();
        assert!(matches!(Header::read(&newer), Err(HeaderError::Newer(_))));
        let other = Header { identity: [1; 32], ..header(&key) };
        assert_eq!(Header::read(&other.to_bytes()), Err(HeaderError::Damaged));
    }

    #[test]
    fn a_footer_holds_for_its_length_and_its_hub_alone() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let identity = key.verifying_key().to_bytes();
        let footer = Footer { length: 5_000, sha256: [4; 32] };
        let bytes = footer.sign(&key);
        assert_eq!(Footer::read(&bytes, 5_000, &identity), Some(footer));
        assert_eq!(Footer::read(&bytes, 4_999, &identity), None);
        assert_eq!(Footer::read(&bytes, 5_000, &SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes()), None);
        for at in 0..bytes.len() {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert_eq!(Footer::read(&changed, 5_000, &identity), None, "{at}");
        }
    }
}
