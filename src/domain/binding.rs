//! Bindings: who may do what to which device, given by whom. Whether one allows something now is `policy`'s.

use super::account::UserId;
use super::ids::DeviceId;
use super::time::{Moment, Window};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Names that a restricted right lists at most.
const MAX_NAMES: usize = 100;
/// Windows of one right.
const MAX_WINDOWS: usize = 20;
/// Uses of one right at most.
const MAX_USES: u32 = 100_000;

/// Matter's four privileges, each holding those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// Reads the twin.
    View,
    /// Also sets what is not critical.
    Operate,
    /// Also what is critical, and settings.
    Manage,
    /// Also bindings and removal.
    Administer,
}

impl Privilege {
    /// All of them, weakest first.
    pub const ALL: [Privilege; 4] = [Privilege::View, Privilege::Operate, Privilege::Manage, Privilege::Administer];
}

/// Who holds a binding, and who acts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A person's account.
    User(UserId),
    /// Another device.
    Device(DeviceId),
    /// A third party's app, by its id.
    App(String),
    /// A service account, by its id.
    Service(String),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::User(id) => write!(f, "user:{id}"),
            Subject::Device(id) => write!(f, "device:{id}"),
            Subject::App(id) => write!(f, "app:{id}"),
            Subject::Service(id) => write!(f, "service:{id}"),
        }
    }
}

impl Subject {
    /// Reads `user:…`, `device:…`, `app:…` or `service:…`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Subject> {
        let is_id = |id: &str| UserId::parse(id).is_some();
        match text.split_once(':')? {
            ("user", id) => UserId::parse(id).map(Subject::User),
            ("device", id) => DeviceId::parse(id).ok().map(Subject::Device),
            ("app", id) if is_id(id) => Some(Subject::App(id.to_owned())),
            ("service", id) if is_id(id) => Some(Subject::Service(id.to_owned())),
            _ => None,
        }
    }

    /// Whether it is a device, in what it does to others.
    #[must_use]
    pub fn is_device(&self) -> bool {
        matches!(self, Subject::Device(_))
    }

    /// The account, if it is a person's.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Subject::User(id) => Some(id),
            _ => None,
        }
    }
}

/// What is given with a right: how far it goes, to what of the device, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// How far it goes.
    pub privilege: Privilege,
    /// Only to these attributes and commands of the device; to all when absent.
    #[serde(default)]
    pub only: Option<BTreeSet<String>>,
    /// Not before, ms since 1970.
    #[serde(default)]
    pub from: Option<u64>,
    /// Not at or after, ms since 1970.
    #[serde(default)]
    pub until: Option<u64>,
    /// Only in these weekly windows; always when empty.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// How many times more something may be done with it (a command, a desire); any number when absent.
    #[serde(default)]
    pub uses: Option<u32>,
}

/// What is wrong with terms; the text is for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// The end is not after the beginning, or over.
    #[error("until: it must lie in the future and after from")]
    Over,
    /// A window without days, or with one twice.
    #[error("windows: each names the days it begins on, each day once; at most 20 windows")]
    Window,
    /// No name, an empty one, or too many.
    #[error("only: it names 1 to 100 attributes or commands of the device")]
    Names,
    /// No use, or too many.
    #[error("uses: a number from 1 to 100000")]
    Uses,
    /// An administrator of a part.
    #[error("who administers a device administers all of it at all times: choose another privilege, or leave only, windows and uses out")]
    PartOfAdministration,
}

impl Terms {
    /// A right without an end and without restrictions.
    #[must_use]
    pub fn of(privilege: Privilege) -> Terms {
        Terms { privilege, only: None, from: None, until: None, windows: Vec::new(), uses: None }
    }

    /// Whether they can be given at `now`, ms since 1970.
    ///
    /// # Errors
    /// See [`TermsError`].
    pub fn check(&self, now: u64) -> Result<(), TermsError> {
        if self.until.is_some_and(|until| until <= now || self.from.is_some_and(|from| from >= until)) {
            return Err(TermsError::Over);
        }
        let repeats = |days: &[super::time::Day]| days.is_empty() || days.iter().collect::<BTreeSet<_>>().len() != days.len();
        if self.windows.len() > MAX_WINDOWS || self.windows.iter().any(|w| repeats(&w.days)) {
            return Err(TermsError::Window);
        }
        if self.only.as_ref().is_some_and(|n| n.is_empty() || n.len() > MAX_NAMES || n.iter().any(|n| n.is_empty() || n.len() > 64)) {
            return Err(TermsError::Names);
        }
        if self.uses.is_some_and(|n| n == 0 || n > MAX_USES) {
            return Err(TermsError::Uses);
        }
        if self.privilege == Privilege::Administer && (self.only.is_some() || !self.windows.is_empty() || self.uses.is_some()) {
            return Err(TermsError::PartOfAdministration);
        }
        Ok(())
    }

