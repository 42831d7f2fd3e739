//! What is said once and holds for long: that a hub joins or leaves a cloud, that another hub takes a hub's place, who asks
//! for a recovery bundle and whose it is, and revocations that are carried to a hub. COSE_Sign1, as all statements
//! (`domain::brand`), one context each. Whose key it must be, and whether a time or a number is new enough, is asked by
//! whoever keeps them.

use std::collections::BTreeSet;

use ciborium::Value;
use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::wire::{Consent, Kind, MARKS_MAX, Mark};
use crate::domain::batch::recipient;
use crate::domain::brand::{Purpose, StatementError, sign_statement, unverified_payload, verify_statement};
use crate::domain::cbor::{self, CborError, Field, Record};
use crate::domain::ids::HubId;

/// Characters of a hub's name, a region or a link code at most.
pub const WORD_MAX: usize = 64;
/// Characters of an entity's key in a mark at most.
pub const KEY_MAX: usize = 200;
/// Bytes of a statement that is looked at. A bulletin of as many marks as there may be has fewer.
const STATEMENT_MAX: usize = 4 * 1024 * 1024;

/// The public halves of the keys that are derived from the recovery code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryKeys {
    /// Ed25519: signs epochs and recovery requests.
    pub key: [u8; 32],
    /// age X25519, `age1…`: the bundle is encrypted to it.
    pub recipient: String,
}

/// A hub joins a cloud, or renews its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatement {
    /// The hub's identity key, which signs.
    pub identity: [u8; 32],
    /// Its mirror key of this epoch.
    pub mirror: [u8; 32],
    /// Its epoch.
    pub epoch: u64,
    /// Absent while the household has no recovery code: then no other hub can take its place.
    pub recovery: Option<RecoveryKeys>,
    /// The hub's own age X25519 recipient, to which registry batches are encrypted.
    pub recipient: String,
    /// What its people call it; empty without the consent `people`.
    pub name: String,
    /// The region it means.
    pub region: String,
    /// What its owner agreed to.
    pub consent: BTreeSet<Consent>,
    /// When, s since 1970.
    pub at_s: u64,
    /// The cloud's key it means.
    pub cloud: [u8; 32],
    /// What the cloud asked for in order to link; may be empty.
    pub code: String,
}

impl LinkStatement {
    /// Signs it. `identity` is that of the hub.
    #[must_use]
    pub fn sign(&self, identity: &SigningKey) -> Vec<u8> {
        let mut words: Vec<&str> = self.consent.iter().map(|consent| consent.word()).collect();
        words.sort_unstable();
        let mut fields = vec![
            (1, cbor::bytes(&self.identity)),
            (2, cbor::bytes(&self.mirror)),
            (3, Value::from(self.epoch)),
            (6, cbor::text(&self.recipient)),
            (7, cbor::text(&self.name)),
            (8, cbor::text(&self.region)),
            (9, Value::Array(words.into_iter().map(cbor::text).collect())),
            (10, Value::from(self.at_s)),
            (11, cbor::bytes(&self.cloud)),
            (12, cbor::text(&self.code)),
        ];
        if let Some(recovery) = &self.recovery {
            fields.extend([(4, cbor::bytes(&recovery.key)), (5, cbor::text(&recovery.recipient))]);
        }
        let payload = Value::Map(fields.into_iter().map(|(key, value): (u64, Value)| (key.into(), value)).collect());
        sign_statement(identity, Purpose::Link, cbor::encode(payload))
    }

