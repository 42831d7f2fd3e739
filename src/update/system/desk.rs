//! One bundle at a time: in, verified, installed, and then the restart; and what became of it, told once.

use super::incoming::{Incoming, Shelf, shelf_in};
use super::rauc::{Bus, RaucError, Slot, Working};
use super::words::{NONE, explain, explain_said};
use crate::domain::system::{Age, Fate, Tried};
use crate::service::{
    BundleUpload, Service, SystemAnswer, SystemBundle, SystemEnd, SystemOrder, SystemPhase, SystemSlot, SystemTried, SystemUpdater,
    SystemView, Wish,
};
use crate::update::places::{read_json, remove, write_json};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often RAUC is asked how far it is, and whether the way is free.
const TICK: Duration = Duration::from_millis(500);
/// How often it is asked what became of a system that was installed, until that is known.
const SETTLED_EVERY: Duration = Duration::from_secs(30);
/// Longest installation.
const INSTALL_MOST: Duration = Duration::from_secs(3_600);
/// How long the box may take to go down.
const DOWN_MOST: Duration = Duration::from_secs(180);
/// Bytes after which live views are told how far a bundle is.
const TOLD_EVERY: u64 = 4 * 1024 * 1024;

const BUSY: &str = "something is being done about the system already: wait until it is done";
const CUT_OFF: &str = "RAUC ended in the midst of it. The system that runs is as it was: bring the bundle again";

/// What the desk has to know.
pub struct SystemFacts {
    /// Where the system's D-Bus is; none: where libdbus finds it.
    pub bus: Option<String>,
    /// The hub's data directory.
    pub data_dir: PathBuf,
    /// Bytes that a bundle may have.
    pub limit: u64,
    /// Why the box may not be kept busy or restarted just now, if so.
    pub busy: Box<dyn Fn() -> Option<&'static str> + Send + Sync>,
}

enum Job {
    Install(Wish),
    Restart(Wish),
}

/// What is remembered over restarts: what was installed, until the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    version: String,
    by: String,
    /// The slot that ran then.
    from: String,
    /// Whether RAUC was done with it.
    installed: bool,
    /// Whether its end was told.
    told: bool,
}

#[derive(Default)]
struct State {
    phase: SystemPhase,
    done: u64,
    percent: u8,
    problem: Option<String>,
    bundle: Option<SystemBundle>,
    /// The slots as they were seen last: RAUC tells nothing of them while it installs.
    seen: (Vec<Slot>, Option<String>),
}

/// The desk.
pub struct SystemDesk {
    service: Arc<Service>,
    facts: SystemFacts,
    bus: Bus,
    shelf: Shelf,
    jobs: mpsc::Sender<Job>,
    inbox: Mutex<Option<mpsc::Receiver<Job>>>,
    state: Mutex<State>,
    /// Held while an end is told, so that it is told once.
    telling: tokio::sync::Mutex<()>,
}