    /// Whether whoever holds `own` may give these at `now`: nobody gives more than they have. Who gives administers the
    /// device, so that `own` has no windows, uses or names (see [`Terms::check`]); it may have a beginning and an end.
    #[must_use]
    pub fn lie_within(&self, own: &Terms, now: u64) -> bool {
        let longer = own.until.is_some_and(|end| self.until.is_none_or(|until| until > end));
        let earlier = own.from.is_some_and(|start| self.from.unwrap_or(now) < start);
        let wider = own.only.is_some() || !own.windows.is_empty() || own.uses.is_some();
        self.privilege <= own.privilege && !longer && !earlier && !wider
    }

    /// Whether they give at `now` all that `other` gives, so that who has these needs not the other.
    #[must_use]
    pub fn contain(&self, other: &Terms, now: u64) -> bool {
        let longer = self.until.is_none_or(|end| other.until.is_some_and(|until| until <= end));
        let earlier = self.from.is_none_or(|start| other.from.unwrap_or(now).max(now) >= start);
        let wider = self.only.as_ref().is_none_or(|only| other.only.as_ref().is_some_and(|o| o.is_subset(only)));
        let oftener = self.uses.is_none_or(|uses| other.uses.is_some_and(|o| o <= uses));
        let windows = self.windows.is_empty() || self.windows == other.windows;
        self.privilege >= other.privilege && longer && earlier && wider && oftener && windows
    }

    /// The part of these that their holder lets an app have: at most this privilege, these names, and until then. Whatever
    /// else restricts them (a beginning, windows, uses) restricts the part too. `None` when there is nothing to give: the
    /// privilege goes further than these, or is to administer; or none of the names is theirs.
    #[must_use]
    pub fn part(&self, privilege: Privilege, only: Option<&BTreeSet<String>>, until: u64) -> Option<Terms> {
        if privilege > self.privilege || privilege == Privilege::Administer {
            return None;
        }
        let only = match (only, &self.only) {
            (Some(asked), Some(own)) if !asked.is_subset(own) => return None,
            (asked, own) => asked.or(own.as_ref()).cloned(),
        };
        let until = Some(self.until.map_or(until, |end| end.min(until)));
        Some(Terms { privilege, only, until, ..self.clone() })
    }

    /// Whether they hold at some times and not at others: then the time must be known.
    #[must_use]
    pub fn are_timed(&self) -> bool {
        self.from.is_some() || self.until.is_some() || !self.windows.is_empty()
    }

    /// Whether they give the right for good, from `now` on: what an administrator needs to be the one who stays.
    #[must_use]
    pub fn last_from(&self, now: u64) -> bool {
        self.until.is_none() && self.windows.is_empty() && self.uses.is_none() && self.from.is_none_or(|from| from <= now)
    }

    /// Whether they reach this attribute or command.
    #[must_use]
    pub fn cover(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name))
    }

    /// The next moment after `now` at which they may begin or cease to hold, ms since 1970.
    #[must_use]
    pub fn next_edge(&self, now: &Moment) -> u64 {
        let ends = [self.from, self.until].into_iter().flatten().filter(|edge| *edge > now.at);
        ends.chain(self.windows.iter().map(|w| w.next_edge(&now.zone, now.at))).min().unwrap_or(u64::MAX)
    }
}

/// The [`Binding::origin`] of a right that was given, or made, from outside the house: what gave it, the household's cloud
/// may end again, so it goes stale when the hub does not hear from there.
pub const FROM_CLOUD: &str = "cloud";

/// A right of one subject on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// On which device.
    pub device: DeviceId,
    /// Whose.
    pub subject: Subject,
    /// What it gives.
    #[serde(flatten)]
    pub terms: Terms,
    /// Who gave it: a subject's text, or `claim` when possession of the code did.
    pub granted_by: String,
    /// When, ms since 1970.
    pub granted_at: u64,
    /// Rises each time the right is given again; a revocation mark at or above it ends the right for ever.
    pub generation: u64,
    /// Rises each time this row changes within its generation.
    #[serde(default)]
    pub version: u64,
    /// The hub that wrote it last, or [`FROM_CLOUD`].
    #[serde(default)]
    pub origin: String,
}