    /// Reads a statement and checks it against the identity key in it, of which [`LinkStatement::hub`] is the id.
    ///
    /// # Errors
    /// [`StatementError`] for anything else.
    pub fn read(statement: &[u8]) -> Result<Self, StatementError> {
        let mut record = Record::decode("link statement", &unverified_payload(Purpose::Link, bounded("the link statement", statement)?)?)?;
        let recovery = match (record.take_optional(4, "recovery key"), record.take_optional(5, "recovery recipient")) {
            (Some(key), Some(text)) => Some(RecoveryKeys { key: key.fixed()?, recipient: text.parsed(recipient)? }),
            (None, None) => None,
            _ => return Err(StatementError::NotAStatement("link statement")),
        };
        let read = Self {
            identity: record.take(1, "identity key")?.fixed()?,
            mirror: record.take(2, "mirror key")?.fixed()?,
            epoch: record.take(3, "epoch")?.uint()?,
            recovery,
            recipient: record.take(6, "age recipient")?.parsed(recipient)?,
            name: record.take(7, "name")?.parsed(word)?,
            region: record.take(8, "region")?.parsed(word)?,
            consent: consent(record.take(9, "consent")?)?,
            at_s: record.take(10, "time")?.uint()?,
            cloud: record.take(11, "cloud key")?.fixed()?,
            code: record.take(12, "link code")?.parsed(word)?,
        };
        record.finish()?;
        verify_statement(&read.identity, Purpose::Link, statement)?;
        Ok(read)
    }

    /// The hub.
    #[must_use]
    pub fn hub(&self) -> HubId {
        HubId::from_public_key(&self.identity)
    }
}

/// A hub leaves its cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnlinkStatement {
    /// The hub.
    pub hub: HubId,
    /// When, s since 1970.
    pub at_s: u64,
}

impl UnlinkStatement {
    /// Signs it with the hub's identity key.
    #[must_use]
    pub fn sign(&self, identity: &SigningKey) -> Vec<u8> {
        let payload = cbor::map([(1, cbor::bytes(self.hub.as_bytes())), (2, Value::from(self.at_s))]);
        sign_statement(identity, Purpose::Unlink, cbor::encode(payload))
    }

    /// Checks it against the hub's identity key.
    ///
    /// # Errors
    /// [`StatementError`] for anything else; [`StatementError::NotThatHub`] when it names another hub than the key's.
    pub fn verify(identity: &[u8; 32], statement: &[u8]) -> Result<Self, StatementError> {
        let mut record = verified(identity, Purpose::Unlink, "unlink statement", statement)?;
        let read = Self { hub: hub(&mut record)?, at_s: record.take(2, "time")?.uint()? };
        record.finish()?;
        if read.hub != HubId::from_public_key(identity) {
            return Err(StatementError::NotThatHub);
        }
        Ok(read)
    }
}

/// Another hub takes the place of a hub, under its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStatement {
    /// The hub.
    pub hub: HubId,
    /// Above the one before.
    pub epoch: u64,
    /// The new mirror key.
    pub mirror: [u8; 32],
    /// When, s since 1970.
    pub at_s: u64,
}

impl EpochStatement {
    /// Signs it with the recovery code's epoch key for this hub.
    #[must_use]
    pub fn sign(&self, recovery: &SigningKey) -> Vec<u8> {
        let payload = cbor::map([
            (1, cbor::bytes(self.hub.as_bytes())),
            (2, Value::from(self.epoch)),
            (3, cbor::bytes(&self.mirror)),
            (4, Value::from(self.at_s)),
        ]);
        sign_statement(recovery, Purpose::Epoch, cbor::encode(payload))
    }

    /// Checks it against the recovery key that was pinned. Whether hub and epoch fit, the caller asks.
    ///
    /// # Errors
    /// [`StatementError`] for anything else.
    pub fn verify(recovery: &[u8; 32], statement: &[u8]) -> Result<Self, StatementError> {
        let mut record = verified(recovery, Purpose::Epoch, "epoch statement", statement)?;
        let read = Self {
            hub: hub(&mut record)?,
            epoch: record.take(2, "epoch")?.uint()?,
            mirror: record.take(3, "mirror key")?.fixed()?,
            at_s: record.take(4, "time")?.uint()?,
        };
        record.finish()?;
        Ok(read)
    }
}

/// Whoever has the recovery code asks for the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryRequest {
    /// The hub.
    pub hub: HubId,
    /// Used once.
    pub nonce: [u8; 16],
    /// When, s since 1970.
    pub at_s: u64,
    /// The cloud's key it means.
    pub cloud: [u8; 32],
}

