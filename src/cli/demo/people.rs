//! The steps of the tour about people: who may use a device, for how long, through what, and how it ends. Each ends with an
//! error unless the hub answered exactly as it must.

use super::http::Http;
use super::stage::{Ports, Stage};
use super::steps::{DOOR, LAMP, connect, find, keys, text};
use super::tour::Story;
use crate::sim::copies;
use crate::sim::device::Event;
use crate::sim::mqtt::{self, Client, Message, Qos};
use crate::sim::tls::Stream;
use anyhow::{Context, anyhow, ensure};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const THERMOSTAT: usize = 1;
/// Far above any counter that a simulated device uses in a tour: what is connected by hand is the newest.
const BY_HAND: u64 = 1 << 52;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// What Olivia signs in with.
pub(super) const OWNER_PASSWORD: &str = "Käsekuchen & 7 Äpfel";
/// Messages of the stream before the right is taken away, and after.
const STRETCH: u64 = 300;

pub(super) async fn house(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    story.sent("the maker's workshop, a hub with its batch, and its three devices");
    let mut stage = Stage::build(None, Ports::Free).await?;
    for device in 0..stage.devices.len() {
        stage.start_device(device, 20.0, Some(story.sender.clone()))?;
    }
    let http = Http::trusting(stage.hub.http, stage.hub.https, &stage.hub.ca_fingerprint).await?;
    http.wait_until_served().await?;
    let code = stage.hub.setup_code.clone().context("the hub printed no setup code")?;
    let devices: Vec<_> = stage.devices.iter().map(|d| (d.id.clone(), d.title.clone(), d.grouped.clone())).collect();
    story.door = stage.devices.get(DOOR).context("no door")?.id.clone();
    story.kept.insert("lamp", stage.devices.get(LAMP).context("no lamp")?.id.clone());
    story.http = Some(http);
    story.stage = Some(stage);
    let token = first_owner(story, &code).await?;
    for (id, title, code) in devices {
        wait_for_state(story, &id, "waiting").await?;
        let code = if broken { swapped(&code) } else { code };
        let body = json!({"device_id": id, "code": code, "name": title, "room": "House"});
        let claimed = story.call("POST", "/claims", Some(&token), Some(body)).await?;
        ensure!(claimed.status == 201, "the claim of the {title} was refused");
        wait_for_state(story, &id, "ready").await?;
    }
    Ok(())
}

/// Olivia sets the hub up, and tells it the time; her token.
pub(super) async fn first_owner(story: &mut Story, code: &str) -> anyhow::Result<String> {
    let owner = json!({"code": code, "username": "olivia", "display_name": "Olivia", "password": OWNER_PASSWORD});
    let made = story.call("POST", "/setup", None, Some(owner)).await?;
    ensure!(made.status == 201, "the owner account was not made");
    story.owner = text(&made.body, "/token")?;
    story.owner_id = text(&made.body, "/user/id")?;
    let token = story.owner.clone();
    // The owner's browser would say what time it is; here the owner does.
    let vouched = story.call("POST", "/hub/clock", Some(&token), Some(json!({"now": now_ms()}))).await?;
    ensure!(vouched.status == 200, "the hub does not take the time from its owner");
    Ok(token)
}

pub(super) async fn invitation(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door) = (story.owner.clone(), story.door.clone());
    let grant = json!({"device_id": door, "privilege": "manage", "only": ["open"], "windows": [window_of(&DAYS)]});
    let body = json!({"role": "guest", "display_name": "Gus", "grants": [grant]});
    let made = story.call("POST", "/invitations", Some(&owner), Some(body)).await?;
    ensure!(made.status == 201, "the invitation was not made");
    let code = text(&made.body, "/code")?;
    let code = if broken { swapped(&code) } else { code };
    let person = json!({"code": code, "username": "gus", "password": "blau und 3 Äpfel im Korb"});
    let joined = story.call("POST", "/registrations", None, Some(person.clone())).await?;
    ensure!(joined.status == 201, "Gus could not make his account");
    let gus = text(&joined.body, "/token")?;
    story.kept.insert("gus", gus.clone());
    story.kept.insert("gus-id", text(&joined.body, "/user/id")?);
    let again = story.call("POST", "/registrations", None, Some(person)).await?;
    ensure!(again.status >= 400, "an invitation served twice");
    ensure!(command(story, &gus, "open").await? == 200, "Gus could not open the door");
    ensure!(command(story, &gus, "close").await? == 403, "Gus could close the door, which he was not given");
    let twin = story.call("GET", &format!("/devices/{door}/twin"), Some(&gus), None).await?;
    ensure!(twin.status == 200 && twin.body.pointer("/reported/position").is_none(), "Gus reads what he was not given");
    Ok(())
}

