//! Updates, as the composition root wires them: the hub's side with what stands in its way, and the supervisor's with the database's layout.

use super::opening::{STORE_FILE, make_private};
use super::{Config, Hub, StartError};
use crate::domain::release::HubRelease;
use crate::service::Service;
use crate::store::{SCHEMA_VERSION, Store};
use crate::update::{self, Desk, Facts, SuperviseError, Supervised, Supervisor, SystemDesk, SystemFacts};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::update::{Ended as UpdateEnded, Ledger as UpdateLedger};

impl Hub {
    pub(super) fn keep_up_to_date(&mut self, config: &Config) {
        let facts = Facts {
            config: config.update.clone(),
            data_dir: config.data_dir.clone(),
            layout: SCHEMA_VERSION,
            supervised: config.supervised,
            busy: Box::new(busy_or_system(self.service.clone())),
        };
        let desk = Desk::new(&self.service, facts);
        self.tasks.spawn(desk.run(self.shutdown.clone()));
        let facts = SystemFacts {
            bus: config.update.bus.clone(),
            data_dir: config.data_dir.clone(),
            limit: config.update.bundle_mb.saturating_mul(1_000_000),
            busy: Box::new(busy_or_switching(self.service.clone())),
        };
        let desk = SystemDesk::new(&self.service, facts);
        self.tasks.spawn(desk.run(self.shutdown.clone()));
    }
}

/// What a change of the version would cut off.
fn busy(service: Arc<Service>) -> impl Fn() -> Option<&'static str> + Send + Sync {
    move || match (service.is_pairing(), service.firmware_busy()) {
        (true, _) => Some("a device is being paired"),
        (_, true) => Some("a device installs firmware, or a release of it comes in"),
        _ => None,
    }
}

/// What another version of the hub would cut off.
fn busy_or_system(service: Arc<Service>) -> impl Fn() -> Option<&'static str> + Send + Sync {
    let busy = busy(service.clone());
    move || busy().or_else(|| service.system_busy().then_some("the system of the box is being updated"))
}

/// What another system of the box would cut off.
fn busy_or_switching(service: Arc<Service>) -> impl Fn() -> Option<&'static str> + Send + Sync {
    let busy = busy(service.clone());
    move || busy().or_else(|| service.is_updating().then_some("another version of the hub comes in, or is being tried"))
}

/// The supervisor of a hub: `program` runs unless a version does, with `arguments` after `hub`.
///
/// # Errors
/// [`StartError::DataDir`], or the supervisor's.
pub fn supervisor(config: &Config, program: PathBuf, arguments: Vec<OsString>) -> Result<Supervisor, SupervisorError> {
    make_private(&config.data_dir)?;
    let what = Supervised {
        config: config.update.clone(),
        data_dir: config.data_dir.clone(),
        database: config.data_dir.join(STORE_FILE),
        layout_of: Box::new(|path: &Path| Store::layout_of(path)),
        program,
        arguments,
    };
    Ok(Supervisor::new(what)?)
}

/// Why there is no supervisor.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The data directory.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The supervisor's own.
    #[error(transparent)]
    Supervise(#[from] SuperviseError),
}

/// Takes a release from a file; of a hub that runs, it is asked for, else it is tried at the next start.
///
/// # Errors
/// For a person.
pub async fn update_from_file(config: &Config, archive: &Path) -> Result<(HubRelease, bool), String> {
    make_private(&config.data_dir).map_err(|e| e.to_string())?;
    let (layout, runs) = standing(config).await;
    let (settings, data_dir, archive) = (config.update.clone(), config.data_dir.clone(), archive.to_owned());
    let taken = tokio::task::spawn_blocking(move || update::order_release(&settings, &data_dir, &archive, layout, runs)).await;
    Ok((taken.map_err(|e| e.to_string())??, runs))
}

/// Asks the vendor of the configuration whether there is a version that this hub may take.
///
/// # Errors
/// For a person.
pub async fn update_check(config: &Config) -> Result<Option<HubRelease>, String> {
    let (layout, _) = standing(config).await;
    update::check_release(&config.update, &config.data_dir, layout).await
}

/// Gets that version; of a hub that runs, it is asked for, else it is tried at the next start.
///
/// # Errors
/// For a person.
pub async fn update_apply(config: &Config) -> Result<Option<(HubRelease, bool)>, String> {
    make_private(&config.data_dir).map_err(|e| e.to_string())?;
    let (layout, runs) = standing(config).await;
    Ok(update::get_release(&config.update, &config.data_dir, layout, runs).await?.map(|release| (release, runs)))
}

/// The layout of the hub's database, and whether it runs.
async fn standing(config: &Config) -> (u32, bool) {
    if let Ok(report) = super::ask_health(&config.data_dir).await {
        return (report.layout, true);
    }
    (Store::layout_of(&config.data_dir.join(STORE_FILE)).unwrap_or(SCHEMA_VERSION), false)
}

/// Asks for the version before.
///
/// # Errors
/// For a person.
pub async fn update_roll_back(config: &Config) -> Result<bool, String> {
    let runs = super::ask_health(&config.data_dir).await.is_ok();
    update::order_roll_back(&config.update, &config.data_dir, runs).map_err(|e| e.to_string())?;
    Ok(runs)
}

/// How updates stand, from the directory alone.
#[must_use]
pub fn update_ledger(config: &Config) -> (UpdateLedger, Option<String>, Option<String>) {
    let places = config.update.places(&config.data_dir);
    (UpdateLedger::load(&places), places.current().map(String::from), places.last_good().map(String::from))
}
