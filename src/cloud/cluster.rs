//! A private PostgreSQL in the data directory: made at the first start, reached by a Unix socket in a directory that only
//! its user may enter, stopped at shutdown, started again when it dies.
//!
//! PostgreSQL refuses to run as root; then it runs as `postgres`, or `nobody`. What is in the database is `migrations`'.

mod install;

use install::{Programs, User};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;

/// The role and the database of the private PostgreSQL.
pub const NAME: &str = "hearthkey";
/// How long PostgreSQL may take to be ready; after a crash it replays its log.
const READY: Duration = Duration::from_secs(120);
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// The pause before PostgreSQL is started again after it died; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Longest path of a socket directory: the kernel allows 107 bytes for the socket itself.
const SOCKET_DIR_MAX: usize = 85;

/// Why there is no private PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// It is not installed.
    #[error("PostgreSQL is not installed here: run `apt-get install postgresql`, or name a database with --database-url")]
    Missing,
    /// There is no user it could run as.
    #[error("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`: start the cloud as another user")]
    User,
    /// A directory or file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory cannot be reached by the user of PostgreSQL.
    #[error(
        "PostgreSQL runs as {user} and cannot reach {path}: choose a --data-dir in a place that others may enter (chmod a+x its parents)"
    )]
    Reach {
        /// Who.
        user: String,
        /// What.
        path: PathBuf,
    },
    /// `initdb` failed.
    #[error("PostgreSQL could not make its files: {0}")]
    Init(String),
    /// It ended, or was not ready in time.
    #[error("PostgreSQL does not start; the end of {log} says: {said}")]
    Start {
        /// Its log.
        log: PathBuf,
        /// The last line.
        said: String,
    },
}

fn at(path: &Path) -> impl Fn(io::Error) -> ClusterError + '_ {
    move |source| ClusterError::File { path: path.to_owned(), source }
}

/// A running PostgreSQL.
pub struct Cluster {
    plan: Arc<Plan>,
    stop: CancellationToken,
    keeper: JoinHandle<()>,
    pid: Arc<Mutex<Option<u32>>>,
}

/// What it takes to start it.
struct Plan {
    programs: Programs,
    user: Option<User>,
    data: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    durable: bool,
}

impl Cluster {
    /// Starts the PostgreSQL in `dir`, and makes it first if it is not there. One left over by a process that died is
    /// stopped before. The caller holds a lock on the directory.
    ///
    /// # Errors
    /// [`ClusterError`], with what to do.
    pub async fn start(dir: &Path, durable: bool) -> Result<Cluster, ClusterError> {
        let user = User::to_run_as()?;
        let dir = std::path::absolute(dir).map_err(at(dir))?;
        let made_by = std::fs::read_to_string(dir.join("data/PG_VERSION")).unwrap_or_default();
        let programs = Programs::find(made_by.trim()).ok_or(ClusterError::Missing)?;
        make_dir(&dir, user.as_ref(), 0o700)?;
        let socket = socket_dir(&dir);
        make_dir(&socket, user.as_ref(), 0o700)?;
        let plan = Plan { programs, user, data: dir.join("data"), log: dir.join("postgres.log"), socket, durable };
        plan.make().await?;
        plan.stop_left_over().await;
        let mut child = plan.spawn()?;
        plan.ready(&mut child).await?;
        plan.make_database().await?;
        let plan = Arc::new(plan);
        let stop = CancellationToken::new();
        let pid = Arc::new(Mutex::new(child.id()));
        let keeper = tokio::spawn(keep(plan.clone(), child, pid.clone(), stop.clone()));
        Ok(Cluster { plan, stop, keeper, pid })
    }

    /// Where the one in `dir`, which another process runs, is reached.
    ///
    /// # Errors
    /// [`ClusterError::File`].
    pub fn beside(dir: &Path) -> Result<tokio_postgres::Config, ClusterError> {
        Ok(connection_in(&socket_dir(&std::path::absolute(dir).map_err(at(dir))?), NAME))
    }

    /// Where it is reached.
    #[must_use]
    pub fn connection(&self) -> tokio_postgres::Config {
        self.plan.connection(NAME)
    }

    /// The process, while there is one: it changes when PostgreSQL was started again.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops it; what was committed is on disk.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.keeper.await {
            tracing::error!(%error, "the keeper of PostgreSQL broke");
        }
    }
}

/// Starts PostgreSQL again whenever it ends, until it is told to stop.
async fn keep(plan: Arc<Plan>, mut child: Child, pid: Arc<Mutex<Option<u32>>>, stop: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        let ended = tokio::select! {
            () = stop.cancelled() => {
                plan.stop_left_over().await;
                let _ = child.wait().await;
                return;
            }
            ended = child.wait() => ended,
        };
        tracing::error!(?ended, said = plan.last_line(), "PostgreSQL ended by itself, and is started again");
        *pid.lock().unwrap_or_else(PoisonError::into_inner) = None;
        child = loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let started = match plan.spawn() {
                // Not to be waited for without an end: whoever stops the cloud waits for this.
                Ok(mut child) => tokio::select! {
                    () = stop.cancelled() => {
                        plan.stop_left_over().await;
                        let _ = child.wait().await;
                        return;
                    }
                    ready = plan.ready(&mut child) => ready.map(|()| child),
                },
                Err(error) => Err(error),
            };
            match started {
                Ok(child) => break child,
                Err(error) => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    tracing::warn!(%error, ?pause, "PostgreSQL does not start yet");
                }
            }
        };
        pause = FIRST_PAUSE;
        *pid.lock().unwrap_or_else(PoisonError::into_inner) = child.id();
        tracing::info!("PostgreSQL runs again");
    }
}

