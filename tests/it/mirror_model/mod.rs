//! A household and its cloud through partitions, restores and lying clocks, thousands of times, against a naive reference
//! that sees every event in its true order and knows each grant by a number of its own: when the two can talk again, nothing
//! that either side has ended is in force on either side, both say the same, and nothing that was promised is lost.
//!
//! `cargo bench --bench mirror_model` runs it longer and prints a table.

mod replica;
mod sides;
mod world;

use replica::Rules;
use world::{Figures, Plan, Restore, run};

const SEED: u64 = 20_261_129;

fn partitions(count: u64, plan: Plan) -> Figures {
    let figures = run(SEED, count, plan);
    assert!(figures.seed == SEED && figures.revocations > count, "the model has to do something: {figures:?}");
    figures
}

#[test]
fn nothing_revoked_is_in_force_after_a_partition_and_both_sides_agree() {
    let figures = partitions(120, Plan { rules: Rules::Marks, restore: Restore::Never });
    assert_eq!((figures.resurrected, figures.differed, figures.disagreed, figures.lost), (0, 0, 0, 0), "{figures:?}");
}

#[test]
fn a_hub_that_replaces_another_under_a_new_epoch_brings_nothing_back() {
    let figures = partitions(120, Plan { rules: Rules::Marks, restore: Restore::NewEpoch });
    assert!(figures.restores > 80 && figures.told_to_a_replaced_hub > 0, "{figures:?}");
    assert_eq!((figures.resurrected, figures.differed, figures.disagreed, figures.lost), (0, 0, 0, 0), "{figures:?}");
}

#[test]
fn a_roll_back_with_its_journal_or_with_all_marks_told_again_brings_nothing_back() {
    for (journal, marks_again) in [(true, false), (false, true)] {
        let figures = partitions(30, Plan { rules: Rules::Marks, restore: Restore::SameEpoch { journal, marks_again } });
        assert_eq!((figures.resurrected, figures.disagreed), (0, 0), "{figures:?}");
    }
}

#[test]
fn the_check_finds_what_marks_and_epochs_prevent() {
    let figures = partitions(30, Plan { rules: Rules::LastWriteWins, restore: Restore::Never });
    assert!(figures.resurrected > 0, "by the time of the last write: {figures:?}");
    let figures = partitions(30, Plan { rules: Rules::Restamp, restore: Restore::Never });
    assert!(figures.differed > 0, "marks that write into rows: {figures:?}");
    let figures = partitions(30, Plan { rules: Rules::Marks, restore: Restore::SameEpoch { journal: false, marks_again: false } });
    assert!(figures.resurrected > 0 && figures.disagreed > 0, "the same epoch again: {figures:?}");
}
