//! The steps of the tour about the life of things: a garage door becomes its next version, an update that was interrupted goes on, and
//! what is bad or old is refused. The hub's own updates, and its backups, are steps of other files of this tour.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::http::Http;
use super::people::{first_owner, wait_for_state};
use super::stage::{BRAND, Ports, Stage, factory_dir};
use super::steps::DOOR;
use super::tour::Story;
use crate::factory::{BrandId, FirmwareOrder, ModelName, Workshop};
use crate::sim::device::{Control, Event};
use crate::sim::firmware::{Event as Firmware, Fault, Program, Step};

/// Bytes of an image.
const SIZE: usize = 300_000;
const TITLE: &str = "garage door";

pub(super) async fn house(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    story.sent("the maker's workshop, a hub with its batch, and a garage door that was made with the maker's root key");
    let mut stage = Stage::build(None, Ports::Free).await?;
    stage.start_updatable(DOOR, story.sender.clone())?;
    let http = Http::trusting(stage.hub.http, stage.hub.https, &stage.hub.ca_fingerprint).await?;
    http.wait_until_served().await?;
    let code = stage.hub.setup_code.clone().context("the hub printed no setup code")?;
    let door = stage.devices.get(DOOR).context("no door")?;
    let (id, label) = (door.id.clone(), door.grouped.clone());
    story.door.clone_from(&id);
    story.http = Some(http);
    story.stage = Some(stage);
    let token = first_owner(story, &code).await?;
    wait_for_state(story, &id, "waiting").await?;
    let code = if broken { "000-000-000-000-000-000-000".to_owned() } else { label };
    let claimed =
        story.call("POST", "/claims", Some(&token), Some(json!({"device_id": id, "code": code, "name": "Door", "room": "Garage"}))).await?;
    ensure!(claimed.status == 201, "the claim of the door was refused");
    wait_for_state(story, &id, "ready").await
}

pub(super) async fn update(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    choose(story, "automatic").await?;
    let file = signed(story, 2, &Program::image("1.2.0", SIZE)).await?;
    // A maker's file that a bit fell over in is no maker's file.
    let taken = upload(story, &file, broken).await?;
    ensure!(taken == 201, "the hub did not take the release");
    confirmed(story, 2).await?;
    runs(story, 2).await
}

pub(super) async fn resumed(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let fault = if broken { Fault::Refuse } else { Fault::Power(Step::Downloading) };
    story.sent("the door's plug will be pulled when half of the next version is there");
    let hand = story.stage()?.devices.get(DOOR).and_then(|door| door.controls.clone()).context("no hand at the door")?;
    hand.send(Control::Firmware(fault, true)).await?;
    let file = signed(story, 3, &Program::image("1.3.0", SIZE)).await?;
    ensure!(upload(story, &file, false).await? == 201, "the hub did not take the release");
    story.wait_for(TITLE, "lose its power", |e| (*e == Event::Firmware(Firmware::PowerCut)).then_some(())).await?;
    let from = |e: &Event| if let Event::Firmware(Firmware::Downloading { offset, .. }) = e { Some(*offset) } else { None };
    let from = story.wait_for(TITLE, "go on with the download", from).await?;
    ensure!(from > 0, "the door began again at the first byte");
    confirmed(story, 3).await?;
    runs(story, 3).await
}

pub(super) async fn bad(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let ill = b"{\"hearthkey-device\":1,\"version\":\"1.4.0\",\"healthy\":false}\n";
    let file = signed(story, 4, ill).await?;
    story.sent("a release file in which one bit has fallen over");
    let refused = upload(story, &file, !broken).await?;
    ensure!((400..500).contains(&refused), "the hub took an image that is not the one that was signed");
    story.sent("the file as the maker signed it: a version that comes up and is not well");
    ensure!(upload(story, &file, false).await? == 201, "the hub did not take the release");
    let ill = |e: &Event| matches!(e, Event::Firmware(Firmware::Failed { code: "health", .. })).then_some(());
    story.wait_for(TITLE, "find itself not well", ill).await?;
    let back = |e: &Event| matches!(e, Event::Firmware(Firmware::Runs { rel: 3, trial: false, .. })).then_some(());
    story.wait_for(TITLE, "go back", back).await?;
    runs(story, 3).await
}

pub(super) async fn old(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    story.sent("hearthkey factory firmware --rel 2: what is old, signed anew");
    let again = sign(story, if broken { 9 } else { 2 }, b"an older image").await;
    ensure!(again.is_err(), "the workshop signed a number twice");
    if let Err(error) = again {
        story.came(format!("{error:#}"));
    }
    story.sent("the release file of 1.2.0, which the maker did sign");
    let file = std::fs::read(path(story, 2)?)?;
    ensure!((200..300).contains(&upload(story, &file, false).await?), "the hub does not know the release that it had");
    runs(story, 3).await?;
    let (owner, door) = (story.owner.clone(), story.door.clone());
    let shown = story.call("POST", &format!("/devices/{door}/firmware/approve"), Some(&owner), Some(json!({"rel": 2}))).await?;
    ensure!(shown.status >= 400 || shown.body.pointer("/verdict/rel") != Some(&json!(2)), "the hub would offer what is older");
    runs(story, 3).await
}

