//! What time it is for the hub: a box that does not know it, an owner who says it, both that differ, jumps, restarts; and
//! what becomes of rights that hold for a time, live.

use crate::house::{Device, HERE, House, HouseOptions, config};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::domain::policy::{Action, Reason};
use hearthkey::domain::time::{Day, Grade, Window};
use hearthkey::hub::{BoxClock, Hub};
use hearthkey::service::{Actor, ClockView, Grant, Question, Recipient, Refusal, SessionToken, SettingsChange};
use hearthkey::sim::mqtt::{Client, Message, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The clocks of a box, as a test sets them.
pub struct Virtual {
    wall: AtomicU64,
    monotonic: AtomicU64,
    synchronised: AtomicBool,
}

impl BoxClock for Virtual {
    fn wall_ms(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }
    fn monotonic_ms(&self) -> u64 {
        self.monotonic.load(Ordering::SeqCst)
    }
    fn is_synchronised(&self) -> bool {
        self.synchronised.load(Ordering::SeqCst)
    }
}

impl Virtual {
    pub fn at(wall: u64, synchronised: bool) -> Arc<Virtual> {
        Arc::new(Virtual { wall: wall.into(), monotonic: 0.into(), synchronised: synchronised.into() })
    }

    /// Time passes.
    pub fn pass(&self, ms: u64) {
        self.monotonic.fetch_add(ms, Ordering::SeqCst);
        self.wall.fetch_add(ms, Ordering::SeqCst);
    }

    /// The wall clock is set.
    fn jump(&self, wall: u64) {
        self.wall.store(wall, Ordering::SeqCst);
    }

    fn synchronise(&self, wall: u64) {
        self.jump(wall);
        self.synchronised.store(true, Ordering::SeqCst);
    }
}

fn at(text: &str) -> u64 {
    u64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_millisecond()).unwrap()
}

/// A house on a box with these clocks.
pub async fn house(clock: &Arc<Virtual>) -> House {
    House::build(HouseOptions { clock: Some(clock.clone()), ..HouseOptions::default() }).await
}

async fn lamp(house: &House) -> (Device, Client<Stream>) {
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let talker = house.connect_device(&lamp).await;
    (lamp, talker)
}

async fn give(house: &House, device: &Device, name: &str, terms: Terms) {
    let grant = Grant { to: Recipient::Person(name.into()), terms };
    house.hub.service().grant(&house.owner, &device.id, grant).await.unwrap();
}

fn until(end: u64) -> Terms {
    Terms { until: Some(end), ..Terms::of(Privilege::Operate) }
}

/// Why somebody may see a device, or not.
fn why(house: &House, who: &Actor, device: &Device) -> Reason {
    let question = Question { device: device.id.clone(), action: Action::View, name: None, username: None, at: None };
    house.hub.service().explain(who, &question).unwrap().reason
}

fn known(house: &House) -> (Grade, bool) {
    let ClockView { grade, contradicted, .. } = house.hub.service().clock();
    (grade, contradicted)
}

async fn vouch(house: &House, now: u64) -> ClockView {
    house.hub.service().vouch_time(&house.owner, Some(&SessionToken::new(&house.owner_token)), now).await.unwrap()
}

/// Somebody who listens to the lamp, and what was heard so far.
struct Ear {
    client: Client<Stream>,
    heard: Vec<String>,
}

impl Ear {
    async fn open(house: &House, name: &str, token: &str, topic: &str) -> Ear {
        let mut client = house.connect_person(name, token).await.unwrap();
        assert!(client.subscribe(&[(topic, Qos::AtLeastOnce)]).await.unwrap()[0] < 0x80);
        Ear { client, heard: Vec::new() }
    }

    /// Takes what was queued before the call: the answer to the second ping comes after it.
    async fn listen(&mut self) {
        self.client.ping().await.unwrap();
        self.client.ping().await.unwrap();
        while let Some(message) = self.client.receive(Duration::ZERO).await.unwrap() {
            self.heard.push(String::from_utf8(message.payload.to_vec()).unwrap());
        }
    }
}

