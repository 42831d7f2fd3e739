//! The steps of the tour about the cloud: identities come down, the link is cut, rights change on both sides, what is revoked
//! stays revoked, and a hub that is destroyed is replaced without pairing anything again.

pub(super) mod region;

use super::http::Http;
use super::people::{closes, command, first_owner, kept, swapped, wait_for_state};
use super::stage::{Ports, Stage, TemporaryDir, choose, hub_dir, make_devices, start_hub_with, stop_hub};
use super::steps::{DOOR, LAMP, text};
use super::tour::Story;
use crate::sim::device::{Event, SignIn};
use anyhow::{Context, anyhow, bail, ensure};
use region::Region;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const THERMOSTAT: usize = 1;
const UPLOAD: &str = "spring-run";
/// Looks at something until a step gives up: 30 s in all, and 5 s in a step that is broken and will see nothing.
const LOOKS: usize = 300;
const LOOKS_IN_VAIN: usize = 50;
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn cloud(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let dir = story.dir.as_ref().context("no directory")?.0.clone();
    let (fingerprint, devices) = make_devices(&dir)?;
    story.sent("hearthkey cloud, with a PostgreSQL of its own; tenant add, service add");
    let region = Region::start(dir.join("cloud")).await?;
    story.came(format!("region eu at {}, brand {fingerprint}", region.url));
    let (id, secret) = region.add_maker(&dir).await?;
    let token = region.sign_in(&id, &secret).await?;
    story.sent(format!("the maker's program: POST /v1/identities, {} secret files", devices.len()));
    let uploaded = region.upload(&token, UPLOAD, &devices, !broken).await?;
    story.came(format!("{} {}", uploaded.status, uploaded.body));
    story.kept.insert("maker", token);
    story.region = Some(region);
    ensure!(uploaded.status == 200, "the identities were not taken");
    ensure!(uploaded.body.get("state") == Some(&json!("complete")), "the upload is not complete, so nothing of it counts");
    ensure!(!uploaded.body.to_string().contains("key"), "the cloud shows a key");
    Ok(())
}

pub(super) async fn link(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let temporary = story.dir.take().context("no directory")?;
    start_house(story, temporary).await?;
    let token = story.owner.clone();
    let password = json!({"password": super::people::OWNER_PASSWORD});
    let recovery = story.call("POST", "/recovery", Some(&token), Some(password)).await?;
    ensure!(recovery.status < 300, "the owner got no recovery code");
    story.kept.insert("recovery", text(&recovery.body, "/code")?);
    let (url, key) = (story.region()?.url.clone(), story.region()?.key.clone());
    let look = story.call("POST", "/cloud/look", Some(&token), Some(json!({"url": url}))).await?;
    ensure!(look.status == 200, "the hub does not see the cloud");
    ensure!(text(&look.body, "/key")? == key, "the cloud shows another key than the one it was started with");
    let key = if broken { swapped_key(&key) } else { key };
    let consent = ["devices", "twins", "people", "audit", "bundle", "requests", "grants"];
    let wish = json!({"url": url, "key": key, "region": "eu", "consent": consent, "brands": ["acme"]});
    let linked = story.call("PUT", "/cloud", Some(&token), Some(wish)).await?;
    ensure!(linked.status < 300, "the link was not taken");
    in_step(story).await
}

pub(super) async fn identities(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (hub, maker) = (story.stage()?.hub.id.clone(), kept(story, "maker")?);
    let body = json!({"upload": if broken { "another-run" } else { UPLOAD }});
    story.sent(format!("the maker's program: POST /v1/hubs/{hub}/assignments {body}"));
    let assigned = story.region()?.call("POST", &format!("/v1/hubs/{hub}/assignments"), &maker, Some(body)).await?;
    story.came(format!("{} {}", assigned.status, assigned.body));
    ensure!(assigned.status == 202, "the devices were not assigned");
    let sender = story.sender.clone();
    for device in [DOOR, THERMOSTAT, LAMP] {
        story.stage()?.start_device(device, 20.0, Some(sender.clone()))?;
    }
    for device in ids(story)? {
        wait_for_state(story, &device, "waiting").await?;
    }
    Ok(())
}