impl SystemDesk {
    /// A desk, known to the service from now on.
    #[must_use]
    pub fn new(service: &Arc<Service>, facts: SystemFacts) -> Arc<SystemDesk> {
        let (jobs, inbox) = mpsc::channel(1);
        let (bus, shelf) = (Bus::new(facts.bus.clone()), shelf_in(&facts.data_dir));
        // A bundle that an earlier run has left; who still reads it keeps it open.
        shelf.clear();
        let desk = Arc::new(SystemDesk {
            service: service.clone(),
            facts,
            bus,
            shelf,
            jobs,
            inbox: Mutex::new(Some(inbox)),
            state: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
        });
        service.connect_system(&(desk.clone() as Arc<dyn SystemUpdater>));
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
        let mut settled = tokio::time::interval(SETTLED_EVERY);
        settled.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                job = inbox.recv() => match job {
                    Some(Job::Install(wish)) => self.install_now(&wish).await,
                    Some(Job::Restart(wish)) => self.restart_now(&wish).await,
                    None => return,
                },
                // Nobody is asked for anything while nothing was installed.
                _ = settled.tick() => {
                    if self.record().is_some_and(|record| !record.told)
                        && let Err(why) = self.look().await
                    {
                        tracing::debug!(%why, "what became of the system that was installed is not known yet");
                    }
                }
            }
        }
    }

    /// Waits until nothing stands in the way; whether it is still wanted then.
    async fn way_is_free(&self, wish: &Wish) -> bool {
        while let Some(why) = (self.facts.busy)() {
            self.set(|state| (state.phase, state.problem) = (SystemPhase::Waiting, Some(format!("it waits: {why}"))));
            tokio::time::sleep(TICK).await;
        }
        let holds = wish.holds();
        if !holds {
            tracing::warn!(by = %wish.by, "who asked for it may not any more: nothing is done");
            self.rest(Some(format!("{} may not ask for it any more: nothing was done", wish.by)));
        }
        holds
    }

    async fn install_now(&self, wish: &Wish) {
        if !self.way_is_free(wish).await {
            return self.shelf.clear();
        }
        let by = wish.by.as_str();
        let Some(bundle) = self.state().bundle.clone() else { return self.rest(None) };
        self.set(|state| (state.phase, state.percent, state.problem) = (SystemPhase::Installing, 0, None));
        let done = self.install_whole(by, &bundle).await;
        self.shelf.clear();
        let end = match &done {
            Ok(()) => SystemEnd::Installed,
            Err(why) => {
                tracing::error!(%why, version = %bundle.version, "the system was not installed");
                if let Err(error) = remove(&self.shelf.record()) {
                    tracing::warn!(%error, "what is remembered of it stays");
                }
                SystemEnd::Failed(why.clone())
            }
        };
        if let Err(error) = self.service.heard_of_system(&bundle.version, by, end).await {
            tracing::error!(%error, "how the installation ended could not be written down");
        }
        self.rest(done.err());
    }

    async fn install_whole(&self, by: &str, bundle: &SystemBundle) -> Result<(), String> {
        let before = self.bus.working().await.map_err(|e| explain(&e))?;
        if !before.idle {
            return Err("RAUC is at something else: wait until it is done, and bring the bundle again".into());
        }
        let (slots, _) = self.slots(&before).await?;
        let from = slots.iter().find(|slot| slot.booted).map(|slot| slot.name.clone());
        let from = from.ok_or("RAUC does not know which slot runs: nothing is installed")?;
        let mut record = Record { version: bundle.version.clone(), by: by.to_owned(), from, installed: false, told: false };
        self.remember(&record)?;
        self.bus.install(&self.shelf.bundle()).await.map_err(|e| explain(&e))?;
        let whole = tokio::time::timeout(INSTALL_MOST, self.follow(&before));
        whole.await.unwrap_or_else(|_| Err("RAUC is at it for an hour: look at the box".into()))?;
        let now = self.bus.working().await.map_err(|e| explain(&e))?;
        let (slots, _) = self.slots(&now).await?;
        if !is_there(&slots, &record) {
            return Err("RAUC says that it is done, but no slot holds that version: bring the bundle again".into());
        }
        record.installed = true;
        self.remember(&record)
    }

    /// Until RAUC is done.
    async fn follow(&self, before: &Working) -> Result<(), String> {
        loop {
            tokio::time::sleep(TICK).await;
            match self.bus.working().await {
                Err(RaucError::NoAnswer) => {}
                // Gone, or another one that knows nothing of it.
                Err(RaucError::Absent) => return Err(CUT_OFF.into()),
                Ok(now) if now.owner != before.owner => return Err(CUT_OFF.into()),
                Err(error) => return Err(explain(&error)),
                Ok(now) if now.idle && now.last_error.is_empty() => return Ok(()),
                Ok(now) if now.idle => return Err(explain_said(&now.last_error)),
                Ok(now) => {
                    if self.state().percent != now.percent {
                        self.set(|state| state.percent = now.percent);
                    }
                }
            }
        }
    }

    async fn restart_now(&self, wish: &Wish) {
        if !self.way_is_free(wish).await {
            return;
        }
        self.set(|state| (state.phase, state.problem) = (SystemPhase::Restarting, None));
        match self.bus.reboot().await {
            Ok(()) => {
                tracing::warn!("the box restarts, as an owner has asked");
                tokio::time::sleep(DOWN_MOST).await;
                self.rest(Some("the box did not restart: take it from its power for a moment".into()));
            }
            Err(error) => {
                let said = if error == RaucError::Absent { "nobody there restarts it".to_owned() } else { error.to_string() };
                self.rest(Some(format!("the system does not let the hub restart the box ({said}): take it from its power for a moment")));
            }
        }
    }

    /// The slots; while RAUC installs, as they were.
    async fn slots(&self, working: &Working) -> Result<(Vec<Slot>, Option<String>), String> {
        if working.idle {
            match self.bus.slots().await {
                Ok(found) => self.state().seen = found,
                // It has begun with something in this moment.
                Err(RaucError::Said(_)) => {}
                Err(error) => return Err(explain(&error)),
            }
        }
        Ok(self.state().seen.clone())
    }

    /// How it stands; what became of an installation is told on the way.
    async fn look(&self) -> Result<(Working, Vec<Slot>, Option<String>, Option<SystemTried>), String> {
        let working = self.bus.working().await.map_err(|e| explain(&e))?;
        let (slots, next) = self.slots(&working).await?;
        let tried = if working.idle { self.settle(&slots, next.as_deref()).await } else { None };
        Ok((working, slots, next, tried))
    }

    async fn settle(&self, slots: &[Slot], next: Option<&str>) -> Option<SystemTried> {
        let _once = self.telling.lock().await;
        if self.state().phase == SystemPhase::Installing {
            return None;
        }
        let mut record = self.record()?;
        let booted = slots.iter().find(|slot| slot.booted)?;
        let mut end = None;
        if !record.installed && booted.name == record.from {
            // The hub ended while RAUC was at it.
            record.installed = is_there(slots, &record);
            end = Some(if record.installed { SystemEnd::Installed } else { SystemEnd::Failed("the hub ended in the midst of it".into()) });
        }
        let gone = matches!(end, Some(SystemEnd::Failed(_)));
        let version = record.version.clone();
        let tried = Tried { from: &record.from, booted: &booted.name, booted_version: booted.version.as_deref(), next, version: &version };
        let fate = tried.fate();
        if !gone && !record.told && end.is_none() {
            end = match fate {
                Fate::Stays => Some(SystemEnd::Stays),
                Fate::FellBack => Some(SystemEnd::FellBack),
                Fate::Waits | Fate::Tried => None,
            };
            record.told = end.is_some();
        }
        if let Some(end) = end {
            let (record_of, by) = (record.version.clone(), record.by.clone());
            if let Err(error) = self.service.heard_of_system(&record_of, &by, end).await {
                tracing::error!(%error, "what became of the system could not be written down; it is tried again");
                return Some(SystemTried { version, fate });
            }
            let kept = if gone { remove(&self.shelf.record()).map_err(|e| e.to_string()) } else { self.remember(&record) };
            if let Err(why) = kept {
                tracing::error!(%why, "that it was told could not be remembered");
            }
        }
        (!gone).then_some(SystemTried { version, fate })
    }

    fn record(&self) -> Option<Record> {
        let path = self.shelf.record();
        if path.exists() { read_json(&path) } else { None }
    }

    fn remember(&self, record: &Record) -> Result<(), String> {
        write_json(&self.shelf.record(), record).map_err(|e| e.to_string())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.service.update_changed();
    }

    /// Nothing is under way any more.
    fn rest(&self, problem: Option<String>) {
        self.set(|state| *state = State { problem, seen: std::mem::take(&mut state.seen), ..State::default() });
    }

    /// Takes the desk for `phase`, if nothing is under way.
    fn claim(&self, phase: SystemPhase) -> Result<(), String> {
        let mut state = self.state();
        if state.phase != SystemPhase::Idle {
            return Err(BUSY.into());
        }
        (state.phase, state.done, state.problem) = (phase, 0, None);
        Ok(())
    }

    fn place(self: &Arc<Self>, job: Job) -> Result<Placed, String> {
        let place = self.jobs.clone().try_reserve_owned().map_err(|_| BUSY)?;
        self.claim(SystemPhase::Waiting)?;
        Ok(Placed { desk: self.clone(), version: String::new(), order: Some((place, job)) })
    }
}