/// A revocation, apart from the row it ends: it only ever grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationMark {
    /// Generations up to and including this one are over.
    pub generation: u64,
    /// When it was last raised, ms since 1970.
    pub at: u64,
    /// By whom.
    pub by: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gives_a_wider_or_longer_right_than_their_own() {
        let own = Terms { from: Some(10), until: Some(100), ..Terms::of(Privilege::Administer) };
        let given = |from, until, privilege| Terms { from, until, ..Terms::of(privilege) }.lie_within(&own, 20);
        assert!(given(None, Some(100), Privilege::Administer));
        assert!(given(Some(30), Some(40), Privilege::View));
        assert!(
            !given(None, None, Privilege::View) && !given(None, Some(101), Privilege::View) && !given(Some(5), Some(40), Privilege::View)
        );
        let narrow = Terms { uses: Some(1), ..Terms::of(Privilege::Manage) };
        assert!(!Terms::of(Privilege::View).lie_within(&narrow, 20));
    }

    #[test]
    fn terms_contain_what_gives_no_more_in_any_respect() {
        let all = Terms::of(Privilege::Manage);
        let parts = [
            Terms::of(Privilege::View),
            Terms { only: Some(["a".to_owned()].into()), ..all.clone() },
            Terms { from: Some(60), ..all.clone() },
            Terms { until: Some(90), ..all.clone() },
            Terms { uses: Some(3), ..all.clone() },
        ];
        for part in &parts {
            assert!(all.contain(part, 50) && !part.contain(&all, 50) && part.contain(part, 50), "{part:?}");
            assert_eq!(parts.iter().filter(|other| part.contain(other, 50)).count(), 1, "{part:?}");
        }
        assert!(Terms { from: Some(40), ..all.clone() }.contain(&all, 50), "it has begun");
    }

    #[test]
    fn a_part_for_an_app_is_never_wider_or_longer_than_the_whole() {
        let names = |all: &[&str]| Some(all.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>());
        let own =
            Terms { from: Some(10), until: Some(100), uses: Some(3), only: names(&["light", "door"]), ..Terms::of(Privilege::Operate) };
        let part = own.part(Privilege::View, names(&["light"]).as_ref(), 500).unwrap();
        assert_eq!(part, Terms { privilege: Privilege::View, only: names(&["light"]), ..own.clone() });
        assert_eq!(own.part(Privilege::View, None, 50).unwrap(), Terms { privilege: Privilege::View, until: Some(50), ..own.clone() });
        assert_eq!(own.part(Privilege::Manage, None, 50), None);
        assert_eq!(own.part(Privilege::View, names(&["light", "lock"]).as_ref(), 50), None);
        // Who administers lets an app manage at most, and always for a time.
        let whole = Terms::of(Privilege::Administer);
        assert_eq!(whole.part(Privilege::Administer, None, 50), None);
        assert_eq!(whole.part(Privilege::Manage, None, 50).unwrap().until, Some(50));
    }

    #[test]
    fn terms_that_make_no_sense_are_refused() {
        let check = |t: Terms, expected| assert_eq!(t.check(50), Err(expected));
        check(Terms { until: Some(50), ..Terms::of(Privilege::View) }, TermsError::Over);
        check(Terms { from: Some(70), until: Some(70), ..Terms::of(Privilege::View) }, TermsError::Over);
        check(Terms { uses: Some(0), ..Terms::of(Privilege::Operate) }, TermsError::Uses);
        check(Terms { only: Some(BTreeSet::new()), ..Terms::of(Privilege::Operate) }, TermsError::Names);
        check(Terms { uses: Some(1), ..Terms::of(Privilege::Administer) }, TermsError::PartOfAdministration);
        assert_eq!(Terms::of(Privilege::Administer).check(50), Ok(()));
    }

    #[test]
    fn a_subject_is_read_as_it_is_written() {
        let id = "0123456789abcdef0123456789abcdef";
        for text in [format!("user:{id}"), format!("app:{id}"), format!("service:{id}"), "device:door-1".to_owned()] {
            assert_eq!(Subject::parse(&text).unwrap().to_string(), text);
        }
        for wrong in ["", "user:", "user:x", "app:../x", "claim", "device:a b"] {
            assert_eq!(Subject::parse(wrong), None, "{wrong}");
        }
    }
}
