//! The ways in: the data key of a backup sealed to the recovery code and to a passphrase, of which the hub keeps public
//! halves alone, so that a backup at night needs no secret.

use super::BackupError;
use crate::domain::backup::{Header, Wrap};
use crate::domain::mirror::recovery::{RecoveryCode, age_identity, age_recipient};
use crate::store::tables::{PassphraseKey, RecoveryKeys};
use argon2::{Algorithm, Argon2, Params, Version};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// What a new passphrase is stretched with: 64 MiB, 3 passes, 1 lane (RFC 9106 §4, for boxes with little memory).
const STRETCH: (u32, u32, u32) = (64 * 1024, 3, 1);
/// What a file may ask for at most: 256 MiB, 16 passes, 4 lanes.
const STRETCH_MAX: (u32, u32, u32) = (256 * 1024, 16, 4);
/// Characters of a passphrase.
const PASSPHRASE: std::ops::RangeInclusive<usize> = 12..=256;

/// What opens a backup.
#[derive(Clone, Default)]
pub struct Secrets {
    /// The household's recovery code. With it a new epoch can begin at the cloud.
    pub code: Option<RecoveryCode>,
    /// The passphrase of the backups.
    pub passphrase: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets(code: {}, passphrase: {})", self.code.is_some(), self.passphrase.is_some())
    }
}

/// What a hub keeps of a new passphrase. Takes as long as stretching it.
///
/// # Errors
/// [`BackupError::Passphrase`] when it is too short or too long.
pub(super) fn keep_passphrase(text: &str, salt: [u8; 16]) -> Result<PassphraseKey, BackupError> {
    let (memory, passes, lanes) = STRETCH;
    if !PASSPHRASE.contains(&text.chars().count()) {
        return Err(BackupError::Passphrase);
    }
    let secret = stretched(text, &salt, memory, passes, lanes)?;
    Ok(PassphraseKey { salt, memory, passes, lanes, recipient: age_recipient(&secret) })
}

fn stretched(text: &str, salt: &[u8; 16], memory: u32, passes: u32, lanes: u32) -> Result<Zeroizing<[u8; 32]>, BackupError> {
    let (most_memory, most_passes, most_lanes) = STRETCH_MAX;
    if memory > most_memory || passes > most_passes || lanes > most_lanes {
        return Err(BackupError::Altered);
    }
    // The same text from another keyboard is the same passphrase.
    let text: Zeroizing<String> = Zeroizing::new(text.trim().nfc().collect());
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(|_| BackupError::Altered)?;
    let mut secret = Zeroizing::new([0; 32]);
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    hasher.hash_password_into(text.as_bytes(), salt, &mut *secret).map_err(|_| BackupError::Memory)?;
    Ok(secret)
}

/// Seals `key` to each that is there.
///
/// # Errors
/// [`BackupError::NoWay`] when there is none.
pub(super) fn wraps(key: &[u8; 32], code: Option<&RecoveryKeys>, passphrase: Option<&PassphraseKey>) -> Result<Vec<Wrap>, BackupError> {
    let sealed = |recipient: &str| -> Result<Vec<u8>, BackupError> {
        let recipient: age::x25519::Recipient = recipient.parse().map_err(|_| BackupError::NoWay)?;
        age::encrypt(&recipient, key).map_err(|_| BackupError::NoWay)
    };
    let mut all = Vec::new();
    if let Some(code) = code {
        all.push(Wrap::Code { sealed: sealed(&code.recipient)? });
    }
    if let Some(p) = passphrase {
        let sealed = sealed(&p.recipient)?;
        all.push(Wrap::Passphrase { salt: p.salt, memory: p.memory, passes: p.passes, lanes: p.lanes, sealed });
    }
    if all.is_empty() { Err(BackupError::NoWay) } else { Ok(all) }
}

/// The data key of a backup.
///
/// # Errors
/// [`BackupError::WrongCode`], [`BackupError::WrongPassphrase`], [`BackupError::NotByCode`],
/// [`BackupError::NotByPassphrase`].
pub(super) fn data_key(header: &Header, secrets: &Secrets) -> Result<Zeroizing<[u8; 32]>, BackupError> {
    let mut refused = BackupError::NoSecret;
    if let Some(code) = &secrets.code {
        refused = BackupError::NotByCode;
        for wrap in &header.wraps {
            if let Wrap::Code { sealed } = wrap {
                match opened(sealed, &code.age_identity(&header.hub)) {
                    Some(key) => return Ok(key),
                    None => refused = BackupError::WrongCode,
                }
            }
        }
    }
    if let Some(text) = &secrets.passphrase {
        refused = BackupError::NotByPassphrase;
        for wrap in &header.wraps {
            if let Wrap::Passphrase { salt, memory, passes, lanes, sealed } = wrap {
                let secret = stretched(text, salt, *memory, *passes, *lanes)?;
                match opened(sealed, &age_identity(&secret)) {
                    Some(key) => return Ok(key),
                    None => refused = BackupError::WrongPassphrase,
                }
            }
        }
    }
    Err(refused)
}

fn opened(sealed: &[u8], identity: &str) -> Option<Zeroizing<[u8; 32]>> {
    let identity: age::x25519::Identity = identity.parse().ok()?;
    let plain = Zeroizing::new(age::decrypt(&identity, sealed).ok()?);
    plain.as_slice().try_into().ok().map(Zeroizing::new)
}
