//! RAUC and the manager of logins on the system's D-Bus: the calls that an update of the system takes, and no others (they are the ones that
//! `systemd/hearthkey.dbus.conf` allows). Each has a connection of its own, made and ended on a thread that may block, within a deadline.
//!
//! The names and forms are those of RAUC's D-Bus API (`de.pengutronix.rauc.Installer`, RAUC 1.8 to 1.15): `InspectBundle` came with 1.10, before it there is `Info`.

use dbus::arg::{ArgType, PropMap, RefArg, Variant, prop_cast};
use dbus::blocking::Connection;
use dbus::channel::{BusType, Channel};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Calls at the same time.
const AT_ONCE: usize = 2;
/// Longest wait for one answer. RAUC reads a whole bundle to verify it, and slots' states come from the boot loader's partition.
const ANSWER: Duration = Duration::from_secs(120);
/// Longest wait for what needs no disk.
const SOON: Duration = Duration::from_secs(20);
/// Longest wait for a whole call, with the connection before it.
const WHOLE: Duration = Duration::from_secs(180);
/// Slots that are looked at.
const SLOTS_MAX: usize = 16;
/// Characters of a text that is taken over.
const TEXT_MAX: usize = 256;

const RAUC: &str = "de.pengutronix.rauc";
const INSTALLER: &str = "de.pengutronix.rauc.Installer";
const LOGIND: &str = "org.freedesktop.login1";

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RaucError {
    /// There is no bus, or nobody of that name on it.
    #[error("there is no such service")]
    Absent,
    /// No answer in time.
    #[error("no answer in time")]
    NoAnswer,
    /// What the service says.
    #[error("{0}")]
    Said(String),
}

impl From<dbus::Error> for RaucError {
    fn from(error: dbus::Error) -> Self {
        let message = error.message().unwrap_or_default();
        match error.name().unwrap_or_default().strip_prefix("org.freedesktop.DBus.Error.") {
            Some("ServiceUnknown" | "NameHasNoOwner" | "Disconnected" | "NoServer" | "FileNotFound") => RaucError::Absent,
            Some(other) if other.starts_with("Spawn.") => RaucError::Absent,
            Some("NoReply" | "Timeout" | "TimedOut") => RaucError::NoAnswer,
            _ => RaucError::Said(message.to_owned()),
        }
    }
}

/// What RAUC is at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Working {
    /// Who has RAUC's name: another one after it was started anew.
    pub(super) owner: String,
    pub(super) compatible: String,
    pub(super) variant: String,
    pub(super) boot_slot: String,
    pub(super) last_error: String,
    pub(super) idle: bool,
    /// 0 to 100.
    pub(super) percent: u8,
    pub(super) doing: String,
}

/// A slot that can be started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) bootname: String,
    pub(super) booted: bool,
    /// What the boot loader holds of it; empty when it says nothing.
    pub(super) boot_status: String,
    pub(super) version: Option<String>,
    /// What RAUC notes of the last time it was written: `ok`, `pending`.
    pub(super) status: Option<String>,
    pub(super) installed: Option<String>,
}

/// What RAUC has verified of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) compatible: String,
    pub(super) version: String,
}

/// The way there.
#[derive(Clone)]
pub(super) struct Bus {
    at_once: Arc<Semaphore>,
    /// Where the bus is; none: where libdbus finds the system's.
    address: Option<String>,
}

impl Bus {
    pub(super) fn new(address: Option<String>) -> Bus {
        Bus { at_once: Arc::new(Semaphore::new(AT_ONCE)), address }
    }

