//! The way of one device, step by step; and many ways, walked at random against a naive account.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::firmware::policy::{DeviceFacts, Known, Mode, Policy, Verdict, verdict};
use crate::domain::firmware::release::{ImageHash, Release};
use crate::domain::ids::{BrandId, DeviceId, ModelName};
use crate::domain::time::Moment;

const START: u64 = 1_000_000;

fn id(n: u128) -> OfferId {
    OfferId::from_uuid(Uuid::from_u128(n))
}

fn says(rel: u64, said: Said) -> Event {
    Event::Reported(Report { rel, version: "1.0.0".into(), said })
}

fn failed(offer: OfferId, code: Code) -> Said {
    Said::Failed { offer, code, detail: String::new() }
}

/// What becomes of a new device by these events, a second apart, and all that follows.
fn after(events: impl IntoIterator<Item = Event>) -> (Progress, Vec<Effect>) {
    events.into_iter().zip(0..).fold((Progress::default(), Vec::new()), |(progress, mut effects), (event, n)| {
        let (next, more) = step(&progress, event, START + n * 1000);
        effects.extend(more);
        (next, effects)
    })
}

fn offered(n: u128, rel: u64) -> Event {
    Event::OfferMade { offer: id(n), rel }
}

#[test]
fn an_offer_keeps_its_image_for_a_week_from_when_it_was_fetched_of_and_while_it_is_installed() {
    let (offer, _) = step(&Progress::default(), offered(1, 2), START);
    assert!(offer.holds_image(START, START) && offer.holds_image(START, START + HELD_MS - 1));
    assert!(!offer.holds_image(START, START + HELD_MS) && !offer.holds_image(START + 1, START), "nor by a clock that was wrong");
    let (installs, _) = step(&offer, says(1, Said::Installing { offer: id(1) }), START);
    assert!(installs.holds_image(START, START + 2 * HELD_MS));
    assert!(!step(&offer, Event::Withdrawn, START).0.holds_image(START, START));
}

#[test]
fn a_device_downloads_installs_and_confirms() {
    let a = id(1);
    let steps = [
        (offered(1, 2), State::Offered),
        (says(1, Said::Idle), State::Offered),
        (says(1, Said::Downloading { offer: a, offset: 0 }), State::Downloading { offset: 0 }),
        (says(1, Said::Downloading { offer: a, offset: 500 }), State::Downloading { offset: 500 }),
        (says(1, Said::Idle), State::Downloading { offset: 500 }),
        (says(1, Said::Downloaded { offer: a }), State::Downloaded),
        (says(1, Said::Installing { offer: a }), State::Installing { since_ms: START }),
        (says(1, Said::Idle), State::Installing { since_ms: START }),
        (says(2, Said::Confirmed { offer: a }), State::Confirmed),
    ];
    let mut progress = Progress::default();
    let mut notes = Vec::new();
    for (event, state) in steps {
        let (next, effects) = step(&progress, event.clone(), START);
        assert_eq!(next.state, state, "after {event:?}");
        notes.extend(effects);
        progress = next;
    }
    assert_eq!(
        notes,
        [
            Effect::Noted(Note::Offered { rel: 2 }),
            Effect::Noted(Note::Installing { rel: 2 }),
            Effect::Counted { rel: 2, tried: true, failed: 0 },
            Effect::Noted(Note::Confirmed { rel: 2 })
        ]
    );
    assert_eq!(progress.offer, None);
    assert_eq!(progress.history, [Ended { offer: a, rel: 2, outcome: Outcome::Confirmed, at_ms: START }]);
}

#[test]
fn a_failure_ends_the_offer_and_is_remembered() {
    let (progress, effects) = after([offered(1, 2), says(1, failed(id(1), Code::Hash))]);
    assert_eq!((progress.offer, progress.failures(2)), (None, 1));
    assert!(matches!(progress.state, State::Failed { code: Code::Hash, at_ms, .. } if at_ms == START + 1000));
    assert!(effects.contains(&Effect::Counted { rel: 2, tried: true, failed: 1 }));
    let (progress, _) = step(&progress, Event::Retried { rel: 2 }, START);
    assert_eq!(progress.failures(2), 0);
}