impl RecoveryRequest {
    /// Signs it with the recovery code's epoch key for this hub.
    #[must_use]
    pub fn sign(&self, recovery: &SigningKey) -> Vec<u8> {
        let payload = cbor::map([
            (1, cbor::bytes(self.hub.as_bytes())),
            (2, cbor::bytes(&self.nonce)),
            (3, Value::from(self.at_s)),
            (4, cbor::bytes(&self.cloud)),
        ]);
        sign_statement(recovery, Purpose::Recover, cbor::encode(payload))
    }

    /// Checks it against the recovery key that was pinned. Whether hub, time, nonce and cloud fit, the caller asks.
    ///
    /// # Errors
    /// [`StatementError`] for anything else.
    pub fn verify(recovery: &[u8; 32], statement: &[u8]) -> Result<Self, StatementError> {
        let mut record = verified(recovery, Purpose::Recover, "recovery request", statement)?;
        let read = Self {
            hub: hub(&mut record)?,
            nonce: record.take(2, "nonce")?.fixed()?,
            at_s: record.take(3, "time")?.uint()?,
            cloud: record.take(4, "cloud key")?.fixed()?,
        };
        record.finish()?;
        Ok(read)
    }
}

/// Marks of a cloud, which a phone may carry to a hub that has no internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bulletin {
    /// The hub it is for.
    pub hub: HubId,
    /// Rises with each bulletin for this hub.
    pub number: u64,
    /// When, s since 1970.
    pub at_s: u64,
    /// The marks, at most [`MARKS_MAX`].
    pub marks: Vec<Mark>,
}

impl Bulletin {
    /// Signs it with the cloud's key.
    #[must_use]
    pub fn sign(&self, cloud: &SigningKey) -> Vec<u8> {
        let mark = |mark: &Mark| {
            Value::Array(vec![
                cbor::text(mark.kind.word()),
                cbor::text(&mark.key),
                Value::from(mark.generation),
                Value::from(mark.at),
                cbor::text(&mark.by),
            ])
        };
        let payload = cbor::map([
            (1, cbor::bytes(self.hub.as_bytes())),
            (2, Value::from(self.number)),
            (3, Value::from(self.at_s)),
            (4, Value::Array(self.marks.iter().map(mark).collect())),
        ]);
        sign_statement(cloud, Purpose::Bulletin, cbor::encode(payload))
    }

    /// Checks it against the cloud's key that was pinned. Whether it is for this hub, the caller asks.
    ///
    /// # Errors
    /// [`StatementError`] for anything else.
    pub fn verify(cloud: &[u8; 32], statement: &[u8]) -> Result<Self, StatementError> {
        let mut record = verified(cloud, Purpose::Bulletin, "bulletin", statement)?;
        let (hub, number, at_s) = (hub(&mut record)?, record.take(2, "number")?.uint()?, record.take(3, "time")?.uint()?);
        let marks = record.take(4, "marks")?.items()?;
        record.finish()?;
        if marks.len() > MARKS_MAX {
            return Err(StatementError::TooLarge("the bulletin"));
        }
        let mark = |field: Field| -> Result<Mark, CborError> {
            let mut row = field.row()?;
            let mark = Mark {
                kind: row.take("kind")?.parsed(Kind::parse)?,
                key: row.take("key")?.parsed(|text| short(text, KEY_MAX))?,
                generation: row.take("generation")?.uint()?,
                at: row.take("time")?.uint()?,
                by: row.take("by whom")?.parsed(|text| short(text, KEY_MAX))?,
            };
            row.finish()?;
            Ok(mark)
        };
        Ok(Self { hub, number, at_s, marks: marks.into_iter().map(mark).collect::<Result<_, _>>()? })
    }
}

/// A hub's word about what is in its recovery bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleSeal {
    /// The hub.
    pub hub: HubId,
    /// Its epoch.
    pub epoch: u64,
    /// When, s since 1970.
    pub at_s: u64,
    /// SHA-256 of the content.
    pub content: [u8; 32],
}

