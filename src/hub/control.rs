//! A socket in the hub's own directory, for whoever holds the box: `hearthkey backup` asks a running hub through it. Only
//! the hub's user (and root) can open it; whoever can could read the database as well.
//!
//! One line of JSON in; lines of JSON out, the last one with `done`.

use crate::domain::ids::HubId;
use crate::service::{Actor, BackupOutcome, NewBackup, Refusal, RehearsalResult, Service};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Its name.
pub const SOCKET_FILE: &str = "hub.sock";
/// Bytes of a line.
const LINE_MAX: u64 = 64 * 1024;
/// Connections at the same time.
const CONNECTIONS: usize = 8;
/// For how long somebody may take to say what is wanted.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Make a backup, and tell how it goes.
    CreateBackup {
        /// A full one in any case.
        full: bool,
    },
    /// Change how backups are made.
    SetBackups(Box<NewBackup>),
    /// Tell how they are set, and how they stand.
    ShowBackups,
    /// A restore was rehearsed beside the hub: keep how it went.
    Rehearsed {
        /// Which hub was restored.
        hub: HubId,
        /// How it went.
        result: Box<RehearsalResult>,
    },
}

/// Makes the socket, before anybody is told that the hub serves: who asks from then on is heard. Where it cannot be made, the
/// hub goes on without.
pub(super) fn bind(dir: &Path) -> Option<UnixListener> {
    let path = dir.join(SOCKET_FILE);
    // The lock on the database says that no other hub is here: one that is left is of a hub that has ended.
    let _ = std::fs::remove_file(&path);
    let bound = UnixListener::bind(&path).and_then(|l| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map(|()| l));
    let told = |error: &std::io::Error| {
        tracing::warn!(%error, path = %path.display(), "there is no socket for `hearthkey backup`: use the page, or stop the hub first");
    };
    bound.inspect_err(told).ok()
}

/// Serves the socket until `shutdown`.
pub(super) async fn serve(listener: UnixListener, dir: &Path, service: Arc<Service>, shutdown: CancellationToken) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = open.join_next(), if !open.is_empty() => {}
            accepted = listener.accept(), if open.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => { open.spawn(converse(stream, service.clone())); }
                // Out of descriptors: it passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            },
        }
    }
    open.shutdown().await;
    let _ = std::fs::remove_file(dir.join(SOCKET_FILE));
}

async fn converse(mut stream: UnixStream, service: Arc<Service>) {
    let mut line = Vec::new();
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read.take(LINE_MAX));
    let asked = match tokio::time::timeout(PATIENCE, read.read_until(b'\n', &mut line)).await {
        Ok(Ok(_)) => serde_json::from_slice::<Ask>(&line).map_err(|error| error.to_string()),
        _ => return,
    };
    zeroize::Zeroize::zeroize(&mut line);
    let answer = match asked {
        Err(error) => Err(format!("this hub does not understand what it was asked ({error}): use the same version of the program")),
        Ok(Ask::SetBackups(new)) => service.set_backups_by_console(*new).await.map(|()| json!({})).map_err(|e| e.to_string()),
        Ok(Ask::ShowBackups) => shown(&service).map_err(|e| e.to_string()),
        Ok(Ask::Rehearsed { hub, result }) => {
            service.rehearsed_by_console(hub, *result).await.map(|()| json!({})).map_err(|e| e.to_string())
        }
        Ok(Ask::CreateBackup { full }) => match service.order_backup_by_console(full) {
            Err(refusal) => Err(refusal.to_string()),
            Ok(mut run) => loop {
                let now = run.borrow_and_update().clone();
                if let (false, Some(outcome)) = (now.running, &now.outcome) {
                    break match outcome {
                        BackupOutcome::Failed { detail } => Err(detail.clone()),
                        good @ BackupOutcome::Good { .. } => serde_json::to_value(good).map_err(|e| e.to_string()),
                    };
                }
                let told = format!("{}\n", json!({"rows": now.rows}));
                // Nobody listens any more, or the hub stops: the backup goes on without.
                if write.write_all(told.as_bytes()).await.is_err() || run.changed().await.is_err() {
                    return;
                }
            },
        },
    };
    let last = match answer {
        Ok(value) => json!({"done": true, "value": value}),
        Err(error) => json!({"done": true, "error": error}),
    };
    let _ = write.write_all(format!("{last}\n").as_bytes()).await;
}

fn shown(service: &Service) -> Result<Value, Refusal> {
    serde_json::to_value(service.backups(&Actor::console())?).map_err(|e| Refusal::Conflict(e.to_string()))
}

/// Asks the hub that runs in `dir`; `told` gets each line on the way. `None` when none runs there.
///
/// # Errors
/// What the hub says.
pub async fn ask_running(dir: &Path, ask: &Ask, mut told: impl FnMut(&Value)) -> Option<Result<Value, String>> {
    let mut stream = UnixStream::connect(dir.join(SOCKET_FILE)).await.ok()?;
    let broke = |e: std::io::Error| format!("the hub does not answer any more ({e}): look into its log");
    let line = match serde_json::to_string(ask) {
        Ok(line) => zeroize::Zeroizing::new(format!("{line}\n")),
        Err(error) => return Some(Err(error.to_string())),
    };
    if let Err(error) = stream.write_all(line.as_bytes()).await {
        return Some(Err(broke(error)));
    }
    let mut lines = BufReader::new(stream).lines();
    loop {
        match lines.next_line().await {
            Ok(Some(line)) => {
                let mut said: Value = serde_json::from_str(&line).unwrap_or_default();
                if said.get("done").is_none() {
                    told(&said);
                } else if let Some(error) = said.get("error").and_then(Value::as_str) {
                    return Some(Err(error.to_owned()));
                } else {
                    return Some(Ok(said.get_mut("value").map(Value::take).unwrap_or_default()));
                }
            }
            Ok(None) => return Some(Err("the hub was stopped meanwhile; nothing half-made is left".into())),
            Err(error) => return Some(Err(broke(error))),
        }
    }
}
