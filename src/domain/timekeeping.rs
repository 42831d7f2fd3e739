//! What time it is, and how far that can be believed, from those that may know it: the box's own clock, an owner who says
//! it, the household's cloud, which says it in each signed reply, and the floor, which is the newest time that one of these
//! two has ever vouched for. Reading clocks is `hub`'s, keeping the floor `service`'s.
//!
//! The box counts as a witness only while something shows that it is synchronised; otherwise its clock is a guess, which
//! nobody can contradict. Two witnesses that contradict each other leave the time unknown: rights that hold for a time
//! are closed, the others go on. A cloud is a witness like others and no more: it does not overrule an owner. Nothing here
//! sets the box's clock.

use super::time::Grade;

/// No release of this program is older: 2026-01-01T00:00:00Z, in ms since 1970.
pub const EARLIEST_MS: u64 = 1_767_225_600_000;
/// What nobody means who says what time it is: 2100-01-01T00:00:00Z, in ms since 1970.
pub const LATEST_MS: u64 = 4_102_444_800_000;
/// How far two that know the time may differ, in ms.
pub const TOLERANCE_MS: u64 = 120_000;
/// Of how many ms that pass the crystal of a small box may miss one, beside [`TOLERANCE_MS`] (200 ppm).
const DRIFT: u64 = 5_000;

/// What the box says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Its wall clock, ms since 1970.
    pub wall: u64,
    /// Its monotonic clock, ms since the hub's start.
    pub monotonic: u64,
    /// Whether something shows that its wall clock is right.
    pub synchronised: bool,
}

/// Who vouches for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// An owner, in a signed-in browser.
    Owner,
    /// The household's cloud, in a reply that its pinned key has signed over a fresh nonce.
    Cloud,
}

/// What one of them said; of each the last word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The time, ms since 1970.
    pub said: u64,
    /// When it was said, by the monotonic clock.
    pub at: u64,
    /// Who said it.
    pub by: Voice,
}

/// How long a reply may be under way, from the request's first byte to the reply's last, to say what time it is, in ms: it
/// was signed at some moment within that.
pub const ROUND_TRIP_MAX_MS: u64 = 30_000;

impl Word {
    /// The word in a cloud's signed reply: `created_s` as it was signed (s since 1970), `round_trip_ms` from when the request
    /// was sent to when the reply had come, at `monotonic` ms by the monotonic clock. `None` when the reply was under way too
    /// long to say anything, or means a time that nobody means.
    #[must_use]
    pub fn of_reply(created_s: u64, round_trip_ms: u64, monotonic: u64) -> Option<Word> {
        // Signed within a second that is cut off, and half way, give or take the other half.
        let said = created_s.checked_mul(1_000)?.checked_add(500 + round_trip_ms / 2)?;
        let counts = round_trip_ms <= ROUND_TRIP_MAX_MS && (EARLIEST_MS..LATEST_MS).contains(&said);
        counts.then_some(Word { said, at: monotonic, by: Voice::Cloud })
    }

    fn now(&self, monotonic: u64) -> u64 {
        self.said.saturating_add(monotonic.saturating_sub(self.at))
    }

    /// How far it may be off by now, in ms.
    fn tolerance(&self, monotonic: u64) -> u64 {
        TOLERANCE_MS + monotonic.saturating_sub(self.at) / DRIFT
    }

    /// Whether it says the same as another, at `monotonic`.
    fn agrees(&self, other: &Word, monotonic: u64) -> bool {
        self.now(monotonic).abs_diff(other.now(monotonic)) <= self.tolerance(monotonic).max(other.tolerance(monotonic))
    }
}

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// ms since 1970.
    pub now: u64,
    /// How far that can be believed.
    pub grade: Grade,
    /// Whether two that know the time differ.
    pub contradicted: bool,
}

/// The hub's knowledge of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timekeeping {
    /// The newest time that was vouched for, ms since 1970; 0 for none.
    floor: u64,
    /// From where it goes on when the box's clock cannot be right, at the hub's start, ms since 1970.
    resume: u64,
    owner: Option<Word>,
    cloud: Option<Word>,
}

impl Timekeeping {
    /// At the hub's start: with the floor that was kept, and the newest time that the hub has written down (0 for none).
    #[must_use]
    pub fn new(floor: u64, seen: u64) -> Timekeeping {
        Timekeeping { floor, resume: floor.max(seen).max(EARLIEST_MS), owner: None, cloud: None }
    }