pub(super) async fn window(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door, gus) = (story.owner.clone(), story.door.clone(), kept(story, "gus")?);
    // Two days around now are left out, so that midnight may come while this runs.
    let today = usize::try_from(now_ms() / 86_400_000 + 3)? % 7;
    let others: Vec<&str> = DAYS.iter().enumerate().filter(|(n, _)| broken || (n + 7 - today + 1) % 7 > 2).map(|(_, d)| *d).collect();
    let right = json!({"username": "gus", "privilege": "manage", "only": ["open"], "windows": [window_of(&others)]});
    let changed = story.call("POST", &format!("/devices/{door}/bindings"), Some(&owner), Some(right)).await?;
    ensure!(changed.status == 200, "the right was not changed");
    let refused = command(story, &gus, "open").await?;
    ensure!(refused == 404 || refused == 403, "Gus opened the door on a day that is not his");
    let question = json!({"device_id": door, "action": "operate_critical", "name": "open", "username": "gus"});
    let why = story.call("POST", "/access/explain", Some(&owner), Some(question)).await?;
    ensure!(why.body.get("reason") == Some(&json!("outside_window")), "the hub does not say that it is the day");
    let all = json!({"username": "gus", "privilege": "manage", "only": ["open"], "windows": [window_of(&DAYS)]});
    let changed = story.call("POST", &format!("/devices/{door}/bindings"), Some(&owner), Some(all)).await?;
    ensure!(changed.status == 200 && command(story, &gus, "open").await? == 200, "on his days the door does not open for him");
    Ok(())
}

pub(super) async fn remote(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door, lamp) = (story.owner.clone(), story.door.clone(), kept(story, "lamp")?);
    ensure!(command(story, &owner, "close").await? == 200, "the door does not close for its owner");
    let right = json!({"device": lamp, "privilege": "manage", "only": [if broken { "stop" } else { "open" }]});
    let bound = story.call("POST", &format!("/devices/{door}/bindings"), Some(&owner), Some(right)).await?;
    ensure!(bound.status == 200, "the lamp's switch could not be bound to the door");
    let mut switch = by_hand(story, LAMP).await?;
    for (name, expected) in [("open", 0), ("close", 0x87)] {
        story.sent(format!("the lamp's switch: PUBLISH things/{door}/commands/{name} (QoS 1)"));
        let code = switch.publish(&Message::new(format!("things/{door}/commands/{name}"), "{}", Qos::AtLeastOnce)).await?;
        story.came(format!("PUBACK 0x{code:02X}"));
        ensure!(code == expected, "the answer to {name} should have been 0x{expected:02X}");
    }
    let open = |e: &Event| matches!(e, Event::Reported { state } if state.get("position") == Some(&json!(100))).then_some(());
    story.wait_for("garage door", "open, by the switch", open).await?;
    switch.disconnect(0).await?;
    Ok(())
}

pub(super) async fn app(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door) = (story.owner.clone(), story.door.clone());
    let device = if broken { json!({"id": door, "privilege": "manage"}) } else { json!({"id": door}) };
    let made = story.call("POST", "/me/tokens", Some(&owner), Some(json!({"name": "Wall display", "devices": [device]}))).await?;
    ensure!(made.status == 201, "the token was not made");
    let (id, token) = (text(&made.body, "/id")?, text(&made.body, "/token")?);
    let twin = story.call("GET", &format!("/devices/{door}/twin"), Some(&token), None).await?;
    ensure!(twin.status == 200, "the program cannot look at the door");
    ensure!(command(story, &token, "stop").await? == 403, "a token to look made the door do something");
    let people = story.call("GET", "/users", Some(&token), None).await?;
    ensure!(people.status == 403, "a program reads the list of people");
    let mut display = person(story, &format!("app:{id}"), &token).await?;
    let topic = format!("things/{door}/shadow/update/documents");
    story.sent(format!("SUBSCRIBE {topic}; PUBLISH things/{door}/commands/stop"));
    ensure!(display.subscribe(&[(&topic, Qos::AtLeastOnce)]).await? == [1], "the program may not listen to the door");
    let code = display.publish(&Message::new(format!("things/{door}/commands/stop"), "{}", Qos::AtLeastOnce)).await?;
    story.came(format!("SUBACK 0x01, PUBACK 0x{code:02X}"));
    ensure!(code == 0x87, "a token to look made the door do something over MQTT");
    let ended = story.call("DELETE", &format!("/me/apps/{id}"), Some(&owner), None).await?;
    ensure!(ended.status == 204, "the token was not ended");
    ensure!(display.ping().await.is_err(), "the program's connection goes on after its token was ended");
    story.came("the program's MQTT connection is closed");
    let after = story.call("GET", &format!("/devices/{door}/twin"), Some(&token), None).await?;
    ensure!(after.status == 401, "an ended token still works");
    Ok(())
}

