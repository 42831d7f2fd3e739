//! Which of two versions of the box's system is the older one, and what became of one that was installed: decided from what the system itself
//! tells of its slots, never from a file that somebody brings.

use super::release::Version;
use serde::Serialize;
use std::cmp::Ordering;

/// How a version stands to the one that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Age {
    /// It comes after what runs.
    Newer,
    /// It is what runs.
    Same,
    /// It comes before what runs.
    Older,
    /// Nobody can tell: one of the two is not a version as in 1.2.3.
    Unknown,
}

impl Age {
    /// How `offered` stands to `running`.
    #[must_use]
    pub fn of(offered: &str, running: &str) -> Age {
        if offered == running && !offered.is_empty() {
            return Age::Same;
        }
        let (Ok(a), Ok(b)) = (Version::parse(offered), Version::parse(running)) else { return Age::Unknown };
        match (numbers(&a).cmp(&numbers(&b)), rest(&a), rest(&b)) {
            (Ordering::Greater, ..) | (_, None, Some(_)) if numbers(&a) >= numbers(&b) => Age::Newer,
            (Ordering::Less, ..) | (_, Some(_), None) => Age::Older,
            // Two that lead up to the same version: what they are called has no order that everybody keeps to.
            _ => Age::Unknown,
        }
    }

    /// Whether it is taken without anybody saying explicitly that it is wanted all the same.
    #[must_use]
    pub fn goes_forward(self) -> bool {
        matches!(self, Age::Newer | Age::Same)
    }
}

fn numbers(version: &Version) -> Vec<u64> {
    version.as_str().split('-').next().unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

fn rest(version: &Version) -> Option<&str> {
    version.as_str().split_once('-').map(|(_, rest)| rest)
}

/// What there is to know of a system that was installed, to tell what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'a> {
    /// The slot that ran when it was installed.
    pub from: &'a str,
    /// The slot that runs.
    pub booted: &'a str,
    /// The version that the slot that runs was filled with, as far as that is known.
    pub booted_version: Option<&'a str>,
    /// The slot that is started next; unknown where the boot loader does not tell.
    pub next: Option<&'a str>,
    /// The version that was installed.
    pub version: &'a str,
}

/// What became of a system that was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It waits for the box to be restarted.
    Waits,
    /// It runs, and is given up yet if it does not serve.
    Tried,
    /// It runs, and stays.
    Stays,
    /// The system before it runs: the new one was not started, or did not stay.
    FellBack,
}

impl Tried<'_> {
    /// What became of it.
    #[must_use]
    pub fn fate(&self) -> Fate {
        let is_next = self.next.is_none_or(|next| next == self.booted);
        match (self.booted == self.from, is_next) {
            (true, false) => Fate::Waits,
            (true, true) if self.next.is_none() => Fate::Waits,
            (true, true) => Fate::FellBack,
            // Somebody has put another one there meanwhile: it is not for us to say that this one stays.
            (false, _) if self.booted_version != Some(self.version) => Fate::FellBack,
            (false, false) => Fate::Tried,
            (false, true) => Fate::Stays,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_version_and_one_that_nobody_can_compare_do_not_go_forward() {
        for (offered, running, age) in [
            ("0.2.0", "0.1.0", Age::Newer),
            ("0.10.0", "0.9.9", Age::Newer),
            ("1.0.0", "1.0.0-rc.1", Age::Newer),
            ("1.0.1-rc.1", "1.0.0", Age::Newer),
            ("0.1.0", "0.1.0", Age::Same),
            ("2026-11-30", "2026-11-30", Age::Same),
            ("0.1.0", "0.2.0", Age::Older),
            ("1.0.0-rc.1", "1.0.0", Age::Older),
            ("0.9.9-rc.1", "1.0.0-rc.2", Age::Older),
            ("1.0.0-rc.1", "1.0.0-rc.2", Age::Unknown),
            ("2026-11-30", "0.1.0", Age::Unknown),
            ("", "", Age::Unknown),
        ] {
            assert_eq!(Age::of(offered, running), age, "{offered} over {running}");
            assert_eq!(age.goes_forward(), matches!(age, Age::Newer | Age::Same));
        }
    }

    #[test]
    fn a_system_stays_only_when_it_runs_and_is_the_one_that_is_started_next() {
        let fate = |booted, booted_version, next| Tried { from: "a", booted, booted_version, next, version: "2" }.fate();
        assert_eq!(fate("a", Some("1"), Some("b")), Fate::Waits);
        assert_eq!(fate("a", Some("1"), None), Fate::Waits, "a boot loader that tells nothing is no way back");
        assert_eq!(fate("b", Some("2"), Some("a")), Fate::Tried);
        assert_eq!(fate("b", Some("2"), Some("b")), Fate::Stays);
        assert_eq!(fate("b", Some("2"), None), Fate::Stays);
        assert_eq!(fate("a", Some("1"), Some("a")), Fate::FellBack);
        assert_eq!(fate("b", Some("3"), Some("b")), Fate::FellBack);
    }
}
