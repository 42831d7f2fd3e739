//! What two hubs that claim one device come to. The cloud is a witness: it takes nothing away, and tells both houses.
//!
//! The first claim stands. A claim by another hub whose reset counter is proven and higher than any known of the first is a
//! transfer, since the device itself has signed that it was reset by hand. Everything else is a conflict: one of the two
//! things is a copy, or one of the two hubs has not told the truth, and people must look.

/// A claim as the ledger has it, or as a hub reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim<H> {
    /// By which hub.
    pub hub: H,
    /// The device's reset counter, if the hub has it proven by the device's key.
    pub resets: Option<u64>,
}

/// What a report does to the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody held it: the ledger takes it.
    First,
    /// The holder says so again; the ledger takes the higher counter.
    Again,
    /// It was reset since and belongs to the other house now: the ledger takes it, and the first house is told.
    Transfer,
    /// Both claim it: the ledger stays, and both are told.
    Conflict,
}

/// Compares what a hub reports with what stands in the ledger.
pub fn judge<H: PartialEq>(held: Option<&Claim<H>>, reported: &Claim<H>) -> Verdict {
    let Some(held) = held else { return Verdict::First };
    if held.hub == reported.hub {
        return Verdict::Again;
    }
    // A counter that the first never heard of is as low as one can be.
    match reported.resets {
        Some(resets) if resets > held.resets.unwrap_or(0) => Verdict::Transfer,
        _ => Verdict::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(hub: u8, resets: Option<u64>) -> Claim<u8> {
        Claim { hub, resets }
    }

    #[test]
    fn the_first_claim_stands_unless_the_device_was_reset_since() {
        assert_eq!(judge(None, &claim(1, None)), Verdict::First);
        assert_eq!(judge(Some(&claim(1, Some(3))), &claim(1, Some(2))), Verdict::Again);
        assert_eq!(judge(Some(&claim(1, Some(3))), &claim(2, Some(4))), Verdict::Transfer);
        assert_eq!(judge(Some(&claim(1, Some(3))), &claim(2, Some(3))), Verdict::Conflict);
        assert_eq!(judge(Some(&claim(1, Some(3))), &claim(2, None)), Verdict::Conflict, "who has not proved it takes nothing");
        assert_eq!(judge(Some(&claim(1, None)), &claim(2, Some(0))), Verdict::Conflict);
        assert_eq!(judge(Some(&claim(1, None)), &claim(2, Some(1))), Verdict::Transfer);
    }

    proptest! {
        #[test]
        fn of_two_houses_at_most_one_takes_it_from_the_other(a in proptest::option::of(0u64..5), b in proptest::option::of(0u64..5)) {
            let (a, b) = (claim(1, a), claim(2, b));
            prop_assert!(!(judge(Some(&a), &b) == Verdict::Transfer && judge(Some(&b), &a) == Verdict::Transfer));
        }
    }
}