pub(super) async fn claim(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let owner = story.owner.clone();
    for device in [DOOR, LAMP] {
        claim_device(story, device).await?;
    }
    let (door, lamp) = (story.door.clone(), kept(story, "lamp")?);
    let grants =
        json!([{"device_id": door, "privilege": "manage", "only": ["open", "light"]}, {"device_id": lamp, "privilege": "operate"}]);
    let invitation = json!({"role": "guest", "display_name": "Gus", "grants": grants});
    let made = story.call("POST", "/invitations", Some(&owner), Some(invitation)).await?;
    let person = json!({"code": text(&made.body, "/code")?, "username": "gus", "password": "blau und 3 Äpfel im Korb"});
    let joined = story.call("POST", "/registrations", None, Some(person)).await?;
    ensure!(joined.status == 201, "Gus could not make his account");
    let (gus, gus_id) = (text(&joined.body, "/token")?, text(&joined.body, "/user/id")?);
    story.kept.insert("gus", gus);
    story.kept.insert("gus-id", gus_id);
    let away = story.call("POST", "/me/away", Some(&owner), Some(json!({"name": "Phone", "days": 30}))).await?;
    ensure!(away.status < 300, "the owner got no key for use from away");
    let away = text(&away.body, "/token")?;
    story.kept.insert("away", away.clone());
    in_step(story).await?;
    let away = if broken { format!("{}x", away.get(..away.len() - 1).unwrap_or_default()) } else { away };
    story.sent(format!("from away: PATCH /v1/home/devices/{lamp}/desired {{\"on\":true}}"));
    let asked = story.region()?.call("PATCH", &format!("/v1/home/devices/{lamp}/desired"), &away, Some(json!({"on": true}))).await?;
    story.came(format!("{} {}", asked.status, asked.body));
    let done = story.region()?.answered(&away, &asked).await?;
    story.came(format!("{done}"));
    ensure!(done.get("state") == Some(&json!("done")), "the lamp was not switched on from away");
    let on = |e: &Event| matches!(e, Event::Reported { state } if state.get("on") == Some(&json!(true))).then_some(());
    story.wait_for("lamp", "shine", on).await
}

pub(super) async fn master(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, away, door) = (story.owner.clone(), kept(story, "away")?, story.door.clone());
    if broken {
        let consent = ["devices", "twins", "people", "audit", "bundle", "requests", "grants", "critical"];
        story.call("PATCH", "/cloud", Some(&owner), Some(json!({"consent": consent}))).await?;
        in_step(story).await?;
    }
    story.sent(format!("from away: POST /v1/home/devices/{door}/commands {{\"name\":\"open\"}}, to which nobody has agreed"));
    let asked = story.region()?.call("POST", &format!("/v1/home/devices/{door}/commands"), &away, Some(json!({"name": "open"}))).await?;
    story.came(format!("{} {}", asked.status, asked.body));
    if asked.status == 202 {
        let ended = story.region()?.answered(&away, &asked).await?;
        story.came(format!("{ended}"));
        ensure!(ended.get("state") == Some(&json!("refused")), "the cloud opened the door, and no owner has agreed to that");
    } else {
        ensure!(asked.status == 403, "the cloud answered {}", asked.status);
    }
    Ok(())
}

