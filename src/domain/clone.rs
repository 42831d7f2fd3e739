//! Whether two things act as one device: a pure account of connections that were taken over, and what it proves. How the
//! displaced side is asked whether it still lives is the broker's; what is done about a clone, the service's.
//!
//! Addresses, networks and paces prove nothing and are not looked at: a device roams, sits behind the same router as its
//! copy, loses its connection a hundred times an hour. What one device cannot do is answer on a connection after another
//! connection of the same client has been let in that does not share its memory:
//!
//! - **by its counter**: the newcomer had to re-base, so it did not know of the sign-in of the side it displaced, and that
//!   side still answered. A device that lost its flash has started again, and its old connections are dead;
//! - **by its instance**: the two sides of the change have each answered the hub's challenge under the device key with the
//!   number they drew when they were switched on, and the numbers differ, though one side answered when the other was in.
//!
//! One such change may be the fault of a program nobody has thought of; [`REPEATS`] of them are a quarrel.

use std::collections::VecDeque;

/// For how long a change of hands counts, in ms: a slow quarrel is one, too.
pub const WINDOW_MS: u64 = 24 * 60 * 60 * 1000;
/// Proven changes of hands that make a clone.
pub const REPEATS: usize = 2;
/// Changes of hands remembered for one device.
const REMEMBERED: usize = 16;

/// By what a connection was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A fresh counter token: it holds the device key.
    Token {
        /// It was the first after a re-base: the counter was lost, or is another's.
        rebased: bool,
    },
    /// What a claim or an administrator has handed out, and what can be stolen without the key.
    Handed,
}

/// What the displaced side said when it was asked, after the newcomer had been let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastWord {
    /// Nothing: gone, asleep, out of reach.
    Silent,
    /// It answered as any MQTT client does.
    Alive,
    /// It answered the challenge under the device key.
    Proven {
        /// The number it drew when it was switched on.
        instance: [u8; 16],
    },
}

/// A connection that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Its number, different for every sign-in.
    pub number: u64,
    /// By what.
    pub proof: Proof,
}

/// One side has taken the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, in monotonic ms.
    pub at: u64,
    /// Who was displaced.
    pub from: Side,
    /// What it said to it.
    pub last_word: LastWord,
    /// Who came.
    pub by: Side,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A device came back.
    Nothing,
    /// Somebody was displaced who was still there; that is worth a note and proves nothing yet.
    Contested,
    /// A change of hands is proven to be between two things, and it is the first.
    Suspected,
    /// Two things hold the device's key and keep taking its place from each other.
    Clone,
}

/// What is remembered of one device.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    changes: VecDeque<Change>,
}

impl Watch {
    /// Takes note of a change of hands.
    pub fn observe(&mut self, change: Change) -> Verdict {
        if change.last_word == LastWord::Silent {
            return Verdict::Nothing;
        }
        let before = self.proven();
        self.changes.retain(|c| change.at.saturating_sub(c.at) < WINDOW_MS);
        if self.changes.len() >= REMEMBERED {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
        match self.proven() {
            n if n >= REPEATS => Verdict::Clone,
            n if n > before => Verdict::Suspected,
            _ => Verdict::Contested,
        }
    }

    /// Whether nothing remembered counts any more at `now` (monotonic ms).
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        self.changes.back().is_none_or(|c| now.saturating_sub(c.at) >= WINDOW_MS)
    }

    fn proven(&self) -> usize {
        self.changes.iter().filter(|c| is_forked(c) || self.are_two_instances(c)).count()
    }

    fn are_two_instances(&self, change: &Change) -> bool {
        let LastWord::Proven { instance: displaced } = change.last_word else { return false };
        // What the newcomer said when it was displaced in its turn, on the same connection: it was the same thing all along.
        let later = self.changes.iter().filter(|c| c.from.number == change.by.number);
        later.into_iter().any(|c| matches!(c.last_word, LastWord::Proven { instance } if instance != displaced))
    }
}