    /// What time it is by everything that is known.
    #[must_use]
    pub fn read(&self, seen: Observation) -> Reading {
        let plausible = seen.wall >= EARLIEST_MS && self.reaches_floor(seen.wall);
        // While the box's clock cannot be right, the hub goes on from when it last ran, never from before the floor.
        let guess = if plausible { seen.wall } else { self.resume.saturating_add(seen.monotonic) };
        let unknown = |contradicted| Reading { now: guess, grade: Grade::None, contradicted };
        // The later of two words has drifted less.
        let Some(word) = [self.owner, self.cloud].into_iter().flatten().max_by_key(|word| word.at) else {
            return match (seen.synchronised, plausible) {
                (true, true) => Reading { now: seen.wall, grade: Grade::Ntp, contradicted: false },
                // A clock that is right by its own word and before what an owner vouched for.
                (true, false) => unknown(seen.wall >= EARLIEST_MS),
                (false, _) => unknown(false),
            };
        };
        if let (Some(owner), Some(cloud)) = (&self.owner, &self.cloud)
            && !owner.agrees(cloud, seen.monotonic)
        {
            return unknown(true);
        }
        let told = word.now(seen.monotonic);
        if seen.synchronised {
            // An owner and a box that agree now go over the floor, which an owner once said; a cloud and a box do not.
            let may = self.owner.is_some() || self.reaches_floor(seen.wall);
            let agree = may && told.abs_diff(seen.wall) <= word.tolerance(seen.monotonic);
            return if agree { Reading { now: seen.wall, grade: Grade::Vouched, contradicted: false } } else { unknown(true) };
        }
        if self.reaches_floor(told) { Reading { now: told, grade: Grade::Vouched, contradicted: false } } else { unknown(true) }
    }

    /// The floor after `word`, with `seen` as the box was when it was said. It rises with a word that nothing contradicts. It
    /// sinks only when an owner and a synchronised box agree: then an earlier word was wrong.
    #[must_use]
    pub fn floor_after(&self, word: Word, seen: Observation) -> u64 {
        let agrees = seen.synchronised && word.said.abs_diff(seen.wall) <= TOLERANCE_MS;
        let other = match word.by {
            Voice::Owner => self.cloud,
            Voice::Cloud => self.owner,
        };
        if agrees && word.by == Voice::Owner && !self.reaches_floor(word.said) {
            word.said
        } else if other.is_some_and(|other| !other.agrees(&word, word.at)) {
            self.floor
        } else if agrees || (!seen.synchronised && self.reaches_floor(word.said)) {
            self.floor.max(word.said)
        } else {
            self.floor
        }
    }

    /// Takes a word; of each voice the last one counts.
    pub fn heed(&mut self, word: Word, floor: u64) {
        match word.by {
            Voice::Owner => self.owner = Some(word),
            Voice::Cloud => self.cloud = Some(word),
        }
        self.keep(floor, word.at);
    }

    /// Forgets what one of them said: the cloud is no longer the household's.
    pub fn forget(&mut self, by: Voice) {
        match by {
            Voice::Owner => self.owner = None,
            Voice::Cloud => self.cloud = None,
        }
    }

    /// Takes a floor that was kept, at `monotonic`.
    pub fn keep(&mut self, floor: u64, monotonic: u64) {
        if floor < self.floor {
            // What was wrong is forgotten whole.
            self.resume = floor.saturating_sub(monotonic).max(EARLIEST_MS);
        }
        self.resume = self.resume.max(floor.saturating_sub(monotonic));
        self.floor = floor;
    }

    /// The newest time that was vouched for, ms since 1970; 0 for none.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    fn reaches_floor(&self, time: u64) -> bool {
        time.saturating_add(TOLERANCE_MS) >= self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: u64 = EARLIEST_MS + 30 * 86_400_000;
    const DAY: u64 = 86_400_000;

    fn box_says(wall: u64, monotonic: u64, synchronised: bool) -> Observation {
        Observation { wall, monotonic, synchronised }
    }

    fn told(keeping: &mut Timekeeping, said: u64, seen: Observation) {
        tells(keeping, Voice::Owner, said, seen);
    }

    fn tells(keeping: &mut Timekeeping, by: Voice, said: u64, seen: Observation) {
        let word = Word { said, at: seen.monotonic, by };
        let floor = keeping.floor_after(word, seen);
        keeping.heed(word, floor);
    }