pub(super) async fn cut(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, away) = (story.owner.clone(), kept(story, "away")?);
    let (door, lamp, gus) = (story.door.clone(), kept(story, "lamp")?, kept(story, "gus-id")?);
    story.sent("the line to the cloud is cut");
    if !broken {
        story.region()?.line.cut();
    }
    story.call("POST", "/cloud/sync", Some(&owner), None).await?;
    wait_until(story, looks(broken), "the hub says that it does not reach its cloud", |cloud| {
        cloud.pointer("/state/problem/code").and_then(Value::as_str) == Some("unreachable")
    })
    .await?;
    // At home: everything goes on.
    claim_device(story, THERMOSTAT).await?;
    ensure!(command(story, &owner, "open").await? == 200, "the door does not open without the internet");
    let taken = story.call("DELETE", &format!("/devices/{door}/bindings/user:{gus}"), Some(&owner), None).await?;
    ensure!(taken.status < 300, "Gus' right to the door was not taken away at home");
    let changed = json!({"username": "gus", "privilege": "view"});
    let changed = story.call("POST", &format!("/devices/{lamp}/bindings"), Some(&owner), Some(changed)).await?;
    ensure!(changed.status == 200, "Gus' right to the lamp was not changed at home");
    // From away, at the same time: his right to the lamp ends.
    let path = format!("/v1/home/devices/{lamp}/bindings/user:{gus}");
    story.sent(format!("from away: DELETE {path}"));
    let ended = story.region()?.call("DELETE", &path, &away, None).await?;
    story.came(format!("{} {}", ended.status, ended.body));
    ensure!(ended.status < 300, "Gus' right to the lamp was not taken away from away");
    Ok(())
}

pub(super) async fn agree(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, away, gus) = (story.owner.clone(), kept(story, "away")?, kept(story, "gus")?);
    let (door, lamp, gus_id) = (story.door.clone(), kept(story, "lamp")?, kept(story, "gus-id")?);
    if !broken {
        story.sent("the line is mended");
        story.region()?.line.mend();
    }
    story.call("POST", "/cloud/sync", Some(&owner), None).await?;
    in_step_within(story, looks(broken)).await?;
    let thermostat = ids(story)?.get(THERMOSTAT).cloned().context("no thermostat")?;
    let seen = story.region()?.call("GET", &format!("/v1/home/devices/{thermostat}"), &away, None).await?;
    ensure!(seen.status == 200, "the thermostat that was claimed meanwhile is not seen from away");
    for device in [&door, &lamp] {
        let there = story.region()?.call("GET", &format!("/v1/home/devices/{device}/bindings"), &away, None).await?.body;
        let here = story.call("GET", &format!("/devices/{device}/bindings"), Some(&owner), None).await?.body;
        for (side, all) in [("cloud", &there), ("hub", &here)] {
            ensure!(all.to_string().contains(&story.owner_id), "the {side} lost the owner's right to {device}: {all}");
            ensure!(!all.to_string().contains(&gus_id), "Gus has a right to {device} at the {side}, and it was taken away: {all}");
        }
        let twin = story.call("GET", &format!("/devices/{device}/twin"), Some(&gus), None).await?;
        ensure!(matches!(twin.status, 403 | 404), "Gus reads {device} after his right was taken away");
    }
    story.came("both have the same rights, and none of Gus'");
    Ok(())
}

pub(super) async fn destroyed(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    in_step(story).await?;
    // It is made anew when the house has been quiet for 20 s.
    let sealed = |cloud: &Value| cloud.pointer("/pending/bundle") == Some(&json!(false));
    wait_until(story, LOOKS, "the cloud keeps the newest recovery bundle", sealed).await?;
    recorded(story, &["cloud.link", "device.claim", "binding.revoke"]).await?;
    let stage = story.stage()?;
    let (dir, https) = (hub_dir(&stage.dir), stage.hub.https);
    if !broken {
        stage.hub.child.start_kill()?;
        stage.hub.child.wait().await?;
        // Kept aside for the day on which it comes back from the dead.
        std::fs::rename(&dir, dir.with_extension("old"))?;
    }
    story.sent("kill -9; the box is thrown away with all that was on it");
    ensure!(std::net::TcpStream::connect(https).is_err(), "the hub still answers");
    Ok(())
}