/// Whether a slot that did not run then holds what was installed.
fn is_there(slots: &[Slot], record: &Record) -> bool {
    let whole = |slot: &&Slot| slot.status.as_deref().is_none_or(|status| status == "ok");
    slots.iter().filter(whole).any(|slot| slot.name != record.from && slot.version.as_deref() == Some(record.version.as_str()))
}

/// The version that runs: what its slot was written from; in a slot that no bundle has written, the image's, which is that of the hub in it.
fn running(slots: &[Slot]) -> String {
    let booted = slots.iter().find(|slot| slot.booted);
    booted.and_then(|slot| slot.version.clone()).unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned())
}

/// An order that has the desk, until it is given or dropped.
struct Placed {
    desk: Arc<SystemDesk>,
    version: String,
    order: Option<(mpsc::OwnedPermit<Job>, Job)>,
}

impl SystemOrder for Placed {
    fn version(&self) -> &str {
        &self.version
    }

    fn give(mut self: Box<Self>) {
        if let Some((place, job)) = self.order.take() {
            place.send(job);
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if self.order.is_some() {
            // The bundle stays.
            self.desk.set(|state| state.phase = SystemPhase::Idle);
        }
    }
}

/// A bundle on its way in.
struct Coming {
    desk: Arc<SystemDesk>,
    incoming: Option<Incoming>,
    told: u64,
    ended: bool,
}

impl Coming {
    async fn verify(&mut self) -> Result<SystemBundle, String> {
        let Some(incoming) = self.incoming.take() else { return Err("the bundle is here already".into()) };
        let size = incoming.keep().await?;
        let desk = self.desk.clone();
        desk.set(|state| state.phase = SystemPhase::Checking);
        let path = desk.shelf.bundle();
        let inside = desk.bus.inspect(&path).await.map_err(|e| explain(&e))?;
        let working = desk.bus.working().await.map_err(|e| explain(&e))?;
        if inside.compatible != working.compatible {
            return Err(format!(
                "the bundle is for another machine: it is for \"{}\", and this is \"{}\". Get the one for this box",
                inside.compatible, working.compatible
            ));
        }
        let (slots, _) = desk.slots(&working).await?;
        let bundle = SystemBundle { age: Age::of(&inside.version, &running(&slots)), version: inside.version, size };
        self.ended = true;
        desk.set(|state| *state = State { bundle: Some(bundle.clone()), seen: std::mem::take(&mut state.seen), ..State::default() });
        Ok(bundle)
    }
}

impl BundleUpload for Coming {
    fn take<'a>(&'a mut self, piece: &'a [u8]) -> SystemAnswer<'a, ()> {
        Box::pin(async move {
            let Some(incoming) = self.incoming.as_mut() else { return Err("the bundle is here already".into()) };
            let here = incoming.take(piece).await?;
            self.desk.state().done = here;
            if here - self.told >= TOLD_EVERY {
                self.told = here;
                self.desk.service.update_changed();
            }
            Ok(())
        })
    }