#[test]
fn a_refusal_counts_for_the_device_and_not_against_the_release() {
    let (progress, effects) = after([offered(1, 2), says(3, failed(id(1), Code::Older))]);
    // It says that it runs something newer: the offer was moot.
    assert_eq!((progress.offer, progress.state), (None, State::Idle));
    assert!(!effects.iter().any(|e| matches!(e, Effect::Counted { .. })));
    let (progress, effects) = after([offered(1, 2), says(1, failed(id(1), Code::Older))]);
    assert_eq!(progress.failures(2), 1);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Counted { .. })));
}

#[test]
fn a_device_is_counted_once_and_its_last_word_holds() {
    let counts = |events: Vec<Event>| {
        let (_, effects) = after(events);
        effects.into_iter().fold((0, 0), |(tried, bad), effect| match effect {
            Effect::Counted { tried: first, failed, .. } => (tried + i32::from(first), bad + i32::from(failed)),
            Effect::Noted(_) => (tried, bad),
        })
    };
    let fail = |n| [offered(n, 2), says(1, failed(id(n), Code::Health))];
    let succeed = |n| [offered(n, 2), says(2, Said::Confirmed { offer: id(n) })];
    assert_eq!(counts([fail(1), fail(2)].concat()), (1, 1));
    assert_eq!(counts([fail(1), succeed(2)].concat()), (1, 0));
    assert_eq!(counts([succeed(1), succeed(2)].concat()), (1, 0));
    assert_eq!(counts([succeed(1), fail(2), succeed(3)].concat()), (1, 0));
}

#[test]
fn one_that_goes_silent_while_installing_has_failed_and_may_still_speak() {
    let silent = || [offered(1, 2), says(1, Said::Installing { offer: id(1) })];
    let (progress, _) = after(silent());
    let due = progress.due_at().unwrap();
    assert_eq!(step(&progress, Event::Elapsed, due - 1), (progress.clone(), Vec::new()));
    let (gone, effects) = step(&progress, Event::Elapsed, due);
    assert!(matches!(gone.state, State::Failed { code: Code::Silent, .. }) && gone.offer.is_none());
    assert!(effects.contains(&Effect::Counted { rel: 2, tried: true, failed: 1 }));

    for said in [Said::Confirmed { offer: id(1) }, Said::Idle] {
        let (back, effects) = step(&gone, says(2, said), due + 5);
        assert_eq!((back.state, back.history[0].outcome.clone()), (State::Confirmed, Outcome::Confirmed));
        assert!(effects.contains(&Effect::Counted { rel: 2, tried: false, failed: -1 }));
    }
    let (back, effects) = step(&gone, says(1, failed(id(1), Code::Health)), due + 5);
    assert!(matches!(back.state, State::Failed { code: Code::Health, .. }));
    assert_eq!(back.failures(2), 1, "one end is one failure");
    assert_eq!(effects, [Effect::Noted(Note::Failed { rel: 2, code: Code::Health })]);
    let (same, effects) = step(&gone, says(1, failed(id(7), Code::Health)), due + 5);
    assert_eq!((same, effects), (gone, vec![]));
}

#[test]
fn a_clock_that_is_set_back_makes_nobody_silent_and_nobody_immortal() {
    let (progress, _) = after([offered(1, 2), says(1, Said::Installing { offer: id(1) })]);
    let (progress, _) = step(&progress, Event::Elapsed, 5);
    assert_eq!(progress.due_at(), Some(5 + INSTALL_MS));
    let (progress, _) = step(&progress, Event::Elapsed, 5 + INSTALL_MS);
    assert!(matches!(progress.state, State::Failed { .. }));
}