impl Plan {
    fn connection(&self, database: &str) -> tokio_postgres::Config {
        connection_in(&self.socket, database)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.path(program));
        if let Some(user) = &self.user {
            // The standard library gives up supplementary groups as well when root changes the user.
            command.uid(user.uid).gid(user.gid);
        }
        // Signals of the terminal are for the cloud, which then stops PostgreSQL in order.
        command.stdin(Stdio::null()).process_group(0).env_clear().env("LC_ALL", "C").env("TZ", "UTC").env("PATH", "/usr/bin:/bin");
        // Somewhere everybody may be: the present directory may be closed to its user.
        command.current_dir("/");
        command
    }

    /// Makes the files, unless they are there.
    async fn make(&self) -> Result<(), ClusterError> {
        if self.data.join("PG_VERSION").exists() {
            return Ok(());
        }
        if self.data.exists() {
            let what = format!("{} is there and holds no database: if nothing in it is needed, remove it", self.data.display());
            return Err(ClusterError::Init(what));
        }
        // What is left of a start that was cut off was never used.
        let half = self.data.with_extension("making");
        if half.exists() {
            std::fs::remove_dir_all(&half).map_err(at(&half))?;
        }
        tracing::info!(path = %self.data.display(), "making a private PostgreSQL; this takes some seconds");
        let mut command = self.command("initdb");
        command.args(["-U", NAME, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions", "--data-checksums"]);
        if !self.durable {
            command.arg("--no-sync");
        }
        let made = command.arg("-D").arg(&half).output().await.map_err(at(&half))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            return Err(match &self.user {
                Some(user) if said.contains("Permission denied") => {
                    ClusterError::Reach { user: user.name.clone(), path: self.data.clone() }
                }
                _ => ClusterError::Init(said),
            });
        }
        std::fs::rename(&half, &self.data).map_err(at(&self.data))
    }

    fn spawn(&self) -> Result<Child, ClusterError> {
        // Of one run only, so that its last line is about this one.
        let log = std::fs::File::create(&self.log).map_err(at(&self.log))?;
        let errors = log.try_clone().map_err(at(&self.log))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.data).arg("-k").arg(&self.socket);
        for setting in [
            "listen_addresses=",
            "unix_socket_permissions=0700",
            "max_connections=100",
            "shared_buffers=64MB",
            "logging_collector=off",
            "log_min_messages=warning",
        ] {
            command.args(["-c", setting]);
        }
        if !self.durable {
            command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        command.stdout(log).stderr(errors).spawn().map_err(at(&self.log))
    }

    /// Waits until it answers.
    async fn ready(&self, child: &mut Child) -> Result<(), ClusterError> {
        let failed = || ClusterError::Start { log: self.log.clone(), said: self.last_line() };
        let asking = async {
            loop {
                if let Ok((_client, connection)) = self.connection("postgres").connect(NoTls).await {
                    drop(connection);
                    return;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        tokio::select! {
            _ = child.wait() => Err(failed()),
            ready = tokio::time::timeout(READY, asking) => ready.map_err(|_| failed()),
        }
    }

    async fn make_database(&self) -> Result<(), ClusterError> {
        let failed = |error: tokio_postgres::Error| ClusterError::Start { log: self.log.clone(), said: error.to_string() };
        let (client, connection) = self.connection("postgres").connect(NoTls).await.map_err(failed)?;
        let driver = tokio::spawn(connection);
        let known = client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&NAME]).await.map_err(failed)?;
        if known.is_none() {
            client.batch_execute(&format!("CREATE DATABASE {NAME}")).await.map_err(failed)?;
        }
        drop(client);
        let _ = driver.await;
        Ok(())
    }

    /// Stops what runs over these files, whoever started it. PostgreSQL itself tells a stale process file from a live one.
    async fn stop_left_over(&self) {
        if !self.data.join("postmaster.pid").exists() {
            return;
        }
        let mut command = self.command("pg_ctl");
        command.args(["stop", "-m", "fast", "-w", "-t", "60", "-s"]).arg("-D").arg(&self.data);
        match command.output().await {
            Ok(stopped) if !stopped.status.success() => {
                tracing::debug!(said = %String::from_utf8_lossy(&stopped.stderr).trim(), "nothing to stop");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "pg_ctl does not run"),
        }
    }

    fn last_line(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned()
    }
}

fn connection_in(socket: &Path, database: &str) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.host_path(socket).user(NAME).dbname(database).connect_timeout(Duration::from_secs(5));
    config
}

fn make_dir(dir: &Path, user: Option<&User>, mode: u32) -> Result<(), ClusterError> {
    if !dir.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(at(dir))?;
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).map_err(at(dir))?;
    match user {
        Some(user) => chown(dir, Some(user.uid), Some(user.gid)).map_err(at(dir)),
        None => Ok(()),
    }
}

/// In the directory itself, unless its path is too long for a socket.
fn socket_dir(dir: &Path) -> PathBuf {
    use sha2::{Digest, Sha256};
    let inside = dir.join("socket");
    if inside.as_os_str().len() <= SOCKET_DIR_MAX {
        return inside;
    }
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(dir.as_os_str().as_encoded_bytes()));
    std::env::temp_dir().join(format!("hearthkey-{}", hash.get(..16).unwrap_or_default()))
}
