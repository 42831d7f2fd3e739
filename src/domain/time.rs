//! Time as decisions see it: the hub's clock, how far it can be believed, and the home's time zone; and weekly windows.
//! Reading clocks is `hub`'s.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// How far the hub's clock can be believed. A Raspberry Pi has no clock that runs without power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// Nobody has said what time it is, or two that know contradict each other.
    None,
    /// The box is synchronised over the network.
    Ntp,
    /// Somebody who is trusted has said it since the start: an owner's signed-in browser, a signed reply.
    Vouched,
}

/// A moment: what a decision knows of the time.
#[derive(Clone, Debug)]
pub struct Moment {
    /// ms since 1970, by the hub's clock.
    pub at: u64,
    /// How far that can be believed.
    pub grade: Grade,
    /// The home's time zone.
    pub zone: TimeZone,
}

impl Moment {
    /// A moment that is known for sure, in UTC: for tests and for questions about another time.
    #[must_use]
    pub fn utc(at: u64) -> Moment {
        Moment { at, grade: Grade::Vouched, zone: TimeZone::UTC }
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    fn of(weekday: Weekday) -> Day {
        match weekday {
            Weekday::Monday => Day::Mon,
            Weekday::Tuesday => Day::Tue,
            Weekday::Wednesday => Day::Wed,
            Weekday::Thursday => Day::Thu,
            Weekday::Friday => Day::Fri,
            Weekday::Saturday => Day::Sat,
            Weekday::Sunday => Day::Sun,
        }
    }
}

/// Minutes since midnight by the wall clock, 0 to 1439; as text `HH:MM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WallTime(u16);

impl TryFrom<String> for WallTime {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = "a time of day is written HH:MM, from 00:00 to 23:59";
        let digits = |t: &str| if t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit()) { t.parse::<u16>().ok() } else { None };
        let (hours, minutes) = text.split_once(':').ok_or(wrong)?;
        match (digits(hours), digits(minutes)) {
            (Some(h), Some(m)) if h < 24 && m < 60 => Ok(WallTime(h * 60 + m)),
            _ => Err(wrong),
        }
    }
}

impl From<WallTime> for String {
    fn from(t: WallTime) -> String {
        format!("{:02}:{:02}", t.0 / 60, t.0 % 60)
    }
}

/// A time that comes back each week, by the clock on the wall: on each of `days` from `from` until `to` (exclusive), which
/// lies on the next day when it is not after `from`; the same time twice is a whole day. In an hour that the clock shows
/// twice it holds both times; one that the clock skips is not missed by anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// On which days it begins; each once, at least one.
    pub days: Vec<Day>,
    /// From when.
    pub from: WallTime,
    /// Until when.
    pub to: WallTime,
}

impl Window {
    /// Whether it holds at `at` (ms since 1970) on the wall of `zone`.
    #[must_use]
    pub fn holds(&self, zone: &TimeZone, at: u64) -> bool {
        let Some(stamp) = timestamp(at) else { return false };
        let wall = zone.to_datetime(stamp);
        let minute = u16::from(wall.hour().unsigned_abs()) * 60 + u16::from(wall.minute().unsigned_abs());
        let begins_on = |date: Date| self.days.contains(&Day::of(date.weekday()));
        let yesterday = wall.date().yesterday().ok();
        if self.from < self.to {
            return begins_on(wall.date()) && (self.from.0..self.to.0).contains(&minute);
        }
        (begins_on(wall.date()) && minute >= self.from.0) || (yesterday.is_some_and(begins_on) && minute < self.to.0)
    }

    /// The first moment after `at` (ms since 1970) at which [`Window::holds`] may change: never after it does, so that
    /// nothing decided at `at` outlives it. A change of the clock counts as one.
    #[must_use]
    pub fn next_edge(&self, zone: &TimeZone, at: u64) -> u64 {
        let Some(stamp) = timestamp(at) else { return 0 };
        let today = zone.to_datetime(stamp).date();
        let mut next = zone.following(stamp).next().map_or(u64::MAX, |change| millis(change.timestamp()));
        for days in -1..=8 {
            let Ok(date) = today.checked_add(days.days()) else { continue };
            for edge in [self.from, self.to] {
                let Ok(time) = Time::new(clock(edge.0 / 60), clock(edge.0 % 60), 0, 0) else { continue };
                let walls = zone.to_ambiguous_timestamp(date.to_datetime(time));
                for stamp in [walls.earlier(), walls.later()].into_iter().flatten() {
                    let edge = millis(stamp);
                    if edge > at {
                        next = next.min(edge);
                    }
                }
            }
        }
        next
    }
}

