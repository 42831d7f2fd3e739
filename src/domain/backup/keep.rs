//! Which backups are kept, and when the next one is due. Pure: what there is and what time it is are given.

use super::BackupId;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many are kept: the newest of each of the last so many days, weeks and months in which there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Days.
    pub daily: u16,
    /// Weeks (Monday to Sunday).
    pub weekly: u16,
    /// Months.
    pub monthly: u16,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { daily: 7, weekly: 4, monthly: 12 }
    }
}

/// When backups are made by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// At which minute of the day, 0..1440, in the home's time zone.
    pub minute: u16,
    /// Every so many days, at least 1.
    pub every_days: u16,
    /// A full one again after so many days; increments between. 0: always a full one.
    pub full_every_days: u16,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule { minute: 3 * 60 + 30, every_days: 1, full_every_days: 7 }
    }
}

/// A backup as retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub id: BackupId,
    /// The one before it, for an increment.
    pub parent: Option<BackupId>,
    /// ms since 1970.
    pub made_at: u64,
    /// It is whole, and so is everything that it goes on from.
    pub good: bool,
}

impl Retention {
    /// Which of `all` are to go. Never the newest good one, nor one that a kept one goes on from, nor one that is not good:
    /// what is wrong with that is for a person to look at.
    #[must_use]
    pub fn to_go(&self, all: &[Kept], zone: &TimeZone) -> Vec<BackupId> {
        let mut good: Vec<&Kept> = all.iter().filter(|k| k.good).collect();
        good.sort_by_key(|k| std::cmp::Reverse((k.made_at, k.id)));
        let mut keep: BTreeSet<BackupId> = good.first().map(|k| k.id).into_iter().collect();
        type Period = fn(Date) -> (i32, i32);
        let periods: [(u16, Period); 3] = [
            (self.daily, |at| (i32::from(at.year()), i32::from(at.day_of_year()))),
            (self.weekly, |at| {
                let week = at.iso_week_date();
                (i32::from(week.year()), i32::from(week.week()))
            }),
            (self.monthly, |at| (i32::from(at.year()), i32::from(at.month()))),
        ];
        for (most, period) in periods {
            let mut seen = BTreeSet::new();
            for kept in &good {
                let Some(at) = day_of(kept.made_at, zone) else { continue };
                if seen.len() < usize::from(most) && seen.insert(period(at)) {
                    keep.insert(kept.id);
                }
            }
        }
        let parents: BTreeMap<BackupId, Option<BackupId>> = all.iter().map(|k| (k.id, k.parent)).collect();
        // Also what is not good may be put right by hand, so what it goes on from stays.
        let standing: Vec<BackupId> = keep.iter().copied().chain(all.iter().filter(|k| !k.good).map(|k| k.id)).collect();
        for id in standing {
            keep.insert(id);
            let mut parent = parents.get(&id).copied().flatten();
            // One that is kept already has been followed, or will be; so a circle ends too.
            while let Some(id) = parent.filter(|p| keep.insert(*p)) {
                parent = parents.get(&id).copied().flatten();
            }
        }
        good.into_iter().map(|k| k.id).filter(|id| !keep.contains(id)).collect()
    }
}

impl Schedule {
    /// Whether its numbers can be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.minute < 1_440 && (1..=31).contains(&self.every_days) && self.full_every_days <= 366
    }

    /// The next time after `last` (ms since 1970; when the last one was made, or the schedule was set), ms since 1970.
    #[must_use]
    pub fn next(&self, last: u64, zone: &TimeZone) -> Option<u64> {
        let day = day_of(last, zone)?;
        let of = |day: Date| {
            let at = day.at(i8::try_from(self.minute / 60).ok()?, i8::try_from(self.minute % 60).ok()?, 0, 0);
            // A time that the clock leaps over is the one after the leap; of one that comes twice it is the first.
            let stamp = zone.to_ambiguous_timestamp(at).compatible().ok()?;
            u64::try_from(stamp.as_millisecond()).ok()
        };
        // Later on the same day, if it has not been today already and every day is meant.
        of(day).filter(|at| *at > last && self.every_days == 1).or_else(|| of(day.checked_add(i32::from(self.every_days).days()).ok()?))
    }
}

