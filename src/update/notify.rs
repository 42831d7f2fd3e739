//! What a service says to whoever manages it (`sd_notify(3)`): that it serves, that it lives, what it does. The hub's side speaks to systemd or to
//! the supervisor, whichever started it; the supervisor's side listens, and passes on.

use sd_notify::NotifyState;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::process::Command;

/// Bytes of a message that are read.
const MESSAGE_MAX: usize = 4096;
/// Bytes that a socket's path may have (`sun_path` has 108).
const PATH_MAX: usize = 100;
/// The most that a start may ask for in addition.
const EXTEND_MOST: Duration = Duration::from_secs(1_800);
/// Bytes of a database that are checked in a second, on a slow card.
const CHECKED_PER_S: u64 = 4 * 1024 * 1024;

/// The hub opens a database of so many bytes, which may take longer than a start usually does.
pub fn opening(database_bytes: u64) {
    let wanted = Duration::from_secs(20 + database_bytes / CHECKED_PER_S).min(EXTEND_MOST);
    let usec = u32::try_from(wanted.as_micros()).unwrap_or(u32::MAX);
    say(&[NotifyState::Status("opening the database"), NotifyState::ExtendTimeoutUsec(usec)]);
}

/// The hub serves.
pub fn serving() {
    say(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The hub cannot use its database, and says so to people: there is nothing more to wait for.
pub fn recovering() {
    say(&[NotifyState::Ready, NotifyState::Status("RECOVERY MODE: the page of the hub says what to do")]);
}

/// The hub lives: it has just looked.
pub fn watchdog() {
    say(&[NotifyState::Watchdog]);
}

/// The hub stops.
pub fn closing() {
    say(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// How often the manager wants to hear that the hub lives, at the least; `None` when nobody does.
#[must_use]
pub fn told_of_watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// The supervisor starts a program, which may take so long.
pub(super) fn starting(most: Duration) {
    let usec = u32::try_from(most.min(EXTEND_MOST).as_micros()).unwrap_or(u32::MAX);
    say(&[NotifyState::Status("starting the hub"), NotifyState::ExtendTimeoutUsec(usec)]);
}

/// Hands the sockets that the service manager has opened for this process on to a program that it starts: they are inherited, and the variables say
/// so to whoever reads them, as nobody knows that program's id before it runs (`sd_listen_fds(3)`). Variables that are meant for another process
/// are taken away.
#[expect(clippy::disallowed_methods, reason = "the service manager says with variables what it hands over")]
pub(super) fn hand_on_sockets(command: &mut Command) {
    let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
    if !ours {
        command.env_remove("LISTEN_FDS").env_remove("LISTEN_FDNAMES");
    }
    command.env_remove("LISTEN_PID");
}

/// Passes a status on to whoever manages the supervisor.
pub(super) fn status(text: &str) {
    say(&[NotifyState::Status(text)]);
}

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

/// One thing that the program said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It serves.
    Ready,
    /// It lives.
    Alive,
    /// It stops by itself.
    Stopping,
    /// What it does.
    Status(String),
    /// Its start takes so much longer.
    Longer(Duration),
}

/// Where the program speaks to; its file goes with it.
pub(super) struct Ear {
    socket: UnixDatagram,
    path: PathBuf,
    made: Option<PathBuf>,
}

impl Ear {
    /// Opens a socket in `dir`, which is closed to others; in a directory of its own where the path would be too long.
    pub(super) fn open(dir: &Path) -> io::Result<Ear> {
        let mut path = dir.join("notify.sock");
        let mut made = None;
        if path.as_os_str().len() > PATH_MAX {
            let own = std::env::temp_dir().join(format!("hearthkey-{:016x}", getrandom::u64().map_err(io::Error::other)?));
            std::fs::DirBuilder::new().mode(0o700).create(&own)?;
            path = own.join("notify.sock");
            made = Some(own);
        }
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        Ok(Ear { socket: UnixDatagram::bind(&path)?, path, made })
    }

    /// What the program is to be told as `NOTIFY_SOCKET`.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it says next.
    pub(super) async fn hear(&self) -> Vec<Said> {
        let mut buffer = vec![0; MESSAGE_MAX];
        match self.socket.recv(&mut buffer).await {
            Ok(n) => read(&String::from_utf8_lossy(buffer.get(..n).unwrap_or_default())),
            Err(error) => {
                tracing::warn!(%error, "what the hub says cannot be heard");
                tokio::time::sleep(Duration::from_secs(1)).await;
                Vec::new()
            }
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        if let Some(made) = &self.made {
            let _ = std::fs::remove_dir(made);
        }
    }
}

fn read(message: &str) -> Vec<Said> {
    let one = |line: &str| match line.split_once('=')? {
        ("READY", "1") => Some(Said::Ready),
        ("WATCHDOG", "1") => Some(Said::Alive),
        ("STOPPING", "1") => Some(Said::Stopping),
        ("STATUS", text) => Some(Said::Status(text.chars().filter(|c| !c.is_control()).take(200).collect())),
        ("EXTEND_TIMEOUT_USEC", usec) => Some(Said::Longer(Duration::from_micros(usec.parse().ok()?).min(EXTEND_MOST))),
        _ => None,
    };
    message.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_systemd_reads_them_and_what_is_unknown_is_passed_over() {
        let said = read("READY=1\nSTATUS=serving\nMAINPID=7\nnonsense\nEXTEND_TIMEOUT_USEC=5000000\nWATCHDOG=1\n");
        let longer = Said::Longer(Duration::from_secs(5));
        assert_eq!(said, [Said::Ready, Said::Status("serving".into()), longer, Said::Alive]);
        assert_eq!(read("READY=0\nEXTEND_TIMEOUT_USEC=soon"), []);
        assert_eq!(read(&format!("EXTEND_TIMEOUT_USEC={}", u64::MAX)), [Said::Longer(EXTEND_MOST)]);
    }

    #[tokio::test]
    async fn a_socket_whose_path_would_be_too_long_is_somewhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let ear = Ear::open(&deep).unwrap();
        let path = ear.path().to_owned();
        assert!(path.as_os_str().len() <= PATH_MAX && path.exists());
        std::os::unix::net::UnixDatagram::unbound().unwrap().send_to(b"READY=1", &path).unwrap();
        assert_eq!(ear.hear().await, [Said::Ready]);
        drop(ear);
        assert!(!path.exists());
    }
}
