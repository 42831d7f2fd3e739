//! The steps of the tour. Each ends with an error unless the hub answered exactly as it must.

use super::http::Http;
use super::stage::{BRAND, Stage, factory_dir, first_start, make_batch, make_devices, start_hub};
use super::tour::Story;
use crate::factory::{BrandId, MintOptions, ModelName, RunChoice, Workshop};
use crate::sim::device::{Event, SignIn};
use crate::sim::identity::{DeviceSecret, HubId, HubKeys};
use crate::sim::mqtt::{Client, ConnectOptions, Error, Message, Qos};
use crate::sim::tls::{Address, Security, Stream, dial};
use anyhow::{Context, anyhow, bail, ensure};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) const STEP: Duration = Duration::from_secs(10);
/// A counter far above what a simulated device has used: the tour speaks for it before it is switched on.
const OVERHEARD: u64 = 1;
pub(super) const DOOR: usize = 0;
pub(super) const LAMP: usize = 2;

pub(super) async fn factory(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let dir = story.dir.as_ref().context("no directory")?.0.clone();
    story.sent(format!("hearthkey factory brand new {BRAND}; model add ×3; mint ×3"));
    let (fingerprint, devices) = make_devices(&dir)?;
    if broken {
        // A model whose range is upside down: the factory must not sign it.
        let wrong = r#"{"model":"broken","title":"Broken","version":1,"kind":"lamp","attributes":{"on":{"type":"integer","min":5,"max":1,"access":"read"}},"commands":{}}"#;
        Workshop::open(factory_dir(&dir))?.add_model(&BrandId::parse(BRAND)?, wrong)?;
    }
    story.came(format!("brand fingerprint {fingerprint}"));
    for device in &devices {
        story.came(format!("{} with the label {}", device.id, device.grouped));
    }
    ensure!(devices.len() == 3, "three devices were to be made, there are {}", devices.len());
    story.door = devices.get(DOOR).context("no door")?.id.clone();
    Ok(())
}

pub(super) async fn import(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let temporary = story.dir.take().context("no directory")?;
    let dir = temporary.0.clone();
    let ports = story.ports;
    story.sent("hearthkey hub (first start: it makes its keys), hearthkey hub request");
    let request = first_start(&dir, ports).await?;
    story.came(format!("{}…", request.chars().take(40).collect::<String>()));
    let (fingerprint, devices) = make_devices(&dir)?;
    story.sent("hearthkey factory batch --for-hub REQUEST, then the hub with --trust and --import");
    let mut batch = make_batch(&dir, &request)?;
    if broken {
        // The same devices, sealed for another hub.
        let other = temporary.0.join("other");
        let elsewhere = first_start(&other, super::stage::choose(super::stage::Ports::Free)?).await?;
        batch = dir.join("other.hkb");
        Workshop::open(factory_dir(&dir))?.batch(&BrandId::parse(BRAND)?, &RunChoice::All, &elsewhere, &batch, &())?;
    }
    let hub = start_hub(&dir, ports, Some((&fingerprint, &batch))).await?;
    story.came(format!("hub {} serves HTTPS {}, MQTT over TLS {}", hub.id, hub.https, hub.mqtts));
    let http = Http::trusting(hub.http, hub.https, &hub.ca_fingerprint).await?;
    http.wait_until_served().await?;
    story.http = Some(http);
    story.batch = batch;
    story.stage = Some(Stage::of(temporary, hub, devices, fingerprint));
    let known = story.call("GET", "/hub", None, None).await?;
    ensure!(known.status == 200 && known.body.get("setup_required") == Some(&Value::Bool(true)), "a new hub waits for its owner");
    Ok(())
}

