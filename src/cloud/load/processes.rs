//! Processor time and memory of processes and all that they have started, as Linux tells it in `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Ticks of a second in which Linux counts processor time, whatever it works with itself.
const TICKS: f64 = 100.0;

/// A process that is looked at, with all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// What it is called in the table.
    pub name: String,
    /// Its number.
    pub pid: u32,
}

impl Process {
    /// Reads `name=pid`.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str) -> Result<Process, String> {
        let read = text.split_once('=').and_then(|(name, pid)| Some((name.to_owned(), pid.parse().ok()?)));
        read.map(|(name, pid)| Process { name, pid }).ok_or_else(|| "write it as <name>=<process id>".to_owned())
    }
}

/// What processes of one name have used in a phase.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Used {
    /// The name.
    pub name: String,
    /// Processor time, s.
    pub cpu_s: f64,
    /// Memory that is theirs alone, at the end, in bytes.
    pub memory: u64,
}

/// By name: processor time since they began in s, and memory.
pub(super) type Seen = BTreeMap<String, (f64, u64)>;

/// This process itself is among them, as `load`.
pub(super) fn look(processes: &[Process]) -> Seen {
    let children = children();
    let mut seen = Seen::new();
    let own = Process { name: "load".to_owned(), pid: std::process::id() };
    for process in processes.iter().chain([&own]) {
        let (mut open, mut known) = (vec![process.pid], BTreeSet::new());
        while let Some(pid) = open.pop() {
            if !known.insert(pid) {
                continue;
            }
            open.extend(children.get(&pid).into_iter().flatten().copied());
            let place = seen.entry(process.name.clone()).or_default();
            place.0 += cpu(pid).unwrap_or(0.0);
            place.1 += memory(pid).unwrap_or(0);
        }
    }
    seen
}

/// The difference of two looks, in the order in which processes were named.
pub(super) fn used(processes: &[Process], before: &Seen, after: &Seen) -> Vec<Used> {
    let mut names: Vec<&str> = Vec::new();
    for name in processes.iter().map(|process| process.name.as_str()).chain(["load"]) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let used = |name: &str| {
        let (end, memory) = after.get(name).copied()?;
        let begin = before.get(name).map_or(0.0, |seen| seen.0);
        Some(Used { name: name.to_owned(), cpu_s: (end - begin).max(0.0), memory })
    };
    names.into_iter().filter_map(used).collect()
}

/// The fields after the name, which is in parentheses and may hold anything.
fn fields(pid: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

/// In user and system mode, of children that have ended too.
fn cpu(pid: u32) -> Option<f64> {
    let fields = fields(&pid.to_string())?;
    let ticks: u64 = fields.get(11..15)?.iter().sum();
    Some(ticks as f64 / TICKS)
}

fn memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let member = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    // What several processes share, as those of PostgreSQL do, counts once in all.
    Some(member("Pss:")? * 1024)
}

fn children() -> BTreeMap<u32, Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((name, pid)) = name.to_str().and_then(|name| Some((name, name.parse::<u32>().ok()?))) else { continue };
        let parent = fields(name).and_then(|fields| u32::try_from(*fields.get(1)?).ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}