pub(super) async fn replaced(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (code, url) = (kept(story, "recovery")?, story.region()?.url.clone());
    let (id, dir, ports) = (story.stage()?.hub.id.clone(), story.stage()?.dir.clone(), story.stage()?.ports());
    story.sent(format!("hearthkey recover --cloud {url} --hub {id}, and the recovery code from the drawer"));
    let code = if broken { swapped(&code) } else { code };
    recover(story, &url, &id, &hub_dir(&dir), &code).await?;
    let ca = story.region()?.ca_file();
    // What the devices did before the hub broke is of no interest any more.
    while story.events.try_recv().is_ok() {}
    let hub = start_hub_with(&dir, ports, &cloud_settings(&ca)).await?;
    ensure!(hub.id == id, "the new hub has another id");
    let http = Http::trusting(hub.http, hub.https, &hub.ca_fingerprint).await?;
    http.wait_until_served().await?;
    story.http = Some(http);
    story.stage()?.hub = hub;
    let with_secret = |e: &Event| matches!(e, Event::SignedIn { with: SignIn::Secret });
    let titles = ["garage door", "thermostat", "lamp"];
    story.wait_for_all(&titles, "the devices sign in again with what they have, without being paired", with_secret).await?;
    let owner = json!({"username": "olivia", "password": super::people::OWNER_PASSWORD});
    let signed_in = story.call("POST", "/sessions", None, Some(owner)).await?;
    ensure!(signed_in.status == 201, "the owner cannot sign in with her name and password");
    story.owner = text(&signed_in.body, "/token")?;
    let token = story.owner.clone();
    for device in ids(story)? {
        wait_for_state(story, &device, "ready").await?;
    }
    ensure!(closes(story, &token).await?, "the door does not obey its owner");
    let guest = json!({"username": "gus", "password": "blau und 3 Äpfel im Korb"});
    let gus = story.call("POST", "/sessions", None, Some(guest)).await?;
    ensure!(gus.status == 201, "Gus cannot sign in");
    let refused = command(story, &text(&gus.body, "/token")?, "open").await?;
    ensure!(matches!(refused, 403 | 404), "what was taken away from Gus has come back with the bundle");
    in_step(story).await
}

