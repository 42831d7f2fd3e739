//! What the hub does about new versions by itself: when it looks, and whether it installs now what it has found. Pure: what time it is, and chance, are
//! given.

use super::Config;
use crate::domain::time::Grade;

/// The first look after a start comes not before this, in ms.
const FIRST_MS: u64 = 60_000;
/// And within so much of that, in ms: boxes that were switched on together do not all ask at once.
const SPREAD_MS: u64 = 600_000;
const HOUR_MS: u64 = 3_600_000;

/// Whether and when it is time.
#[derive(Debug)]
pub(super) struct Habit {
    /// When the next look is due, by a clock that only ever grows, in ms.
    next: u64,
    /// Whether what was found may be installed: once between two looks, so that what failed is not tried at every second.
    may_install: bool,
}

impl Habit {
    /// From a start at `now`; `chance` is any number.
    pub(super) fn new(now: u64, chance: u32) -> Habit {
        Habit { next: now.saturating_add(FIRST_MS).saturating_add(share(SPREAD_MS, chance)), may_install: true }
    }

    /// Whether it is time to look; the next time is then an interval later, up to a quarter sooner or later.
    pub(super) fn looks(&mut self, now: u64, interval_h: u64, chance: u32) -> bool {
        if now < self.next {
            return false;
        }
        let interval = interval_h.clamp(1, 24 * 365) * HOUR_MS;
        self.next = now.saturating_add(interval * 3 / 4).saturating_add(share(interval / 2, chance));
        true
    }

    /// A look has ended, `well` or not.
    pub(super) fn looked(&mut self, well: bool) {
        self.may_install = well;
    }

    /// Whether to install now what is `wanted`.
    pub(super) fn installs(&mut self, wanted: bool) -> bool {
        let installs = self.may_install && wanted;
        self.may_install &= !installs;
        installs
    }
}

/// Whether a version may be installed by itself at this hour of the home. By a clock that nobody vouches for, only when every hour is one.
pub(super) fn may_install_at(config: &Config, hour: u8, grade: Grade) -> bool {
    let (from, until) = config.window;
    if from == until {
        return true;
    }
    let open = if from < until { (from..until).contains(&hour) } else { hour >= from || hour < until };
    open && grade != Grade::None
}

/// The part `chance / 2^32` of `of`.
fn share(of: u64, chance: u32) -> u64 {
    u64::try_from((u128::from(of) * u128::from(chance)) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn looks_come_within_a_quarter_of_the_interval_and_the_first_one_minutes_after_the_start(
            start in 0u64..1_000_000_000, first: u32, chances in prop::collection::vec(any::<u32>(), 1..20), interval_h in 0u64..100_000,
        ) {
            let mut habit = Habit::new(start, first);
            let mut last = start;
            let (mut least, mut most) = (FIRST_MS, FIRST_MS + SPREAD_MS);
            for chance in chances {
                prop_assert!(!habit.looks(last + least - 1, interval_h, chance), "not before");
                prop_assert!(habit.looks(last + most, interval_h, chance), "not after");
                prop_assert!(!habit.looks(last + most, interval_h, chance), "once");
                last += most;
                let interval = interval_h.clamp(1, 8_760) * HOUR_MS;
                (least, most) = (interval * 3 / 4, interval * 3 / 4 + interval / 2);
            }
        }
    }

    #[test]
    fn what_was_found_is_installed_once_between_two_looks_and_not_after_one_that_failed() {
        let mut habit = Habit::new(0, 0);
        assert!(!habit.installs(false) && habit.installs(true) && !habit.installs(true));
        habit.looked(false);
        assert!(!habit.installs(true));
        habit.looked(true);
        assert!(!habit.installs(false) && habit.installs(true), "its hour may come later");
    }

    #[test]
    fn a_window_may_go_over_midnight_and_does_not_open_by_a_clock_that_nobody_vouches_for() {
        let hours = |window, grade| {
            (0..24).filter(|hour| may_install_at(&Config { window, ..Config::default() }, *hour, grade)).collect::<Vec<u8>>()
        };
        assert_eq!(hours((2, 5), Grade::Ntp), [2, 3, 4]);
        assert_eq!(hours((22, 1), Grade::Ntp), [0, 22, 23]);
        assert_eq!(hours((22, 1), Grade::None), Vec::<u8>::new());
        assert_eq!((hours((7, 7), Grade::Ntp).len(), hours((7, 7), Grade::None).len()), (24, 24));
    }
}