/// The newcomer's memory lacks the displaced side's sign-in, both hold the key, and the displaced side is alive.
fn is_forked(change: &Change) -> bool {
    let held_the_key = match change.last_word {
        LastWord::Silent => false,
        LastWord::Alive => matches!(change.from.proof, Proof::Token { .. }),
        LastWord::Proven { .. } => true,
    };
    held_the_key && change.by.proof == Proof::Token { rebased: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000;

    /// One thing with a device key (or with a stolen secret alone), as far as the hub can tell.
    #[derive(Clone, Debug)]
    struct Thing {
        has_key: bool,
        /// It answers challenges, besides MQTT itself.
        answers: bool,
        /// It signs in with its identity rather than with its operational secret.
        by_token: bool,
        counter: u64,
        instance: u8,
        boots: u8,
        /// The connections it still listens on, by their numbers.
        listening: Vec<u64>,
    }

    impl Thing {
        fn new(instance: u8) -> Thing {
            Thing { has_key: true, answers: true, by_token: true, counter: 0, instance, boots: 0, listening: Vec::new() }
        }

        fn reboot(&mut self, flash_lost: bool) {
            self.listening.clear();
            self.boots = self.boots.wrapping_add(1);
            if flash_lost {
                self.counter = 0;
            }
        }

        fn last_word(&self, of: u64) -> LastWord {
            let mut instance = [self.boots; 16];
            instance[0] = self.instance;
            match (self.listening.contains(&of), self.has_key && self.answers) {
                (false, _) => LastWord::Silent,
                (true, false) => LastWord::Alive,
                (true, true) => LastWord::Proven { instance },
            }
        }
    }

    /// A hub that serves one client id.
    #[derive(Default)]
    struct Place {
        watch: Watch,
        counter: u64,
        numbers: u64,
        now: u64,
        holder: Option<(usize, Side)>,
        verdicts: Vec<Verdict>,
    }

    impl Place {
        fn sign_in(&mut self, all: &mut [Thing], who: usize) {
            self.numbers += 1;
            let proof = if all[who].has_key && all[who].by_token {
                all[who].counter += 1;
                let rebased = all[who].counter <= self.counter;
                if rebased {
                    all[who].counter = self.counter + 1;
                }
                self.counter = all[who].counter;
                Proof::Token { rebased }
            } else {
                Proof::Handed
            };
            let by = Side { number: self.numbers, proof };
            all[who].listening.push(by.number);
            if let Some((holder, from)) = self.holder.replace((who, by)) {
                let change = Change { at: self.now, from, last_word: all[holder].last_word(from.number), by };
                self.verdicts.push(self.watch.observe(change));
            }
        }

        fn found_a_clone(&self) -> bool {
            self.verdicts.contains(&Verdict::Clone)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// The device connects again and leaves its old connection as it is: it may go on answering there.
        Reconnect {
            forgets_the_old: bool,
        },
        Reboot {
            flash_lost: bool,
        },
        /// Somebody with the stolen operational secret comes.
        Thief {
            answers: bool,
        },
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            any::<bool>().prop_map(|forgets_the_old| Step::Reconnect { forgets_the_old }),
            any::<bool>().prop_map(|flash_lost| Step::Reboot { flash_lost }),
            any::<bool>().prop_map(|answers| Step::Thief { answers }),
            (0..WINDOW_MS).prop_map(Step::Wait),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn one_device_is_never_a_clone_whatever_it_does_and_whoever_lacks_its_key(
            steps in steps(), answers: bool, by_token: bool,
        ) {
            let mut thief = Thing::new(9);
            thief.has_key = false;
            let mut all = [Thing { answers, by_token, ..Thing::new(1) }, thief];
            let mut place = Place::default();
            for step in steps {
                match step {
                    Step::Reconnect { forgets_the_old } => {
                        if forgets_the_old {
                            all[0].listening.clear();
                        }
                        place.sign_in(&mut all, 0);
                    }
                    Step::Reboot { flash_lost } => {
                        all[0].reboot(flash_lost);
                        place.sign_in(&mut all, 0);
                    }
                    Step::Thief { answers } => {
                        if !answers {
                            all[1].listening.clear();
                        }
                        place.sign_in(&mut all, 1);
                    }
                    Step::Wait(ms) => place.now += ms,
                }
                prop_assert!(!place.found_a_clone());
                prop_assert!(place.watch.changes.len() <= REMEMBERED);
            }
        }

        #[test]
        fn two_that_hold_the_key_and_take_the_place_from_each_other_are_found_whatever_their_counters(
            first in 0u64..1_000_000, second in 0u64..1_000_000, pause in 0..WINDOW_MS / 8,
            answers: bool, answer_one: bool, by_token: bool,
        ) {
            // Who has a secret only proves the key by an answer.
            let by_token = by_token || !answers || !answer_one;
            let mut all = [Thing { counter: first, answers, by_token, ..Thing::new(1) },
                           Thing { counter: second, answers: answers && answer_one, by_token, ..Thing::new(2) }];
            let mut place = Place::default();
            for round in 0..6 {
                place.sign_in(&mut all, round % 2);
                place.now += pause;
            }
            prop_assert!(place.found_a_clone(), "{:?}", place.verdicts);
        }
    }

    #[test]
    fn a_quarrel_is_noted_suspected_and_then_found() {
        let mut all = [Thing { by_token: false, ..Thing::new(1) }, Thing { by_token: false, ..Thing::new(2) }];
        let mut place = Place::default();
        for round in 0..4 {
            place.sign_in(&mut all, round % 2);
            place.now += 20 * MINUTE;
        }
        assert_eq!(place.verdicts, [Verdict::Contested, Verdict::Suspected, Verdict::Clone]);
    }

    #[test]
    fn changes_of_hands_a_day_apart_do_not_add_up() {
        let mut all = [Thing { answers: false, ..Thing::new(1) }, Thing { answers: false, ..Thing::new(2) }];
        let mut place = Place::default();
        for round in 0..8 {
            place.sign_in(&mut all, round % 2);
            place.now += WINDOW_MS;
        }
        assert!(!place.found_a_clone(), "{:?}", place.verdicts);
        assert!(place.watch.is_over(place.now));
    }

    #[test]
    fn two_without_the_key_are_noted_and_never_found() {
        let secret_only = || Thing { by_token: false, answers: false, ..Thing::new(1) };
        let mut all = [secret_only(), secret_only()];
        let mut place = Place::default();
        for round in 0..50 {
            place.sign_in(&mut all, round % 2);
        }
        assert!(place.verdicts.iter().all(|v| *v == Verdict::Contested), "{:?}", place.verdicts);
    }
}
