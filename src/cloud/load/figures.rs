//! What a load came to.

use super::Turn;
use super::line::Bytes;
use super::processes::Used;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A part of a load.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// By how many hubs at the same time.
    pub at_a_time: usize,
    /// How long it took, s.
    pub seconds: f64,
    /// Turns that succeeded: links, streams or syncs.
    pub turns: usize,
    /// Of these, a second.
    pub per_second: f64,
    /// Rows that were taken.
    pub rows: usize,
    /// Marks that were taken.
    pub marks: usize,
    /// Bytes of bodies, to the cloud and from it.
    pub bytes: (u64, u64),
    /// Bytes of headers as text, to the cloud and from it; HTTP/2 sends fewer.
    pub header_bytes: (u64, u64),
    /// How long half of the turns took at most, 99 of 100, and the slowest, ms.
    pub latency_ms: (f64, f64, f64),
    /// Calls that were made again.
    pub again: u64,
    /// Turns that failed, by why.
    pub errors: BTreeMap<String, usize>,
    /// What the processes used.
    pub used: Vec<Used>,
}

/// A load.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Its parts, in their order.
    pub phases: Vec<Phase>,
    /// Whether it was ended before its end.
    pub stopped: bool,
}

impl Report {
    /// Turns that failed.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.phases.iter().flat_map(|phase| phase.errors.values()).sum()
    }
}

#[derive(Default)]
pub(super) struct Tally {
    took: Vec<Duration>,
    rows: usize,
    marks: usize,
    up: Bytes,
    down: Bytes,
    again: u64,
    errors: BTreeMap<String, usize>,
}

impl Tally {
    pub(super) fn add(&mut self, turn: Turn) {
        self.again += u64::from(turn.again);
        if let Some(why) = turn.failed {
            *self.errors.entry(why).or_default() += 1;
            return;
        }
        self.took.push(turn.took);
        self.rows += turn.rows;
        self.marks += turn.marks;
        self.up += turn.up;
        self.down += turn.down;
    }

    pub(super) fn phase(mut self, name: &str, at_a_time: usize, took: Duration, used: Vec<Used>) -> Phase {
        self.took.sort_unstable();
        let seconds = took.as_secs_f64();
        Phase {
            name: name.to_owned(),
            at_a_time,
            seconds,
            turns: self.took.len(),
            per_second: if seconds > 0.0 { self.took.len() as f64 / seconds } else { 0.0 },
            rows: self.rows,
            marks: self.marks,
            bytes: (self.up.body, self.down.body),
            header_bytes: (self.up.headers, self.down.headers),
            latency_ms: (part(&self.took, 50), part(&self.took, 99), part(&self.took, 100)),
            again: self.again,
            errors: self.errors,
            used,
        }
    }
}

/// The greatest of the first `percent` of sorted times, ms.
fn part(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
}

impl Phase {
    /// The heads of the table.
    pub const HEAD: &'static str = "| phase | done | a second | rows a second | bytes a row, up | down | p50 | p99 | slowest | again | errors | CPU of 1,000 (memory) |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|";
}

impl fmt::Display for Phase {
    /// A line of the table. Bytes a row are those of bodies and headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = |bytes: u64| if self.rows == 0 { "–".to_owned() } else { format!("{:.0}", bytes as f64 / self.rows as f64) };
        let (p50, p99, slowest) = self.latency_ms;
        write!(
            f,
            "| {} | {} | {:.0} | {:.0} | {} | {} | {p50:.1} ms | {p99:.1} ms | {slowest:.0} ms | {} | {} | ",
            self.name,
            self.turns,
            self.per_second,
            if self.seconds > 0.0 { self.rows as f64 / self.seconds } else { 0.0 },
            each(self.bytes.0 + self.header_bytes.0),
            each(self.bytes.1 + self.header_bytes.1),
            self.again,
            self.errors.values().sum::<usize>(),
        )?;
        for (index, used) in self.used.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let each = if self.turns == 0 { 0.0 } else { used.cpu_s * 1000.0 / self.turns as f64 };
            write!(f, "{comma}{} {each:.2} s ({} MB)", used.name, used.memory / 1_000_000)?;
        }
        f.write_str(" |")?;
        for (why, times) in &self.errors {
            write!(f, "\n| | {times} × {why} | | | | | | | | | | |")?;
        }
        Ok(())
    }
}
