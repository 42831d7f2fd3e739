//! Which entries of the audit somebody wants to see.

use super::{Entry, Outcome, Recorded};

/// A question to the audit; what is `None` does not restrict it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Who acted, or for whom an app acted; `?` for all strangers.
    pub actor: Option<String>,
    /// To what.
    pub object: Option<String>,
    /// What the action's name begins with.
    pub action: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Not before, ms since 1970.
    pub since: Option<u64>,
    /// Before, ms since 1970.
    pub until: Option<u64>,
}

impl Filter {
    /// Whether everything is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether the entry may be wanted, as far as the chain alone tells: what stands beside it need not be read otherwise.
    #[must_use]
    pub fn may_want(&self, entry: &Entry) -> bool {
        let (e, stranger) = (&entry.event, entry.event.actor.starts_with('?'));
        self.since.is_none_or(|t| entry.at >= t)
            && self.until.is_none_or(|t| entry.at < t)
            && self.outcome.is_none_or(|o| e.outcome == o)
            && self.action.as_ref().is_none_or(|a| e.action.starts_with(a.as_str()))
            && self.object.as_ref().is_none_or(|o| stranger || e.object == *o)
            && self.actor.as_ref().is_none_or(|a| (stranger && a.starts_with('?')) || e.actor == *a || e.behalf == *a)
    }

    /// Whether the entry is wanted.
    #[must_use]
    pub fn wants(&self, shown: &Recorded) -> bool {
        let e = &shown.event;
        self.since.is_none_or(|t| shown.at >= t)
            && self.until.is_none_or(|t| shown.at < t)
            && self.outcome.is_none_or(|o| e.outcome == o)
            && self.action.as_ref().is_none_or(|a| e.action.starts_with(a.as_str()))
            && self.object.as_ref().is_none_or(|o| e.object == *o)
            && self
                .actor
                .as_ref()
                .is_none_or(|a| (a == "?" && e.actor.starts_with('?')) || e.actor == *a || (!a.is_empty() && e.behalf == *a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::Event;

    #[test]
    fn a_filter_wants_what_fits_all_of_it_and_the_chain_alone_rules_nothing_wanted_out() {
        let app = Event {
            actor: "app:7".into(),
            behalf: "user:1".into(),
            action: "twin.desire".into(),
            object: "door".into(),
            ..Event::default()
        };
        let stranger = Event {
            actor: "?mia".into(),
            action: "session.open".into(),
            object: "hub".into(),
            outcome: Outcome::Denied,
            ..Event::default()
        };
        let text = |t: &str| Some(t.to_owned());
        let any = Filter::default;
        for (filter, of_app, of_stranger) in [
            (any(), true, true),
            (Filter { actor: text("app:7"), ..any() }, true, false),
            (Filter { actor: text("user:1"), ..any() }, true, false),
            (Filter { actor: text("user:2"), ..any() }, false, false),
            (Filter { actor: text("?"), ..any() }, false, true),
            (Filter { actor: text("?mia"), ..any() }, false, true),
            (Filter { actor: text("?max"), ..any() }, false, false),
            (Filter { actor: text(""), ..any() }, false, false),
            (Filter { object: text("door"), ..any() }, true, false),
            (Filter { object: text("hub"), ..any() }, false, true),
            (Filter { action: text("twin."), ..any() }, true, false),
            (Filter { action: text("desire"), ..any() }, false, false),
            (Filter { outcome: Some(Outcome::Denied), ..any() }, false, true),
            (Filter { since: Some(50), until: Some(51), ..any() }, true, true),
            (Filter { since: Some(51), ..any() }, false, false),
            (Filter { until: Some(50), ..any() }, false, false),
            (Filter { actor: text("app:7"), object: text("hub"), ..any() }, false, false),
        ] {
            for (event, wanted) in [(&app, of_app), (&stranger, of_stranger)] {
                let (entry, beside) = Entry::after(None, 50, event.clone(), [1; 16]);
                let may = filter.may_want(&entry);
                assert_eq!(filter.wants(&entry.joined(beside)), wanted, "{filter:?} {event:?}");
                assert!(may || !wanted, "{filter:?} {event:?}");
            }
        }
    }
}
