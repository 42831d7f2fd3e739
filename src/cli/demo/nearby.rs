//! The steps of the tour about devices nearby: a garage door is paired over Bluetooth by the code on its label, and everything
//! that only looks like that is refused. The radio is a stand-in for BlueZ on a private bus; hub and devices are what they always are.

use super::http::Http;
use super::people::{first_owner, swapped};
use super::stage::{Ports, Stage};
use super::steps::{DOOR, LAMP, connect, find, text};
use super::tour::Story;
use crate::sim::bluez::{Air, Failing, Peripheral, Power};
use crate::sim::device::{Backoff, DeviceError};
use crate::sim::identity::DeviceSecret;
use crate::sim::improv::{self, Improv};
use crate::sim::mqtt::{Message, Qos};
use crate::sim::pairing::{self, At, Event, Fault, Press, Told};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SSID: &str = "Lindenhof";
const PASSPHRASE: &str = "the linden is in bloom";
/// Looks at a pairing, or at the list of things nearby, until the step gives up: 30 s in all.
const LOOKS: usize = 300;
const PAUSE: Duration = Duration::from_millis(100);

/// What is in the air around the hub.
pub(super) struct Near {
    air: Air,
    devices: BTreeMap<usize, Living>,
    plug: Improv,
    told: mpsc::Receiver<(String, Event)>,
    teller: mpsc::Sender<(String, Event)>,
}

/// A device that is switched on.
struct Living {
    stop: CancellationToken,
    task: JoinHandle<Result<(), DeviceError>>,
    hand: mpsc::Sender<Press>,
    address: String,
}