    async fn call<T, F>(&self, calls: F) -> Result<T, RaucError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, RaucError> + Send + 'static,
    {
        let (permits, address) = (self.at_once.clone(), self.address.clone());
        let whole = async move {
            let permit = permits.acquire_owned().await.map_err(|_| RaucError::NoAnswer)?;
            let done = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                let channel = match address {
                    None => Channel::get_private(BusType::System),
                    Some(address) => Channel::open_private(&address).and_then(|mut channel| channel.register().map(|()| channel)),
                };
                // Whoever cannot be reached has no RAUC either.
                calls(&Connection::from(channel.map_err(|_| RaucError::Absent)?))
            });
            done.await.map_err(|error| RaucError::Said(error.to_string()))?
        };
        timeout(WHOLE, whole).await.map_err(|_| RaucError::NoAnswer)?
    }

    /// What RAUC is at; starts it where the bus may.
    pub(super) async fn working(&self) -> Result<Working, RaucError> {
        self.call(|bus| {
            let rauc = bus.with_proxy(RAUC, "/", SOON);
            let (all,): (PropMap,) = rauc.method_call("org.freedesktop.DBus.Properties", "GetAll", (INSTALLER,))?;
            let driver = bus.with_proxy("org.freedesktop.DBus", "/org/freedesktop/DBus", SOON);
            let (owner,): (String,) = driver.method_call("org.freedesktop.DBus", "GetNameOwner", (RAUC,))?;
            let text = |name: &str| prop_cast::<String>(&all, name).map(|text| short(text)).unwrap_or_default();
            let (percent, doing) = all.get("Progress").map(|value| progress(&value.0)).unwrap_or_default();
            Ok(Working {
                owner,
                compatible: text("Compatible"),
                variant: text("Variant"),
                boot_slot: text("BootSlot"),
                last_error: text("LastError"),
                idle: text("Operation") == "idle",
                percent,
                doing,
            })
        })
        .await
    }

    /// The slots that can be started, and the name of the one that is started next, where the boot loader tells.
    pub(super) async fn slots(&self) -> Result<(Vec<Slot>, Option<String>), RaucError> {
        self.call(|bus| {
            let rauc = bus.with_proxy(RAUC, "/", ANSWER);
            let (all,): (Vec<(String, PropMap)>,) = rauc.method_call(INSTALLER, "GetSlotStatus", ())?;
            let mut slots: Vec<Slot> = all.iter().filter_map(|(name, of)| slot(name, of)).take(SLOTS_MAX).collect();
            slots.sort_by(|a, b| a.name.cmp(&b.name));
            let next: Result<(String,), dbus::Error> = rauc.method_call(INSTALLER, "GetPrimary", ());
            Ok((slots, next.ok().map(|(name,)| short(&name)).filter(|name| !name.is_empty())))
        })
        .await
    }

    /// Lets RAUC verify a bundle, and say what is in it.
    pub(super) async fn inspect(&self, bundle: &Path) -> Result<Inside, RaucError> {
        let bundle = path(bundle)?;
        self.call(move |bus| {
            let rauc = bus.with_proxy(RAUC, "/", ANSWER);
            let asked: Result<(PropMap,), dbus::Error> = rauc.method_call(INSTALLER, "InspectBundle", (&bundle, PropMap::new()));
            match asked {
                Ok((found,)) => inside(&found).ok_or_else(|| RaucError::Said("the bundle names no machine or no version".into())),
                Err(error) if error.name() == Some("org.freedesktop.DBus.Error.UnknownMethod") => {
                    let (compatible, version): (String, String) = rauc.method_call(INSTALLER, "Info", (&bundle,))?;
                    Ok(Inside { compatible: short(&compatible), version: short(&version) })
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Begins to install; how it goes is in [`Bus::working`].
    pub(super) async fn install(&self, bundle: &Path) -> Result<(), RaucError> {
        let bundle = path(bundle)?;
        self.call(move |bus| {
            let rauc = bus.with_proxy(RAUC, "/", ANSWER);
            Ok(rauc.method_call::<(), _, _, _>(INSTALLER, "InstallBundle", (&bundle, PropMap::new()))?)
        })
        .await
    }

    /// Restarts the box.
    pub(super) async fn reboot(&self) -> Result<(), RaucError> {
        self.call(|bus| {
            let logind = bus.with_proxy(LOGIND, "/org/freedesktop/login1", SOON);
            Ok(logind.method_call::<(), _, _, _>("org.freedesktop.login1.Manager", "Reboot", (false,))?)
        })
        .await
    }
}

fn path(path: &Path) -> Result<String, RaucError> {
    path.to_str().map(str::to_owned).ok_or_else(|| RaucError::Said("the hub's directory has a name that is not UTF-8".into()))
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}

/// `(percent, what, depth)`.
fn progress(value: &dyn RefArg) -> (u8, String) {
    let mut parts = value.as_iter().into_iter().flatten();
    let percent = parts.next().and_then(RefArg::as_i64).unwrap_or(0).clamp(0, 100);
    (u8::try_from(percent).unwrap_or(0), parts.next().and_then(RefArg::as_str).map(short).unwrap_or_default())
}

/// A slot that has a name for the boot loader; what belongs to it (a firmware partition) is written with it, and not named.
fn slot(name: &str, of: &PropMap) -> Option<Slot> {
    let text = |key: &str| prop_cast::<String>(of, key).map(|text| short(text));
    let bootname = text("bootname").filter(|name| !name.is_empty())?;
    Some(Slot {
        name: short(name),
        bootname,
        booted: text("state").is_some_and(|state| state == "booted"),
        boot_status: text("boot-status").unwrap_or_default(),
        version: text("bundle.version"),
        status: text("status"),
        installed: text("installed.timestamp"),
    })
}

fn inside(found: &PropMap) -> Option<Inside> {
    let update = found.get("update")?;
    let text = |key: &str| member(update, key).and_then(RefArg::as_str).map(short);
    Some(Inside { compatible: text("compatible")?, version: text("version")? })
}

/// A member of a dictionary, in whatever it is wrapped.
fn member<'a>(value: &'a Variant<Box<dyn RefArg>>, key: &str) -> Option<&'a dyn RefArg> {
    let mut at: &dyn RefArg = &*value.0;
    while at.arg_type() == ArgType::Variant {
        at = at.as_iter()?.next()?;
    }
    let mut parts = at.as_iter()?;
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        if name.as_str() == Some(key) {
            return Some(value);
        }
    }
    None
}
