//! The decision core against cases and against a naive reference.

use super::*;
use crate::domain::account::UserId;
use crate::domain::binding::Subject;
use proptest::prelude::*;

fn binding(privilege: Privilege) -> Binding {
    Binding {
        device: "door-1".parse().unwrap(),
        subject: Subject::User(UserId::from_uuid(uuid::Uuid::nil())),
        privilege,
        granted_by: "claim".into(),
        granted_at: 0,
        generation: 1,
        from: None,
        until: None,
    }
}

fn facts(binding: Option<&Binding>) -> Facts<'_> {
    Facts { active: true, role: Some(HouseholdRole::Member), standing: Standing::Ready, binding, revoked_generation: 0, policy_age_ms: 0 }
}

fn check(facts: Facts<'_>, action: Action, now: u64, expected: Reason) {
    let decision = decide(&facts, action, now);
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
    let b = Binding { from: Some(10), until: Some(20), ..binding(Privilege::Administer) };
    check(facts(Some(&b)), Action::View, 9, Reason::NotYet);
    check(facts(Some(&b)), Action::View, 10, Reason::Bound);
    check(facts(Some(&b)), Action::View, 19, Reason::Bound);
    check(facts(Some(&b)), Action::View, 20, Reason::Expired);
}

#[test]
fn a_mark_ends_every_generation_up_to_its_own() {
    let b = binding(Privilege::Administer);
    check(Facts { revoked_generation: 1, ..facts(Some(&b)) }, Action::View, 0, Reason::Revoked);
    let again = Binding { generation: 2, ..b };
    check(Facts { revoked_generation: 1, ..facts(Some(&again)) }, Action::View, 0, Reason::Bound);
}

#[test]
fn an_unclaimed_device_is_read_by_nobody() {
    let b = binding(Privilege::Administer);
    check(Facts { standing: Standing::Waiting, role: Some(HouseholdRole::Owner), ..facts(Some(&b)) }, Action::View, 0, Reason::NotClaimed);
}

#[test]
fn a_suspended_device_is_seen_but_not_driven_and_a_quarantined_one_is_kept_by_owners_alone() {
    let b = binding(Privilege::Administer);
    check(Facts { standing: Standing::Suspended, ..facts(Some(&b)) }, Action::View, 0, Reason::Bound);
    check(Facts { standing: Standing::Suspended, ..facts(Some(&b)) }, Action::OperateCritical, 0, Reason::Suspended);
    check(Facts { standing: Standing::Quarantined, ..facts(Some(&b)) }, Action::View, 0, Reason::Quarantined);
    let owner = Facts { standing: Standing::Quarantined, role: Some(HouseholdRole::Owner), ..facts(Some(&b)) };
    check(owner, Action::View, 0, Reason::Bound);
}

#[test]
fn the_table_gives_a_device_its_room_and_nothing_else() {
    let t = Table::of_device("a");
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
fn a_rebase_session_can_do_one_thing() {
    let t = Table::of_rebase("a");
    assert_eq!(t.publish("things/a/rebase/response", false), PublishVerdict::Handle);
    assert_eq!(t.publish("things/a/x", false), PublishVerdict::Deny);
    assert!(t.subscribe("things/a/rebase/challenge") && !t.subscribe("things/a/#"));
    assert!(!t.receive("things/a/commands/open"));
}

proptest! {
    #[test]
    fn the_table_says_what_the_decision_says(privilege in 0u8..5, standing in 0u8..5, role in 0u8..2, from in proptest::option::of(0u64..4), until in proptest::option::of(0u64..4), revoked in 0u64..3, now in 0u64..4, active: bool) {
        let privileges = [Privilege::View, Privilege::Operate, Privilege::Manage, Privilege::Administer];
        let standings = [Standing::Waiting, Standing::Claimed, Standing::Ready, Standing::Suspended, Standing::Quarantined];
        let b = privileges.get(usize::from(privilege)).map(|p| Binding { from, until, ..binding(*p) });
        let facts = Facts {
            active,
            role: Some(if role == 0 { HouseholdRole::Owner } else { HouseholdRole::Member }),
            standing: standings[usize::from(standing)],
            binding: b.as_ref(),
            revoked_generation: revoked,
            policy_age_ms: 0,
        };
        let table = Table::of_bound(std::iter::once(("door-1", facts)), now);
        let may = |a| decide(&facts, a, now).allowed;
        prop_assert_eq!(table.receive("things/door-1/x"), may(Action::View));
        prop_assert_eq!(table.subscribe("things/door-1/#"), may(Action::View));
        prop_assert_eq!(table.publish("things/door-1/commands/x", false) == PublishVerdict::Handle, may(Action::Operate));
        prop_assert!(!table.receive("things/door-1/claim/credential"));
        prop_assert!(!table.receive("things/door-2/x"));
        // Nothing changes before the table says that it might.
        for later in now..table.valid_until().min(6) {
            prop_assert_eq!(decide(&facts, Action::View, later).allowed, may(Action::View));
        }
    }
}