/// A stranger's or a device's connection, with a password made from the server key it was shown.
pub(super) async fn connect(
    story: &mut Story,
    user: &str,
    what: &str,
    password: impl FnOnce(&[u8]) -> String,
) -> anyhow::Result<Result<Client<Stream>, Error>> {
    let address: Address = format!("localhost:{}", story.stage()?.hub.mqtts.port()).parse().map_err(|e| anyhow!("{e}"))?;
    let connection = dial(&address, &Security::default(), STEP).await?;
    let spki = connection.spki.context("no TLS")?;
    story.sent(format!("CONNECT user name {user}, password {what}"));
    let client = Client::connect(connection.stream, &ConnectOptions::new("tour").credentials(user, password(&spki))).await;
    match &client {
        Ok(_) => story.came("CONNACK 0x00 (let in)"),
        Err(Error::Refused(connack)) => story.came(format!("CONNACK 0x{:02X}", connack.code)),
        Err(other) => story.came(other.to_string()),
    }
    Ok(client)
}

fn expect_refused(client: Result<Client<Stream>, Error>, code: u8) -> anyhow::Result<()> {
    match client {
        Err(Error::Refused(connack)) if connack.code == code => Ok(()),
        Err(Error::Refused(connack)) => bail!("refused with 0x{:02X} instead of 0x{code:02X}", connack.code),
        Err(other) => bail!("no CONNACK: {other}"),
        Ok(_) => bail!("it was let in"),
    }
}

pub(super) fn keys(story: &mut Story, device: usize) -> anyhow::Result<(String, HubKeys)> {
    let stage = story.stage()?;
    let hub: HubId = stage.hub.id.parse().map_err(|e| anyhow!("{e}"))?;
    let secret = DeviceSecret::read(&stage.devices.get(device).context("no such device")?.secret)?;
    Ok((secret.device_id.to_string(), secret.for_hub(hub)))
}

/// A device that the maker made after the batch: genuine, and unknown to this hub.
fn stranger(story: &mut Story) -> anyhow::Result<(String, HubKeys)> {
    let stage = story.stage()?;
    let workshop = Workshop::open(factory_dir(&stage.dir))?;
    let run = workshop.mint(&BrandId::parse(BRAND)?, &ModelName::parse("lamp")?, 1, &MintOptions::default(), &())?;
    let minted = run.devices().next().context("nothing was minted")??;
    let hub: HubId = stage.hub.id.parse().map_err(|e| anyhow!("{e}"))?;
    let secret = DeviceSecret::read(&minted.secret)?;
    Ok((secret.device_id.to_string(), secret.for_hub(hub)))
}

pub(super) async fn unknown(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (id, keys) = if broken { keys(story, LAMP)? } else { stranger(story)? };
    let client = connect(story, &id, "a token of its own, genuine key", |spki| keys.token(1, &[1; 16], spki)).await?;
    expect_refused(client, 0x86)
}

pub(super) async fn wrong_key(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (id, right) = keys(story, DOOR)?;
    let (_, wrong) = keys(story, LAMP)?;
    let used = if broken { right } else { wrong };
    let client = connect(story, &id, "a token made with another device's key", |spki| used.token(1_000, &[2; 16], spki)).await?;
    expect_refused(client, 0x86)
}

pub(super) async fn replay(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (id, keys) = keys(story, LAMP)?;
    let mut token = String::new();
    let first = connect(story, &id, "a fresh token", |spki| {
        token = keys.token(OVERHEARD, &[3; 16], spki);
        token.clone()
    })
    .await?;
    first.map_err(|e| anyhow!("the genuine device was refused: {e}"))?.disconnect(0).await?;
    let again = if broken { None } else { Some(token.clone()) };
    let second =
        connect(story, &id, "the identical token again", |spki| again.unwrap_or_else(|| keys.token(OVERHEARD + 1, &[4; 16], spki))).await?;
    story.spent_token = token;
    expect_refused(second, 0x86)
}

pub(super) async fn waits(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let sender = story.sender.clone();
    if broken {
        // The label of the door on a device with another key.
        let stage = story.stage()?;
        let door = stage.devices.get(DOOR).context("no door")?;
        let mut secret: Value = serde_json::from_slice(&std::fs::read(&door.secret)?)?;
        if let Some(key) = secret.get_mut("device_key") {
            *key = data_encoding::BASE64URL_NOPAD.encode(&[9; 32]).into();
        }
        std::fs::write(&door.secret, secret.to_string())?;
    }
    story.stage()?.start_device(DOOR, 20.0, Some(sender))?;
    story.sent("the garage door is switched on");
    let let_in = |e: &Event| match e {
        Event::WaitingToBeClaimed => Some(true),
        Event::SignInRefused { .. } => Some(false),
        _ => None,
    };
    ensure!(story.wait_for("garage door", "waiting", let_in).await?, "the hub does not let the door in");
    story.wait_for("garage door", "its first report", |e| matches!(e, Event::Reported { .. }).then_some(())).await
}

