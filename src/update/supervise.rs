//! The supervisor: starts the program that is to run and keeps it running; tries what an order names, and goes back when that does not serve. It is
//! small, holds nothing open, and lives through every end of the program. What it knows is in the [`Ledger`].
//!
//! A program serves when it has said so within its time, `hearthkey doctor --health` of the same program agrees, and it is heard again and again.
//! It ends when its standard input does, so that no hub is left without its supervisor.

use super::ledger::{Ground, Ledger, Order, OrderKind};
use super::notify::{self, Ear, Said};
use super::places::{PlaceError, Places, read_json, remove};
use super::unpack::check_program;
use super::{Config, own_rel, platform};
use crate::domain::release::Version;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout};

/// How long a program may take to stop.
const STOP: Duration = Duration::from_secs(30);
/// How long one look at the health may take.
const LOOK: Duration = Duration::from_secs(20);
/// Looks in a row that may fail once a program serves.
const LOOKS: u32 = 3;
/// The longest pause between two starts.
const PAUSE_MOST: Duration = Duration::from_secs(60);
/// Serving for so long, a program's earlier ends are forgotten.
const STEADY: Duration = Duration::from_secs(60);
/// How often an order is looked for.
const TICK: Duration = Duration::from_millis(500);

/// Why the supervisor does not go on.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// The directory of versions.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Another supervisor has the directory.
    #[error("another supervisor runs over {0}: stop that one first")]
    Running(String),
    /// A setting.
    #[error("{0}")]
    Setting(&'static str),
    /// Something of the system's.
    #[error("the supervisor cannot {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Reads the layout of a database that is closed; `None` when it cannot be read.
pub type LayoutOf = Box<dyn Fn(&Path) -> Option<u32> + Send + Sync>;

/// What is supervised.
pub struct Supervised {
    /// How.
    pub config: Config,
    /// The hub's data directory.
    pub data_dir: PathBuf,
    /// The hub's database.
    pub database: PathBuf,
    /// The layout of a database that is closed; `None` when it cannot be read.
    pub layout_of: LayoutOf,
    /// The program of the system, which runs unless a version does.
    pub program: PathBuf,
    /// What the hub is to be told on its command line, after `hub`.
    pub arguments: Vec<OsString>,
}

/// The supervisor.
pub struct Supervisor {
    what: Supervised,
    places: Places,
    vendor: Option<[u8; 32]>,
    ledger: Ledger,
    /// Held for as long as this supervisor is there: two of them would carry out each order twice.
    _lock: File,
}

/// How one life of the program ended.
enum Life {
    /// The supervisor was told to stop.
    Stopped,
    /// There is an order.
    Ordered,
    /// It failed.
    Failed { reason: String, steady: bool },
}

impl Supervisor {
    /// Makes the directory, and reads what it holds.
    ///
    /// # Errors
    /// [`SuperviseError`].
    pub fn new(what: Supervised) -> Result<Supervisor, SuperviseError> {
        let vendor = what.config.vendor().map_err(SuperviseError::Setting)?;
        let places = what.config.places(&what.data_dir);
        places.make()?;
        let system = |source| SuperviseError::System { what: "lock its directory", source };
        let lock = File::options().create(true).append(true).open(places.dir().join("supervisor.lock")).map_err(system)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SuperviseError::Running(places.dir().display().to_string())),
            Err(TryLockError::Error(error)) => return Err(system(error)),
        }
        let ledger = Ledger::load(&places);
        Ok(Supervisor { what, places, vendor, ledger, _lock: lock })
    }

    /// What is known.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Does the next durable step of an update, if there is one. The program must not run.
    ///
    /// # Errors
    /// The disk's.
    pub fn step(&mut self) -> Result<bool, SuperviseError> {
        let Supervisor { what, places, vendor, ledger, .. } = self;
        let check = |version: &Version| check(places, vendor.as_ref(), version);
        let ground = Ground { places, database: &what.database, layout_of: &*what.layout_of, check: &check };
        Ok(ledger.step(ground)?)
    }

    /// Runs until a signal says stop.
    ///
    /// # Errors
    /// [`SuperviseError`]: nothing can be started at all. What the program does is no error.
    pub async fn run(mut self) -> Result<(), SuperviseError> {
        let system = |what| move |source| SuperviseError::System { what, source };
        let mut term = signal(SignalKind::terminate()).map_err(system("hear signals"))?;
        let mut int = signal(SignalKind::interrupt()).map_err(system("hear signals"))?;
        let ear = Ear::open(self.places.dir()).map_err(system("open its socket"))?;
        let mut failures = 0u32;
        loop {
            // A hub that an earlier supervisor has left stops by itself; until then, its database is not to be touched.
            tokio::select! {
                () = is_free(&self.what.database) => {}
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
            }
            while self.step()? {}
            if self.ledger.trial.is_none() {
                self.prune(&self.ledger.failed);
            }
            let program = self.choose()?;
            if let Some(trial) = &mut self.ledger.trial {
                trial.starts += 1;
                self.ledger.save(&self.places)?;
            }
            let life = match self.start(&program, &ear) {
                Ok(child) => self.attend(child, &program, &ear, &mut term, &mut int).await?,
                Err(error) => Life::Failed { reason: format!("it could not be started: {error}"), steady: false },
            };
            let reason = match life {
                Life::Stopped => {
                    notify::closing();
                    return Ok(());
                }
                Life::Ordered => {
                    failures = 0;
                    continue;
                }
                Life::Failed { reason, steady } => {
                    failures = if steady { 0 } else { failures + 1 };
                    reason
                }
            };
            if let Some(trial) = &mut self.ledger.trial {
                tracing::error!(version = %trial.version, start = trial.starts, %reason, "the new version does not serve");
                if trial.starts >= self.what.config.starts.max(1) {
                    trial.back = Some(reason);
                    self.ledger.save(&self.places)?;
                    failures = 0;
                    continue;
                }
            } else {
                tracing::error!(%reason, "the hub ended; it is started again");
            }
            let pause = Duration::from_millis(500).saturating_mul(1 << failures.min(8)).min(PAUSE_MOST);
            notify::status(&format!("the hub is started again in {} s: {reason}", pause.as_secs()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
            }
        }
    }

    /// Which program is to run. A version that does not hold any more is passed over; one that the system's program is newer than, too.
    fn choose(&mut self) -> Result<PathBuf, SuperviseError> {
        let own = self.what.program.clone();
        let Some(version) = self.places.current() else { return Ok(own) };
        match check(&self.places, self.vendor.as_ref(), &version) {
            Ok(rel) if rel > own_rel() || self.ledger.trial.is_some() => Ok(self.places.program(&version)),
            Ok(_) => {
                tracing::info!(%version, "the system's program is newer than this version, and runs from now on");
                self.places.point_current(None)?;
                self.places.point_last_good(None)?;
                Ok(own)
            }
            Err(reason) => {
                tracing::error!(%version, %reason, "this version is not started; the system's program runs");
                if let Some(trial) = &mut self.ledger.trial {
                    trial.back = Some(reason);
                    self.ledger.save(&self.places)?;
                    while self.step()? {}
                    return self.choose_again();
                }
                Ok(own)
            }
        }
    }

    /// After a version was given up before it was started: what it goes back to, or the system's program.
    fn choose_again(&self) -> Result<PathBuf, SuperviseError> {
        let version = self.places.current().filter(|version| check(&self.places, self.vendor.as_ref(), version).is_ok());
        Ok(version.map_or_else(|| self.what.program.clone(), |version| self.places.program(&version)))
    }

    fn start(&self, program: &Path, ear: &Ear) -> std::io::Result<Child> {
        notify::starting(Config::seconds(self.what.config.ready_s) + STOP);
        tracing::info!(program = %program.display(), "starting the hub");
        let usec = Config::seconds(self.what.config.watchdog_s).as_micros().to_string();
        let mut command = Command::new(program);
        command.arg("hub").arg("--supervised").args(&self.what.arguments);
        command.env("NOTIFY_SOCKET", ear.path()).env("WATCHDOG_USEC", usec).env_remove("WATCHDOG_PID");
        notify::hand_on_sockets(&mut command);
        command.stdin(Stdio::piped()).kill_on_drop(true).spawn()
    }

    /// Attends to one life of the program.
    async fn attend(
        &mut self,
        mut child: Child,
        program: &Path,
        ear: &Ear,
        term: &mut Signal,
        int: &mut Signal,
    ) -> Result<Life, SuperviseError> {
        let line = child.stdin.take();
        let config = self.what.config.clone();
        let mut life = Watch::new(&config);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = term.recv() => return stop(child, line).await.map(|()| Life::Stopped),
                _ = int.recv() => return stop(child, line).await.map(|()| Life::Stopped),
                said = ear.hear() => for said in said {
                    life.heard(said);
                },
                ended = child.wait() => return Ok(Life::Failed { reason: how_it_ended(ended), steady: life.is_steady() }),
                // The service manager watches the supervisor, and the supervisor the hub.
                _ = tick.tick() => notify::watchdog(),
            }
            if self.is_ordered()? {
                stop(child, line).await?;
                return Ok(Life::Ordered);
            }
            if let Some(reason) = life.overdue() {
                end(child).await;
                return Ok(Life::Failed { reason, steady: life.is_steady() });
            }
            if self.ledger.trial.as_ref().is_some_and(|trial| !trial.stays) && life.wants_look() {
                let well = is_well(program, &self.what.data_dir).await;
                if let Err(reason) = life.looked(well) {
                    end(child).await;
                    return Ok(Life::Failed { reason, steady: false });
                }
            }
            if life.has_proved()
                && let Some(trial) = &mut self.ledger.trial
                && !trial.stays
            {
                trial.stays = true;
                self.ledger.save(&self.places)?;
                while self.ledger.trial.is_some() && self.step()? {}
                self.prune(&self.places.all());
            }
        }
    }

    /// Whether there is an order that ends this life of the program.
    fn is_ordered(&mut self) -> Result<bool, SuperviseError> {
        let path = self.places.order();
        let Some(order) = path.exists().then(|| read_json::<Order>(&path)).flatten() else { return Ok(false) };
        let Some(trial) = &mut self.ledger.trial else { return Ok(true) };
        remove(&path)?;
        if order.kind == OrderKind::RollBack {
            trial.back = Some(format!("asked for by {}", order.by));
            self.ledger.save(&self.places)?;
            return Ok(true);
        }
        tracing::warn!(version = %trial.version, "an order is passed over: this version is still tried");
        Ok(false)
    }

    /// Takes those of `versions` away that nobody goes back to.
    fn prune(&self, versions: &[Version]) {
        let before = self.ledger.before.as_ref().and_then(|before| before.version.clone());
        for version in versions {
            if [self.places.current(), self.places.last_good(), before.clone()].iter().flatten().all(|kept| kept != version)
                && let Err(error) = std::fs::remove_dir_all(self.places.version(version))
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%version, %error, "this version cannot be taken away");
            }
        }
    }
}

