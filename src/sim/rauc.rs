//! A stand-in for RAUC (and for the manager of logins, which restarts a box) on a private bus: a box with two slots and a boot loader that tries a
//! new one once. A bundle is a text, `SIGNER COMPATIBLE VERSION`; what `builder` has signed is believed. Words and states are those of RAUC 1.8; as
//! a newer one it also has `InspectBundle`.

use super::bluez::AirError;
use super::bluez::bus::Bus;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zbus::zvariant::{OwnedValue, Value};
use zbus::{Connection, fdo, interface};

type Dict = HashMap<String, OwnedValue>;

/// The box.
#[derive(Debug, Default)]
struct World {
    /// The versions in slots A and B; none: as the image was written.
    slots: [Option<String>; 2],
    booted: usize,
    next: usize,
    installing: Option<String>,
    last_error: String,
    percent: i32,
    restarts: u32,
    /// Whether it knows `InspectBundle`.
    newer: bool,
}

/// A box with RAUC on a bus of its own; it ends with this.
pub struct Rauc {
    bus: Bus,
    world: Arc<Mutex<World>>,
    connection: Mutex<Option<Connection>>,
}

impl Rauc {
    /// Starts; `newer` for a RAUC that knows `InspectBundle`.
    ///
    /// # Errors
    /// [`AirError::NoBus`] says what to install.
    pub async fn start(newer: bool) -> Result<Rauc, AirError> {
        let bus = Bus::start().await?;
        let world = Arc::new(Mutex::new(World { newer, ..World::default() }));
        let rauc = Rauc { bus, world, connection: Mutex::new(None) };
        rauc.begin().await?;
        Ok(rauc)
    }

    async fn begin(&self) -> Result<(), AirError> {
        let connection = zbus::connection::Builder::address(self.bus.address().as_str())?
            .serve_at("/", Installer(self.world.clone()))?
            .serve_at("/org/freedesktop/login1", Logins(self.world.clone()))?
            .name("de.pengutronix.rauc")?
            .name("org.freedesktop.login1")?
            .build()
            .await?;
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        Ok(())
    }

    /// Where the bus is.
    #[must_use]
    pub fn address(&self) -> String {
        self.bus.address()
    }

    /// RAUC is ended and started anew: what it was at is forgotten.
    ///
    /// # Errors
    /// D-Bus.
    pub async fn restart(&self) -> Result<(), AirError> {
        drop(self.connection.lock().unwrap_or_else(PoisonError::into_inner).take());
        {
            let mut world = lock(&self.world);
            (world.installing, world.last_error, world.percent) = (None, String::new(), 0);
        }
        self.begin().await
    }

    /// Whether it installs.
    #[must_use]
    pub fn is_installing(&self) -> bool {
        lock(&self.world).installing.is_some()
    }

    /// How far it is, in percent.
    pub fn progress(&self, percent: i32) {
        lock(&self.world).percent = percent;
    }

    /// Ends the installation: well, or with these words.
    pub fn finish(&self, error: Option<&str>) {
        let mut world = lock(&self.world);
        let Some(version) = world.installing.take() else { return };
        world.percent = 100;
        match error {
            Some(words) => world.last_error = words.to_owned(),
            None => {
                let other = 1 - world.booted;
                if let Some(slot) = world.slots.get_mut(other) {
                    *slot = Some(version);
                }
                world.next = other;
            }
        }
    }

    /// How often the box was told to restart.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        lock(&self.world).restarts
    }

    /// The box comes up in the slot that is to be started; `stays` when that one also is called good, `false` when the boot loader leaves it.
    pub fn boot(&self, stays: bool) {
        let mut world = lock(&self.world);
        if stays {
            world.booted = world.next;
        } else {
            world.next = world.booted;
        }
    }

    /// The box comes up in the slot that is tried, which is not called good yet.
    pub fn boot_on_trial(&self) {
        let mut world = lock(&self.world);
        (world.booted, world.next) = (world.next, world.booted);
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn owned<'a>(value: impl Into<Value<'a>>) -> fdo::Result<OwnedValue> {
    value.into().try_to_owned().map_err(|error| fdo::Error::Failed(error.to_string()))
}