fn clock(part: u16) -> i8 {
    i8::try_from(part).unwrap_or(0)
}

fn timestamp(at: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(at).ok()?).ok()
}

fn millis(stamp: Timestamp) -> u64 {
    u64::try_from(stamp.as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn at(text: &str) -> u64 {
        millis(text.parse::<Timestamp>().unwrap())
    }

    fn window(days: &[Day], from: &str, to: &str) -> Window {
        Window { days: days.to_vec(), from: from.to_owned().try_into().unwrap(), to: to.to_owned().try_into().unwrap() }
    }

    #[test]
    fn a_window_holds_by_the_clock_on_the_wall() {
        let cleaning = window(&[Day::Tue, Day::Fri], "09:00", "12:30");
        for (when, holds) in [
            ("2026-11-24T07:59:00Z", false),
            ("2026-11-24T08:00:00Z", true),
            ("2026-11-24T11:29:59Z", true),
            ("2026-11-24T11:30:00Z", false),
            ("2026-11-25T09:00:00Z", false),
            // In summer the same wall clock is another moment.
            ("2026-07-24T07:00:00Z", true),
            ("2026-07-24T10:30:00Z", false),
        ] {
            assert_eq!(cleaning.holds(&berlin(), at(when)), holds, "{when}");
        }
    }

    #[test]
    fn a_window_past_midnight_belongs_to_the_day_it_begins_on() {
        let night = window(&[Day::Sat], "22:00", "02:00");
        for (when, holds) in [
            ("2026-11-28T20:59:00Z", false),
            ("2026-11-28T21:00:00Z", true),
            ("2026-11-29T00:59:00Z", true),
            ("2026-11-29T01:00:00Z", false),
            ("2026-11-28T00:30:00Z", false),
            ("2026-11-29T21:30:00Z", false),
        ] {
            assert_eq!(night.holds(&berlin(), at(when)), holds, "{when}");
        }
        let whole = window(&[Day::Mon], "00:00", "00:00");
        assert!(whole.holds(&TimeZone::UTC, at("2026-11-23T23:59:00Z")) && !whole.holds(&TimeZone::UTC, at("2026-11-24T00:00:00Z")));
    }

    #[test]
    fn an_hour_that_the_clock_shows_twice_counts_twice() {
        // On 2026-10-25 at 01:00Z the clocks of Berlin go from 03:00 back to 02:00.
        let early = window(&[Day::Sun], "02:15", "02:45");
        for (when, holds) in [
            ("2026-10-25T00:20:00Z", true),
            ("2026-10-25T00:50:00Z", false),
            ("2026-10-25T01:20:00Z", true),
            ("2026-10-25T01:50:00Z", false),
        ] {
            assert_eq!(early.holds(&berlin(), at(when)), holds, "{when}");
        }
    }

    #[test]
    fn nothing_changes_before_the_next_edge() {
        let windows =
            [window(&[Day::Sun], "02:15", "02:45"), window(&[Day::Sat, Day::Sun], "23:00", "03:30"), window(&[Day::Wed], "09:00", "17:00")];
        // Around both changes of the clock in 2026, minute by minute.
        for (from, minutes) in [("2026-03-28T00:00:00Z", 3_000u64), ("2026-10-24T00:00:00Z", 3_000)] {
            for w in &windows {
                let mut held = None;
                let mut edge = 0;
                for minute in 0..minutes {
                    let now = at(from) + minute * 60_000;
                    let holds = w.holds(&berlin(), now);
                    if held != Some(holds) {
                        assert!(now >= edge, "{w:?} changed before its edge");
                        held = Some(holds);
                    }
                    if now >= edge {
                        edge = w.next_edge(&berlin(), now);
                        assert!(edge > now);
                    }
                }
            }
        }
    }

    #[test]
    fn a_time_of_day_is_read_strictly() {
        for wrong in ["", "9:00", "24:00", "12:60", "12-30", "+1:00", "12:3 "] {
            assert!(WallTime::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        assert_eq!(String::from(WallTime::try_from("07:05".to_owned()).unwrap()), "07:05");
    }
}
