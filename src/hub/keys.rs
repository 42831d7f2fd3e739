//! The hub's own keys: the master key that seals the store, and at first boot identity, age key, mirror key and CA.

use crate::domain::batch::HubRequest;
use crate::domain::ids::HubId;
use crate::net::{Ca, CaError, CaKey, Certificate, ServerKey};
use crate::service::HubIdentity;
use crate::store::tables::HubSecrets;
use crate::store::{MasterKey, Read, Store, StoreError};
use age::secrecy::ExposeSecret;
use ed25519_dalek::SigningKey;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Name of the credential under systemd (`LoadCredentialEncrypted=`) and of the file in the data directory.
const MASTER_FILE: &str = "master.key";
const ROW: &[u8] = HubSecrets::ROW;

/// Why the keys are not there.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not 32 bytes.
    #[error("{0} does not hold a key of 32 bytes: put back the right file, or restore a backup")]
    Form(String),
    /// Others may read it.
    #[error("{0} can be read by others: run `chmod 600` on it")]
    Open(String),
    /// Not there, though the database is.
    #[error("{0} is missing, and the database was sealed under it: put the file back, or restore a backup")]
    Lost(String),
    /// No randomness.
    #[error("the system gave no randomness")]
    Random,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate authority.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// What the listeners need of the keys.
pub(super) struct Material {
    pub(super) ca: Ca,
    pub(super) server_key: ServerKey,
}

/// The master key: from the service manager's credentials directory when there is one, else from the data directory,
/// where it is made at `first_boot` with mode 0600.
pub(super) fn master_key(data_dir: &Path, credentials: Option<&Path>, first_boot: bool) -> Result<MasterKey, KeyError> {
    let given = credentials.map(|dir| dir.join(MASTER_FILE)).filter(|p| p.exists());
    let path = given.clone().unwrap_or_else(|| data_dir.join(MASTER_FILE));
    let name = path.display().to_string();
    let file_error = |source| KeyError::File { path: name.clone(), source };
    // Two hubs that start in one directory for the first time must not both make a key. Where a directory cannot be
    // locked, the lock on the database still keeps the second one out.
    let directory = std::fs::File::open(data_dir).map_err(file_error)?;
    let _ = directory.lock();
    if path.exists() {
        let mode = std::fs::metadata(&path).map_err(file_error)?.permissions().mode();
        // A credential is the manager's to protect; a file of ours must be ours alone.
        if given.is_none() && mode & 0o077 != 0 {
            return Err(KeyError::Open(name));
        }
        let bytes = Zeroizing::new(std::fs::read(&path).map_err(file_error)?);
        return bytes.as_slice().try_into().map(MasterKey::new).map_err(|_| KeyError::Form(name));
    }
    if !first_boot {
        return Err(KeyError::Lost(name));
    }
    let mut key = Zeroizing::new([0u8; 32]);
    getrandom::fill(key.as_mut_slice()).map_err(|_| KeyError::Random)?;
    // Under another name until it is whole and on disk: a power cut must not leave half a key.
    let unfinished = data_dir.join(format!("{MASTER_FILE}.new"));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished).map_err(file_error)?;
    // What a power cut left may have another mode.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(file_error)?;
    file.write_all(key.as_slice()).and_then(|()| file.sync_all()).map_err(file_error)?;
    std::fs::rename(&unfinished, &path).and_then(|()| directory.sync_all()).map_err(file_error)?;
    Ok(MasterKey::new(*key))
}

/// Loads the hub's keys, made at first boot. `now_s` is seconds since 1970.
pub(super) async fn load(store: &Store, name: &str, now_s: u64) -> Result<(HubIdentity, Material), KeyError> {
    let known = store.read::<_, StoreError>(|v| v.get::<HubSecrets>(ROW))?;
    let secrets = match known {
        Some(secrets) => secrets,
        None => {
            let fresh = made()?;
            store
                .write::<_, StoreError, _>(move |tx| match tx.get::<HubSecrets>(ROW)? {
                    Some(known) => Ok(known),
                    None => tx.put(ROW, &fresh).map(|()| fresh.clone()),
                })
                .await?
        }
    };
    let identity = SigningKey::from_bytes(&secrets.identity_seed);
    let ca = Ca::from_parts(Certificate::from_pem(&secrets.ca_pem)?, CaKey::from_pem(&secrets.ca_key_pem)?)?;
    let recipient =
        secrets.age_identity.parse::<age::x25519::Identity>().map_err(|_| KeyError::Form("the age identity".into()))?.to_public();
    let hub = HubIdentity {
        id: HubId::from_public_key(&identity.verifying_key().to_bytes()),
        name: name.to_owned(),
        ca_der: ca.certificate().der().to_vec(),
        ca_fingerprint: ca.certificate().fingerprint(),
        request_line: HubRequest::line(&identity, &recipient.to_string(), now_s),
        age_identity: Zeroizing::new(secrets.age_identity.clone()),
    };
    let server_key = ServerKey::from_pem(&secrets.server_key_pem)?;
    Ok((hub, Material { ca, server_key }))
}

/// Keys of a hub that is new: nobody else has had them.
pub(super) fn made() -> Result<HubSecrets, KeyError> {
    let mut identity_seed = [0u8; 32];
    let mut mirror_seed = [0u8; 32];
    getrandom::fill(&mut identity_seed).map_err(|_| KeyError::Random)?;
    getrandom::fill(&mut mirror_seed).map_err(|_| KeyError::Random)?;
    let id = HubId::from_public_key(&SigningKey::from_bytes(&identity_seed).verifying_key().to_bytes());
    let ca_key = CaKey::generate()?;
    let ca_key_pem = ca_key.to_pem()?.to_string();
    let ca = Ca::create(ca_key, &id.to_string())?;
    Ok(HubSecrets {
        identity_seed,
        age_identity: age::x25519::Identity::generate().to_string().expose_secret().to_owned(),
        mirror_seed,
        epoch: 1,
        ca_key_pem,
        ca_pem: ca.certificate().pem(),
        server_key_pem: ServerKey::generate()?.to_pem()?.to_string(),
        pepper: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        master_key(dir.path(), None, true).unwrap();
        let file = dir.path().join(MASTER_FILE);
        let made = std::fs::read(&file).unwrap();
        assert_eq!((made.len(), file.metadata().unwrap().permissions().mode() & 0o777), (32, 0o600));
        master_key(dir.path(), None, true).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), made);
    }

    #[test]
    fn a_power_cut_while_the_key_was_written_leaves_no_half_key() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("master.key.new"), b"half").unwrap();
        master_key(dir.path(), None, true).unwrap();
        assert_eq!(dir.path().join(MASTER_FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [MASTER_FILE]);
    }
}