#[test]
fn another_offer_takes_the_place_of_the_first_except_while_it_installs() {
    let (progress, effects) = after([offered(1, 2), offered(2, 3)]);
    assert_eq!((progress.offer, progress.rel), (Some(id(2)), 3));
    assert_eq!(effects[1], Effect::Noted(Note::Withdrawn { rel: 2 }));
    // What is said of the first is of no use any more.
    let (same, effects) = step(&progress, says(1, Said::Downloaded { offer: id(1) }), START);
    assert_eq!((same, effects), (progress.clone(), vec![]));
    // The same release again is the same offer.
    assert_eq!(step(&progress, offered(3, 3), START), (progress.clone(), vec![]));

    let (installing, _) = step(&progress, says(1, Said::Installing { offer: id(2) }), START);
    assert_eq!(step(&installing, offered(4, 9), START), (installing.clone(), vec![]));
    assert_eq!(step(&installing, Event::Withdrawn, START), (installing, vec![]));
    let (idle, effects) = step(&progress, Event::Withdrawn, START);
    assert_eq!((idle.offer, idle.state, effects), (None, State::Idle, vec![Effect::Noted(Note::Withdrawn { rel: 3 })]));
}

#[test]
fn a_word_that_was_lost_is_made_up_for_by_the_next() {
    // It restarted, confirmed, and the hub was away.
    let (progress, _) = after([offered(1, 2), says(1, Said::Installing { offer: id(1) }), says(2, Said::Idle)]);
    assert_eq!(progress.state, State::Confirmed);
    // It says that it confirmed, and runs another release than the one it was offered.
    let (progress, _) = after([offered(1, 2), says(1, Said::Installing { offer: id(1) }), says(1, Said::Confirmed { offer: id(1) })]);
    assert!(progress.is_installing());
    // Another way has brought it further than that.
    let (progress, _) = after([offered(1, 2), says(5, Said::Idle)]);
    assert_eq!((progress.offer, progress.state), (None, State::Idle));
}

#[test]
fn what_is_remembered_has_an_end() {
    let events = (0..100).flat_map(|n| [offered(n, n as u64 + 1), says(0, failed(id(n), Code::Download))]);
    let (progress, _) = after(events);
    assert_eq!((progress.history.len(), progress.tries.len()), (HISTORY_MAX, TRIES_MAX));
    assert_eq!(progress.history[0].rel, 85);
    assert_eq!(progress.tries[0].rel, 85);
}

#[test]
fn a_way_is_stored_as_json_and_read_again() {
    let (progress, _) = after([
        offered(1, 2),
        says(1, failed(id(1), Code::Health)),
        offered(2, 2),
        says(1, Said::Downloading { offer: id(2), offset: 77 }),
    ]);
    let json = serde_json::to_value(&progress).unwrap();
    assert_eq!((&json["state"], &json["offset"], &json["history"][0]["code"]), (&"downloading".into(), &77.into(), &"health".into()));
    assert_eq!(serde_json::from_value::<Progress>(json).unwrap(), progress);
    let (idle, _) = after([]);
    assert_eq!(serde_json::from_value::<Progress>(serde_json::to_value(&idle).unwrap()).unwrap(), idle);
}