pub(super) async fn old_hub(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (dir, ca) = (story.stage()?.dir.clone(), story.region()?.ca_file());
    let elsewhere = dir.join("attic");
    std::fs::create_dir(&elsewhere)?;
    std::fs::rename(hub_dir(&dir).with_extension("old"), hub_dir(&elsewhere))?;
    let settings = if broken { vec![("HEARTHKEY_CLOUD__ENABLED", "false".into())] } else { cloud_settings(&ca) };
    story.sent("the old box is switched on again in the attic");
    let mut old = start_hub_with(&elsewhere, choose(Ports::Free)?, &settings).await?;
    let http = Http::trusting(old.http, old.https, &old.ca_fingerprint).await?;
    let mut retired = false;
    for _ in 0..looks(broken) {
        let seen = http.call("GET", "/devices", Some(&story.owner), None).await;
        retired = seen.is_ok_and(|a| a.status == 410);
        if retired {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    story.came(if retired { "410: another hub has taken its place, by the household's own word" } else { "it serves" });
    stop_hub(&mut old).await?;
    ensure!(retired, "the old hub goes on serving");
    Ok(())
}

pub(super) async fn audit(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let owner = story.owner.clone();
    let verdict = story.call("GET", "/audit/verify", Some(&owner), None).await?;
    ensure!(verdict.status == 200 && verdict.body.get("whole") == Some(&json!(true)), "the audit does not hold");
    recorded(story, &[if broken { "cloud.rule" } else { "hub.restore" }]).await?;
    let said = story.region()?.operator(&["audit"]).await?;
    story.came(format!("the cloud: {}", said.trim()));
    Ok(())
}

/// Each of these has an entry in the hub's audit.
async fn recorded(story: &mut Story, actions: &[&str]) -> anyhow::Result<()> {
    let owner = story.owner.clone();
    for action in actions {
        let found = story.call("GET", &format!("/audit?action={action}"), Some(&owner), None).await?;
        ensure!(found.body.pointer("/entries/0").is_some(), "the audit does not show {action}");
    }
    Ok(())
}

/// The hub, its owner, and nothing else yet.
async fn start_house(story: &mut Story, temporary: TemporaryDir) -> anyhow::Result<()> {
    let dir = temporary.0.clone();
    let (fingerprint, devices) = make_devices(&dir)?;
    story.door = devices.get(DOOR).context("no door")?.id.clone();
    story.kept.insert("lamp", devices.get(LAMP).context("no lamp")?.id.clone());
    let ca = story.region()?.ca_file();
    story.sent("hearthkey hub, which knows no device and no maker");
    let hub = start_hub_with(&dir, story.ports, &cloud_settings(&ca)).await?;
    let http = Http::trusting(hub.http, hub.https, &hub.ca_fingerprint).await?;
    http.wait_until_served().await?;
    let code = hub.setup_code.clone().context("the hub printed no setup code")?;
    story.http = Some(http);
    story.stage = Some(Stage::of(temporary, hub, devices, fingerprint));
    first_owner(story, &code).await.map(drop)
}

fn cloud_settings(ca: &std::path::Path) -> Vec<(&'static str, String)> {
    vec![("HEARTHKEY_CLOUD__CA_FILE", ca.display().to_string()), ("HEARTHKEY_CLOUD__DEBOUNCE_MS", "50".into())]
}

async fn claim_device(story: &mut Story, index: usize) -> anyhow::Result<()> {
    let device = story.stage()?.devices.get(index).context("no such device")?;
    let (id, title, code) = (device.id.clone(), device.title.clone(), device.grouped.clone());
    let owner = story.owner.clone();
    let body = json!({"device_id": id, "code": code, "name": title, "room": "House"});
    let claimed = story.call("POST", "/claims", Some(&owner), Some(body)).await?;
    ensure!(claimed.status == 201, "the claim of the {title} was refused");
    wait_for_state(story, &id, "ready").await
}

fn ids(story: &mut Story) -> anyhow::Result<Vec<String>> {
    Ok(story.stage()?.devices.iter().map(|d| d.id.clone()).collect())
}

fn looks(broken: bool) -> usize {
    if broken { LOOKS_IN_VAIN } else { LOOKS }
}

/// Waits until nothing waits to be sent any more.
async fn in_step(story: &mut Story) -> anyhow::Result<()> {
    in_step_within(story, LOOKS).await
}

async fn in_step_within(story: &mut Story, looks: usize) -> anyhow::Result<()> {
    wait_until(story, looks, "hub and cloud are in step", |cloud| {
        let waiting = cloud.get("pending").and_then(Value::as_object);
        let nothing = waiting.is_some_and(|all| all.values().all(|v| v.as_u64().unwrap_or(0) == 0));
        let idle = matches!(cloud.pointer("/state/phase").and_then(Value::as_str), Some("idle" | "waiting"));
        nothing
            && idle
            && cloud.get("last_success").is_some_and(Value::is_u64)
            && cloud.pointer("/state/problem").is_none_or(Value::is_null)
    })
    .await
}

async fn wait_until(story: &mut Story, looks: usize, what: &str, holds: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    let (owner, http) = (story.owner.clone(), story.http()?);
    let mut last = Value::Null;
    for _ in 0..looks {
        last = http.call("GET", "/cloud", Some(&owner), None).await?.body;
        if holds(&last) {
            story.came(what);
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("not after {looks} looks: {what}; the hub says {last}")
}

async fn recover(story: &mut Story, url: &str, id: &str, dir: &std::path::Path, code: &str) -> anyhow::Result<()> {
    let ca = story.region()?.ca_file();
    let mut command = region::program()?;
    command.args(["recover", "--cloud", url, "--hub", id, "--data-dir"]).arg(dir);
    command.env("HEARTHKEY_CLOUD__CA_FILE", &ca).env("HEARTHKEY_CLOCK__TRUSTED", "true");
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn()?;
    let mut typed = child.stdin.take().ok_or_else(|| anyhow!("nothing can be typed"))?;
    typed.write_all(format!("{code}\n").as_bytes()).await?;
    drop(typed);
    let done = child.wait_with_output().await?;
    for line in String::from_utf8_lossy(&done.stdout).lines() {
        story.came(line);
    }
    ensure!(done.status.success(), "no hub was made: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}

/// A key that is well formed, and another.
fn swapped_key(key: &str) -> String {
    let first = if key.starts_with('A') { "B" } else { "A" };
    format!("{first}{}", key.get(1..).unwrap_or_default())
}
