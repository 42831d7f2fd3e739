//! The data directory: whose it is, what room it has, the key and the database in it.

use super::super::opening::STORE_FILE;
use super::super::{Config, HealthReport};
use super::{Finding, Severity};
use crate::store::{Look, SCHEMA_VERSION, Store};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Free bytes below which the hub may stop soon, and below which it is worth knowing.
const SCARCE: u64 = 64 * 1024 * 1024;
const LITTLE: u64 = 512 * 1024 * 1024;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let dir = config.data_dir.as_path();
    let shown = dir.display();
    let Ok(found) = dir.metadata() else {
        return vec![Finding::new(
            "data_dir",
            Severity::Note,
            format!("{shown} is not there yet"),
            "It is made at the first start. If the hub has run before, name its directory with --data-dir.",
        )];
    };
    let mut all = vec![if !found.is_dir() {
        Finding::new("data_dir", Severity::Error, format!("{shown} is no directory"), "Choose a directory with --data-dir.")
    } else if found.permissions().mode() & 0o077 != 0 {
        Finding::new("data_dir", Severity::Warning, format!("{shown} can be looked into by others"), format!("Run `chmod 700 {shown}`."))
    } else {
        Finding::ok("data_dir", format!("{shown} is the hub's alone"))
    }];
    all.push(owner(dir, found.uid()));
    all.push(key(config));
    all.push(room(dir));
    all
}

fn owner(dir: &Path, uid: u32) -> Finding {
    let me = rustix::process::geteuid().as_raw();
    if me == uid || me == 0 {
        return Finding::ok("owner", format!("{} belongs to user {uid}", dir.display()));
    }
    let fix = format!("Run this as the hub's user, or give the directory to it: `chown -R <user> {}`.", dir.display());
    Finding::new("owner", Severity::Warning, format!("{} belongs to user {uid}, and this is user {me}", dir.display()), fix)
}

fn key(config: &Config) -> Finding {
    let given = config.credentials_dir.as_ref().map(|dir| dir.join("master.key")).filter(|path| path.exists());
    let path = given.clone().unwrap_or_else(|| config.data_dir.join("master.key"));
    let shown = path.display();
    let is_new = !config.data_dir.join(STORE_FILE).exists();
    match path.metadata() {
        Err(_) if is_new => Finding::new("master_key", Severity::Note, "there is no master key yet", "It is made at the first start."),
        Err(error) => Finding::new(
            "master_key",
            Severity::Error,
            format!("{shown}: {error}, and the database was sealed under it"),
            "Put the file back where it was, or restore a backup.",
        ),
        Ok(found) if found.len() != 32 => Finding::new(
            "master_key",
            Severity::Error,
            format!("{shown} has {} bytes, and a key has 32", found.len()),
            "Put the right file back, or restore a backup.",
        ),
        Ok(found) if given.is_none() && found.permissions().mode() & 0o077 != 0 => {
            Finding::new("master_key", Severity::Error, format!("{shown} can be read by others"), format!("Run `chmod 600 {shown}`."))
        }
        Ok(_) => Finding::ok("master_key", format!("{shown} is there, for its owner alone")),
    }
}

fn room(dir: &Path) -> Finding {
    let Ok(found) = rustix::fs::statvfs(dir) else {
        return Finding::new("disk", Severity::Warning, "the disk does not say what room it has", "Look at the log of the system.");
    };
    if found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        let fix =
            "The file system was mounted read-only, or became so by a fault of the disk: look at `dmesg`, check the disk, mount it again.";
        return Finding::new("disk", Severity::Error, format!("{} cannot be written", dir.display()), fix);
    }
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let said = format!("{} MB free at {}", free / 1_000_000, dir.display());
    let fix = "Make room: old backups, logs, the cache of firmware. Without room the hub can write nothing down, and stops.";
    if found.f_files > 0 && found.f_favail == 0 {
        return Finding::new("disk", Severity::Error, format!("{said}, and no more files can be made (no free inodes)"), fix);
    }
    match free {
        0..SCARCE => Finding::new("disk", Severity::Error, said, fix),
        SCARCE..LITTLE => Finding::new("disk", Severity::Warning, said, fix),
        _ => Finding::ok("disk", said),
    }
}

/// The database: of a hub that runs, what it says; of one that is stopped, what can be seen without writing.
pub(super) async fn database(config: &Config, report: Option<&HealthReport>) -> Finding {
    if let Some(report) = report {
        let said = format!("open, layout {}", report.layout);
        return match &report.problem {
            Some(problem) if problem.contains("database") => Finding::new(
                "database",
                Severity::Error,
                problem.clone(),
                "Look at the log and the health of the disk; restart the hub, or restore a backup.",
            ),
            _ => Finding::ok("database", said),
        };
    }
    let path = config.data_dir.join(STORE_FILE);
    let shown = path.display().to_string();
    let looked = tokio::task::spawn_blocking(move || Store::look_at(&path)).await.unwrap_or(Look::Damaged("the look at it broke".into()));
    match looked {
        Look::None => Finding::new("database", Severity::Note, format!("{shown} is not there yet"), "It is made at the first start."),
        Look::Layout(layout) if layout > SCHEMA_VERSION => Finding::new(
            "database",
            Severity::Error,
            format!("{shown} has layout {layout}, this program knows up to {SCHEMA_VERSION}"),
            "Install the newer version of the hub again.",
        ),
        Look::Layout(layout) => Finding::ok("database", format!("{shown} is closed and whole, layout {layout}")),
        Look::Open => Finding::new(
            "database",
            Severity::Warning,
            format!("{shown} is held by another process, which does not answer"),
            "If a hub is starting, wait for it. Otherwise find the process with `fuser` and end it.",
        ),
        Look::NotClosed => Finding::new(
            "database",
            Severity::Note,
            format!("{shown} was not closed, as after a power cut"),
            "Nothing: it is repaired and checked at the next start.",
        ),
        Look::Damaged(why) => Finding::new(
            "database",
            Severity::Error,
            format!("{shown} cannot be read: {why}"),
            "Move it away, and restore the newest good backup.",
        ),
    }
}
