//! The hub's side of updates: looks for a release at its times and when an owner asks, fetches and unpacks it, waits until nothing stands in the way,
//! and leaves an order for the supervisor. What became of it, it reads in the ledger and tells the service.

use super::fetch::{Found, SIGNED, Vendor};
use super::habit::{Habit, may_install_at};
use super::ledger::{Ended, Ledger, Order, OrderKind};
use super::places::{PlaceError, Places, move_over, read_bounded, read_json, remove, write_json};
use super::unpack::unpack;
use super::{Config, own_rel, platform};
use crate::domain::release::{HubRelease, STATEMENT_MAX, Standing, Version};
use crate::service::{OfferedRelease, Service, UpdateEnd, UpdateOutcome, UpdatePhase, UpdateView, Updater};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How often the directory is looked at.
const TICK: Duration = Duration::from_secs(1);

/// What the hub's side has to know.
pub struct Facts {
    /// The settings.
    pub config: Config,
    /// The hub's data directory.
    pub data_dir: PathBuf,
    /// The layout of the database.
    pub layout: u32,
    /// Whether a supervisor has started this program, and carries out orders.
    pub supervised: bool,
    /// Why no version may be changed just now, if so: a pairing, a firmware install.
    pub busy: Box<dyn Fn() -> Option<&'static str> + Send + Sync>,
}

/// What the command line wishes of a hub that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The order, once nothing stands in the way.
    #[serde(flatten)]
    pub order: Order,
}

enum Job {
    Check(oneshot::Sender<Result<(), String>>),
    Apply(String),
}

/// The hub's side.
pub struct Desk {
    service: Arc<Service>,
    facts: Facts,
    places: Places,
    jobs: mpsc::Sender<Job>,
    inbox: Mutex<Option<mpsc::Receiver<Job>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    phase: UpdatePhase,
    done: u64,
    found: Option<Found>,
    checked_at: Option<u64>,
    problem: Option<String>,
}

impl Desk {
    /// A desk, known to the service from now on.
    #[must_use]
    pub fn new(service: &Arc<Service>, facts: Facts) -> Arc<Desk> {
        let (jobs, inbox) = mpsc::channel(1);
        let places = facts.config.places(&facts.data_dir);
        let desk =
            Arc::new(Desk { service: service.clone(), facts, places, jobs, inbox: Mutex::new(Some(inbox)), state: Mutex::default() });
        service.connect_updater(&(desk.clone() as Arc<dyn Updater>));
        desk
    }

