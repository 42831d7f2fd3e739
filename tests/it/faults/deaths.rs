//! A hub that is killed at a moment nobody has chosen, while twins are written, rights given and taken, and a maker's firmware
//! comes in.

use super::rig::{Caller, Home};
use super::{chance, rounds, tell};
use crate::durability::{Process, Writer};
use crate::firmware_hub::{Made, image};
use crate::house::{Device, House};
use crate::partitions::chance::Chance;
use hearthkey::domain::account::Role;
use hearthkey::domain::firmware::release::ImageHash;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Semaphore;

const PEOPLE: [&str; 3] = ["mia", "pete", "ruth"];
const RELEASES: u64 = 12;

/// Whether somebody has a right on a device, as far as the hub has said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Given,
    Taken,
    /// It was asked for when the hub died.
    Open,
}

/// Who gives and takes rights, and what the hub has said to it.
struct Giver {
    things: Vec<Device>,
    /// The accounts' ids, by name.
    ids: BTreeMap<&'static str, String>,
    rights: BTreeMap<(usize, &'static str), Right>,
    /// Given or taken, and acknowledged.
    done: u64,
}

impl Giver {
    /// Works until the hub is gone.
    async fn work(mut self, caller: Caller, mut chance: Chance) -> Giver {
        loop {
            let (thing, who) = (chance.below(self.things.len()), *chance.pick(&PEOPLE));
            let path = format!("/devices/{}/bindings", self.things[thing].id);
            let given = self.rights.insert((thing, who), Right::Open) != Some(Right::Given);
            let answer = if given {
                caller.call("POST", &path, Some(json!({"username": who, "privilege": "operate"}))).await
            } else {
                caller.call("DELETE", &format!("{path}/{}", self.ids[who]), None).await
            };
            let Some((status, said)) = answer else { return self };
            assert_eq!(status, 200, "{said}");
            self.rights.insert((thing, who), if given { Right::Given } else { Right::Taken });
            self.done += 1;
        }
    }

    /// What was given is there, and what was taken is not.
    async fn check(&mut self, caller: &Caller) {
        for (thing, device) in self.things.iter().enumerate() {
            let there: BTreeSet<String> = caller.holders(device).await.into_iter().collect();
            for who in PEOPLE {
                let found = if there.contains(who) { Right::Given } else { Right::Taken };
                let known = self.rights.entry((thing, who)).or_insert(Right::Taken);
                assert!(*known == found || *known == Right::Open, "{who} on {}: {known:?} was acknowledged, {found:?}", device.id);
                *known = found;
            }
        }
    }
}

/// The maker's releases, as they come in one after the other.
struct Maker {
    files: Vec<(u64, Vec<u8>, ImageHash)>,
    taken: usize,
}

impl Maker {
    async fn work(mut self, caller: Caller) -> Maker {
        while let Some((rel, file, _)) = self.files.get(self.taken) {
            let Some((status, said)) = caller.upload(file.clone()).await else { return self };
            assert!(status == 200 || status == 201, "{rel}: {said}");
            self.taken += 1;
        }
        self
    }

    /// What was acknowledged is there, whole.
    async fn check(&self, caller: &Caller, home: &Home) {
        let (_, answer) = caller.call("GET", "/firmware", None).await.unwrap();
        let empty = Vec::new();
        let known = answer["models"][0]["releases"].as_array().unwrap_or(&empty);
        for (rel, _, hash) in &self.files[..self.taken] {
            let found = known.iter().find(|r| r["rel"] == json!(rel)).unwrap_or_else(|| panic!("release {rel} is lost: {answer}"));
            assert_eq!(found["cached"], true, "{found}");
            let kept = std::fs::read(home.data.join("firmware").join(hash.to_string())).unwrap();
            assert_eq!(ImageHash::of(&kept), *hash, "release {rel} is not as it was");
        }
        // What is there beside them is whole too, or has no name.
        for release in known {
            let hash = release["sha256"].as_str().unwrap();
            let kept = std::fs::read(home.data.join("firmware").join(hash)).unwrap();
            assert_eq!(ImageHash::of(&kept).to_string(), hash);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_killed_in_the_midst_of_everything_has_lost_nothing_and_brings_nothing_back() {
    let (mut chance, rounds) = (chance(), rounds(5));
    let house = House::new().await;
    let mut things = house.devices("lamp", 5).await;
    for device in &things {
        house.claim(device).await;
    }
    let mut ids = BTreeMap::new();
    for name in PEOPLE {
        let (who, _) = house.person(name, Role::Member).await;
        ids.insert(name, who.user().unwrap().to_string());
    }
    let mut files = Vec::new();
    for rel in 1..=RELEASES {
        let made = Made::new(&house, rel, image(rel as u8, 20_000 + chance.below(400_000))).await;
        files.push((rel, made.file(&house), made.release.sha256));
    }
    let mut writers: Vec<Writer> = things.drain(..3).map(Writer::new).collect();
    let mut giver = Giver { things, ids, rights: BTreeMap::new(), done: 0 };
    let mut maker = Maker { files, taken: 0 };
    let home = Home::of(house).await;
    let mut audited = home.audit(0).await;
    for round in 0..=rounds {
        let process = Process::start(&home.data).await;
        let caller = home.caller(&process);
        for writer in &mut writers {
            writer.check(&process).await;
        }
        giver.check(&caller).await;
        maker.check(&caller, &home).await;
        // Each right that was given or taken, and said to be, stands in the audit, whatever gaps a death has left.
        let written = caller.audited("binding.grant").await + caller.audited("binding.revoke").await;
        assert!(written >= giver.done, "{} rights were acknowledged, {written} entries are left", giver.done);
        let (status, whole) = caller.call("GET", "/audit/verify", None).await.unwrap();
        assert_eq!((status, &whole["whole"]), (200, &json!(true)), "{whole}");
        if round == rounds {
            process.die().await;
            break;
        }
        let acknowledged = Arc::new(Semaphore::new(0));
        let giving = tokio::spawn(giver.work(caller.clone(), Chance::new(chance.next())));
        let making = tokio::spawn(maker.work(caller));
        let working: Vec<_> = writers.drain(..).map(|w| tokio::spawn(w.work(process.mqtt.clone(), acknowledged.clone()))).collect();
        acknowledged.acquire_many(10 + chance.below(200) as u32).await.unwrap().forget();
        process.die().await;
        for writer in working {
            writers.push(writer.await.unwrap());
        }
        (giver, maker) = (giving.await.unwrap(), making.await.unwrap());
        // The box that looks into it after the death is now the process, now this one.
        if chance.percent(50) {
            audited = home.audit(audited).await;
        }
    }
    home.audit(audited).await;
    let updates: u64 = writers.iter().map(Writer::acknowledged).sum();
    let told: Value = json!({"deaths": rounds, "updates": updates, "rights": giver.done, "releases": maker.taken});
    tell(&told.to_string());
    assert!(updates > 0 && giver.done > 0, "{told}");
}
