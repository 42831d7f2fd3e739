//! The decision core against cases and against a naive reference.

use super::*;
use crate::domain::account::UserId;
use crate::domain::binding::Subject;
use crate::domain::time::{Day, Window};
use proptest::prelude::*;

fn binding(privilege: Privilege) -> Binding {
    Binding {
        device: "door-1".parse().unwrap(),
        subject: Subject::User(UserId::from_uuid(uuid::Uuid::nil())),
        terms: Terms::of(privilege),
        granted_by: "claim".into(),
        granted_at: 0,
        generation: 1,
        version: 0,
        origin: String::new(),
    }
}

fn facts(binding: Option<&Binding>) -> Facts<'_> {
    let holder = Holder { active: true, role: Some(Role::Member), binding, revoked_generation: 0, from_cloud: false };
    Facts {
        holder,
        behalf: None,
        standing: Standing::Ready,
        attested: true,
        behind: false,
        name: None,
        policy_age_ms: 0,
        review_pending: false,
    }
}

fn owned(binding: &Binding) -> Facts<'_> {
    let facts = facts(Some(binding));
    Facts { holder: Holder { role: Some(Role::Owner), ..facts.holder }, ..facts }
}

fn marked(binding: &Binding) -> Facts<'_> {
    let facts = facts(Some(binding));
    Facts { holder: Holder { revoked_generation: 1, ..facts.holder }, ..facts }
}

fn check(facts: Facts<'_>, action: Action, now: u64, expected: Reason) {
    let decision = decide(&facts, action, &Moment::utc(now));
    assert_eq!((decision.reason, decision.allowed), (expected, expected == Reason::Bound));
}

#[test]
fn silence_is_deny() {
    check(facts(None), Action::View, 0, Reason::NotBound);
}

#[test]
fn a_privilege_holds_those_before_it_and_no_more() {
    let b = binding(Privilege::Operate);
    check(facts(Some(&b)), Action::View, 0, Reason::Bound);
    check(facts(Some(&b)), Action::Operate, 0, Reason::Bound);
    check(facts(Some(&b)), Action::OperateCritical, 0, Reason::PrivilegeTooLow);
    check(facts(Some(&b)), Action::Administer, 0, Reason::PrivilegeTooLow);
}

#[test]
fn a_validity_begins_and_ends_to_the_millisecond() {
    let mut b = binding(Privilege::Administer);
    b.terms = Terms { from: Some(10), until: Some(20), ..b.terms };
    check(facts(Some(&b)), Action::View, 9, Reason::NotYet);
    check(facts(Some(&b)), Action::View, 10, Reason::Bound);
    check(facts(Some(&b)), Action::View, 19, Reason::Bound);
    check(facts(Some(&b)), Action::View, 20, Reason::Expired);
}

#[test]
fn a_mark_ends_every_generation_up_to_its_own() {
    let b = binding(Privilege::Administer);
    check(marked(&b), Action::View, 0, Reason::Revoked);
    let again = Binding { generation: 2, ..b };
    check(marked(&again), Action::View, 0, Reason::Bound);
}

#[test]
fn an_unclaimed_device_is_read_by_nobody() {
    let b = binding(Privilege::Administer);
    check(Facts { standing: Standing::Waiting, ..owned(&b) }, Action::View, 0, Reason::NotClaimed);
}

#[test]
fn a_suspended_device_is_seen_but_not_driven_and_a_quarantined_one_is_kept_by_owners_alone() {
    let b = binding(Privilege::Administer);
    check(Facts { standing: Standing::Suspended, ..facts(Some(&b)) }, Action::View, 0, Reason::Bound);
    check(Facts { standing: Standing::Suspended, ..facts(Some(&b)) }, Action::OperateCritical, 0, Reason::Suspended);
    check(Facts { standing: Standing::Quarantined, ..facts(Some(&b)) }, Action::View, 0, Reason::Quarantined);
    let owner = Facts { standing: Standing::Quarantined, ..owned(&b) };
    check(owner, Action::View, 0, Reason::Bound);
}