pub(super) async fn house(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    story.sent("the maker's workshop, a Bluetooth adapter, and a hub that uses it");
    let air = Air::start().await?;
    if broken {
        air.set_power("hci0", Power::Blocked)?;
    }
    let stage = Stage::build_near(Ports::Free, air.address()).await?;
    let http = Http::trusting(stage.hub.http, stage.hub.https, &stage.hub.ca_fingerprint).await?;
    http.wait_until_served().await?;
    let code = stage.hub.setup_code.clone().context("the hub printed no setup code")?;
    story.door = stage.devices.get(DOOR).context("no door")?.id.clone();
    story.http = Some(http);
    story.stage = Some(stage);
    let (teller, told) = mpsc::channel(1024);
    let plug = Improv::new(improv::Options { networks: vec![(SSID.into(), PASSPHRASE.into())], ..improv::Options::default() });
    story.near = Some(Near { air, devices: BTreeMap::new(), plug, told, teller });
    let token = first_owner(story, &code).await?;
    let mut state = String::new();
    for _ in 0..LOOKS {
        let radio = story.http()?.call("GET", "/radio", Some(&token), None).await?;
        state = text(&radio.body, "/state")?;
        if state == "ready" || (broken && state == "blocked") {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    story.came(format!("the radio is {state}"));
    ensure!(state == "ready", "the hub's radio is {state}");
    Ok(())
}

pub(super) async fn nearby(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    if !broken {
        switch_on(story, DOOR, None)?;
    }
    let plug = Box::new(story.near()?.plug.clone());
    put(story, "AA:BB:CC:DD:EE:09", "Plug", 185, -70, plug)?;
    let token = story.owner.clone();
    let scan = story.call("POST", "/radio/scan", Some(&token), None).await?;
    ensure!(scan.status == 202, "the hub does not look around");
    for _ in 0..LOOKS {
        let seen = story.http()?.call("GET", "/nearby", Some(&token), None).await?;
        let (door, plug) = (thing(&seen.body, "hearthkey", None), thing(&seen.body, "improv", None));
        if let (Some(door), Some(plug)) = (door, plug) {
            story.came(format!("{door}"));
            story.came(format!("{plug}"));
            story.kept.insert("plug", text(&plug, "/id")?);
            ensure!(!door.to_string().contains(&story.door), "the device tells everybody its id");
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("the hub does not hear both devices within 30 s")
}

pub(super) async fn wrong_code(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door) = (story.owner.clone(), story.door.clone());
    let code = code(story, if broken { DOOR } else { LAMP })?;
    let body = json!({"code": swapped(&code)});
    let mistyped = story.call("POST", "/pairings", Some(&owner), Some(body)).await?;
    ensure!(mistyped.status == 422, "a mistyped code went through");
    let body = json!({"device_id": door, "code": code});
    let refused = story.call("POST", "/pairings", Some(&owner), Some(body)).await?;
    ensure!(refused.status == 404, "another device's code was taken for the door's");
    Ok(())
}

pub(super) async fn power_cut(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let owner = story.owner.clone();
    switch_off(story, DOOR).await?;
    switch_on(story, DOOR, (!broken).then_some(Fault::Drop(At::Credential)))?;
    let before = (hub_sees(story).await?, flash(story, DOOR)?);
    let ended = pair(story, &owner, DOOR).await?;
    ensure!(step(&ended) == "failed", "a pairing without an end was {}", step(&ended));
    ensure!(ended.pointer("/problem/next").is_some_and(Value::is_string), "the hub does not say what to do next");
    ensure!((hub_sees(story).await?, flash(story, DOOR)?) == before, "a broken pairing left something behind");
    story.came("hub and device are as they were");
    switch_off(story, DOOR).await
}

pub(super) async fn pair_door(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door) = (story.owner.clone(), story.door.clone());
    switch_on(story, DOOR, broken.then_some(Fault::Clone))?;
    let ended = pair(story, &owner, DOOR).await?;
    ensure!(step(&ended) == "done", "the pairing was {}", step(&ended));
    ensure!(ended.get("trust") == Some(&json!("attested")), "the door has not proved its key");
    let seen = story.call("GET", &format!("/devices/{door}"), Some(&owner), None).await?;
    ensure!(seen.body.get("state") == Some(&json!("ready")), "the door is not ready");
    // It listens before it says how it stands: a command before that would reach nobody.
    for _ in 0..LOOKS {
        let twin = story.http()?.call("GET", &format!("/devices/{door}/twin"), Some(&owner), None).await?;
        if twin.body.pointer("/reported/position").is_some() {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("the door does not say how it stands within 30 s")
}

pub(super) async fn open(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door) = (story.owner.clone(), story.door.clone());
    let body = json!({"name": if broken { "explode" } else { "open" }, "wait_ms": 20_000});
    let opened = story.call("POST", &format!("/devices/{door}/commands"), Some(&owner), Some(body)).await?;
    ensure!(opened.status == 200 && opened.body.get("status") == Some(&json!("done")), "the door did not open");
    Ok(())
}

pub(super) async fn copy(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let owner = story.owner.clone();
    switch_on(story, LAMP, (!broken).then_some(Fault::Clone))?;
    let before = hub_sees(story).await?;
    let ended = pair(story, &owner, LAMP).await?;
    ensure!(step(&ended) == "failed", "a copy of the lamp's label was paired");
    ensure!(hub_sees(story).await? == before, "the copy left something behind");
    switch_off(story, LAMP).await
}

pub(super) async fn elsewhere(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let owner = story.owner.clone();
    let account = json!({"username": "mo", "display_name": "Mo", "password": "Rote Grütze, 3 Löffel", "role": "member"});
    ensure!(story.call("POST", "/users", Some(&owner), Some(account)).await?.status == 201, "there is no account for Mo");
    let signing_in = json!({"username": "mo", "password": "Rote Grütze, 3 Löffel"});
    let opened = story.call("POST", "/sessions", None, Some(signing_in)).await?;
    let mo = text(&opened.body, "/token")?;
    story.kept.insert("mo", mo.clone());
    press(story, DOOR, Press::Pair).await?;
    let ended = pair(story, if broken { &owner } else { &mo }, DOOR).await?;
    ensure!(step(&ended) == "failed", "somebody else's door was taken with a photograph of its label");
    ensure!(!ended.to_string().to_lowercase().contains("olivia"), "the refusal says whose it is");
    Ok(())
}

pub(super) async fn reset(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (mo, door) = (text(&json!(story.kept), "/mo")?, story.door.clone());
    press(story, DOOR, if broken { Press::Pair } else { Press::Reset }).await?;
    let ended = pair(story, &mo, DOOR).await?;
    ensure!(step(&ended) == "done", "the door was reset by hand, and its new owner does not get it");
    let theirs = story.call("GET", &format!("/devices/{door}"), Some(&mo), None).await?;
    ensure!(theirs.body.get("privilege") == Some(&json!("administer")), "Mo does not administer it");
    let owner = story.owner.clone();
    let former = story.call("GET", &format!("/devices/{door}"), Some(&owner), None).await?;
    ensure!(former.body.get("privilege").is_none_or(Value::is_null), "Olivia kept a right on what was reset");
    Ok(())
}

pub(super) async fn stock(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, plug) = (story.owner.clone(), text(&json!(story.kept), "/plug")?);
    let passphrase = if broken { "the linden is bare" } else { PASSPHRASE };
    let body = json!({"nearby": plug, "wifi": {"use": "given", "ssid": SSID, "passphrase": passphrase}});
    let ended = follow(story, &owner, body).await?;
    ensure!(step(&ended) == "done", "the plug was not given its Wi-Fi");
    ensure!(ended.get("encrypted") == Some(&json!(false)), "the hub does not say that Improv is not encrypted");
    ensure!(ended.get("name") == Some(&json!("Plug")), "the hub does not call the plug what it calls itself");
    ensure!(story.near()?.plug.joined().as_deref() == Some(SSID), "the plug is in no network");
    let added = story.call("POST", "/devices", Some(&owner), Some(json!({"name": "Plug"}))).await?;
    ensure!(added.status == 201 && added.body.pointer("/device/trust") == Some(&json!("unattested")), "the plug was not added");
    let (user, password) = (text(&added.body, "/username")?, text(&added.body, "/password")?);
    let mut client = connect(story, &user, "shown once", |_| password).await?.context("the plug was not let in")?;
    for (room, allowed) in [(user, true), (story.door.clone(), false)] {
        let topic = format!("things/{room}/sensor/power");
        story.sent(format!("PUBLISH {topic}"));
        let code = client.publish(&Message::new(topic, "12", Qos::AtLeastOnce)).await?;
        story.came(format!("PUBACK {code:#04x}"));
        ensure!((code < 0x80) == allowed, "the plug speaks where it may not, or not where it may");
    }
    Ok(())
}

pub(super) async fn audit(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door) = (story.owner.clone(), story.door.clone());
    let whole = story.call("GET", "/audit/verify", Some(&owner), None).await?;
    ensure!(whole.body.get("whole") == Some(&json!(true)), "the chain is broken");
    for (action, outcome, object) in [
        ("device.pair", "denied", door.as_str()),
        ("device.claim", "done", door.as_str()),
        ("device.reset", "done", door.as_str()),
        (if broken { "device.forged" } else { "device.add" }, "done", ""),
    ] {
        let of = if object.is_empty() { String::new() } else { format!("&object={object}") };
        let found = story.call("GET", &format!("/audit?limit=50&action={action}{of}"), Some(&owner), None).await?;
        let entries = found.body.get("entries").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        ensure!(entries.iter().any(|e| e.get("outcome") == Some(&json!(outcome))), "the audit lacks {action}, {outcome}");
    }
    Ok(())
}

/// Pairs a device of the stage by the code on its label; the pairing as it ended.
async fn pair(story: &mut Story, token: &str, device: usize) -> anyhow::Result<Value> {
    let code = story.stage()?.devices.get(device).context("there is no such device")?.label.clone();
    follow(story, token, json!({"code": code})).await
}

/// Begins a pairing and shows how far it is until it is over.
async fn follow(story: &mut Story, token: &str, body: Value) -> anyhow::Result<Value> {
    let begun = story.call("POST", "/pairings", Some(token), Some(body)).await?;
    ensure!(begun.status == 201, "the pairing did not begin");
    let path = format!("/pairings/{}", text(&begun.body, "/id")?);
    let mut last = String::new();
    for _ in 0..LOOKS {
        let now = story.http()?.call("GET", &path, Some(token), None).await?.body;
        while let Ok((title, event)) = story.near()?.told.try_recv() {
            if matches!(event, Event::Pairing(_)) {
                story.came(format!("{title}: {event}"));
            }
        }
        if step(&now) != last {
            step(&now).clone_into(&mut last);
            story.came(format!("the hub: {last}"));
        }
        if matches!(last.as_str(), "done" | "failed" | "cancelled") {
            if let Some(problem) = now.get("problem").filter(|p| !p.is_null()) {
                story.came(format!("{problem}"));
            }
            return Ok(now);
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("the pairing is still {last} after 30 s")
}

fn step(pairing: &Value) -> &str {
    pairing.get("step").and_then(Value::as_str).unwrap_or_default()
}

/// Of the things nearby, the first of a kind.
fn thing(seen: &Value, kind: &str, name: Option<&str>) -> Option<Value> {
    let things = seen.get("things")?.as_array()?;
    let is = |t: &&Value| t.get("kind") == Some(&json!(kind)) && name.is_none_or(|n| t.get("name") == Some(&json!(n)));
    things.iter().find(is).cloned()
}

/// Lets a device of the stage live, near the hub.
fn switch_on(story: &mut Story, index: usize, fault: Option<Fault>) -> anyhow::Result<()> {
    let home = story.stage()?.flash(index)?;
    std::fs::create_dir_all(&home)?;
    let device = story.stage()?.devices.get(index).context("there is no such device")?;
    let (secret, title) = (DeviceSecret::read(&device.secret)?, device.title.clone());
    let mut options = pairing::Options::new(secret);
    let (hand, pressed) = mpsc::channel(4);
    options.state = Some(home);
    options.fault = fault;
    options.speed = 20.0;
    options.backoff = Backoff::FAST;
    options.hand = Some(pressed);
    let (front, host) = pairing::device(options)?;
    let address = format!("AA:BB:CC:DD:EE:{index:02}");
    put(story, &address, &title, 247, -48, Box::new(front))?;
    let (sender, mut events) = mpsc::channel(256);
    let teller = story.near()?.teller.clone();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let _ = teller.try_send((title.clone(), event));
        }
    });
    let stop = CancellationToken::new();
    let task = tokio::spawn(host.run(sender, stop.clone()));
    story.near()?.devices.insert(index, Living { stop, task, hand, address });
    Ok(())
}

