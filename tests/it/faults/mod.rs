//! What happens to boxes: sudden deaths in the midst of everything, full disks, disks that can only be read, clocks that are
//! wrong by decades, no descriptors, no radio. The hub keeps deciding, says what is wrong, and loses nothing it has acknowledged.
//! The table in `docs/reliability.md` has a row for each.
//!
//! `FAULT_SEED` repeats a plan, `FAULT_ROUNDS` says how many rounds there are (`tests/system/faults.sh` has many). The plan is the seed's;
//! how the programs' threads meet it is not.

mod clocks;
mod deaths;
mod disks;
mod limits;
mod recoveries;
mod restores;
pub mod rig;
mod updates;

use crate::partitions::chance::Chance;

#[expect(clippy::disallowed_methods, reason = "how long a test runs, and which plan it has, is no configuration of the hub")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

/// How many rounds: few, unless somebody wants many.
pub fn rounds(few: u64) -> u64 {
    number("FAULT_ROUNDS").unwrap_or(few)
}

/// Chance by the seed, which is told.
pub fn chance() -> Chance {
    let seed = number("FAULT_SEED").unwrap_or_else(|| getrandom::u64().unwrap() >> 16);
    tell(&format!("FAULT_SEED={seed}"));
    Chance::new(seed)
}

#[expect(clippy::print_stderr, reason = "by this it can be run again")]
pub fn tell(what: &str) {
    eprintln!("{what}");
}