    /// Works until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let Some(inbox) = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.work(inbox) => {}
        }
    }

    async fn work(&self, mut inbox: mpsc::Receiver<Job>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let looks = self.facts.config.enabled && self.facts.config.url.is_some();
        let mut habit = Habit::new(self.service.since_start(), chance());
        loop {
            tokio::select! {
                job = inbox.recv() => match job {
                    Some(Job::Check(answer)) => {
                        let _ = answer.send(self.look().await);
                    }
                    Some(Job::Apply(by)) => self.apply_now(&by).await,
                    None => return,
                },
                _ = tick.tick() => {}
            }
            self.tell_outcome().await;
            self.heed_wish().await;
            if !looks {
                continue;
            }
            if habit.looks(self.service.since_start(), self.facts.config.interval_h, chance()) {
                habit.looked(self.look().await.is_ok());
            }
            if habit.installs(self.comes_by_itself()) {
                self.apply_now("hub").await;
            }
        }
    }

    /// Looks at what the vendor has.
    async fn look(&self) -> Result<(), String> {
        self.set(|state| (state.phase, state.problem) = (UpdatePhase::Checking, None));
        let found = self.find().await;
        let now = self.service.now();
        self.set(|state| {
            state.phase = UpdatePhase::Idle;
            match &found {
                Ok(found) => (state.found, state.checked_at) = (found.clone(), Some(now)),
                Err(problem) => state.problem = Some(problem.clone()),
            }
        });
        found.map(|_| ())
    }

    /// A release that may be taken here, if there is one.
    async fn find(&self) -> Result<Option<Found>, String> {
        let config = self.facts.config.clone();
        let vendor =
            tokio::task::spawn_blocking(move || Vendor::new(&config)).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        let Some(found) = vendor.newest().await.map_err(|e| e.to_string())? else { return Ok(None) };
        match found.release.admit(self.standing()) {
            Ok(()) => Ok(Some(found)),
            Err(why) => {
                // What runs already is what a manifest usually has.
                let same = Version::parse(&self.running()).is_ok_and(|running| running == found.release.version);
                if same { Ok(None) } else { Err(why.to_string()) }
            }
        }
    }

    async fn apply_now(&self, by: &str) {
        let done = self.fetch_and_order(by).await;
        if let Err(problem) = &done {
            tracing::error!(%problem, "no new version was installed");
        }
        self.set(|state| {
            state.phase = if done.is_ok() { UpdatePhase::Switching } else { UpdatePhase::Idle };
            state.problem = done.as_ref().err().cloned();
        });
    }

    async fn fetch_and_order(&self, by: &str) -> Result<(), String> {
        let known = self.state().found.clone();
        let found = match known {
            Some(found) => found,
            None => {
                self.look().await?;
                self.state().found.clone().ok_or("the vendor has no newer version for this hub")?
            }
        };
        found.release.admit(self.standing()).map_err(|e| e.to_string())?;
        self.places.make().map_err(|e| e.to_string())?;
        let config = self.facts.config.clone();
        let vendor =
            tokio::task::spawn_blocking(move || Vendor::new(&config)).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        self.set(|state| (state.phase, state.done, state.problem) = (UpdatePhase::Downloading, 0, None));
        let archive = vendor.archive(&self.places, &found, |here| self.state().done = here).await.map_err(|e| e.to_string())?;
        self.set(|state| state.phase = UpdatePhase::Unpacking);
        let (places, of, file) = (self.places.clone(), found.clone(), archive.clone());
        let unpacked = tokio::task::spawn_blocking(move || unpack(&places, &file, &of.release, &of.statement)).await;
        unpacked.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        if let Err(error) = remove(&archive) {
            tracing::warn!(%error, "an archive that is no longer needed stays");
        }
        let kind = OrderKind::Apply { version: found.release.version };
        self.order(Order { kind, by: by.to_owned() }).await
    }

    /// Leaves an order once nothing stands in the way.
    async fn order(&self, order: Order) -> Result<(), String> {
        self.way_is_free().await?;
        write_json(&self.places.order(), &order).map_err(|e| e.to_string())
    }

    /// Waits until nothing stands in the way of another version.
    async fn way_is_free(&self) -> Result<(), String> {
        if !self.facts.supervised {
            return Err(UNSUPERVISED.into());
        }
        while let Some(why) = (self.facts.busy)() {
            self.set(|state| (state.phase, state.problem) = (UpdatePhase::Waiting, Some(format!("it waits: {why}"))));
            tokio::time::sleep(TICK).await;
        }
        self.set(|state| (state.phase, state.problem) = (UpdatePhase::Switching, None));
        Ok(())
    }

    /// The command line asks a hub that runs. Its wish lies there until it becomes the order: what waits outlives the hub's end.
    async fn heed_wish(&self) {
        let path = self.places.wish();
        if !path.exists() {
            return;
        }
        let done = match read_json::<Wish>(&path) {
            // A wish is written as an order is.
            Some(_) => match self.way_is_free().await {
                Ok(()) => move_over(&path, &self.places.order()).map_err(|e| e.to_string()),
                Err(problem) => Err(problem),
            },
            None => remove(&path).map_err(|e| e.to_string()),
        };
        if let Err(problem) = done {
            // It would be met again and again.
            let _ = remove(&path);
            self.set(|state| (state.phase, state.problem) = (UpdatePhase::Idle, Some(problem)));
        }
    }

    /// Tells the service how the last order ended, once.
    async fn tell_outcome(&self) {
        let ledger = Ledger::load(&self.places);
        let trying = ledger.trial.is_some();
        let (phase, before) = {
            let mut state = self.state();
            let before = state.phase;
            if trying && state.phase == UpdatePhase::Idle {
                state.phase = UpdatePhase::Trying;
            } else if !trying && matches!(state.phase, UpdatePhase::Trying) {
                state.phase = UpdatePhase::Idle;
            }
            (state.phase, before)
        };
        if phase != before {
            self.service.update_changed();
        }
        let Some(last) = outcome(&ledger) else { return };
        match self.service.heard_of_update(&last, ledger.highest).await {
            Ok(true) if last.ended == UpdateEnd::Refused => {
                self.set(|state| (state.phase, state.problem) = (UpdatePhase::Idle, Some(last.reason.clone())));
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "how an update ended could not be written down; it is tried again"),
        }
    }

    /// Whether what was found is to be installed now without anybody asking.
    fn comes_by_itself(&self) -> bool {
        let open = may_install_at(&self.facts.config, self.service.local_hour(), self.service.clock().grade);
        let failed = Ledger::load(&self.places).failed;
        let wanted = |found: &Found| found.release.reaches(&self.service.hub().id) && !failed.contains(&found.release.version);
        self.facts.config.automatic && self.facts.supervised && open && self.state().found.as_ref().is_some_and(wanted)
    }

    fn standing(&self) -> Standing<'static> {
        let vendor = self.facts.config.vendor().ok().flatten();
        let rel = running_rel(&self.places, vendor.as_ref());
        let highest = Ledger::load(&self.places).highest.max(self.service.highest_release());
        Standing { platform: platform(), rel, highest, layout: self.facts.layout }
    }

    fn running(&self) -> String {
        let current = if self.facts.supervised { self.places.current() } else { None };
        current.map_or_else(|| env!("CARGO_PKG_VERSION").to_owned(), String::from)
    }

    /// Whether something is under way that has to end first.
    fn is_busy(&self) -> bool {
        !matches!(self.state().phase, UpdatePhase::Idle | UpdatePhase::Trying)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.service.update_changed();
    }
}

