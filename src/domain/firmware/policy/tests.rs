//! The verdict: its rules one by one, and all of them against a reference that is written the slow way.

use proptest::prelude::*;

use super::*;
use crate::domain::firmware::progress::{Code, Event, OfferId, Report, Said, Tries, step};
use crate::domain::ids::{BrandId, ModelName};
use crate::domain::time::Day;

const HOUR: u64 = 60 * 60 * 1000;
/// A Monday, 1970-01-05 at noon.
const NOW: u64 = (4 * 24 + 12) * HOUR;

fn release(rel: u64) -> Release {
    Release {
        brand: BrandId::parse("acme").unwrap(),
        model: ModelName::parse("garage-door").unwrap(),
        hardware: vec!["A".into()],
        rel,
        version: format!("1.{rel}.0"),
        sha256: ImageHash::of(&rel.to_be_bytes()),
        size: 9,
        notes: String::new(),
        least_before: 0,
        security_minimum: 0,
        made_at: 0,
    }
}

fn known(rel: u64) -> Known {
    Known { release: release(rel), cached: true, cloud_percent: 100, withdrawn: false, tried: 0, failed: 0, resumed: false }
}

fn automatic() -> Policy {
    Policy { mode: Mode::Automatic, ..Policy::default() }
}

fn device() -> DeviceId {
    DeviceId::parse("door-1").unwrap()
}