/// What one life of the program has shown so far.
struct Watch {
    began: Instant,
    ready_by: Instant,
    serving: Option<Instant>,
    heard: Instant,
    watchdog: Duration,
    look_at: Instant,
    every: Duration,
    healthy: Duration,
    well: Option<Instant>,
    unwell: u32,
}

impl Watch {
    fn new(config: &Config) -> Watch {
        let now = Instant::now();
        Watch {
            began: now,
            ready_by: now + Config::seconds(config.ready_s),
            serving: None,
            heard: now,
            watchdog: Config::seconds(config.watchdog_s),
            look_at: now,
            every: Config::seconds(config.health_every_s),
            healthy: Config::seconds(config.healthy_s),
            well: None,
            unwell: 0,
        }
    }

    fn heard(&mut self, said: Said) {
        let now = Instant::now();
        match said {
            Said::Ready if self.serving.is_none() => {
                (self.serving, self.heard, self.look_at) = (Some(now), now, now);
                notify::serving();
            }
            Said::Alive => self.heard = now,
            Said::Longer(by) if self.serving.is_none() => {
                self.ready_by = self.ready_by.max(now + by);
                notify::starting(by + STOP);
            }
            Said::Status(text) => notify::status(&text),
            Said::Ready | Said::Longer(_) | Said::Stopping => {}
        }
    }