#[test]
fn the_table_gives_a_device_its_room_and_nothing_else() {
    let t = Table::of_device("a", std::iter::empty(), &Moment::utc(0));
    assert_eq!(t.publish("things/a/x", true), PublishVerdict::Deliver);
    assert_eq!(t.publish("things/a/shadow/update", false), PublishVerdict::Handle);
    assert_eq!(t.publish("things/a/shadow/update", true), PublishVerdict::Deny);
    for topic in ["things/b/x", "things/a/shadow/update/accepted", "things/a/commands/open", "things/a/presence", "x", "things/a"] {
        assert_eq!(t.publish(topic, false), PublishVerdict::Deny, "{topic}");
    }
    assert!(t.subscribe("things/a/#") && !t.subscribe("#") && !t.subscribe("things/+/x"));
    assert!(t.receive("things/a/commands/open") && !t.receive("things/b/commands/open"));
}

#[test]
fn a_right_for_a_time_fails_closed_when_nobody_knows_the_time_and_one_for_good_goes_on() {
    let lost = Moment { grade: Grade::None, ..Moment::utc(15) };
    let good = binding(Privilege::Administer);
    assert!(decide(&facts(Some(&good)), Action::Administer, &lost).allowed);
    for terms in [Terms { until: Some(20), ..Terms::of(Privilege::View) }, Terms { from: Some(10), ..Terms::of(Privilege::View) }] {
        let timed = Binding { terms, ..binding(Privilege::View) };
        assert!(decide(&facts(Some(&timed)), Action::View, &Moment::utc(15)).allowed);
        assert_eq!(decide(&facts(Some(&timed)), Action::View, &lost).reason, Reason::TimeUnknown);
    }
}

#[test]
fn a_right_with_windows_holds_in_any_of_them() {
    let window = |day, from: &str, to: &str| Window {
        days: vec![day],
        from: from.to_owned().try_into().unwrap(),
        to: to.to_owned().try_into().unwrap(),
    };
    // 1970-01-01 was a Thursday.
    let mut b = binding(Privilege::Operate);
    b.terms.windows = vec![window(Day::Thu, "00:00", "01:00"), window(Day::Thu, "02:00", "03:00")];
    let hour = 3_600_000;
    check(facts(Some(&b)), Action::View, 0, Reason::Bound);
    check(facts(Some(&b)), Action::View, hour, Reason::OutsideWindow);
    check(facts(Some(&b)), Action::Operate, 2 * hour, Reason::Bound);
    check(facts(Some(&b)), Action::View, 24 * hour, Reason::OutsideWindow);
}

#[test]
fn a_right_with_uses_still_looks_when_they_are_used() {
    let mut b = binding(Privilege::Manage);
    b.terms.uses = Some(0);
    check(facts(Some(&b)), Action::OperateCritical, 0, Reason::UsedUp);
    check(facts(Some(&b)), Action::View, 0, Reason::Bound);
    b.terms.uses = Some(1);
    check(facts(Some(&b)), Action::OperateCritical, 0, Reason::Bound);
}

#[test]
fn a_restricted_right_reaches_what_it_names_and_never_the_whole() {
    let mut b = binding(Privilege::Manage);
    b.terms.only = Some(["open".to_owned()].into());
    let named = |name| Facts { name: Some(name), ..facts(Some(&b)) };
    check(named("open"), Action::OperateCritical, 0, Reason::Bound);
    check(named("close"), Action::OperateCritical, 0, Reason::NotCovered);
    check(facts(Some(&b)), Action::Manage, 0, Reason::PrivilegeTooLow);
    let t = Table::of_bound(std::iter::once(("door-1", facts(Some(&b)))), &Moment::utc(0));
    assert_eq!(t.publish("things/door-1/commands/open", false), PublishVerdict::Handle);
    assert_eq!(t.publish("things/door-1/commands/close", false), PublishVerdict::Deny);
    assert_eq!(t.publish("things/door-1/shadow/get", false), PublishVerdict::Deny);
    assert!(t.receive("things/door-1/commands/open/result") && t.receive("things/door-1/presence"));
    for whole in ["shadow/update/documents", "$aws", "telemetry", "commands/close/result", "shadow/get/accepted"] {
        assert!(!t.receive(&format!("things/door-1/{whole}")), "{whole}");
    }
}

#[test]
fn an_app_has_its_own_right_and_never_more_than_its_person() {
    let (own, persons) = (binding(Privilege::Operate), binding(Privilege::View));
    let app = |person| Facts { behalf: Some(facts(person).holder), ..facts(Some(&own)) };
    check(app(Some(&persons)), Action::View, 0, Reason::Bound);
    check(app(Some(&persons)), Action::Operate, 0, Reason::PersonMayNot);
    check(app(None), Action::View, 0, Reason::PersonMayNot);
    let wider = binding(Privilege::Administer);
    check(app(Some(&wider)), Action::Administer, 0, Reason::PrivilegeTooLow);
}

