//! The box: files that may be open, memory, randomness.

use super::{Finding, Severity};
use std::fs;

/// Open files that a hub of a full house needs.
const FILES: u64 = 8_192;
/// Free memory below which it is worth knowing, in kB.
const LITTLE_KB: u64 = 48 * 1024;

pub(super) fn look() -> Vec<Finding> {
    vec![files(), memory(), randomness()]
}

fn files() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(limit) if limit < FILES => Finding::new(
            "open_files",
            Severity::Warning,
            format!("a process may have {limit} files open; each connection is one"),
            format!("Set LimitNOFILE={FILES} in the service's unit, or run `ulimit -n {FILES}` before the hub."),
        ),
        Some(limit) => Finding::ok("open_files", format!("a process may have {limit} files open")),
        None => Finding::ok("open_files", "a process may have any number of files open"),
    }
}

fn memory() -> Finding {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    match available {
        Some(kb) if kb < LITTLE_KB => Finding::new(
            "memory",
            Severity::Warning,
            format!("{} MB of memory are free", kb / 1024),
            "Stop what else runs on the box: the system ends a process when memory runs out, and that may be the hub.",
        ),
        Some(kb) => Finding::ok("memory", format!("{} MB of memory are free", kb / 1024)),
        None => Finding::new("memory", Severity::Note, "the system does not say what memory is free", "Nothing."),
    }
}

fn randomness() -> Finding {
    let mut bytes = [0; 32];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Finding::ok("randomness", "the system gives random bytes"),
        Err(error) => Finding::new(
            "randomness",
            Severity::Error,
            format!("the system gives no random bytes: {error}"),
            "Without them no key can be made: look at the kernel's log.",
        ),
    }
}