pub(super) async fn support(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door, gus) = (story.owner.clone(), story.door.clone(), kept(story, "gus")?);
    let network = if broken { "192.0.2.0/24" } else { "127.0.0.0/8" };
    let password = "der Kundendienst, 7 Uhr";
    let person = json!({"username": "sven", "password": password, "role": "support", "brand": "acme", "networks": [network, "::1/128"]});
    let made = story.call("POST", "/users", Some(&owner), Some(person)).await?;
    ensure!(made.status == 201, "the account for the maker's support was not made");
    if broken {
        // Only the listed network counts; take the loopback out of it.
        let id = text(&made.body, "/id")?;
        story.call("PATCH", &format!("/users/{id}"), Some(&owner), Some(json!({"networks": [network]}))).await?;
    }
    let signed_in = story.call("POST", "/sessions", None, Some(json!({"username": "sven", "password": password}))).await?;
    ensure!(signed_in.status == 201, "support could not sign in from the listed network");
    let sven = text(&signed_in.body, "/token")?;
    let sees = |body: &Value| find(body, &door).is_some();
    let before = story.call("GET", "/devices", Some(&sven), None).await?;
    ensure!(!sees(&before.body), "support sees a device that nobody let it in to");
    let session = json!({"username": "sven", "devices": [door], "privilege": "operate", "minutes": 10, "reason": "It closes by itself"});
    let opened = story.call("POST", "/support", Some(&owner), Some(session)).await?;
    ensure!(opened.status == 201, "the support session was not opened");
    let id = text(&opened.body, "/id")?;
    let during = story.call("GET", "/devices", Some(&sven), None).await?;
    ensure!(sees(&during.body), "support does not see the device it was let in to");
    let banner = story.call("GET", "/support", Some(&gus), None).await?;
    let shown = banner.body.pointer("/sessions/0/reason").and_then(Value::as_str);
    ensure!(shown == Some("It closes by itself"), "Gus, who uses the door, is not told of the support session");
    let light = json!({"light": true});
    let set = story.call("PATCH", &format!("/devices/{door}/twin/desired"), Some(&sven), Some(light.clone())).await?;
    ensure!(set.status == 200, "support may not operate what it was let in to operate");
    ensure!(command(story, &sven, "open").await? == 403, "support opened the door, which is critical");
    let ended = story.call("DELETE", &format!("/support/{id}"), Some(&owner), None).await?;
    ensure!(ended.status == 204, "the session was not ended");
    let after = story.call("PATCH", &format!("/devices/{door}/twin/desired"), Some(&sven), Some(light)).await?;
    ensure!(after.status == 404, "support still reaches the door after its session has ended");
    Ok(())
}

