//! The cloud's own keys, in files of its data directory that only its user may read: the cloud key that signs replies and
//! bulletins, the region key that seals secrets in the database, and the CA that serves while it is tried out.
//!
//! Several processes of one region have the same files: copy the directory without the database.

use crate::net::tls::{Clock as TlsClock, Material, Protocol, TlsError};
use crate::net::{Ca, CaError, CaKey, Certificate, ServerKey, TlsReloader, Validity, ca};
use data_encoding::HEXLOWER;
use ed25519_dalek::SigningKey;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// How long a certificate of the own CA is valid, in s.
const LIFETIME_S: u64 = 397 * 24 * 3600;

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process runs over the directory.
    #[error("{0} is in use by another cloud: choose another directory with --data-dir, or stop the other one")]
    InUse(PathBuf),
    /// A file holds something else.
    #[error("{0} does not hold a key of 32 bytes in hexadecimal: put the right file back; a new key would be another cloud")]
    Content(PathBuf),
    /// No randomness.
    #[error("no randomness: {0}")]
    Entropy(getrandom::Error),
    /// The CA.
    #[error("the own CA: {0}")]
    Ca(#[from] CaError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn at(path: &Path) -> impl Fn(io::Error) -> KeyError + '_ {
    move |source| KeyError::File { path: path.to_owned(), source }
}

/// A data directory that this process alone uses, as long as this is kept.
pub(super) struct Directory {
    path: PathBuf,
    _lock: std::fs::File,
}

impl Directory {
    /// Opens it, and makes it if it is not there.
    pub(super) fn open(path: &Path) -> Result<Directory, KeyError> {
        if !path.exists() {
            // Others may pass through, to the socket of a PostgreSQL of another user; they may not look.
            std::fs::DirBuilder::new().recursive(true).mode(0o711).create(path).map_err(at(path))?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).map_err(at(path))?;
        }
        let name = path.join("lock");
        let lock = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&name).map_err(at(&name))?;
        match lock.try_lock() {
            Ok(()) => Ok(Directory { path: path.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(KeyError::InUse(path.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => Err(KeyError::File { path: name, source }),
        }
    }
}

/// The cloud's keys.
pub(super) struct Keys {
    /// Signs replies and bulletins.
    pub(super) cloud: SigningKey,
    /// Seals secrets in the database (AES-256).
    pub(super) region: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(redacted)")
    }
}

impl Keys {
    /// Reads the keys, and makes those that are not there.
    pub(super) fn load(directory: &Directory) -> Result<Keys, KeyError> {
        Keys::read(&directory.path)
    }

    /// The same for a tool that runs beside the cloud.
    pub(super) fn read(directory: &Path) -> Result<Keys, KeyError> {
        let cloud = SigningKey::from_bytes(&*key(&directory.join("cloud.key"))?);
        Ok(Keys { cloud, region: key(&directory.join("region.key"))? })
    }
}

/// A key of 32 bytes in a file.
fn key(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    if let Some(text) = read(path)? {
        let bytes = HEXLOWER.decode(text.trim().as_bytes()).map(Zeroizing::new).map_err(|_| KeyError::Content(path.to_owned()))?;
        let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| KeyError::Content(path.to_owned()))?;
        return Ok(Zeroizing::new(key));
    }
    let mut made = Zeroizing::new([0; 32]);
    getrandom::fill(made.as_mut_slice()).map_err(KeyError::Entropy)?;
    write(path, &Zeroizing::new(HEXLOWER.encode(made.as_slice())))?;
    Ok(made)
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>, KeyError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyError::File { path: path.to_owned(), source }),
    }
}

/// Writes a new file that stands whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), KeyError> {
    let half = path.with_extension("making");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&half).map_err(at(&half))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&half))?;
    std::fs::rename(&half, path).map_err(at(path))?;
    // The name is on disk only when the directory is.
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(directory).and_then(|d| d.sync_all()).map_err(at(directory))
}

/// A CA of the cloud's own, for trying it out on this machine or in this house.
pub(super) struct OwnCa {
    ca: Ca,
    key: ServerKey,
    ip: IpAddr,
}

impl OwnCa {
    /// Reads the CA, or makes it. The certificate holds for localhost, loopback, and `ip` if it is of a house.
    pub(super) fn load(directory: &Directory, ip: IpAddr) -> Result<OwnCa, KeyError> {
        let (certificate, key) = (directory.path.join("ca.pem"), directory.path.join("ca.key"));
        let ca = match (read(&certificate)?, read(&key)?) {
            (Some(pem), Some(key)) => Ca::from_parts(Certificate::from_pem(&pem)?, CaKey::from_pem(&key)?)?,
            _ => {
                let ca = Ca::create(CaKey::generate()?, "of a cloud")?;
                write(&key, &ca.key().to_pem()?)?;
                write(&certificate, &ca.certificate().pem())?;
                ca
            }
        };
        Ok(OwnCa { ca, key: ServerKey::generate()?, ip })
    }

    /// The CA's certificate.
    pub(super) fn pem(&self) -> String {
        self.ca.certificate().pem()
    }

    /// The TLS of a listener, at this time in s.
    pub(super) fn tls(&self, now_s: u64, clock: TlsClock) -> Result<TlsReloader, KeyError> {
        let leaf = self.leaf(now_s)?;
        Ok(TlsReloader::new(Protocol::Https, &Material { leaf: &leaf, key: &self.key, ca: self.ca.certificate() }, clock)?)
    }

    /// A fresh certificate for new connections.
    pub(super) fn renew(&self, reloader: &TlsReloader, now_s: u64) -> Result<(), KeyError> {
        let leaf = self.leaf(now_s)?;
        Ok(reloader.reload(&Material { leaf: &leaf, key: &self.key, ca: self.ca.certificate() })?)
    }

    fn leaf(&self, now_s: u64) -> Result<Certificate, CaError> {
        let mut ips = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        if ca::may_certify_ip(self.ip) && !ips.contains(&self.ip) {
            ips.push(self.ip);
        }
        let validity = Validity { not_before: now_s.saturating_sub(24 * 3600), not_after: now_s.saturating_add(LIFETIME_S) };
        self.ca.issue_server(&self.key, &["localhost".to_owned()], &ips, validity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_read_again_and_a_damaged_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Directory::open(dir.path()).unwrap();
        let first = Keys::load(&open()).unwrap();
        let again = Keys::load(&open()).unwrap();
        assert_eq!(first.cloud.to_bytes(), again.cloud.to_bytes());
        assert_ne!(first.cloud.to_bytes(), *first.region);
        let mode = std::fs::metadata(dir.path().join("region.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(dir.path().join("cloud.key"), "short").unwrap();
        assert!(matches!(Keys::load(&open()), Err(KeyError::Content(_))));
    }

    #[test]
    fn a_directory_is_for_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Directory::open(dir.path()).unwrap();
        assert!(matches!(Directory::open(dir.path()), Err(KeyError::InUse(_))));
        drop(kept);
        assert!(Directory::open(dir.path()).is_ok());
    }
}