const UNSUPERVISED: &str =
    "nobody would start the new version: run the hub with `hearthkey run`, which also goes back when a version does not serve";

impl Updater for Desk {
    fn view(&self) -> UpdateView {
        let ledger = Ledger::load(&self.places);
        let state = self.state();
        let offered = state.found.as_ref().map(|found| OfferedRelease {
            version: found.release.version.to_string(),
            rel: found.release.rel,
            size: found.release.size,
            notes: found.release.notes.clone(),
            made_at: found.release.made_at.saturating_mul(1000),
            by_itself: found.release.reaches(&self.service.hub().id),
            failed: ledger.failed.contains(&found.release.version),
        });
        let before = ledger.before.as_ref().filter(|_| self.places.current().is_some());
        UpdateView {
            version: self.running(),
            configured: self.facts.config.url.is_some() && self.facts.config.key.is_some(),
            enabled: self.facts.config.enabled,
            automatic: self.facts.config.automatic,
            supervised: self.facts.supervised,
            phase: state.phase,
            done: state.done,
            checked_at: state.checked_at,
            problem: state.problem.clone(),
            offered,
            back_to: before.map(|before| before.version.clone().map_or_else(|| env!("CARGO_PKG_VERSION").to_owned(), String::from)),
            last: outcome(&ledger),
        }
    }

    fn check(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async {
            if self.is_busy() {
                return Err(BUSY.into());
            }
            let (answer, answered) = oneshot::channel();
            self.jobs.try_send(Job::Check(answer)).map_err(|_| BUSY)?;
            answered.await.unwrap_or_else(|_| Err("the hub stops".into()))
        })
    }

    fn apply(&self, by: &str) -> Result<(), String> {
        if !self.facts.supervised {
            return Err(UNSUPERVISED.into());
        }
        if Ledger::load(&self.places).trial.is_some() {
            return Err("a new version is being tried: wait until it stays, or go back".into());
        }
        if self.is_busy() {
            return Err(BUSY.into());
        }
        self.jobs.try_send(Job::Apply(by.to_owned())).map_err(|_| BUSY.into())
    }

    fn roll_back(&self, by: &str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let order = Order { kind: OrderKind::RollBack, by: by.to_owned() };
        let ready = if !self.facts.supervised {
            Err(UNSUPERVISED.to_owned())
        } else if self.places.current().is_none() {
            Err("there is nothing to go back to: the program of the system runs".to_owned())
        } else if let Some(why) = (self.facts.busy)() {
            Err(format!("not now: {why}"))
        } else {
            write_json(&self.places.order(), &order).map_err(|e| e.to_string())
        };
        Box::pin(std::future::ready(ready))
    }
}

const BUSY: &str = "an update is under way: wait until it is done";

fn outcome(ledger: &Ledger) -> Option<UpdateOutcome> {
    ledger.last.as_ref().map(|last| UpdateOutcome {
        number: last.number,
        ended: match last.ended {
            Ended::Updated => UpdateEnd::Updated,
            Ended::RolledBack => UpdateEnd::RolledBack,
            Ended::Refused => UpdateEnd::Refused,
        },
        version: last.version.clone().map(String::from),
        from: last.from.clone().map(String::from),
        by: last.by.clone(),
        reason: last.reason.clone(),
        at: last.at,
    })
}