    /// Why the program is to be ended now, if it is.
    fn overdue(&self) -> Option<String> {
        let now = Instant::now();
        match self.serving {
            None if now >= self.ready_by => {
                Some(format!("it did not say within {} s that it serves", self.ready_by.duration_since(self.began).as_secs()))
            }
            Some(_) if now.duration_since(self.heard) > self.watchdog => {
                Some(format!("it was not heard for {} s", self.watchdog.as_secs()))
            }
            _ => None,
        }
    }

    fn wants_look(&self) -> bool {
        self.serving.is_some() && Instant::now() >= self.look_at
    }

    /// Takes the result of a look at its health.
    fn looked(&mut self, well: Result<(), String>) -> Result<(), String> {
        let now = Instant::now();
        self.look_at = now + self.every;
        match well {
            Ok(()) => {
                self.unwell = 0;
                self.well.get_or_insert(now);
                Ok(())
            }
            Err(reason) => {
                self.unwell += 1;
                tracing::warn!(%reason, "the new version is not well");
                // A second look comes soon.
                self.look_at = now + self.every.min(Duration::from_secs(2));
                if self.unwell >= LOOKS { Err(format!("it says that it serves, and does not: {reason}")) } else { Ok(()) }
            }
        }
    }

    /// Whether it has served for long enough to stay.
    fn has_proved(&self) -> bool {
        self.unwell == 0 && self.well.is_some_and(|since| since.elapsed() >= self.healthy)
    }

