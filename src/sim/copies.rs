//! Things that a hub must tell apart: a copy of a device, with its key and its flash, and a device that moves about.

use std::io;
use std::path::Path;

use tokio::sync::mpsc;

use super::device::{Control, Options};
use super::identity::{DeviceSecret, HubId};
use super::tls::Address;

/// A device that was copied bit by bit, ready for [`super::device::run`]: the secret is read from `secret`, and the flash that
/// the original keeps in the directory `original` is copied to the directory `copy`, as it is now. Without a file there it
/// is the copy of a device that remembers nothing.
///
/// # Errors
/// The disk's; [`io::ErrorKind::InvalidData`] for a secret file that is none.
pub fn copy_of(secret: &Path, original: &Path, copy: &Path, hub: Address, hub_id: HubId) -> io::Result<Options> {
    let secret = DeviceSecret::read(secret).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let name = format!("{}.json", secret.device_id);
    std::fs::create_dir_all(copy)?;
    match std::fs::copy(original.join(&name), copy.join(&name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        copied => {
            copied?;
        }
    }
    let mut options = Options::new(secret, hub, hub_id);
    options.state = Some(copy.to_owned());
    Ok(options)
}

/// Lets a running device move to another access point: its old connection stays open at the hub and nobody listens on it,
/// and it signs in again. False when the device is gone.
pub async fn roam(controls: &mpsc::Sender<Control>) -> bool {
    controls.send(Control::Roam).await.is_ok()
}