#[test]
fn a_device_bound_to_another_does_there_what_its_right_says_and_keeps_its_own_room() {
    let mut b = binding(Privilege::Manage);
    b.terms.only = Some(["open".to_owned()].into());
    let t = Table::of_device("remote", std::iter::once(("door-1", facts(Some(&b)))), &Moment::utc(0));
    assert_eq!(t.publish("things/remote/shadow/update", false), PublishVerdict::Handle);
    assert_eq!(t.publish("things/door-1/commands/open", false), PublishVerdict::Handle);
    assert_eq!(t.publish("things/door-1/commands/close", false), PublishVerdict::Deny);
    assert_eq!(t.publish("things/door-1/telemetry", false), PublishVerdict::Deny);
    assert_eq!(t.publish("things/door-1/claim/hello", false), PublishVerdict::Deny);
    assert!(t.subscribe("things/door-1/presence") && !t.subscribe("things/+/presence") && !t.subscribe("things/other/#"));
    assert!(t.receive("things/remote/x") && !t.receive("things/door-1/shadow/get/accepted"));
}

#[test]
fn a_device_that_has_not_proved_its_key_does_nothing_critical_for_anybody() {
    let b = binding(Privilege::Administer);
    let provisional = Facts { attested: false, ..owned(&b) };
    check(provisional, Action::OperateCritical, 0, Reason::NotAttested);
    for action in [Action::View, Action::Operate, Action::Manage, Action::Administer] {
        check(provisional, action, 0, Reason::Bound);
    }
    let low = binding(Privilege::Operate);
    check(Facts { attested: false, ..facts(Some(&low)) }, Action::OperateCritical, 0, Reason::PrivilegeTooLow);
    check(Facts { standing: Standing::Suspended, ..provisional }, Action::OperateCritical, 0, Reason::Suspended);
}

#[test]
fn a_device_listens_in_the_rooms_it_may_listen_in_and_not_around_them() {
    let b = binding(Privilege::Operate);
    let t = Table::of_device("remote", std::iter::once(("door-1", facts(Some(&b)))), &Moment::utc(0));
    for device in ["remote", "door-1"] {
        for filter in ["things/X/#", "things/X/+/x", "$aws/things/X/shadow/#"] {
            assert!(t.subscribe(&filter.replace('X', device)), "{filter} {device}");
        }
        for filter in ["things/X", "things/X/", "$aws/things/X/#", "$aws/things/X", "$aws/things/X/+/update", "+/X/#"] {
            assert!(!t.subscribe(&filter.replace('X', device)), "{filter} {device}");
        }
    }
}

#[test]
fn a_rebase_session_can_do_one_thing() {
    let t = Table::of_rebase("a");
    assert_eq!(t.publish("things/a/rebase/response", false), PublishVerdict::Handle);
    assert_eq!(t.publish("things/a/x", false), PublishVerdict::Deny);
    assert!(t.subscribe("things/a/rebase/challenge") && !t.subscribe("things/a/#"));
    assert!(!t.receive("things/a/commands/open"));
}

const HOUR: u64 = 3_600_000;

