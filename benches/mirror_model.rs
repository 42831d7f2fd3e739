//! The mirror through thousands of partitions: what is in force though it was ended, and whether hub and cloud say the same,
//! with the rules of the protocol and with what they are there to prevent. No time is measured.
//!
//! `cargo bench --bench mirror_model [-- --partitions 10000 --seed 1]`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a model stops at the first surprise, and prints a table"
)]

#[path = "../tests/it/mirror_model/replica.rs"]
mod replica;
#[path = "../tests/it/mirror_model/sides.rs"]
mod sides;
#[path = "../tests/it/mirror_model/world.rs"]
mod world;

use replica::Rules;
use world::{Plan, Restore, run};

fn number(name: &str, otherwise: u64) -> u64 {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1).map_or(otherwise, |word| word.parse().expect("a number"))
}

fn main() {
    let (partitions, seed) = (number("--partitions", 10_000), number("--seed", 20_261_129));
    println!("seed {seed}, {partitions} partitions each\n");
    println!(
        "| | Revocations | Restores | Revoked but in force | Digests differed (partitions) | Still disagree (partitions) | Lost | Gone with a broken hub | Told to a replaced hub |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    let same = |journal, marks_again| Restore::SameEpoch { journal, marks_again };
    for (name, rules, restore) in [
        ("marks", Rules::Marks, Restore::Never),
        ("marks, hub replaced under a new epoch", Rules::Marks, Restore::NewEpoch),
        ("marks, rolled back under the same epoch", Rules::Marks, same(false, false)),
        ("the same, with its journal", Rules::Marks, same(true, false)),
        ("the same without, and all marks told again when digests differ", Rules::Marks, same(false, true)),
        ("no marks: the last write wins, by its time", Rules::LastWriteWins, Restore::Never),
        ("marks that also write into the row", Rules::Restamp, Restore::Never),
    ] {
        let f = run(seed, partitions, Plan { rules, restore });
        assert_eq!((f.seed, f.partitions), (seed, partitions));
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
            f.revocations, f.restores, f.resurrected, f.differed, f.disagreed, f.lost, f.gone_with_a_broken_hub, f.told_to_a_replaced_hub
        );
    }
}