fn day_of(ms: u64, zone: &TimeZone) -> Option<Date> {
    Some(zone.to_datetime(Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?).date())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 86_400_000;
    /// 2026-01-01T00:00:00Z.
    const START: u64 = 1_767_225_600_000;

    fn id(n: u64) -> BackupId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(n + 1).to_be_bytes());
        BackupId::from_bytes(bytes)
    }

    fn full(n: u64) -> Kept {
        Kept { id: id(n), parent: None, made_at: START + n * DAY, good: true }
    }

    #[test]
    fn the_newest_of_the_last_days_weeks_and_months_are_kept() {
        let all: Vec<Kept> = (0..100).map(full).collect();
        let gone: BTreeSet<_> = Retention { daily: 3, weekly: 2, monthly: 3 }.to_go(&all, &TimeZone::UTC).into_iter().collect();
        let kept: Vec<u64> = (0..100).filter(|n| !gone.contains(&id(*n))).collect();
        // 2026-04-10 is a Friday; the week before ended on the 5th (day 94), March on day 89, February on day 58.
        assert_eq!(kept, [58, 89, 94, 97, 98, 99]);
    }

    #[test]
    fn nothing_kept_still_keeps_the_newest_good_one_and_what_it_goes_on_from() {
        let mut all: Vec<Kept> = (0..6).map(full).collect();
        for (n, kept) in (0u64..).zip(&mut all).skip(3) {
            kept.parent = Some(id(n - 1));
        }
        all[5].good = false;
        let gone = Retention { daily: 0, weekly: 0, monthly: 0 }.to_go(&all, &TimeZone::UTC);
        assert_eq!(gone.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([id(0), id(1)]));
    }

    #[test]
    fn the_next_time_is_in_the_homes_zone_also_over_a_change_of_the_clock() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = |text: &str| u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap();
        let nightly = Schedule { minute: 150, ..Schedule::default() };
        assert_eq!(nightly.next(at("2026-01-01T00:00:00Z"), &zone), Some(at("2026-01-01T01:30:00Z")));
        assert_eq!(nightly.next(at("2026-01-01T01:30:00Z"), &zone), Some(at("2026-01-02T01:30:00Z")));
        // 02:30 on the 29th of March is leapt over: it is 03:30 then.
        assert_eq!(nightly.next(at("2026-03-28T12:00:00Z"), &zone), Some(at("2026-03-29T01:30:00Z")));
        let weekly = Schedule { minute: 0, every_days: 7, full_every_days: 0 };
        assert_eq!(weekly.next(at("2026-01-01T12:00:00Z"), &TimeZone::UTC), Some(at("2026-01-08T00:00:00Z")));
    }

    proptest! {
        #[test]
        fn whatever_there_is_the_newest_good_one_stays_and_nothing_loses_what_it_goes_on_from(
            shape in proptest::collection::vec((0u64..400, any::<bool>(), proptest::bool::weighted(0.8)), 1..40),
            daily in 0u16..5, weekly in 0u16..4, monthly in 0u16..4,
        ) {
            let mut all: Vec<Kept> = Vec::new();
            for (n, (day, follows, good)) in shape.into_iter().enumerate() {
                let before = all.last().copied().filter(|_| follows);
                all.push(Kept {
                    id: id(n as u64),
                    parent: before.map(|b| b.id),
                    made_at: START + day * DAY,
                    good: good && before.is_none_or(|b| b.good),
                });
            }
            let gone: BTreeSet<_> = Retention { daily, weekly, monthly }.to_go(&all, &TimeZone::UTC).into_iter().collect();
            if let Some(newest) = all.iter().filter(|k| k.good).max_by_key(|k| (k.made_at, k.id)) {
                prop_assert!(!gone.contains(&newest.id));
            }
            for kept in &all {
                prop_assert!(kept.good || !gone.contains(&kept.id));
                if !gone.contains(&kept.id) {
                    prop_assert!(kept.parent.is_none_or(|p| !gone.contains(&p)), "{:?} lost its parent", kept.id);
                }
            }
        }
    }
}