#[test]
fn what_came_from_outside_goes_stale_by_what_it_can_do_and_what_was_given_in_the_house_never() {
    let (house, cloud) = (binding(Privilege::Administer), Binding { origin: FROM_CLOUD.into(), ..binding(Privilege::Administer) });
    let guest = |binding, policy_age_ms| {
        let facts = facts(Some(binding));
        Facts { holder: Holder { from_cloud: true, ..facts.holder }, policy_age_ms, ..facts }
    };
    for action in Action::ALL {
        let budget = match action {
            Action::View => u64::MAX,
            Action::Operate => 7 * 24 * HOUR,
            _ => 24 * HOUR,
        };
        for (age, expected) in [(0, Reason::Bound), (budget, Reason::Bound), (budget.saturating_add(1), Reason::PolicyStale)] {
            let expected = if age == u64::MAX { Reason::Bound } else { expected };
            check(Facts { policy_age_ms: age, ..facts(Some(&house)) }, action, 0, Reason::Bound);
            check(Facts { policy_age_ms: age, ..facts(Some(&cloud)) }, action, 0, expected);
            check(guest(&house, age), action, 0, expected);
            let decision = decide(&guest(&house, age), action, &Moment::utc(0));
            assert_eq!(decision.policy_age_ms, age);
        }
    }
    // An app of such a person has no more, and what it was given in the house does not help it.
    let app = Facts { behalf: Some(guest(&house, 0).holder), policy_age_ms: 25 * HOUR, ..facts(Some(&house)) };
    check(app, Action::Manage, 0, Reason::PersonMayNot);
    check(app, Action::Operate, 0, Reason::Bound);
    // What never went that far is told so first.
    let low = Binding { origin: FROM_CLOUD.into(), ..binding(Privilege::View) };
    check(Facts { policy_age_ms: 25 * HOUR, ..facts(Some(&low)) }, Action::Manage, 0, Reason::PrivilegeTooLow);
}

proptest! {
    #[test]
    fn a_table_is_made_anew_before_what_came_from_outside_goes_stale(age in 0..9 * 24 * HOUR, until in proptest::option::of(0..9 * 24 * HOUR), from_cloud: bool, outside: bool, now in 0u64..4) {
        let origin = if outside { FROM_CLOUD.to_owned() } else { String::new() };
        let b = Binding { origin, terms: Terms { until, ..Terms::of(Privilege::Administer) }, ..binding(Privilege::Administer) };
        let facts = facts(Some(&b));
        let facts = Facts { holder: Holder { from_cloud, ..facts.holder }, policy_age_ms: age, ..facts };
        let edge = facts.next_edge(&Moment::utc(now));
        prop_assert_eq!(Table::of_bound(std::iter::once(("door-1", facts)), &Moment::utc(now)).valid_until(), edge);
        prop_assert!(edge > now);
        let said = |at: u64| Action::ALL.map(|a| decide(&Facts { policy_age_ms: age + (at - now), ..facts }, a, &Moment::utc(at)).allowed);
        if edge == u64::MAX {
            prop_assert_eq!(said(now), said(now + 1_000 * HOUR));
        } else {
            prop_assert_eq!(said(now), said(edge - 1));
            prop_assert_ne!(said(now), said(edge));
        }
    }

    #[test]
    fn the_table_says_what_the_decision_says(privilege in 0u8..5, standing in 0u8..5, role in 0u8..2, from in proptest::option::of(0u64..4), until in proptest::option::of(0u64..4), revoked in 0u64..3, now in 0u64..4, active: bool, attested: bool) {
        let privileges = [Privilege::View, Privilege::Operate, Privilege::Manage, Privilege::Administer];
        let standings = [Standing::Waiting, Standing::Claimed, Standing::Ready, Standing::Suspended, Standing::Quarantined];
        let b = privileges.get(usize::from(privilege)).map(|p| Binding { terms: Terms { from, until, ..Terms::of(*p) }, ..binding(*p) });
        let role = Some(if role == 0 { Role::Owner } else { Role::Member });
        let facts = Facts {
            holder: Holder { active, role, binding: b.as_ref(), revoked_generation: revoked, from_cloud: false },
            behalf: None,
            standing: standings[usize::from(standing)],
            attested,
            behind: false,
            name: None,
            policy_age_ms: 0,
            review_pending: false,
        };
        let table = Table::of_bound(std::iter::once(("door-1", facts)), &Moment::utc(now));
        let may = |a| decide(&facts, a, &Moment::utc(now)).allowed;
        prop_assert_eq!(table.receive("things/door-1/x"), may(Action::View));
        prop_assert_eq!(table.subscribe("things/door-1/#"), may(Action::View));
        prop_assert_eq!(table.publish("things/door-1/commands/x", false) == PublishVerdict::Handle, may(Action::Operate));
        prop_assert!(attested || !may(Action::OperateCritical), "what has not proved its key does nothing critical");
        prop_assert!(!table.receive("things/door-1/claim/credential"));
        prop_assert!(!table.receive("things/door-2/x"));
        // Nothing changes before the table says that it might.
        for later in now..table.valid_until().min(6) {
            prop_assert_eq!(decide(&facts, Action::View, &Moment::utc(later)).allowed, may(Action::View));
        }
    }
}
