//! Looking into the audit from outside a running hub: of a hub that is stopped, or of a file that was exported.

use super::opening::{Opened, open_stopped};
use super::{Config, StartError};
use crate::domain::audit::chain::Verdict;
use crate::domain::audit::export::{FileError, FileVerdict, FileVerifier, LINE_MAX};
use crate::service::{self, AuditLines, Refusal};
use crate::store::Store;
use std::io::{BufRead, Read, Write};

/// Why a file was not checked to its end, or an export not written to its end.
#[derive(Debug, thiserror::Error)]
pub enum AuditFileError {
    /// It does not hold.
    #[error(transparent)]
    File(#[from] FileError),
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The hub.
    #[error(transparent)]
    Hub(#[from] StartError),
}

/// Checks the audit of a hub that is stopped.
///
/// # Errors
/// [`StartError`]: there is no hub, it is running, or [`StartError::Service`] with the first entry that does not hold.
pub async fn verify_audit(config: &Config) -> Result<Verdict, StartError> {
    looking(config, |store| Ok(service::verify_audit(store)?)).await
}

/// Writes the whole audit of a hub that is stopped to `out`, as JSON Lines.
///
/// # Errors
/// [`AuditFileError`].
pub async fn export_audit<W: Write + Send + 'static>(config: &Config, mut out: W) -> Result<(), AuditFileError> {
    let Opened { store, clock } = open_stopped(config).await?;
    let (read, now) = (store.clone(), clock.now_ms());
    let written = tokio::task::spawn_blocking(move || {
        let mut lines = AuditLines::of(&read, now).map_err(StartError::from)?;
        while let Some(block) = read.read(|v| lines.next(v)).map_err(|e| StartError::from(Refusal::from(e)))? {
            out.write_all(&block)?;
        }
        Ok(out.flush()?)
    })
    .await;
    store.close().await;
    written.map_err(|_| fault())?
}

/// Checks a file that was exported, without a hub and in constant memory.
///
/// # Errors
/// [`AuditFileError`] with the first line that does not hold.
pub fn verify_audit_file(mut file: impl BufRead) -> Result<FileVerdict, AuditFileError> {
    let (mut verifier, mut line) = (FileVerifier::default(), String::new());
    loop {
        line.clear();
        // One that is longer breaks off, and is no line then.
        if (&mut file).take(LINE_MAX as u64).read_line(&mut line)? == 0 {
            return Ok(verifier.finish()?);
        }
        verifier.line(&line)?;
    }
}

async fn looking<T: Send + 'static>(
    config: &Config,
    look: impl FnOnce(&Store) -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    let Opened { store, .. } = open_stopped(config).await?;
    let read = store.clone();
    let seen = tokio::task::spawn_blocking(move || look(&read)).await;
    store.close().await;
    seen.map_err(|_| fault())?
}

fn fault() -> StartError {
    StartError::Setting("looking into the audit met a fault of this program: please report it")
}
