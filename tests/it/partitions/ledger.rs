//! What was promised: the naive reference. It knows no generation and compares none. For each thing that can be given and
//! taken away it keeps all histories that what was acknowledged allows; a request without an answer has happened or not, a
//! wish from away happens at some time or never, and what was ended from away ends as soon as the hub hears of it. What is
//! seen in the end must be the end of one of them.

use std::collections::{BTreeMap, BTreeSet};

/// What was given, by a number that no other gift has.
pub type Gift = u64;

/// How an operation ended for whoever asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It was acknowledged.
    Yes,
    /// No answer: it has happened, or it has not.
    Perhaps,
}

/// One history.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct History {
    /// What stands at the hub: its last change, and the gift that its life began with.
    standing: Option<(Gift, Gift)>,
    /// In which life each gift was.
    lives: BTreeMap<Gift, Gift>,
    /// Lives that were ended from away.
    ended: BTreeSet<Gift>,
    /// Wishes from away that have not been done.
    wishes: BTreeSet<Gift>,
    done: BTreeSet<Gift>,
}

impl History {
    fn give(mut self, gift: Gift) -> History {
        let life = self.standing.map_or(gift, |(_, life)| life);
        self.standing = Some((gift, life));
        self.lives.insert(gift, life);
        self
    }

    fn end(mut self) -> History {
        self.standing = None;
        self
    }
}

/// Why what is seen is the end of no history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was acknowledged is not there.
    Lost,
    /// What has ended is there.
    Resurrected,
}

/// Something that can be given and taken away.
#[derive(Clone, Debug)]
pub struct Slot(BTreeSet<History>);

impl Default for Slot {
    fn default() -> Slot {
        Slot(BTreeSet::from([History::default()]))
    }
}

impl Slot {
    pub fn with(gift: Gift) -> Slot {
        Slot(BTreeSet::from([History::default().give(gift)]))
    }

    /// All that may have happened by itself.
    fn pass(&mut self) {
        let mut new: Vec<History> = self.0.iter().cloned().collect();
        while let Some(history) = new.pop() {
            let mut after = Vec::new();
            if history.standing.is_some_and(|(_, life)| history.ended.contains(&life)) {
                after.push(history.clone().end());
            }
            for wish in &history.wishes {
                let mut next = history.clone().give(*wish);
                next.wishes.remove(wish);
                next.done.insert(*wish);
                after.push(next);
            }
            for next in after {
                if self.0.insert(next.clone()) {
                    new.push(next);
                }
            }
        }
    }

    fn apply(&mut self, said: Said, change: impl Fn(&History) -> History) {
        let changed: BTreeSet<History> = self.0.iter().map(change).collect();
        match said {
            Said::Yes => self.0 = changed,
            Said::Perhaps => self.0.extend(changed),
        }
    }

    /// Given, or changed, at the hub.
    pub fn give(&mut self, gift: Gift, said: Said) {
        self.pass();
        self.apply(said, |h| h.clone().give(gift));
    }

    /// Taken away at the hub.
    pub fn take(&mut self, said: Said) {
        self.pass();
        self.apply(said, |h| h.clone().end());
    }

    /// Wished for from away.
    pub fn wish(&mut self, gift: Gift, said: Said) {
        self.apply(said, |h| {
            let mut h = h.clone();
            h.wishes.insert(gift);
            h
        });
    }

    /// Taken away from away, where this was shown.
    pub fn take_from_away(&mut self, shown: Gift, said: Said) -> bool {
        self.pass();
        let known: BTreeSet<History> = self.0.iter().filter(|h| h.lives.contains_key(&shown)).cloned().collect();
        if known.is_empty() {
            return false;
        }
        self.0 = known;
        self.apply(said, |h| {
            let mut h = h.clone();
            h.ended.extend(h.lives.get(&shown).copied());
            h
        });
        true
    }

