//! How fast the hub calls its cloud: the pause after a failure, and how many bytes a day may take.

use std::time::Duration;

/// Upper bound of the first pause.
const FIRST: Duration = Duration::from_secs(1);
/// Upper bound of every pause that the hub chooses.
pub(super) const MOST: Duration = Duration::from_secs(15 * 60);
/// Longest pause that the cloud may ask for with `Retry-After`.
pub(super) const ASKED_MOST: Duration = Duration::from_secs(60 * 60);

/// Pauses between attempts: exponential with full jitter, so that a million hubs whose cloud was away do not come back
/// at once; reset by a success.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next attempt is the first again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Attempts that have failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// How long to wait after a failure: a share `random / 2^64` of the bound of this attempt, after what was asked for.
    pub(super) fn pause(&mut self, random: u64, asked: Option<Duration>) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(10)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        let asked = asked.unwrap_or_default().min(ASKED_MOST);
        asked.saturating_add(share(bound, random))
    }
}

/// A share `random / 2^64` of a duration.
pub(super) fn share(of: Duration, random: u64) -> Duration {
    let ms = (of.as_millis() * u128::from(random)) >> 64;
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// What `Retry-After` asks for (RFC 9110 §10.2.3): seconds, or a date, which is read against the `now_s` of whoever
/// answered. `None` when it says nothing that can be read.
pub(super) fn retry_after(value: &str, now_s: Option<u64>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(ASKED_MOST));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_second();
    let left = u64::try_from(date).ok()?.saturating_sub(now_s?);
    Some(Duration::from_secs(left).min(ASKED_MOST))
}

/// What a day may take, in bytes, both ways together. A day begins with the hub's start, and lasts 24 hours by a clock
/// that only ever grows: no jump of the time makes a new one.
#[derive(Debug)]
pub(super) struct Budget {
    most: u64,
    day: u64,
    used: u64,
}

impl Budget {
    /// A budget of `most` bytes a day.
    pub(super) fn new(most: u64) -> Budget {
        Budget { most, day: 0, used: 0 }
    }

    /// Counts bytes that went over the line, at `since_start`.
    pub(super) fn spend(&mut self, since_start: Duration, bytes: u64) {
        self.turn(since_start);
        self.used = self.used.saturating_add(bytes);
    }

    /// Bytes that the day still has.
    pub(super) fn left(&mut self, since_start: Duration) -> u64 {
        self.turn(since_start);
        self.most.saturating_sub(self.used)
    }

    fn turn(&mut self, since_start: Duration) {
        let day = since_start.as_secs() / 86_400;
        if day != self.day {
            (self.day, self.used) = (day, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pause_lies_between_nothing_and_its_bound_and_the_bound_grows_to_its_end(randoms in prop::collection::vec(any::<u64>(), 1..40)) {
            let mut backoff = Backoff::default();
            for (n, random) in randoms.into_iter().enumerate() {
                let bound = Duration::from_secs(1u64 << n.min(10)).min(MOST);
                prop_assert!(backoff.pause(random, None) <= bound);
            }
        }

        #[test]
        fn what_the_cloud_asks_for_is_waited_at_least_and_at_most_an_hour_more_than_nothing(random: u64, asked in 0u64..100_000) {
            let pause = Backoff::default().pause(random, Some(Duration::from_secs(asked)));
            prop_assert!(pause >= Duration::from_secs(asked).min(ASKED_MOST));
            prop_assert!(pause <= ASKED_MOST + FIRST);
        }

        #[test]
        fn whatever_retry_after_says_it_is_bounded(value in ".{0,40}", now: Option<u64>) {
            prop_assert!(retry_after(&value, now).is_none_or(|d| d <= ASKED_MOST));
        }
    }

    #[test]
    fn the_jitter_is_full_and_a_success_begins_anew() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(0, None), Duration::ZERO);
        assert_eq!(backoff.pause(u64::MAX, None), Duration::from_millis(1_999));
        for _ in 0..100 {
            backoff.pause(0, None);
        }
        assert_eq!(backoff.pause(u64::MAX, None).as_secs(), MOST.as_secs() - 1);
        backoff.reset();
        assert_eq!((backoff.failures(), backoff.pause(1 << 63, None)), (0, Duration::from_millis(500)));
    }

    #[test]
    fn retry_after_is_read_in_both_its_forms() {
        assert_eq!(retry_after(" 17 ", None), Some(Duration::from_secs(17)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777 - 30)), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777 + 30)), Some(Duration::ZERO));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", None), None);
        assert_eq!(retry_after("soon", Some(0)), None);
        assert_eq!(retry_after("-1", Some(0)), None);
    }

    #[test]
    fn a_day_has_its_bytes_and_the_next_one_has_them_again() {
        let hours = |h: u64| Duration::from_secs(h * 3_600);
        let mut budget = Budget::new(100);
        budget.spend(hours(1), 60);
        assert_eq!(budget.left(hours(2)), 40);
        budget.spend(hours(23), 60);
        assert_eq!(budget.left(hours(23)), 0);
        assert_eq!(budget.left(hours(24)), 100);
    }
}