impl BundleSeal {
    /// The seal of a content.
    #[must_use]
    pub fn of(hub: HubId, epoch: u64, at_s: u64, content: &[u8]) -> Self {
        Self { hub, epoch, at_s, content: Sha256::digest(content).into() }
    }

    /// Signs it with the hub's identity key.
    #[must_use]
    pub fn sign(&self, identity: &SigningKey) -> Vec<u8> {
        let payload = cbor::map([
            (1, cbor::bytes(self.hub.as_bytes())),
            (2, Value::from(self.epoch)),
            (3, Value::from(self.at_s)),
            (4, cbor::bytes(&self.content)),
        ]);
        sign_statement(identity, Purpose::Bundle, cbor::encode(payload))
    }

    /// Checks it against the hub's identity key, which stands in the content: the hub's id ties one to the other.
    ///
    /// # Errors
    /// [`StatementError`] for anything else; [`StatementError::NotThatHub`] when it names another hub than the key's.
    pub fn verify(identity: &[u8; 32], statement: &[u8]) -> Result<Self, StatementError> {
        let mut record = verified(identity, Purpose::Bundle, "bundle's seal", statement)?;
        let read = Self {
            hub: hub(&mut record)?,
            epoch: record.take(2, "epoch")?.uint()?,
            at_s: record.take(3, "time")?.uint()?,
            content: record.take(4, "hash")?.fixed()?,
        };
        record.finish()?;
        if read.hub != HubId::from_public_key(identity) {
            return Err(StatementError::NotThatHub);
        }
        Ok(read)
    }

    /// Whether it is the seal of this content.
    #[must_use]
    pub fn is_of(&self, content: &[u8]) -> bool {
        Sha256::digest(content)[..] == self.content
    }

    /// What is encrypted to the recovery recipient: the signed seal, its length before it (u32, big endian), and the content.
    #[must_use]
    pub fn join(seal: &[u8], content: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut whole = Zeroizing::new(Vec::with_capacity(4 + seal.len() + content.len()));
        whole.extend_from_slice(&u32::try_from(seal.len()).unwrap_or(u32::MAX).to_be_bytes());
        whole.extend_from_slice(seal);
        whole.extend_from_slice(content);
        whole
    }

    /// Takes apart what [`BundleSeal::join`] has put together: seal and content. Neither holds yet.
    #[must_use]
    pub fn part(whole: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = whole.split_first_chunk::<4>()?;
        rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
    }
}

fn bounded<'a>(what: &'static str, statement: &'a [u8]) -> Result<&'a [u8], StatementError> {
    if statement.len() > STATEMENT_MAX { Err(StatementError::TooLarge(what)) } else { Ok(statement) }
}

fn verified(key: &[u8; 32], purpose: Purpose, what: &'static str, statement: &[u8]) -> Result<Record, StatementError> {
    Ok(Record::decode(what, &verify_statement(key, purpose, bounded(what, statement)?)?)?)
}

fn hub(record: &mut Record) -> Result<HubId, CborError> {
    Ok(HubId::from_bytes(record.take(1, "hub id")?.fixed()?))
}

fn short(text: &str, most: usize) -> Result<String, &'static str> {
    match text {
        _ if text.chars().count() > most => Err("is too long"),
        _ if text.chars().any(char::is_control) => Err("has control characters"),
        _ => Ok(text.to_owned()),
    }
}

fn word(text: &str) -> Result<String, &'static str> {
    short(text, WORD_MAX)
}

/// The words of consent, sorted, each once.
fn consent(field: Field) -> Result<BTreeSet<Consent>, StatementError> {
    let known = |text: &str| Consent::ALL.into_iter().find(|consent| consent.word() == text).ok_or("is no word of consent");
    let all = field.items()?.into_iter().map(|word| word.parsed(known)).collect::<Result<Vec<_>, _>>()?;
    if !all.is_sorted_by(|a, b| a.word() < b.word()) {
        return Err(StatementError::NotAStatement("link statement"));
    }
    Ok(all.into_iter().collect())
}

#[cfg(test)]
mod tests;