pub(super) async fn audit(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let owner = story.owner.clone();
    let whole = story.call("GET", "/audit/verify", Some(&owner), None).await?;
    ensure!(whole.body.get("whole") == Some(&json!(true)), "the chain is broken");
    for action in [
        "firmware.import",
        "firmware.offer",
        "firmware.install",
        "firmware.confirm",
        if broken { "firmware.lose" } else { "firmware.fail" },
    ] {
        let found = story.call("GET", &format!("/audit?limit=5&action={action}"), Some(&owner), None).await?;
        let entries = found.body.get("entries").and_then(Value::as_array).map_or(0, Vec::len);
        ensure!(entries > 0, "the audit lacks {action}");
    }
    Ok(())
}

async fn choose(story: &mut Story, mode: &str) -> anyhow::Result<()> {
    let owner = story.owner.clone();
    let path = format!("/firmware/{BRAND}/garage-door/policy");
    let chosen = story.call("PUT", &path, Some(&owner), Some(json!({"mode": mode}))).await?;
    ensure!(chosen.status == 200, "the choice was not taken");
    Ok(())
}

fn path(story: &mut Story, rel: u64) -> anyhow::Result<PathBuf> {
    Ok(story.stage()?.dir.join(format!("garage-door-{rel}.hkfw")))
}

async fn sign(story: &mut Story, rel: u64, image: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (dir, out, image) = (story.stage()?.dir.clone(), path(story, rel)?, image.to_vec());
    tokio::task::spawn_blocking(move || sign_here(&dir, &out, rel, &image)).await?
}

fn sign_here(dir: &Path, out: &Path, rel: u64, image: &[u8]) -> anyhow::Result<Vec<u8>> {
    let source = dir.join("image");
    std::fs::write(&source, image)?;
    let order = FirmwareOrder {
        model: ModelName::parse("garage-door")?,
        hardware: vec![String::new()],
        rel,
        version: format!("1.{rel}.0"),
        notes: format!("Version 1.{rel}.0."),
        least_before: 0,
        security_minimum: 0,
    };
    Workshop::open(factory_dir(dir))?.firmware(&BrandId::parse(BRAND)?, &order, &source, out)?;
    Ok(std::fs::read(out)?)
}

/// The maker signs an image.
async fn signed(story: &mut Story, rel: u64, image: &[u8]) -> anyhow::Result<Vec<u8>> {
    story.sent(format!("hearthkey factory firmware --brand {BRAND} --model garage-door --rel {rel} --version 1.{rel}.0"));
    let file = sign(story, rel, image).await?;
    story.came(format!("a release file of {} bytes", file.len()));
    Ok(file)
}

/// The owner brings a release file, with a bit fallen over when `spoilt`; the hub's status.
async fn upload(story: &mut Story, file: &[u8], spoilt: bool) -> anyhow::Result<u16> {
    let mut file = file.to_vec();
    if let Some(last) = file.last_mut().filter(|_| spoilt) {
        *last ^= 1;
    }
    story.sent(format!("POST /api/v1/firmware ({} bytes)", file.len()));
    let (http, owner) = (story.http()?, story.owner.clone());
    let answer = http.upload("/firmware", &owner, file).await?;
    story.came(format!("{} {}", answer.status, answer.body));
    Ok(answer.status)
}

async fn confirmed(story: &mut Story, rel: u64) -> anyhow::Result<()> {
    let well = move |e: &Event| matches!(e, Event::Firmware(Firmware::Confirmed { rel: is, .. }) if *is == rel).then_some(());
    story.wait_for(TITLE, "find itself well with the new version", well).await
}

/// Waits until the hub knows that the door runs a release, and nothing of an update is under way.
async fn runs(story: &mut Story, rel: u64) -> anyhow::Result<()> {
    let (owner, path) = (story.owner.clone(), format!("/devices/{}/firmware", story.door));
    let http = story.http()?;
    let mut last = Value::Null;
    for _ in 0..100 {
        last = http.call("GET", &path, Some(&owner), None).await?.body;
        if last.get("rel") == Some(&json!(rel)) && last.pointer("/progress/offer").is_none_or(Value::is_null) {
            story.came(format!("the hub: the door runs {} (release {rel})", last.get("version").unwrap_or(&Value::Null)));
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("the hub does not see release {rel} on the door: {last}")
}