/// The place of what runs: this program's own, or that of the version that is current, whichever is higher.
fn running_rel(places: &Places, vendor: Option<&[u8; 32]>) -> u64 {
    let current = places.current().and_then(|version| places.release(vendor?, &version).ok());
    current.map_or(0, |release| release.rel).max(own_rel())
}

/// Any number; 0 when the system has none.
fn chance() -> u32 {
    getrandom::u32().unwrap_or(0)
}

/// Takes a release from a file, with what is signed of it in a second file beside it, and orders it; of a hub that `runs`, it is wished.
///
/// # Errors
/// For a person: it is not genuine, not for this hub, or cannot be unpacked.
pub fn order_release(config: &Config, data_dir: &Path, archive: &Path, layout: u32, runs: bool) -> Result<HubRelease, String> {
    let vendor = config.vendor()?.ok_or("update.key is not set: without the vendor's key nobody can tell whether a file is genuine")?;
    let places = config.places(data_dir);
    let mut signed = archive.as_os_str().to_owned();
    signed.push(SIGNED);
    let signed = PathBuf::from(signed);
    let statement =
        read_bounded(&signed, STATEMENT_MAX as u64).map_err(|e| format!("{}: {e}. It belongs beside the archive", signed.display()))?;
    let release = HubRelease::verify(&vendor, &statement).map_err(|e| format!("{}: {e}", signed.display()))?;
    let rel = running_rel(&places, Some(&vendor));
    let standing = Standing { platform: platform(), rel, highest: Ledger::load(&places).highest, layout };
    release.admit(standing).map_err(|e| e.to_string())?;
    unpack(&places, archive, &release, &statement).map_err(|e| e.to_string())?;
    let kind = OrderKind::Apply { version: release.version.clone() };
    leave(&places, Order { kind, by: "console".into() }, runs).map_err(|e| e.to_string())?;
    Ok(release)
}

/// Asks the vendor for a version that this hub may take.
///
/// # Errors
/// For a person.
pub async fn check_release(config: &Config, data_dir: &Path, layout: u32) -> Result<Option<HubRelease>, String> {
    Ok(find_for(config, data_dir, layout).await?.map(|(_, found)| found.release))
}

/// Gets that version, and orders it; of a hub that `runs`, it is wished.
///
/// # Errors
/// For a person.
pub async fn get_release(config: &Config, data_dir: &Path, layout: u32, runs: bool) -> Result<Option<HubRelease>, String> {
    let Some((vendor, found)) = find_for(config, data_dir, layout).await? else { return Ok(None) };
    let places = config.places(data_dir);
    places.make().map_err(|e| e.to_string())?;
    let archive = vendor.archive(&places, &found, |_| ()).await.map_err(|e| e.to_string())?;
    let (of, into, file) = (found.clone(), places.clone(), archive.clone());
    let unpacked = tokio::task::spawn_blocking(move || unpack(&into, &file, &of.release, &of.statement)).await;
    unpacked.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    remove(&archive).map_err(|e| e.to_string())?;
    let kind = OrderKind::Apply { version: found.release.version.clone() };
    leave(&places, Order { kind, by: "console".into() }, runs).map_err(|e| e.to_string())?;
    Ok(Some(found.release))
}

async fn find_for(config: &Config, data_dir: &Path, layout: u32) -> Result<Option<(Vendor, Found)>, String> {
    let settings = config.clone();
    let vendor =
        tokio::task::spawn_blocking(move || Vendor::new(&settings)).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let Some(found) = vendor.newest().await.map_err(|e| e.to_string())? else { return Ok(None) };
    let places = config.places(data_dir);
    let rel = running_rel(&places, config.vendor()?.as_ref());
    if found.release.rel == rel {
        return Ok(None);
    }
    found
        .release
        .admit(Standing { platform: platform(), rel, highest: Ledger::load(&places).highest, layout })
        .map_err(|e| e.to_string())?;
    Ok(Some((vendor, found)))
}

/// Orders the way back, or wishes it of a hub that `runs`.
///
/// # Errors
/// The disk's.
pub fn order_roll_back(config: &Config, data_dir: &Path, runs: bool) -> Result<(), PlaceError> {
    let places = config.places(data_dir);
    places.make()?;
    leave(&places, Order { kind: OrderKind::RollBack, by: "console".into() }, runs)
}

fn leave(places: &Places, order: Order, runs: bool) -> Result<(), PlaceError> {
    let _alone = places.alone()?;
    if runs { write_json(&places.wish(), &Wish { order }) } else { write_json(&places.order(), &order) }
}