pub(super) async fn revocation(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, gus, gus_id) = (story.owner.clone(), kept(story, "gus")?, kept(story, "gus-id")?);
    let (thermostat, _) = keys(story, THERMOSTAT)?;
    let share = json!({"username": "gus", "privilege": "view"});
    let shared = story.call("POST", &format!("/devices/{thermostat}/bindings"), Some(&owner), Some(share)).await?;
    ensure!(shared.status == 200, "the thermostat was not shared");
    let topic = format!("things/{thermostat}/numbers");
    let mut reader = person(story, "user:gus", &gus).await?;
    ensure!(reader.subscribe(&[(&topic, Qos::AtLeastOnce)]).await? == [1], "Gus may not listen");
    let mut sender = by_hand(story, THERMOSTAT).await?;
    story.sent(format!("the thermostat publishes numbers to {topic}, Gus reads them"));
    let sent = Arc::new(AtomicU64::new(0));
    let read = tokio::spawn(async move {
        let mut last = 0;
        while let Ok(Some(message)) = reader.receive(Duration::from_secs(2)).await {
            last = <[u8; 8]>::try_from(message.payload.as_ref()).map_or(last, u64::from_be_bytes);
        }
        last
    });
    let (counted, number) = (sent.clone(), topic.clone());
    let stream = tokio::spawn(async move {
        // Counted before it is sent, so that nothing is on its way that was not counted.
        while counted.load(Ordering::SeqCst) < 3 * STRETCH {
            let next = counted.fetch_add(1, Ordering::SeqCst) + 1;
            sender.publish(&Message::new(number.clone(), next.to_be_bytes().to_vec(), Qos::AtLeastOnce)).await?;
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        Ok::<_, mqtt::Error>(())
    });
    while sent.load(Ordering::SeqCst) < STRETCH {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let whom = if broken { story.door.clone() } else { thermostat.clone() };
    let began = Instant::now();
    let revoked = story.call("DELETE", &format!("/devices/{whom}/bindings/{gus_id}"), Some(&owner), None).await?;
    let (took, at_return) = (began.elapsed(), sent.load(Ordering::SeqCst));
    ensure!(revoked.status == 200, "the right was not taken away");
    stream.await??;
    let last = read.await?;
    story.came(format!(
        "{at_return} numbers had been sent when the call returned, after {:.1} ms; the last one that reached Gus is {last}; {} were sent in all",
        took.as_secs_f64() * 1000.0,
        sent.load(Ordering::SeqCst)
    ));
    ensure!(last > 0, "Gus read nothing before the cut");
    ensure!(last <= at_return, "{} numbers reached Gus after his right was gone", last - at_return);
    Ok(())
}

pub(super) async fn audit(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door, owner_id) = (story.owner.clone(), story.door.clone(), story.owner_id.clone());
    let (gus, lamp) = (kept(story, "gus-id")?, kept(story, "lamp")?);
    let whole = story.call("GET", "/audit/verify", Some(&owner), None).await?;
    ensure!(whole.body.get("whole") == Some(&json!(true)), "the chain is broken");
    let expected = [
        (format!("user:{gus}"), "command.send", "done"),
        (format!("device:{lamp}"), "command.send", "done"),
        (format!("user:{owner_id}"), "support.open", "done"),
        (format!("user:{owner_id}"), if broken { "support.forget" } else { "support.end" }, "done"),
        (format!("user:{owner_id}"), "binding.grant", "done"),
    ];
    for (actor, action, outcome) in expected {
        let query =
            format!("/audit?limit=50&actor={actor}&action={action}&object={}", if action.starts_with("support") { "" } else { &door });
        let query = query.trim_end_matches("&object=").to_owned();
        let found = story.call("GET", &query, Some(&owner), None).await?;
        let entries = found.body.get("entries").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let is = |e: &Value, key: &str, value: &str| e.get(key).and_then(Value::as_str) == Some(value);
        ensure!(
            entries.iter().any(|e| is(e, "actor", &actor) && is(e, "action", action) && is(e, "outcome", outcome)),
            "the audit lacks {action} by {actor}"
        );
    }
    Ok(())
}

pub(super) async fn roaming(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, sender) = (story.owner.clone(), story.sender.clone());
    let (lamp, title) = (kept(story, "lamp")?, "lamp");
    story.stage()?.start_device(LAMP, 20.0, Some(sender))?;
    let signed_in = |e: &Event| matches!(e, Event::SignedIn { .. }).then_some(());
    story.wait_for(title, "signed in", signed_in).await?;
    // Not a lamp that moves, but a second one.
    let copy = if broken { Some(copy_of(story, LAMP, "copy of the lamp")?) } else { None };
    for _ in 0..6 {
        story.sent("the lamp changes its network: its old connection stays half open, and it signs in again");
        let controls = story.stage()?.devices.get(LAMP).and_then(|d| d.controls.clone()).context("the lamp is off")?;
        ensure!(copies::roam(&controls).await, "the lamp is gone");
        story.wait_for(title, "signed in again", signed_in).await?;
    }
    if let Some((stop, task)) = copy {
        wait_for_state(story, &lamp, "quarantined").await?;
        stop.cancel();
        let _ = task.await;
    }
    let device = story.call("GET", &format!("/devices/{lamp}"), Some(&owner), None).await?;
    ensure!(device.body.get("state") == Some(&json!("ready")), "a lamp that moves was taken for a clone");
    let evidence = story.call("GET", &format!("/devices/{lamp}/evidence"), Some(&owner), None).await?;
    ensure!(evidence.body.get("quarantined") == Some(&json!(false)), "there is evidence against a lamp that moves");
    Ok(())
}