fn put(
    story: &mut Story,
    address: &str,
    name: &str,
    mtu: u16,
    rssi: i16,
    device: Box<dyn crate::sim::gatt::GattDevice>,
) -> anyhow::Result<()> {
    let peripheral =
        Peripheral { name: Some(name.to_owned()), address: address.to_owned(), mtu, rssi, device, failing: Failing::default() };
    Ok(story.near()?.air.add_device(peripheral)?)
}

async fn switch_off(story: &mut Story, index: usize) -> anyhow::Result<()> {
    let near = story.near()?;
    let Some(living) = near.devices.remove(&index) else { return Ok(()) };
    near.air.remove_device(&living.address)?;
    living.stop.cancel();
    Ok(living.task.await??)
}

/// Presses a device's button, and waits until it can be paired.
async fn press(story: &mut Story, index: usize, press: Press) -> anyhow::Result<()> {
    let near = story.near()?;
    let living = near.devices.get(&index).context("the device is off")?;
    while near.told.try_recv().is_ok() {}
    living.hand.send(press).await.context("the device is gone")?;
    let open = async {
        while let Some((title, event)) = near.told.recv().await {
            if event == Event::Pairing(Told::WindowOpen) {
                return Some(format!("{title}: {event}"));
            }
        }
        None
    };
    let line = tokio::time::timeout(Duration::from_secs(15), open).await.ok().flatten().context("the button does nothing")?;
    story.sent("somebody presses the door's button");
    story.came(line);
    Ok(())
}

fn code(story: &mut Story, index: usize) -> anyhow::Result<String> {
    Ok(story.stage()?.devices.get(index).context("there is no such device")?.grouped.clone())
}

/// What the hub shows of the door and the lamp.
async fn hub_sees(story: &mut Story) -> anyhow::Result<Vec<Value>> {
    let (owner, http) = (story.owner.clone(), story.http()?);
    let devices = http.call("GET", "/devices", Some(&owner), None).await?;
    let ids: Vec<String> = story.stage()?.devices.iter().map(|d| d.id.clone()).collect();
    Ok(ids.iter().map(|id| stable(find(&devices.body, id))).collect())
}

/// A device without what changes by itself.
fn stable(device: Option<&Value>) -> Value {
    let mut device = device.cloned().unwrap_or(Value::Null);
    if let Some(members) = device.as_object_mut() {
        members.remove("last_seen");
        members.remove("online");
    }
    device
}

/// What a device remembers, byte by byte.
fn flash(story: &mut Story, index: usize) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(story.stage()?.flash(index)?)? {
        let path = entry?.path();
        files.push((path.display().to_string(), std::fs::read(&path)?));
    }
    files.sort();
    Ok(files)
}