    /// Something was taken away from away, and nobody knows which life of it.
    pub fn take_any_from_away(&mut self) {
        self.pass();
        self.apply(Said::Perhaps, |h| {
            let mut h = h.clone();
            h.ended.extend(h.standing.map(|(_, life)| life));
            h
        });
    }

    /// Whether it stands by all histories, or by some.
    pub fn stands(&self) -> (bool, bool) {
        let stands = |h: &History| h.standing.is_some_and(|(_, life)| !h.ended.contains(&life));
        (self.0.iter().all(stands), self.0.iter().any(stands))
    }

    /// Everything is known of everything, and this is what is seen. What comes after begins with it.
    ///
    /// # Errors
    /// What must not be.
    pub fn settle(&mut self, done: &BTreeSet<Gift>, refused: &BTreeSet<Gift>, seen: Option<Gift>) -> Result<(), Fault> {
        self.pass();
        let ends: BTreeSet<Option<Gift>> = self
            .0
            .iter()
            .filter(|h| !h.standing.is_some_and(|(_, life)| h.ended.contains(&life)))
            .filter(|h| h.wishes.is_disjoint(done) && h.done.is_disjoint(refused))
            .map(|h| h.standing.map(|(gift, _)| gift))
            .collect();
        let good = ends.contains(&seen);
        *self = seen.map_or_else(Slot::default, Slot::with);
        match (good, seen) {
            (true, _) => Ok(()),
            (false, Some(_)) if ends.contains(&None) => Err(Fault::Resurrected),
            // Not there, or only what was there before it was changed.
            (false, _) => Err(Fault::Lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(slot: &mut Slot, seen: Option<Gift>) -> Result<(), Fault> {
        slot.settle(&BTreeSet::new(), &BTreeSet::new(), seen)
    }

    #[test]
    fn what_was_given_and_acknowledged_has_to_be_there_and_what_was_taken_must_not_be() {
        let mut slot = Slot::default();
        slot.give(1, Said::Yes);
        assert_eq!(settle(&mut slot.clone(), None), Err(Fault::Lost));
        slot.take(Said::Yes);
        assert_eq!(settle(&mut slot.clone(), Some(1)), Err(Fault::Resurrected));
        slot.give(2, Said::Perhaps);
        assert!(settle(&mut slot.clone(), None).is_ok() && settle(&mut slot.clone(), Some(2)).is_ok());
        assert_eq!(settle(&mut slot, Some(1)), Err(Fault::Resurrected));
    }

    #[test]
    fn what_is_ended_from_away_takes_its_changes_along_and_no_later_life() {
        let mut slot = Slot::with(1);
        assert!(slot.take_from_away(1, Said::Yes));
        slot.give(2, Said::Yes);
        // Changed before the hub heard of it, or given again after.
        assert!(settle(&mut slot.clone(), None).is_ok() && settle(&mut slot.clone(), Some(2)).is_ok());
        let mut again = Slot::with(1);
        again.take(Said::Yes);
        again.give(2, Said::Yes);
        assert!(again.take_from_away(1, Said::Yes));
        assert_eq!(settle(&mut again.clone(), None), Err(Fault::Lost));
        assert!(settle(&mut again, Some(2)).is_ok());
        assert!(!Slot::with(1).take_from_away(7, Said::Yes));
    }

    #[test]
    fn a_wish_that_was_done_shows_and_one_that_was_refused_does_not() {
        let mut slot = Slot::default();
        slot.wish(5, Said::Yes);
        let (five, none) = (BTreeSet::from([5]), BTreeSet::new());
        assert_eq!(slot.clone().settle(&five, &none, None), Err(Fault::Lost));
        assert_eq!(slot.clone().settle(&none, &five, Some(5)), Err(Fault::Resurrected));
        slot.take(Said::Yes);
        // Done before it was taken, or after.
        assert!(slot.clone().settle(&five, &none, None).is_ok() && slot.settle(&five, &none, Some(5)).is_ok());
    }
}