pub(super) async fn clone(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door) = (story.owner.clone(), story.door.clone());
    story.sent("somebody reads out the door's flash, and switches a copy on");
    // The thermostat is nobody's copy.
    let (stop, task) = copy_of(story, if broken { THERMOSTAT } else { DOOR }, "copy")?;
    wait_for_state(story, &door, "quarantined").await?;
    let evidence = story.call("GET", &format!("/devices/{door}/evidence"), Some(&owner), None).await?;
    let entries = evidence.body.get("entries").and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(entries > 0, "a quarantine without evidence");
    ensure!(command(story, &owner, "open").await? != 200, "a quarantined door obeys");
    story.sent("the owner finds the copy and switches it off");
    stop.cancel();
    let _ = task.await;
    let lifted = story.call("POST", &format!("/devices/{door}/lift"), Some(&owner), Some(json!({"note": "The copy is gone"}))).await?;
    ensure!(lifted.status == 200, "the quarantine was not lifted");
    wait_for_state(story, &door, "ready").await?;
    ensure!(command(story, &owner, "close").await? == 200, "the door does not obey its owner again");
    Ok(())
}

/// Switches on a copy of a device, with its key and its memory as it is now.
fn copy_of(story: &mut Story, device: usize, title: &str) -> anyhow::Result<(CancellationToken, JoinHandle<()>)> {
    let stage = story.stage()?;
    let (address, hub_id) = stage.hub_as_devices_see_it()?;
    let (flash, copy) = (stage.flash(device)?, stage.dir.join("copies").join(title));
    let secret = stage.devices.get(device).context("no such device")?.secret.clone();
    let options = copies::copy_of(&secret, &flash, &copy, address, hub_id)?;
    Ok(Stage::run_device(options, title.to_owned(), None))
}

/// Looks until the device stands like this and, unless it is shut out, is connected; at most 15 s.
pub(super) async fn wait_for_state(story: &mut Story, device: &str, state: &str) -> anyhow::Result<()> {
    let (owner, http) = (story.owner.clone(), story.http.clone().context("there is no hub to call")?);
    for _ in 0..150 {
        let seen = http.call("GET", &format!("/devices/{device}"), Some(&owner), None).await?;
        let here = state == "quarantined" || seen.body.get("online") == Some(&json!(true));
        if here && seen.body.get("state").and_then(Value::as_str) == Some(state) {
            story.came(format!("the device is {state}"));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the device did not become {state} within 15 s")
}

/// Tells the door to do something and waits until it has; the status of the answer.
pub(super) async fn command(story: &mut Story, token: &str, name: &str) -> anyhow::Result<u16> {
    let body = json!({"name": name, "wait_ms": 20_000});
    let path = format!("/devices/{}/commands", story.door);
    let answer = story.call("POST", &path, Some(token), Some(body)).await?;
    if answer.status == 200 {
        let done = answer.body.get("status") == Some(&json!("done"));
        ensure!(done, "the door did not do it");
    }
    Ok(answer.status)
}

/// Whether the door closes. A command is for now or never, and a device that has just come back may not listen yet.
pub(super) async fn closes(story: &mut Story, token: &str) -> anyhow::Result<bool> {
    let path = format!("/devices/{}/commands", story.door);
    for _ in 0..4 {
        let answer = story.call("POST", &path, Some(token), Some(json!({"name": "close", "wait_ms": 5_000}))).await?;
        if answer.status == 200 && answer.body.get("status") == Some(&json!("done")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A connection over MQTT as a person or an app.
async fn person(story: &mut Story, username: &str, token: &str) -> anyhow::Result<Client<Stream>> {
    let client = connect(story, username, "its token", |_| token.to_owned()).await?;
    client.map_err(|e| anyhow!("{username} was refused over MQTT: {e}"))
}

/// A connection of a device by hand, in the place of the simulated one.
async fn by_hand(story: &mut Story, device: usize) -> anyhow::Result<Client<Stream>> {
    let stage = story.stage()?;
    if let Some((stop, task)) = stage.devices.get_mut(device).and_then(|d| d.running.take()) {
        stop.cancel();
        let _ = task.await;
    }
    let (id, keys) = keys(story, device)?;
    let client = connect(story, &id, "its next token", |spki| keys.token(BY_HAND, &[6; 16], spki)).await?;
    client.map_err(|e| anyhow!("{id} was refused: {e}"))
}

fn window_of(days: &[&str]) -> Value {
    json!({"days": days, "from": "00:00", "to": "00:00"})
}

pub(super) fn kept(story: &Story, name: &str) -> anyhow::Result<String> {
    story.kept.get(name).cloned().with_context(|| format!("an earlier step has not left {name}"))
}

/// A code with its last symbol mistyped.
pub(super) fn swapped(code: &str) -> String {
    let (rest, last) = code.split_at(code.len().saturating_sub(1));
    format!("{rest}{}", if last == "0" { "1" } else { "0" })
}

#[expect(clippy::disallowed_methods, reason = "the owner's own clock, which is not the hub's")]
fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