    fn reading(now: u64, grade: Grade, contradicted: bool) -> Reading {
        Reading { now, grade, contradicted }
    }

    #[test]
    fn a_box_that_wakes_in_1970_goes_on_from_when_it_last_ran_and_knows_nothing() {
        let keeping = Timekeeping::new(0, T);
        assert_eq!(keeping.read(box_says(5_000, 7_000, false)), reading(T + 7_000, Grade::None, false));
        assert_eq!(Timekeeping::new(0, 0).read(box_says(0, 1, false)), reading(EARLIEST_MS + 1, Grade::None, false));
        // Something shows that 1970 is right: it is not believed all the same.
        assert_eq!(keeping.read(box_says(5_000, 7_000, true)).grade, Grade::None);
    }

    #[test]
    fn a_clock_that_merely_runs_is_no_witness() {
        let keeping = Timekeeping::new(0, 0);
        assert_eq!(keeping.read(box_says(T, 10, false)), reading(T, Grade::None, false));
        assert_eq!(keeping.read(box_says(T, 10, true)), reading(T, Grade::Ntp, false));
    }

    #[test]
    fn an_owners_word_is_the_time_of_a_box_that_does_not_know_it() {
        let mut keeping = Timekeeping::new(0, 0);
        // A month behind, as after a power cut: a guess is nothing that could be contradicted.
        told(&mut keeping, T, box_says(T - 30 * DAY, 1_000, false));
        assert_eq!(keeping.read(box_says(T - 30 * DAY + 60_000, 61_000, false)), reading(T + 60_000, Grade::Vouched, false));
        assert_eq!(keeping.floor(), T);
        // The network comes, and agrees; or it does not.
        assert_eq!(keeping.read(box_says(T + 60_500, 61_000, true)), reading(T + 60_500, Grade::Vouched, false));
        assert_eq!(keeping.read(box_says(T + 60_000 + DAY, 61_000, true)), reading(T + 60_000 + DAY, Grade::None, true));
    }

    #[test]
    fn a_box_and_an_owner_that_differ_leave_the_time_unknown_until_they_agree() {
        let mut keeping = Timekeeping::new(0, 0);
        told(&mut keeping, T + TOLERANCE_MS + 1, box_says(T, 0, true));
        assert_eq!(keeping.read(box_says(T + 1_000, 1_000, true)), reading(T + 1_000, Grade::None, true));
        assert_eq!(keeping.floor(), 0, "a contradicted word raises nothing");
        told(&mut keeping, T + 2_000 + TOLERANCE_MS, box_says(T + 2_000, 2_000, true));
        assert_eq!(keeping.read(box_says(T + 2_000, 2_000, true)).grade, Grade::Vouched);
    }

    #[test]
    fn a_clock_before_the_floor_is_not_believed_even_when_it_claims_to_be_right() {
        let keeping = Timekeeping::new(T, T - DAY);
        assert_eq!(keeping.read(box_says(T - TOLERANCE_MS, 0, true)).grade, Grade::Ntp);
        assert_eq!(keeping.read(box_says(T - TOLERANCE_MS - 1, 500, true)), reading(T + 500, Grade::None, true));
        assert_eq!(keeping.read(box_says(T - DAY, 500, false)), reading(T + 500, Grade::None, false));
    }

    #[test]
    fn a_word_before_the_floor_counts_only_with_a_box_that_agrees() {
        // Somebody with a clock in the far future vouched.
        let mut keeping = Timekeeping::new(T + 4_000 * DAY, 0);
        told(&mut keeping, T, box_says(T, 100, false));
        assert_eq!(keeping.read(box_says(T, 100, false)), reading(T + 4_000 * DAY + 100, Grade::None, true));
        assert_eq!(keeping.floor(), T + 4_000 * DAY);
        told(&mut keeping, T, box_says(T + 100, 200, true));
        assert_eq!(keeping.read(box_says(T + 100, 200, true)), reading(T + 100, Grade::Vouched, false));
        assert_eq!(keeping.floor(), T);
        // And what it goes on from has come back too.
        assert!(keeping.read(box_says(0, 300, false)).now < T + DAY);
    }