/// Compatible and version of a bundle.
fn verified(path: &str) -> Result<(String, String), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    match text.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["builder", compatible, version, ..] => Ok(((*compatible).to_owned(), (*version).to_owned())),
        [_, _, _, ..] => Err("signature verification failed: Verify error: self-signed certificate".into()),
        _ => Err("Invalid bundle format: Signature size (1) exceeds bundle size".into()),
    }
}

struct Installer(Arc<Mutex<World>>);

#[interface(name = "de.pengutronix.rauc.Installer")]
impl Installer {
    fn info(&self, bundle: &str) -> fdo::Result<(String, String)> {
        verified(bundle).map_err(|_| fdo::Error::Failed("rauc info error".into()))
    }

    fn inspect_bundle(&self, bundle: &str, _args: Dict) -> fdo::Result<Dict> {
        if !lock(&self.0).newer {
            return Err(fdo::Error::UnknownMethod("No such method “InspectBundle”".into()));
        }
        let (compatible, version) = verified(bundle).map_err(fdo::Error::Failed)?;
        let update = HashMap::from([("compatible", Value::from(compatible)), ("version", Value::from(version))]);
        Ok(HashMap::from([("manifest-hash".into(), owned("00")?), ("update".into(), owned(update)?)]))
    }

    fn install_bundle(&self, source: &str, _args: Dict) -> fdo::Result<()> {
        let found = verified(source);
        let mut world = lock(&self.0);
        if world.installing.is_some() {
            return Err(fdo::Error::Failed("already processing a different method".into()));
        }
        world.last_error.clear();
        world.percent = 0;
        match found {
            Ok((_, version)) => world.installing = Some(version),
            Err(words) => world.last_error = words,
        }
        Ok(())
    }

    fn get_slot_status(&self) -> fdo::Result<Vec<(String, Dict)>> {
        let world = lock(&self.0);
        if world.installing.is_some() {
            return Err(fdo::Error::Failed("already processing a different method".into()));
        }
        let mut all = Vec::new();
        for (n, bootname) in ["A", "B"].into_iter().enumerate() {
            let booted = n == world.booted;
            let mut of = HashMap::from([
                ("class".to_owned(), owned("rootfs")?),
                ("bootname".into(), owned(bootname)?),
                ("state".into(), owned(if booted { "booted" } else { "inactive" })?),
                ("boot-status".into(), owned(if booted || n == world.next { "good" } else { "bad" })?),
            ]);
            if let Some(version) = world.slots.get(n).cloned().flatten() {
                of.insert("bundle.version".into(), owned(version)?);
                of.insert("status".into(), owned("ok")?);
                of.insert("installed.timestamp".into(), owned("2026-11-30T05:27:50Z")?);
            }
            all.push((format!("rootfs.{n}"), of));
            // What belongs to a slot has no name for the boot loader.
            all.push((format!("firmware.{n}"), HashMap::from([("class".to_owned(), owned("firmware")?)])));
        }
        Ok(all)
    }

    fn get_primary(&self) -> String {
        format!("rootfs.{}", lock(&self.0).next)
    }

    #[zbus(property)]
    fn operation(&self) -> String {
        if lock(&self.0).installing.is_some() { "installing".into() } else { "idle".into() }
    }

    #[zbus(property)]
    fn last_error(&self) -> String {
        lock(&self.0).last_error.clone()
    }

    #[zbus(property)]
    fn progress(&self) -> (i32, String, i32) {
        (lock(&self.0).percent, "Updating slots...".into(), 1)
    }

    #[zbus(property)]
    fn compatible(&self) -> String {
        "hearthkey-test".into()
    }

    #[zbus(property)]
    fn variant(&self) -> String {
        String::new()
    }

    #[zbus(property)]
    fn boot_slot(&self) -> String {
        if lock(&self.0).booted == 0 { "A".into() } else { "B".into() }
    }
}

struct Logins(Arc<Mutex<World>>);

#[interface(name = "org.freedesktop.login1.Manager")]
impl Logins {
    fn reboot(&self, interactive: bool) -> fdo::Result<()> {
        if interactive {
            return Err(fdo::Error::InteractiveAuthorizationRequired("nobody is there to ask".into()));
        }
        lock(&self.0).restarts += 1;
        Ok(())
    }
}