    fn finish(mut self: Box<Self>) -> SystemAnswer<'static, SystemBundle> {
        Box::pin(async move { self.verify().await })
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if !self.ended {
            drop(self.incoming.take());
            self.desk.shelf.clear();
            self.desk.rest(None);
        }
    }
}

impl SystemUpdater for SystemDesk {
    fn view(&self) -> SystemAnswer<'_, SystemView> {
        Box::pin(async {
            let (working, slots, next, tried) = self.look().await?;
            let state = self.state();
            // Somebody at the console installs.
            let foreign = state.phase == SystemPhase::Idle && !working.idle;
            let shown = |slot: &Slot| SystemSlot {
                name: slot.bootname.clone(),
                booted: slot.booted,
                next: next.as_ref().map(|next| *next == slot.name),
                boot_status: slot.boot_status.clone(),
                version: slot.version.clone(),
                status: slot.status.clone(),
                installed: slot.installed.clone(),
            };
            Ok(SystemView {
                version: running(&slots),
                slots: slots.iter().map(shown).collect(),
                compatible: working.compatible,
                variant: working.variant,
                boot_slot: working.boot_slot,
                last_error: working.last_error,
                phase: if foreign { SystemPhase::Installing } else { state.phase },
                done: state.done,
                percent: if foreign { working.percent } else { state.percent },
                problem: state.problem.clone(),
                bundle: state.bundle.clone(),
                tried,
            })
        })
    }

    fn is_busy(&self) -> bool {
        self.state().phase != SystemPhase::Idle
    }

    fn limit(&self) -> u64 {
        self.facts.limit
    }

    fn begin(self: Arc<Self>, announced: Option<u64>) -> SystemAnswer<'static, Box<dyn BundleUpload>> {
        Box::pin(async move {
            self.bus.working().await.map_err(|e| if e == RaucError::Absent { NONE.to_owned() } else { explain(&e) })?;
            self.claim(SystemPhase::Receiving)?;
            self.state().bundle = None;
            // From here on the desk is free again when it is dropped.
            let mut coming = Coming { desk: self.clone(), incoming: None, told: 0, ended: false };
            coming.incoming = Some(self.shelf.begin(announced, self.facts.limit).await?);
            self.service.update_changed();
            Ok(Box::new(coming) as Box<dyn BundleUpload>)
        })
    }

    fn discard(&self) -> Result<(), String> {
        self.claim(SystemPhase::Checking)?;
        self.shelf.clear();
        self.rest(None);
        Ok(())
    }

    fn prepare_install(self: Arc<Self>, wish: Wish, older: bool) -> Result<Box<dyn SystemOrder>, String> {
        let mut placed = self.place(Job::Install(wish))?;
        let bundle = self.state().bundle.clone().ok_or("there is no bundle here: bring one first")?;
        if !bundle.age.goes_forward() && !older {
            return Err(format!(
                "version {} is older than what runs, or cannot be compared with it: it may have faults that were mended since. Say that you want it all the same",
                bundle.version
            ));
        }
        placed.version = bundle.version;
        Ok(Box::new(placed))
    }

    fn prepare_restart(self: Arc<Self>, wish: Wish) -> SystemAnswer<'static, Box<dyn SystemOrder>> {
        Box::pin(async move {
            let mut placed = self.place(Job::Restart(wish))?;
            let (_, _, _, tried) = self.look().await?;
            let waits = tried.filter(|tried| tried.fate == Fate::Waits);
            placed.version = waits.ok_or("nothing was installed that a restart would start: bring a bundle first")?.version;
            Ok(Box::new(placed) as Box<dyn SystemOrder>)
        })
    }
}