    #[test]
    fn a_clouds_word_is_the_time_of_a_box_that_does_not_know_it_and_an_owner_contradicts_it() {
        let mut keeping = Timekeeping::new(0, 0);
        let wakes = box_says(5_000, 1_000, false);
        tells(&mut keeping, Voice::Cloud, T, wakes);
        assert_eq!(keeping.read(box_says(65_000, 61_000, false)), reading(T + 60_000, Grade::Vouched, false));
        assert_eq!(keeping.floor(), T);
        // An owner who says the same, and one who does not: the last word of each counts.
        told(&mut keeping, T + 60_500, box_says(65_000, 61_000, false));
        assert_eq!(keeping.read(box_says(65_000, 62_000, false)), reading(T + 61_500, Grade::Vouched, false));
        told(&mut keeping, T + DAY, box_says(65_000, 63_000, false));
        assert_eq!(keeping.read(box_says(65_000, 63_000, false)).grade, Grade::None);
        assert!(keeping.read(box_says(T, 63_000, true)).contradicted, "two agree, and one who vouches differs");
        assert_eq!(keeping.floor(), T + 60_500, "a contradicted word raises nothing");
        tells(&mut keeping, Voice::Cloud, T + DAY + 1_000, box_says(65_000, 64_000, false));
        assert_eq!(keeping.read(box_says(65_000, 64_000, false)).grade, Grade::Vouched);
    }

    #[test]
    fn a_cloud_that_is_forgotten_contradicts_nobody() {
        let mut keeping = Timekeeping::new(0, 0);
        tells(&mut keeping, Voice::Cloud, T + DAY, box_says(T, 0, true));
        assert_eq!(keeping.read(box_says(T, 0, true)), reading(T, Grade::None, true));
        keeping.forget(Voice::Cloud);
        assert_eq!(keeping.read(box_says(T, 0, true)), reading(T, Grade::Ntp, false));
    }

    #[test]
    fn a_cloud_never_lowers_the_floor() {
        let mut keeping = Timekeeping::new(T + 4_000 * DAY, 0);
        tells(&mut keeping, Voice::Cloud, T, box_says(T, 100, true));
        assert_eq!(keeping.floor(), T + 4_000 * DAY);
        assert_eq!(keeping.read(box_says(T, 100, true)).grade, Grade::None);
        told(&mut keeping, T, box_says(T, 100, true));
        assert_eq!(keeping.floor(), T);
    }

    #[test]
    fn a_reply_says_the_time_unless_it_was_under_way_too_long() {
        let word = |created, round_trip| Word::of_reply(created, round_trip, 7_000);
        assert_eq!(word(T / 1_000, 300), Some(Word { said: T + 650, at: 7_000, by: Voice::Cloud }));
        assert_eq!(word(T / 1_000, ROUND_TRIP_MAX_MS + 1), None);
        assert_eq!((word(0, 0), word(LATEST_MS / 1_000, 0), word(u64::MAX, 0)), (None, None, None));
    }

    proptest! {
        #[test]
        fn no_time_before_the_floor_is_ever_given_out_unless_two_agree_on_it(
            floor in 0..2 * T, seen in 0..2 * T, wall in 0..2 * T, monotonic in 0..DAY, synchronised: bool,
            said in prop::option::of(EARLIEST_MS..2 * T), cloud in prop::option::of(EARLIEST_MS..2 * T)
        ) {
            let mut keeping = Timekeeping::new(floor, seen);
            let now = box_says(wall, monotonic, synchronised);
            if let Some(cloud) = cloud {
                tells(&mut keeping, Voice::Cloud, cloud, now);
                prop_assert!(keeping.floor() >= floor);
            }
            if let Some(said) = said {
                told(&mut keeping, said, now);
            }
            let read = keeping.read(now);
            let agreed = synchronised && said.is_some_and(|s| s.abs_diff(wall) <= TOLERANCE_MS);
            prop_assert!(agreed || read.now + TOLERANCE_MS >= floor);
            prop_assert!(agreed || keeping.floor() >= floor);
            prop_assert!(!read.contradicted || read.grade == Grade::None);
            prop_assert!(synchronised || read.grade != Grade::Ntp);
            prop_assert!(said.is_some() || cloud.is_some() || read.grade != Grade::Vouched);
            let differ = said.zip(cloud).is_some_and(|(a, b)| a.abs_diff(b) > TOLERANCE_MS);
            prop_assert!(!differ || read.grade == Grade::None);
        }
    }
}