fn asked(policy: &Policy, known: &[Known], change: impl FnOnce(&mut DeviceFacts<'_>)) -> Verdict {
    let (id, progress) = (device(), Progress::default());
    let mut facts = DeviceFacts { id: &id, hardware: "A", rel: Some(1), floor: 0, approved: None, progress: &progress };
    change(&mut facts);
    verdict(policy, known, &facts, &Moment::utc(NOW))
}

fn asked_of(policy: &Policy, known: &[Known], id: &DeviceId) -> Verdict {
    let progress = Progress::default();
    let facts = DeviceFacts { id, hardware: "A", rel: Some(1), floor: 0, approved: None, progress: &progress };
    verdict(policy, known, &facts, &Moment::utc(NOW))
}

fn offer(rel: u64) -> Verdict {
    Verdict::Offer { rel, install: true }
}

fn waits(rel: u64, why: Why) -> Verdict {
    Verdict::Waits { rel, why }
}

#[test]
fn the_newest_release_is_offered_and_never_an_older_or_equal_one() {
    let releases = [known(2), known(4), known(3)];
    assert_eq!(asked(&automatic(), &releases, |_| {}), offer(4));
    assert_eq!(asked(&automatic(), &releases, |d| d.rel = Some(3)), offer(4));
    for rel in 4..6 {
        assert_eq!(asked(&automatic(), &releases, |d| d.rel = Some(rel)), Verdict::UpToDate);
    }
    assert_eq!(asked(&automatic(), &[], |_| {}), Verdict::UpToDate);
}

#[test]
fn a_device_that_never_said_what_it_runs_is_offered_the_newest_if_people_let_it() {
    assert_eq!(asked(&automatic(), &[known(2), known(3)], |d| d.rel = None), offer(3));
    assert_eq!(asked(&Policy::default(), &[known(2)], |d| d.rel = None), waits(2, Why::Ask));
    assert_eq!(asked(&automatic(), &[], |d| d.rel = None), Verdict::NotKnown);
}

#[test]
fn what_needs_a_yes_waits_for_it_and_gets_no_other_release() {
    let releases = [known(2), known(3)];
    let ask = Policy::default();
    assert_eq!(asked(&ask, &releases, |_| {}), waits(3, Why::Ask));
    assert_eq!(asked(&ask, &releases, |d| d.approved = Some(2)), offer(2));
    assert_eq!(asked(&ask, &releases, |d| d.approved = Some(3)), offer(3));
    assert_eq!(asked(&ask, &releases, |d| (d.rel, d.approved) = (Some(2), Some(2))), waits(3, Why::Ask));
    assert_eq!(asked(&Policy { mode: Mode::Hold, ..ask }, &releases, |d| d.approved = Some(3)), waits(3, Why::Hold));
}

#[test]
fn a_release_out_of_reach_is_gone_to_in_steps() {
    let mut far = known(5);
    far.release.least_before = 3;
    let between = known(3);
    assert_eq!(asked(&automatic(), std::slice::from_ref(&far), |_| {}), waits(5, Why::Step));
    let releases = [far, between];
    assert_eq!(asked(&automatic(), &releases, |_| {}), offer(3));
    assert_eq!(asked(&automatic(), &releases, |d| d.rel = Some(3)), offer(5));
    // A yes to the far one is a yes to the step on the way, and to no more.
    assert_eq!(asked(&Policy::default(), &releases, |d| d.approved = Some(5)), offer(3));
    assert_eq!(asked(&Policy::default(), &[known(5), known(3)], |d| d.approved = Some(4)), waits(5, Why::Ask));
}

#[test]
fn another_hardware_is_left_alone() {
    let mut other = known(3);
    other.release.hardware = vec!["B".into()];
    assert_eq!(asked(&automatic(), std::slice::from_ref(&other), |_| {}), waits(3, Why::Hardware));
    assert_eq!(asked(&automatic(), &[other.clone(), known(2)], |_| {}), offer(2));
    assert_eq!(asked(&automatic(), &[other], |d| d.rel = Some(3)), Verdict::UpToDate);
}

#[test]
fn outside_its_window_a_device_downloads_and_does_not_install() {
    let window = |days: &[Day], from: &str, to: &str| Window {
        days: days.to_vec(),
        from: from.to_owned().try_into().unwrap(),
        to: to.to_owned().try_into().unwrap(),
    };
    let policy = |window| Policy { window: Some(window), ..automatic() };
    let early = Verdict::Offer { rel: 2, install: false };
    assert_eq!(asked(&policy(window(&[Day::Mon], "11:00", "13:00")), &[known(2)], |_| {}), offer(2));
    assert_eq!(asked(&policy(window(&[Day::Mon], "02:00", "04:00")), &[known(2)], |_| {}), early);
    assert_eq!(asked(&policy(window(&[Day::Tue], "11:00", "13:00")), &[known(2)], |_| {}), early);
    // One that is behind does not wait for it.
    assert_eq!(asked(&policy(window(&[Day::Tue], "11:00", "13:00")), &[known(2)], |d| d.floor = 2), offer(2));
    // Nobody knows what time it is.
    let (id, progress) = (device(), Progress::default());
    let facts = DeviceFacts { id: &id, hardware: "A", rel: Some(1), floor: 0, approved: None, progress: &progress };
    let moment = Moment { grade: Grade::None, ..Moment::utc(NOW) };
    assert_eq!(verdict(&policy(window(&[Day::Mon], "11:00", "13:00")), &[known(2)], &facts, &moment), early);
}

#[test]
fn a_stage_takes_exactly_the_devices_below_it() {
    let ids: Vec<DeviceId> = (0..2_000).map(|n| DeviceId::parse(&format!("door-{n}")).unwrap()).collect();
    for (percent, cloud) in [(0, 100), (1, 100), (10, 100), (100, 10), (50, 30), (99, 100), (100, 100)] {
        let policy = Policy { percent, ..automatic() };
        let releases = [Known { cloud_percent: cloud, ..known(2) }];
        let taken = ids
            .iter()
            .filter(|id| {
                let verdict = asked_of(&policy, &releases, id);
                let below = stage(id, &releases[0].release.sha256) < percent.min(cloud);
                assert_eq!(verdict, if below { offer(2) } else { waits(2, Why::Stage) });
                below
            })
            .count();
        let expected = usize::from(percent.min(cloud)) * ids.len() / 100;
        assert!(taken.abs_diff(expected) <= 60, "{taken} of 2000 for {percent} % and {cloud} %");
    }
}

#[test]
fn a_stage_grows_and_lets_nobody_go() {
    let taken = |percent| {
        let policy = Policy { percent, ..automatic() };
        (0..300).filter(move |n| {
            let id = DeviceId::parse(&format!("door-{n}")).unwrap();
            asked_of(&policy, &[known(2)], &id) == offer(2)
        })
    };
    let ten: Vec<_> = taken(10).collect();
    let fifty: Vec<_> = taken(50).collect();
    assert!(!ten.is_empty() && ten.len() < fifty.len() && ten.iter().all(|n| fifty.contains(n)));
}

#[test]
fn the_stage_is_as_the_protocol_computes_it() {
    let digest = Sha256::digest([b"door-1".as_slice(), ImageHash::of(b"x").as_bytes()].concat());
    let number = u64::from_be_bytes(digest[..8].try_into().unwrap());
    assert_eq!(u64::from(stage(&device(), &ImageHash::of(b"x"))), number % 100);
}

#[test]
fn a_release_that_fails_is_stopped_until_a_person_lets_it_go_on() {
    for (tried, failed, stopped) in [(0, 0, false), (2, 2, false), (3, 1, false), (3, 2, true), (100, 34, false), (100, 35, true)] {
        let releases = [Known { tried, failed, ..known(3) }, known(2)];
        assert_eq!(asked(&automatic(), &releases[..1], |_| {}) == waits(3, Why::Stopped), stopped, "{failed} of {tried}");
        assert_eq!(asked(&automatic(), &releases, |_| {}), offer(if stopped { 2 } else { 3 }));
        let resumed = [Known { resumed: true, ..releases[0].clone() }];
        assert_eq!(asked(&automatic(), &resumed, |_| {}), offer(3));
        // A yes from before it was known does not override it.
        assert_eq!(asked(&automatic(), &releases[..1], |d| d.approved = Some(3)) == offer(3), !stopped);
    }
}

#[test]
fn a_device_behind_is_offered_at_once_unless_held() {
    let policy = Policy { percent: 0, ..Policy::default() };
    let releases = [Known { tried: 10, failed: 10, cloud_percent: 0, ..known(3) }];
    assert_eq!(asked(&policy, &releases, |d| d.floor = 1), waits(3, Why::Stopped));
    assert_eq!(asked(&policy, &releases, |d| d.floor = 2), offer(3));
    assert_eq!(asked(&Policy { mode: Mode::Hold, ..policy }, &releases, |d| d.floor = 2), waits(3, Why::Hold));
    assert!(!is_behind(None, 5) && is_behind(Some(4), 5) && !is_behind(Some(5), 5));
}

#[test]
fn an_image_that_is_not_here_is_passed_over() {
    let releases = [Known { cached: false, ..known(3) }, known(2)];
    assert_eq!(asked(&automatic(), &releases, |_| {}), offer(2));
    assert_eq!(asked(&automatic(), &releases[..1], |_| {}), waits(3, Why::NotCached));
}

#[test]
fn what_its_maker_has_withdrawn_is_offered_to_nobody_and_is_no_reason_to_wait() {
    let releases = [Known { withdrawn: true, ..known(3) }, known(2)];
    assert_eq!(asked(&automatic(), &releases, |_| {}), offer(2));
    for approved in [None, Some(3)] {
        let facts = |d: &mut DeviceFacts<'_>| (d.approved, d.floor) = (approved, 3);
        assert_eq!(asked(&automatic(), &releases[..1], facts), Verdict::UpToDate);
    }
}

#[test]
fn an_image_is_lacking_when_the_device_waits_for_nothing_else() {
    let lacking = |policy: &Policy, known: &[Known], approved| {
        let (id, progress) = (device(), Progress::default());
        let facts = DeviceFacts { id: &id, hardware: "A", rel: Some(1), floor: 0, approved, progress: &progress };
        lacks_image(policy, known, &facts, &Moment::utc(NOW))
    };
    let gone = |rel| Known { cached: false, ..known(rel) };
    assert_eq!(lacking(&automatic(), &[gone(3), known(2)], None), Some(3));
    assert_eq!(lacking(&automatic(), &[known(3), gone(2)], None), None, "it gets a newer one");
    assert_eq!(lacking(&Policy::default(), &[gone(3)], None), None, "nobody has said yes");
    assert_eq!(lacking(&Policy::default(), &[gone(3)], Some(3)), Some(3));
    let mut far = known(4);
    far.release.least_before = 3;
    assert_eq!(lacking(&automatic(), &[far, gone(3)], None), Some(3), "the step on the way there");
    assert_eq!(lacking(&automatic(), &[Known { withdrawn: true, ..gone(3) }], None), None);
}

#[test]
fn a_device_that_failed_waits_longer_each_time_and_then_for_a_person() {
    let failed = |failures| Progress { tries: vec![Tries { rel: 3, failures, failed_at: NOW, counted: None }], ..Progress::default() };
    let at = |progress: &Progress, after: u64| {
        let id = device();
        let facts = DeviceFacts { id: &id, hardware: "A", rel: Some(1), floor: 0, approved: None, progress };
        verdict(&automatic(), &[known(3)], &facts, &Moment::utc(NOW + after))
    };
    for (failures, hours) in [(1, 1), (2, 4), (3, 24)] {
        let until = NOW + hours * HOUR;
        assert_eq!(at(&failed(failures), 0), waits(3, Why::Backoff { until }));
        assert_eq!(at(&failed(failures), hours * HOUR - 1), waits(3, Why::Backoff { until }));
        assert_eq!(at(&failed(failures), hours * HOUR), offer(3));
    }
    assert_eq!(at(&failed(4), 1_000 * HOUR), waits(3, Why::GaveUp));
    let (again, _) = step(&failed(4), Event::Retried { rel: 3 }, NOW);
    assert_eq!(at(&again, 0), offer(3));
    // It failed when the clock said 2099.
    let far = Progress { tries: vec![Tries { rel: 3, failures: 1, failed_at: NOW * 1_000, counted: None }], ..Progress::default() };
    assert_eq!(at(&far, 0), offer(3));
}

#[test]
fn what_is_being_installed_is_not_taken_back() {
    let id = OfferId::from_uuid(uuid::Uuid::from_u128(1));
    let (offered, _) = step(&Progress::default(), Event::OfferMade { offer: id, rel: 2 }, NOW);
    let report = Report { rel: 1, version: "1.1.0".into(), said: Said::Installing { offer: id } };
    let (installing, _) = step(&offered, Event::Reported(report), NOW);
    for policy in [Policy { mode: Mode::Hold, ..automatic() }, automatic()] {
        let device = device();
        let facts = DeviceFacts { id: &device, hardware: "A", rel: Some(1), floor: 9, approved: None, progress: &installing };
        assert_eq!(verdict(&policy, &[known(2), known(3)], &facts, &Moment::utc(NOW)), offer(2));
    }
}

#[test]
fn a_policy_keeps_its_bounds() {
    assert_eq!(Policy::default().check(), Ok(()));
    assert_eq!(Policy { percent: 101, ..Policy::default() }.check(), Err(PolicyError::Percent));
    assert_eq!(Policy { stop: Stop { after: 0, percent: 1 }, ..Policy::default() }.check(), Err(PolicyError::Stop));
    assert_eq!(Policy { stop: Stop { after: 1, percent: 101 }, ..Policy::default() }.check(), Err(PolicyError::Stop));
    let json = r#"{"mode": "automatic", "window": {"days": ["mon", "mon"], "from": "01:00", "to": "02:00"}}"#;
    let policy: Policy = serde_json::from_str(json).unwrap();
    assert_eq!(policy.check(), Err(PolicyError::Window));
    assert_eq!((policy.mode, policy.percent), (Mode::Automatic, 100));
    assert!(serde_json::from_str::<Policy>(r#"{"mod": "automatic"}"#).is_err());
}

/// The rules of the protocol's §4 read one after the other, for each release by itself.
fn reference(policy: &Policy, known: &[Known], device: &DeviceFacts<'_>, at: u64) -> Option<u64> {
    if policy.mode == Mode::Hold {
        return None;
    }
    let behind = device.rel.is_some() && device.rel.unwrap() < device.floor;
    let mut best: Option<u64> = None;
    let mut pausing: Option<u64> = None;
    for k in known {
        let rel = k.release.rel;
        let reachable = match device.rel {
            Some(own) => own < rel && k.release.least_before <= own,
            None => true,
        };
        if k.withdrawn || !reachable || !k.release.hardware.contains(&device.hardware.to_owned()) {
            continue;
        }
        let mut tries = device.progress.tries.iter().filter(|t| t.rel == rel && t.failures > 0);
        let tries = tries.next();
        let gave_up = tries.is_some_and(|t| t.failures > 3);
        let pause = tries.map(|t| (t.failed_at, [0, 1, 4, 24, 0][(t.failures as usize).min(4)] * HOUR));
        let in_pause = pause.is_some_and(|(from, long)| at >= from && at < from + long);
        let stopped = !k.resumed && k.tried >= policy.stop.after && k.failed * 100 > k.tried * u32::from(policy.stop.percent);
        let yes = device.approved.is_some_and(|yes| {
            yes == rel
                || (yes > rel
                    && known.iter().any(|far| {
                        let needs_a_step = device.rel.is_some_and(|own| far.release.least_before > own);
                        !far.withdrawn
                            && far.release.rel == yes
                            && far.release.hardware.contains(&device.hardware.to_owned())
                            && needs_a_step
                    }))
        });
        let turn = stage(device.id, &k.release.sha256) < policy.percent && stage(device.id, &k.release.sha256) < k.cloud_percent;
        let people = behind || (!stopped && (yes || (turn && policy.mode == Mode::Automatic)));
        if gave_up || !people {
            continue;
        }
        if in_pause {
            pausing = pausing.max(Some(rel));
        } else if k.cached {
            best = best.max(Some(rel));
        }
    }
    // Who failed a while ago waits, and does not take an older one meanwhile.
    best.filter(|best| pausing.is_none_or(|pausing| pausing < *best))
}

prop_compose! {
    fn any_known(rel: u64)(
        cached in prop::bool::weighted(0.8), withdrawn in prop::bool::weighted(0.1), cloud_percent in 0u8..=100, tried in 0u32..8, part in 0u32..=100, resumed: bool,
        least_before in 0..rel, other_hardware in prop::bool::weighted(0.2), seed: u64,
    ) -> Known {
        let mut release = release(rel);
        release.least_before = least_before / 2;
        release.sha256 = ImageHash::of(&seed.to_be_bytes());
        if other_hardware {
            release.hardware = vec!["B".into()];
        }
        Known { release, cached, cloud_percent, withdrawn, tried, failed: tried * part / 100, resumed }
    }
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let mode = prop_oneof![4 => Just(Mode::Automatic), 2 => Just(Mode::Ask), 1 => Just(Mode::Hold)];
    (mode, prop_oneof![Just(100u8), 0u8..=100], 1u32..5, 0u8..=100).prop_map(|(mode, percent, after, stop)| Policy {
        mode,
        window: None,
        percent,
        stop: Stop { after, percent: stop },
    })
}

fn any_tries() -> impl Strategy<Value = Vec<Tries>> {
    let one = |rel| {
        (0u32..6, NOW - 30 * HOUR..NOW + 2 * HOUR).prop_map(move |(failures, failed_at)| Tries { rel, failures, failed_at, counted: None })
    };
    (one(3), one(4), one(6)).prop_map(|(a, b, c)| vec![a, b, c])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6_000, ..ProptestConfig::default() })]

    #[test]
    fn the_verdict_is_what_the_rules_say_read_one_by_one(
        releases in (any_known(2), any_known(3), any_known(4), any_known(6)), keep in 0u8..16, policy in any_policy(), tries in any_tries(),
        own in prop::option::weighted(0.9, 0u64..8), floor in prop_oneof![Just(0u64), 0u64..7], approved in prop::option::of(1u64..8), n in 0u32..500,
    ) {
        let releases = [releases.0, releases.1, releases.2, releases.3];
        let releases: Vec<Known> = releases.into_iter().enumerate().filter(|(at, _)| keep & (1 << at) != 0).map(|(_, k)| k).collect();
        let id = DeviceId::parse(&format!("door-{n}")).unwrap();
        let progress = Progress { tries, ..Progress::default() };
        let facts = DeviceFacts { id: &id, hardware: "A", rel: own, floor, approved, progress: &progress };
        let said = verdict(&policy, &releases, &facts, &Moment::utc(NOW));
        let offered = match said { Verdict::Offer { rel, .. } => Some(rel), _ => None };
        prop_assert_eq!(offered, reference(&policy, &releases, &facts, NOW), "{:?}", said);
        // And what holds whatever the rules are.
        if let (Some(rel), Some(own)) = (offered, own) {
            prop_assert!(rel > own);
        }
        if policy.mode == Mode::Hold {
            prop_assert!(offered.is_none());
        }
        let nothing_newer = releases.iter().filter(|k| !k.withdrawn).all(|k| own.is_some_and(|own| k.release.rel <= own));
        prop_assert_eq!(matches!(said, Verdict::UpToDate | Verdict::NotKnown), nothing_newer);
        let good = |k: &&Known| {
            let reachable = own.is_some_and(|own| k.release.least_before <= own && own < k.release.rel);
            reachable && k.cached && !k.withdrawn && k.release.runs_on("A")
        };
        if is_behind(own, floor) && policy.mode != Mode::Hold && progress.tries.iter().all(|t| t.failures == 0) {
            prop_assert_eq!(offered, releases.iter().filter(good).map(|k| k.release.rel).max(), "one that is behind");
        }
    }
}

#[test]
fn a_failure_that_is_not_the_releases_fault_does_not_count_against_it() {
    for (code, blamed) in [(Code::Health, true), (Code::Hash, true), (Code::Older, false), (Code::Step, false), (Code::Refused, false)] {
        assert_eq!(code.blames_the_release(), blamed);
    }
}