pub(super) async fn owner(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let printed = story.stage()?.hub.setup_code.clone().context("the hub printed no setup code")?;
    let code = if broken { "0000-0000-0000".to_owned() } else { printed };
    let body = json!({"code": code, "username": "olivia", "password": "Käsekuchen & 7 Äpfel"});
    let answer = story.call("POST", "/setup", None, Some(body)).await?;
    ensure!(answer.status == 201, "the owner account was not made");
    story.owner = text(&answer.body, "/token")?;
    story.owner_id = text(&answer.body, "/user/id")?;
    let token = story.owner.clone();
    let devices = story.call("GET", "/devices", Some(&token), None).await?;
    let door = story.door.clone();
    let state = find(&devices.body, &door).map(|d| text(d, "/state")).transpose()?;
    ensure!(state.as_deref() == Some("waiting"), "the owner should see that the door waits, and sees {state:?}");
    Ok(())
}

pub(super) async fn wrong_code(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let token = story.owner.clone();
    let stage = story.stage()?;
    let of = |i: usize| stage.devices.get(i).map(|d| d.grouped.clone()).context("no such device");
    // The lamp's code is well-formed; it is not the door's.
    let code = if broken { of(DOOR)? } else { of(LAMP)? };
    let door = story.door.clone();
    let answer = story.call("POST", "/claims", Some(&token), Some(json!({"device_id": door, "code": code}))).await?;
    ensure!(answer.status == 404 && answer.body.get("code") == Some(&json!("claim_refused")), "a wrong code must be refused");
    Ok(())
}

pub(super) async fn claim(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let token = story.owner.clone();
    let mut code = story.stage()?.devices.get(DOOR).context("no door")?.grouped.clone();
    if broken {
        // One symbol mistyped.
        let last = if code.ends_with('0') { "1" } else { "0" };
        code.replace_range(code.len() - 1.., last);
    }
    let body = json!({"code": code, "name": "Garage door", "room": "Garage"});
    let answer = story.call("POST", "/claims", Some(&token), Some(body)).await?;
    ensure!(answer.status == 201, "the claim was refused");
    story.wait_for("garage door", "its sealed credential", |e| matches!(e, Event::CredentialStored { .. }).then_some(())).await?;
    story.wait_for("garage door", "the new sign-in", |e| matches!(e, Event::Claimed).then_some(())).await?;
    let door = story.door.clone();
    let device = story.call("GET", &format!("/devices/{door}"), Some(&token), None).await?;
    ensure!(device.body.get("state") == Some(&json!("ready")), "the claim is not complete");
    ensure!(device.body.get("privilege") == Some(&json!("administer")), "the claimer must administer it");
    ensure!(device.body.get("trust") == Some(&json!("attested")), "it has proved its key");
    Ok(())
}

pub(super) async fn open(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (token, door) = (story.owner.clone(), story.door.clone());
    // Broken: a position that no door has.
    let args = if broken { json!({"to": 250}) } else { json!({}) };
    let body = json!({"name": "open", "args": args, "wait_ms": 20_000});
    let answer = story.call("POST", &format!("/devices/{door}/commands"), Some(&token), Some(body)).await?;
    ensure!(answer.status == 200 && answer.body.get("status") == Some(&json!("done")), "the door did not open");
    let open = |e: &Event| matches!(e, Event::Reported { state } if state.get("position") == Some(&json!(100))).then_some(());
    story.wait_for("garage door", "reporting that it is open", open).await?;
    let twin = story.call("GET", &format!("/devices/{door}/twin"), Some(&token), None).await?;
    let reported = |key: &str| twin.body.pointer(&format!("/reported/{key}")).cloned().unwrap_or_default();
    ensure!(reported("state") == json!("open") && reported("position") == json!(100), "the twin does not show an open door");
    Ok(())
}