    fn is_steady(&self) -> bool {
        self.serving.is_some_and(|since| since.elapsed() >= STEADY)
    }
}

/// Returns when nobody has the database open.
async fn is_free(database: &Path) {
    let mut told = false;
    while File::open(database).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock))) {
        if !told {
            told = true;
            tracing::warn!(database = %database.display(), "another hub has the database open: waiting until it has stopped");
            notify::status("waiting until another hub has stopped");
        }
        notify::watchdog();
        tokio::time::sleep(TICK).await;
    }
}

/// Whether a version that lies here may be started, and its place: with the vendor's key, its release and its program have to hold.
fn check(places: &Places, vendor: Option<&[u8; 32]>, version: &Version) -> Result<u64, String> {
    let Some(vendor) = vendor else {
        tracing::warn!(%version, "update.key is not set: this version cannot be checked");
        return Ok(version.rel());
    };
    let release = places.release(vendor, version)?;
    if release.platform != platform() {
        return Err(format!("it is for {}", release.platform));
    }
    check_program(&places.program(version), &release)?;
    Ok(release.rel)
}

/// Asks the program's own doctor how the hub is.
async fn is_well(program: &Path, data_dir: &Path) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(["doctor", "--health", "--data-dir"]).arg(data_dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    match timeout(LOOK, command.output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().last().unwrap_or_default().trim().chars().take(300).collect::<String>();
            Err(if line.is_empty() { format!("its doctor ended with {}", output.status) } else { line })
        }
        Ok(Err(error)) => Err(format!("its doctor could not be started: {error}")),
        Err(_) => Err(format!("its doctor did not answer within {} s", LOOK.as_secs())),
    }
}

/// Asks the program to stop, by the end of its standard input, and ends it when it does not.
async fn stop(mut child: Child, line: Option<ChildStdin>) -> Result<(), SuperviseError> {
    drop(line);
    if timeout(STOP, child.wait()).await.is_err() {
        tracing::error!("the hub did not stop within {} s, and was ended", STOP.as_secs());
        end(child).await;
    }
    Ok(())
}

async fn end(mut child: Child) {
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "the hub could not be ended");
    }
}

fn how_it_ended(ended: std::io::Result<ExitStatus>) -> String {
    ended.map_or_else(|error| format!("it was lost: {error}"), |status| format!("it ended with {status}"))
}