/// The lamp says something, and everybody has heard it, or not, before the clock moves on: a delivery is decided at its own
/// time, which on a busy machine is later than that of the message.
async fn say(talker: &mut Client<Stream>, lamp: &Device, text: &str, ears: &mut [&mut Ear]) {
    let message = Message::new(lamp.topic("telemetry/n"), text.to_owned(), Qos::AtLeastOnce);
    assert!(talker.publish(&message).await.unwrap() < 0x80);
    for ear in ears {
        ear.listen().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_starts_in_1970_keeps_rights_for_a_time_closed_until_an_owner_says_what_time_it_is() {
    let clock = Virtual::at(5_000, false);
    let house = house(&clock).await;
    let now = at("2026-11-23T12:00:00Z");
    let (lamp, mut talker) = lamp(&house).await;
    let (gil, gil_token) = house.person("gil", Role::Guest).await;
    let (mia, mia_token) = house.person("mia", Role::Member).await;
    give(&house, &lamp, "gil", until(now + DAY)).await;
    give(&house, &lamp, "mia", Terms::of(Privilege::Operate)).await;
    assert_eq!(known(&house), (Grade::None, false));
    assert_eq!(why(&house, &gil, &lamp), Reason::TimeUnknown);
    assert_eq!((why(&house, &mia, &lamp), why(&house, &house.owner, &lamp)), (Reason::Bound, Reason::Bound));
    let everything = "things/+/telemetry/#";
    let mut guest = Ear::open(&house, "gil", &gil_token, everything).await;
    let mut member = Ear::open(&house, "mia", &mia_token, everything).await;
    say(&mut talker, &lamp, "closed", &mut [&mut guest, &mut member]).await;
    // Whoever is no owner says nothing about the time, and nobody says what cannot be.
    for other in [&gil, &mia] {
        assert!(matches!(house.hub.service().vouch_time(other, None, now).await, Err(Refusal::RoleTooLow)));
    }
    for wrong in [0, 1_700_000_000, at("2101-01-01T00:00:00Z"), u64::MAX] {
        assert!(matches!(house.hub.service().vouch_time(&house.owner, None, wrong).await, Err(Refusal::Invalid(_))), "{wrong}");
    }
    let told = vouch(&house, now).await;
    assert_eq!((told.now, told.grade, told.contradicted), (now, Grade::Vouched, false));
    assert_eq!(why(&house, &gil, &lamp), Reason::Bound);
    let still = house.hub.service().actor(&SessionToken::new(&house.owner_token), "test", HERE);
    assert!(still.is_ok(), "who says the time is not signed out by it");
    say(&mut talker, &lamp, "open", &mut [&mut guest, &mut member]).await;
    clock.pass(DAY);
    say(&mut talker, &lamp, "over", &mut [&mut guest, &mut member]).await;
    assert_eq!(why(&house, &gil, &lamp), Reason::Expired);
    // Given anew, it is heard again.
    give(&house, &lamp, "gil", until(now + 2 * DAY)).await;
    say(&mut talker, &lamp, "end", &mut [&mut guest, &mut member]).await;
    assert_eq!(guest.heard, ["open", "end"]);
    assert_eq!(member.heard, ["closed", "open", "over", "end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_and_a_synchronised_box_that_differ_close_live_rights_for_a_time_until_they_agree() {
    let now = at("2026-11-23T12:00:00Z");
    let clock = Virtual::at(now, true);
    let house = house(&clock).await;
    let (lamp, mut talker) = lamp(&house).await;
    let (gil, token) = house.person("gil", Role::Guest).await;
    give(&house, &lamp, "gil", until(now + DAY)).await;
    assert_eq!(known(&house), (Grade::Ntp, false));
    let mut guest = Ear::open(&house, "gil", &token, &lamp.topic("telemetry/n")).await;
    say(&mut talker, &lamp, "1", &mut [&mut guest]).await;
    let told = vouch(&house, now + 3 * MINUTE).await;
    assert_eq!((told.now, told.grade, told.contradicted), (now, Grade::None, true));
    assert_eq!(why(&house, &gil, &lamp), Reason::TimeUnknown);
    say(&mut talker, &lamp, "2", &mut [&mut guest]).await;
    assert_eq!(why(&house, &house.owner, &lamp), Reason::Bound);
    vouch(&house, now + MINUTE).await;
    assert_eq!(known(&house), (Grade::Vouched, false));
    say(&mut talker, &lamp, "3", &mut [&mut guest]).await;
    // The box's clock is led astray, and back.
    clock.jump(now - HOUR);
    house.hub.service().watch_clock().await.unwrap();
    assert_eq!(known(&house), (Grade::None, true));
    say(&mut talker, &lamp, "4", &mut [&mut guest]).await;
    clock.jump(now);
    house.hub.service().watch_clock().await.unwrap();
    assert_eq!(known(&house), (Grade::Vouched, false));
    say(&mut talker, &lamp, "end", &mut [&mut guest]).await;
    assert_eq!(guest.heard, ["1", "3", "end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_takes_rights_along_both_ways() {
    let now = at("2026-11-23T12:00:00Z");
    let clock = Virtual::at(now, true);
    let house = house(&clock).await;
    let (lamp, mut talker) = lamp(&house).await;
    let (_, token) = house.person("gil", Role::Guest).await;
    give(&house, &lamp, "gil", Terms { from: Some(now - MINUTE), until: Some(now + DAY), ..Terms::of(Privilege::View) }).await;
    let mut guest = Ear::open(&house, "gil", &token, &lamp.topic("telemetry/n")).await;
    // Nobody has vouched: the box alone knows the time, and its word counts, wherever it goes.
    for (wall, text) in [(now, "in"), (now + 2 * DAY, "after"), (now, "in again"), (now - DAY, "before"), (now, "end")] {
        clock.jump(wall);
        house.hub.service().watch_clock().await.unwrap();
        say(&mut talker, &lamp, text, &mut [&mut guest]).await;
    }
    assert_eq!(guest.heard, ["in", "in again", "end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_starts_again_does_not_believe_a_time_before_the_one_that_was_vouched_for() {
    let now = at("2026-11-23T12:00:00Z");
    let clock = Virtual::at(now - 100 * DAY, false);
    let house = house(&clock).await;
    let (lamp, _talker) = lamp(&house).await;
    let (gil, _) = house.person("gil", Role::Guest).await;
    give(&house, &lamp, "gil", until(now + HOUR)).await;
    vouch(&house, now).await;
    // The floor follows vouched time.
    clock.pass(3 * HOUR);
    house.hub.service().watch_clock().await.unwrap();
    assert_eq!(why(&house, &gil, &lamp), Reason::Expired);
    let House { hub, dir, owner, .. } = house;
    hub.shut_down().await;
    let restarted = async |wall: u64, synchronised: bool| {
        let hub = Hub::start_by(config(&dir), Virtual::at(wall, synchronised)).await.unwrap();
        let view = hub.service().clock();
        (hub, view)
    };
    // A clock that was set back while the power was off brings no right back.
    for synchronised in [false, true] {
        let (hub, view) = restarted(now, synchronised).await;
        assert_eq!((view.grade, view.contradicted), (Grade::None, synchronised));
        assert!(view.now >= now + 3 * HOUR, "{}", view.now);
        hub.shut_down().await;
    }
    let (hub, view) = restarted(now + 4 * HOUR, true).await;
    assert_eq!((view.now, view.grade), (now + 4 * HOUR, Grade::Ntp));
    // What was vouched for wrongly is taken back by two that agree, for good.
    let far = now + 9_000 * DAY;
    assert!(hub.service().vouch_time(&owner, None, far).await.unwrap().contradicted);
    hub.shut_down().await;
    let (hub, _) = restarted(5_000, false).await;
    assert_eq!(hub.service().vouch_time(&owner, None, far).await.unwrap().grade, Grade::Vouched);
    hub.shut_down().await;
    let clock = Virtual::at(0, false);
    let hub = Hub::start_by(config(&dir), clock.clone()).await.unwrap();
    assert!(hub.service().clock().now >= far);
    let refused = hub.service().vouch_time(&owner, None, now + DAY).await.unwrap();
    assert!(refused.contradicted && refused.now >= far, "one owner alone does not turn the time back");
    clock.synchronise(now + DAY);
    let agreed = hub.service().vouch_time(&owner, None, now + DAY).await.unwrap();
    assert_eq!((agreed.now, agreed.grade, agreed.contradicted), (now + DAY, Grade::Vouched, false));
    hub.shut_down().await;
    let (hub, view) = restarted(now + DAY, true).await;
    assert_eq!(view.grade, Grade::Ntp);
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weekly_window_opens_and_closes_a_live_subscription_also_in_the_night_the_clocks_go_back() {
    // On 2026-10-25 at 01:00Z the clocks of Berlin go from 03:00 back to 02:00: the quarter past two comes twice.
    let clock = Virtual::at(at("2026-10-25T00:20:00Z"), true);
    let house = house(&clock).await;
    let zone = SettingsChange { time_zone: Some("Europe/Berlin".into()), ..SettingsChange::default() };
    house.hub.service().change_settings(&house.owner, zone).await.unwrap();
    let (lamp, mut talker) = lamp(&house).await;
    let (_, token) = house.person("gil", Role::Guest).await;
    let wall = |text: &str| text.to_owned().try_into().unwrap();
    let windows = vec![
        Window { days: vec![Day::Sun], from: wall("02:15"), to: wall("02:45") },
        Window { days: vec![Day::Mon], from: wall("09:00"), to: wall("10:00") },
    ];
    give(&house, &lamp, "gil", Terms { windows, ..Terms::of(Privilege::View) }).await;
    let mut guest = Ear::open(&house, "gil", &token, &lamp.topic("telemetry/n")).await;
    let mut expected = Vec::new();
    let mut last = at("2026-10-25T00:20:00Z");
    for (when, open) in [
        ("2026-10-25T00:44:59Z", true),
        ("2026-10-25T00:45:00Z", false),
        ("2026-10-25T01:14:59Z", false),
        ("2026-10-25T01:15:00Z", true),
        ("2026-10-25T01:44:59Z", true),
        ("2026-10-25T01:45:00Z", false),
        // Nine o'clock by the wall is eight by UTC from now on; it was seven the day before.
        ("2026-10-26T07:30:00Z", false),
        ("2026-10-26T08:00:00Z", true),
        ("2026-10-26T08:59:59Z", true),
        ("2026-10-26T09:00:00Z", false),
        ("2026-11-01T01:20:00Z", true),
    ] {
        clock.pass(at(when) - last);
        last = at(when);
        say(&mut talker, &lamp, when, &mut [&mut guest]).await;
        expected.extend(open.then_some(when));
    }
    // Another zone is another window, at once: half past two in Berlin is half past one in London.
    clock.pass(5 * MINUTE);
    for (zone, text) in [("Europe/London", "elsewhere"), ("Europe/Berlin", "end")] {
        let change = SettingsChange { time_zone: Some(zone.into()), ..SettingsChange::default() };
        house.hub.service().change_settings(&house.owner, change).await.unwrap();
        say(&mut talker, &lamp, text, &mut [&mut guest]).await;
    }
    expected.push("end");
    assert_eq!(guest.heard, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_ask_the_time_and_what_is_set_and_owners_say_it() {
    let house = House::new().await;
    let (_, token) = house.person("gil", Role::Guest).await;
    let (status, clock) = house.http("GET", "/hub/clock", &token, None).await;
    assert_eq!((status, &clock["grade"], &clock["contradicted"]), (200, &json!("ntp"), &json!(false)));
    let now = clock["now"].as_u64().unwrap();
    assert_eq!(house.http("POST", "/hub/clock", &token, Some(json!({"now": now}))).await.0, 403);
    let (status, vouched) = house.http("POST", "/hub/clock", &house.owner_token, Some(json!({"now": now}))).await;
    assert_eq!((status, &vouched["grade"]), (200, &json!("vouched")));
    let change = json!({"time_zone": "asia/kolkata", "audit_max_bytes": 1_048_576});
    assert_eq!(house.http("PATCH", "/hub/settings", &token, Some(change.clone())).await.0, 403);
    let (status, set) = house.http("PATCH", "/hub/settings", &house.owner_token, Some(change)).await;
    let expected = json!({"open_registration": false, "time_zone": "Asia/Kolkata", "audit_max_bytes": 1_048_576, "share_wifi": false});
    assert_eq!((status, &set), (200, &expected));
    assert_eq!(house.http("GET", "/hub/settings", &token, None).await.1, expected);
    for wrong in [json!({"time_zone": "Mars/Olympus"}), json!({"audit_max_bytes": 1_048_575}), json!({"audit_max_bytes": 4_294_967_297u64})]
    {
        assert_eq!(house.http("PATCH", "/hub/settings", &house.owner_token, Some(wrong.clone())).await.0, 422, "{wrong}");
    }
    // It is kept, and in force after a restart.
    let House { hub, dir, .. } = house;
    hub.shut_down().await;
    let hub = Hub::start(config(&dir)).await.unwrap();
    assert_eq!(hub.service().clock().time_zone, "Asia/Kolkata");
    hub.shut_down().await;
}