pub(super) async fn foreign_topic(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (id, keys) = keys(story, LAMP)?;
    let door = if broken { id.clone() } else { story.door.clone() };
    let mut token = String::new();
    let client = connect(story, &id, "the lamp's next token", |spki| {
        token = keys.token(OVERHEARD + 10, &[5; 16], spki);
        token.clone()
    })
    .await?;
    story.spent_token = token;
    let mut lamp = client.map_err(|e| anyhow!("the lamp was refused: {e}"))?;
    for topic in [format!("things/{door}/shadow/update"), format!("things/{door}/anything")] {
        story.sent(format!("PUBLISH {topic} (QoS 1)"));
        let code = lamp.publish(&Message::new(topic, r#"{"state":{"reported":{}}}"#, Qos::AtLeastOnce)).await?;
        story.came(format!("PUBACK 0x{code:02X}"));
        ensure!(code == 0x87, "a publish in another device's room was not refused");
    }
    for filter in [format!("things/{door}/#"), "things/+/commands/+".into(), "#".into()] {
        story.sent(format!("SUBSCRIBE {filter}"));
        let codes = lamp.subscribe(&[(&filter, Qos::AtLeastOnce)]).await?;
        story.came(format!("SUBACK {}", codes.iter().map(|c| format!("0x{c:02X}")).collect::<Vec<_>>().join(" ")));
        ensure!(codes == [0x87], "a subscription beyond its own room was not refused");
    }
    lamp.disconnect(0).await?;
    Ok(())
}

pub(super) async fn second_account(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door) = (story.owner.clone(), story.door.clone());
    let person = json!({"username": "paul", "password": "ein langes Passwort", "role": "member"});
    let made = story.call("POST", "/users", Some(&owner), Some(person)).await?;
    ensure!(made.status == 201, "the second account was not made");
    let sign_in = json!({"username": "paul", "password": "ein langes Passwort"});
    let session = story.call("POST", "/sessions", None, Some(sign_in)).await?;
    let token = if broken { owner } else { text(&session.body, "/token")? };
    let devices = story.call("GET", "/devices", Some(&token), None).await?;
    ensure!(devices.body.get("devices") == Some(&json!([])), "a second account must see no device");
    for (method, path, body) in [
        ("GET", format!("/devices/{door}"), None),
        ("GET", format!("/devices/{door}/twin"), None),
        ("POST", format!("/devices/{door}/commands"), Some(json!({"name": "close"}))),
    ] {
        let answer = story.call(method, &path, Some(&token), body).await?;
        ensure!(answer.status == 404, "a device of others must not even be found");
    }
    let audit = story.call("GET", "/audit", Some(&token), None).await?;
    ensure!(audit.status == 403, "the audit is for owners");
    let client = connect(story, "user:paul", "his session token", |_| token.clone()).await?;
    let mut client = client.map_err(|e| anyhow!("he was refused over MQTT: {e}"))?;
    story.sent(format!("SUBSCRIBE things/{door}/#"));
    let codes = client.subscribe(&[(&format!("things/{door}/#"), Qos::AtLeastOnce)]).await?;
    story.came(format!("SUBACK 0x{:02X}", codes.first().copied().unwrap_or_default()));
    ensure!(codes == [0x87], "he could subscribe to the door");
    Ok(())
}

pub(super) async fn power_cut(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (token, door) = (story.owner.clone(), story.door.clone());
    let before = story.call("GET", &format!("/devices/{door}/twin"), Some(&token), None).await?;
    let (ports, batch) = (story.ports, story.batch.clone());
    story.sent("SIGKILL to the hub");
    let stage = story.stage()?;
    stage.hub.child.kill().await?;
    if broken {
        // What a hub that loses its disk would look like.
        std::fs::remove_file(super::stage::hub_dir(&stage.dir).join("hub.redb"))?;
    }
    let (dir, fingerprint) = (stage.dir.clone(), stage.fingerprint.clone());
    stage.hub = start_hub(&dir, ports, Some((&fingerprint, &batch))).await?;
    story.came("the hub serves again");
    ensure!(story.stage()?.hub.setup_code.is_none(), "the hub has forgotten its owner");
    let known = story.call("GET", "/me", Some(&token), None).await?;
    ensure!(known.status == 200, "the owner's session is lost");
    story.wait_for("garage door", "signing in again", |e| matches!(e, Event::SignedIn { with: SignIn::Secret }).then_some(())).await?;
    let after = story.call("GET", &format!("/devices/{door}/twin"), Some(&token), None).await?;
    let version = |v: &Value| v.get("version").and_then(Value::as_u64).unwrap_or_default();
    ensure!(version(&after.body) >= version(&before.body) && version(&before.body) > 0, "the twin went back");
    ensure!(after.body.pointer("/reported/state") == Some(&json!("open")), "the twin's state is lost");
    let device = story.call("GET", &format!("/devices/{door}"), Some(&token), None).await?;
    ensure!(device.body.get("privilege") == Some(&json!("administer")), "the binding is lost");
    let (id, _) = keys(story, LAMP)?;
    let spent = story.spent_token.clone();
    expect_refused(connect(story, &id, "the token that was spent before the power cut", |_| spent).await?, 0x86)
}

pub(super) async fn audit(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (token, door, owner) = (story.owner.clone(), story.door.clone(), format!("user:{}", story.owner_id));
    let http = story.http.clone().context("no hub")?;
    story.sent("GET /api/v1/audit?limit=200");
    let answer = http.call("GET", "/audit?limit=200", Some(&token), None).await?;
    let mut entries = answer.body.get("entries").and_then(Value::as_array).cloned().unwrap_or_default();
    entries.reverse();
    for e in &entries {
        let field = |k: &str| e.get(k).and_then(Value::as_str).unwrap_or_default().to_owned();
        let line = format!(
            "{:>3} {:<9} {:<16} {} by {} {}",
            e["seq"],
            field("outcome"),
            field("action"),
            field("object"),
            field("actor"),
            field("reason")
        );
        story.came(line);
    }
    let has = |actor: &str, action: &str, object: &str, outcome: &str, reason: &str| {
        entries.iter().any(|e| {
            let is = |k: &str, v: &str| v == "*" || e.get(k).and_then(Value::as_str) == Some(v);
            is("actor", actor) && is("action", action) && is("object", object) && is("outcome", outcome) && is("reason", reason)
        })
    };
    let door_or = |broken: bool| if broken { "another-door".to_owned() } else { door.clone() };
    for (actor, action, object, outcome, reason) in [
        ("user:console", "registry.import", BRAND.to_owned(), "done", "*"),
        ("*", "device.sign_in", "*".to_owned(), "denied", "unknown_identity"),
        ("*", "device.sign_in", door.clone(), "denied", "wrong_tag"),
        ("*", "device.sign_in", "*".to_owned(), "denied", "replayed_token"),
        (&*owner, "hub.setup", "hub".to_owned(), "done", "*"),
        (&*owner, "device.claim", "?".to_owned(), "denied", "wrong_code"),
        (&*owner, "device.claim", door_or(broken), "done", "*"),
        (&*format!("device:{door}"), "claim.complete", door.clone(), "done", "*"),
        (&*owner, "command.send", door.clone(), "done", "*"),
        ("*", "topic.publish", "*".to_owned(), "denied", "not_its_topic"),
        (&*owner, "user.add", "*".to_owned(), "done", "*"),
    ] {
        ensure!(has(actor, action, &object, outcome, reason), "the audit lacks {action} of {object} by {actor}: {outcome} {reason}");
    }
    Ok(())
}

pub(super) fn text(body: &Value, pointer: &str) -> anyhow::Result<String> {
    body.pointer(pointer).and_then(Value::as_str).map(str::to_owned).with_context(|| format!("the answer has no {pointer}"))
}

pub(super) fn find<'a>(devices: &'a Value, id: &str) -> Option<&'a Value> {
    devices.get("devices")?.as_array()?.iter().find(|d| d.get("id").and_then(Value::as_str) == Some(id))
}