#[test]
fn a_report_is_read_as_the_protocol_writes_it() {
    let offer = "00000000-0000-0000-0000-000000000001";
    let read = |json: &str| Report::parse(json.replace("OFFER", offer).as_bytes());
    let said = |json: &str| read(json).unwrap().said;
    assert_eq!(
        read(r#"{"rel": 3, "version": "1.4.2", "state": "idle"}"#),
        Ok(Report { rel: 3, version: "1.4.2".into(), said: Said::Idle })
    );
    let with = |rest: &str| format!(r#"{{"rel": 3, "version": "1.4.2", "further": [1], {rest}}}"#);
    assert_eq!(said(&with(r#""state": "downloading", "offer": "OFFER", "offset": 5"#)), Said::Downloading { offer: id(1), offset: 5 });
    assert_eq!(said(&with(r#""state": "downloaded", "offer": "OFFER""#)), Said::Downloaded { offer: id(1) });
    assert_eq!(said(&with(r#""state": "failed", "offer": "OFFER", "code": "step""#)), failed(id(1), Code::Step));
    let long =
        with(&format!(r#""state": "failed", "offer": "OFFER", "code": "hash", "detail": "{}\n""#, "é".repeat(500)).replace('\n', "\\n"));
    assert!(matches!(said(&long), Said::Failed { detail, .. } if detail == "é".repeat(200)));

    for wrong in [
        "",
        "[]",
        r#"{"rel": 3, "version": "1"}"#,
        r#"{"rel": -1, "version": "1", "state": "idle"}"#,
        r#"{"rel": 9007199254740992, "version": "1", "state": "idle"}"#,
        r#"{"rel": 3, "version": "1\u0000", "state": "idle"}"#,
        &with(r#""state": "dancing""#),
        &with(r#""state": "downloading", "offer": "OFFER""#),
        &with(r#""state": "downloaded""#),
        &with(r#""state": "downloaded", "offer": "x""#),
        &with(r#""state": "failed", "offer": "OFFER", "code": "silent""#),
        &with(r#""state": "failed", "offer": "OFFER", "code": "mood""#),
        &format!(r#"{{"rel": 3, "version": "{}", "state": "idle"}}"#, "x".repeat(65)),
        &with(&format!(r#""state": "idle", "much": "{}""#, "x".repeat(REPORT_LONG))),
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

const REPORT_LONG: usize = 2_048;

/// A device that does what the protocol says, with a hub that does, and between them what goes wrong.
struct World {
    hub: Progress,
    now: u64,
    offers: u128,
    known: Vec<Known>,
    policy: Policy,
    /// What the hub was told that the device runs.
    told: Option<u64>,
    floor: u64,
    runs: u64,
    /// What it works at: the offer, its release, how far (0 to 3 downloading, then downloaded, installing).
    work: Option<(OfferId, u64, u8)>,
    log: Vec<(u64, Option<bool>)>,
    counted: std::collections::BTreeMap<u64, (i32, i32)>,
    standing: i32,
}

#[derive(Debug, Clone)]
enum Move {
    /// The hub looks whether its offer is still the right one, and the device hears of it.
    Look {
        heard: bool,
    },
    /// The device does its next step; what it says may be lost.
    Work {
        heard: bool,
    },
    Fail {
        code: Code,
        heard: bool,
    },
    /// It goes dark and comes back.
    PowerCut {
        heard: bool,
    },
    Wait {
        ms: u64,
    },
    Publish,
    Mode(Mode),
    /// Somebody else publishes anything as this device.
    Noise(Report),
}

impl World {
    fn new() -> Self {
        Self {
            hub: Progress::default(),
            now: START,
            offers: 0,
            known: Vec::new(),
            policy: Policy { mode: Mode::Automatic, ..Policy::default() },
            told: None,
            floor: 0,
            runs: 1,
            work: None,
            log: Vec::new(),
            counted: std::collections::BTreeMap::new(),
            standing: 0,
        }
    }

    fn feed(&mut self, event: Event) {
        let before = self.hub.clone();
        let (next, effects) = step(&before, event.clone(), self.now);
        for effect in effects {
            match effect {
                Effect::Counted { rel, tried, failed } => {
                    let count = self.counted.entry(rel).or_default();
                    *count = (count.0 + i32::from(tried), count.1 + i32::from(failed));
                }
                Effect::Noted(Note::Offered { .. }) => self.standing += 1,
                Effect::Noted(Note::Withdrawn { .. }) => self.standing -= 1,
                Effect::Noted(Note::Confirmed { rel }) => {
                    self.log.push((rel, Some(true)));
                    self.standing -= i32::from(before.offer.is_some());
                }
                Effect::Noted(Note::Failed { rel, code }) => {
                    self.standing -= i32::from(before.offer.is_some());
                    if before.offer.is_some() && code.blames_the_release() {
                        self.log.push((rel, Some(false)));
                    }
                }
                Effect::Noted(Note::Installing { .. }) => {}
            }
        }
        assert_eq!(self.standing, i32::from(next.offer.is_some()), "one offer at most, and each one ends: {event:?}");
        if before.is_installing() && matches!(event, Event::OfferMade { .. } | Event::Withdrawn) {
            assert_eq!(next, before, "what installs stands");
        }
        assert!(next.history.len() <= HISTORY_MAX && next.tries.len() <= TRIES_MAX);
        assert!(next.tries.is_sorted_by_key(|tries| tries.rel));
        assert_eq!(
            next.offer.is_some(),
            matches!(next.state, State::Offered | State::Downloading { .. } | State::Downloaded | State::Installing { .. })
        );
        self.hub = next;
    }

    fn say(&mut self, said: Said, heard: bool) {
        if heard {
            self.told = Some(self.runs);
            self.feed(says(self.runs, said));
        }
    }

    fn verdict(&self) -> Verdict {
        let id = DeviceId::parse("door-1").unwrap();
        let facts = DeviceFacts { id: &id, hardware: "A", rel: self.told, floor: self.floor, approved: None, progress: &self.hub };
        verdict(&self.policy, &self.known, &facts, &Moment::utc(self.now))
    }

    fn look(&mut self, heard: bool) {
        self.feed(Event::Elapsed);
        match self.verdict() {
            Verdict::Offer { rel, .. } => {
                assert!(self.told.is_none_or(|told| rel > told) || self.hub.is_installing(), "never an older or equal one");
                let newest = self.known.iter().map(|k| k.release.rel).max();
                assert!(Some(rel) <= newest);
                self.offers += 1;
                self.feed(Event::OfferMade { offer: id(self.offers), rel });
            }
            _ => self.feed(Event::Withdrawn),
        }
        if heard {
            // What it has of the same offer it keeps.
            match (self.hub.offer, self.work) {
                (Some(offer), Some((mine, ..))) if offer == mine => {}
                (_, Some((.., 5))) => {}
                (Some(offer), _) if self.hub.rel > self.runs => self.work = Some((offer, self.hub.rel, 0)),
                (Some(offer), _) => self.say(failed(offer, Code::Older), true),
                (None, _) => self.work = None,
            }
        }
    }

    fn work(&mut self, heard: bool) {
        match self.work {
            None => self.say(Said::Idle, heard),
            Some((offer, rel, at)) => {
                self.work = Some((offer, rel, at + 1));
                match at {
                    0..=3 => self.say(Said::Downloading { offer, offset: u64::from(at) * 100 }, heard),
                    4 => {
                        self.say(Said::Downloaded { offer }, heard);
                        self.say(Said::Installing { offer }, heard);
                    }
                    _ => {
                        (self.runs, self.work) = (rel, None);
                        self.say(Said::Confirmed { offer }, heard);
                    }
                }
            }
        }
    }

    fn go(&mut self, step: Move) {
        match step {
            Move::Look { heard } => self.look(heard),
            Move::Work { heard } => self.work(heard),
            Move::Fail { code, heard } => {
                if let Some((offer, ..)) = self.work.take() {
                    self.say(failed(offer, code), heard);
                }
            }
            Move::PowerCut { heard } => {
                let (standing, state) = (self.hub.offer, self.hub.state.clone());
                let told_newer = self.runs >= self.hub.rel;
                self.say(Said::Idle, heard);
                assert!(told_newer || (self.hub.offer, &self.hub.state) == (standing, &state), "an interruption ends nothing");
            }
            Move::Wait { ms } => self.now += ms,
            Move::Publish => {
                let rel = self.known.len() as u64 + 2;
                if rel <= 9 {
                    self.known.push(known(rel));
                    self.floor = if rel.is_multiple_of(3) { rel - 1 } else { self.floor };
                }
            }
            Move::Mode(mode) => self.policy.mode = mode,
            Move::Noise(report) => self.feed(Event::Reported(report)),
        }
    }

    /// From here on everything is heard, nothing fails, and time passes.
    fn settle(&mut self) {
        self.policy.mode = Mode::Automatic;
        for k in &mut self.known {
            k.resumed = true;
        }
        for round in 0..400 {
            self.look(true);
            self.work(true);
            self.now += 20 * 60 * 1000;
            if self.work.is_none() && self.hub.offer.is_none() && round > 100 {
                return;
            }
        }
        panic!("it never ends: {:?}", self.hub);
    }
}

fn known(rel: u64) -> Known {
    let release = Release {
        brand: BrandId::parse("acme").unwrap(),
        model: ModelName::parse("door").unwrap(),
        hardware: vec!["A".into()],
        rel,
        version: format!("1.{rel}.0"),
        sha256: ImageHash::of(&[rel as u8]),
        size: 400,
        notes: String::new(),
        least_before: rel.saturating_sub(3),
        security_minimum: 0,
        made_at: 0,
    };
    Known { release, cached: true, cloud_percent: 100, withdrawn: false, tried: 0, failed: 0, resumed: false }
}

const CODES: [Code; 5] = [Code::Download, Code::Hash, Code::Health, Code::Step, Code::Power];

fn any_move() -> impl Strategy<Value = Move> {
    let heard = || prop::bool::weighted(0.8);
    prop_oneof![
        6 => heard().prop_map(|heard| Move::Look { heard }),
        8 => heard().prop_map(|heard| Move::Work { heard }),
        1 => (prop::sample::select(CODES.to_vec()), heard()).prop_map(|(code, heard)| Move::Fail { code, heard }),
        1 => heard().prop_map(|heard| Move::PowerCut { heard }),
        2 => prop_oneof![0u64..60_000, 0u64..30 * 60 * 60 * 1000].prop_map(|ms| Move::Wait { ms }),
        1 => Just(Move::Publish),
        1 => prop::sample::select(vec![Mode::Automatic, Mode::Automatic, Mode::Ask, Mode::Hold]).prop_map(Move::Mode),
    ]
}

fn any_report() -> impl Strategy<Value = Report> {
    let offer = (0u128..6).prop_map(id);
    let said = (offer, 0usize..6, prop::sample::select(CODES.to_vec()), 0u64..500).prop_map(|(offer, kind, code, offset)| match kind {
        0 => Said::Idle,
        1 => Said::Downloading { offer, offset },
        2 => Said::Downloaded { offer },
        3 => Said::Installing { offer },
        4 => Said::Confirmed { offer },
        _ => failed(offer, code),
    });
    (0u64..6, said).prop_map(|(rel, said)| Report { rel, version: "1.0.0".into(), said })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_way_keeps_the_rules_and_comes_to_an_end(moves in prop::collection::vec(any_move(), 1..120)) {
        let mut world = World::new();
        world.go(Move::Publish);
        for step in moves {
            world.go(step);
        }
        let last = |log: &[(u64, Option<bool>)], rel: u64| log.iter().rev().find(|(r, _)| *r == rel).and_then(|(_, how)| *how);
        for (rel, counts) in &world.counted {
            let expected = last(&world.log, *rel).map_or((0, 0), |well| (1, i32::from(!well)));
            prop_assert_eq!(*counts, expected, "the counts of {}: {:?}", rel, world.log);
        }
        world.settle();
        let done = world.verdict();
        let given_up = world.known.iter().any(|k| world.hub.failures(k.release.rel) > 3);
        prop_assert!(done == Verdict::UpToDate || given_up, "{:?} {:?}", done, world.hub);
        if done == Verdict::UpToDate {
            prop_assert_eq!(Some(world.runs), world.known.iter().map(|k| k.release.rel).max());
        }
    }

    #[test]
    fn nothing_that_a_device_can_say_breaks_a_rule(noise in prop::collection::vec((any_report(), any_move()), 1..80)) {
        let mut world = World::new();
        world.go(Move::Publish);
        for (report, step) in noise {
            world.go(Move::Noise(report));
            world.go(step);
        }
        for (tried, failed) in world.counted.values() {
            prop_assert!((0..=1).contains(tried) && (0..=*tried).contains(failed));
        }
    }
}
