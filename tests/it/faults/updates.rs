//! Killed in the midst of an update: the supervisor, the hub under it, or both at once. What comes up afterwards is the version before or the new
//! one, whole, with everything that was acknowledged.

use super::rig::Caller;
use super::{chance, rounds, tell};
use crate::house::{Device, House};
use crate::partitions::chance::Chance;
use crate::updating::rig::{Fault, Rig, Running};
use hearthkey::domain::account::Role;
use hearthkey::hub::{update_from_file, verify_audit};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// A home under its supervisor, and what it has acknowledged.
struct Home {
    rig: Rig,
    running: Running,
    ca: Vec<u8>,
    owner: String,
    hub: String,
    lamps: Vec<Device>,
    /// Of which lamps mia has a right, as the hub has said.
    given: BTreeSet<usize>,
    mia: String,
    /// The version that stays, as far as is known; `None`: the system's program.
    stays: Option<String>,
    /// What was killed, and how the updates ended.
    figures: BTreeMap<&'static str, u64>,
}

impl Home {
    async fn new() -> Home {
        let rig = Rig::new();
        let config = rig.config.clone();
        let house = House::with(move |settings| *settings = config).await;
        let lamps = house.devices("lamp", 4).await;
        for lamp in &lamps {
            house.claim(lamp).await;
        }
        let (mia, _) = house.person("mia", Role::Member).await;
        let House { hub, owner_token: owner, .. } = house;
        let (ca, id) = (hub.identity().ca_der.to_vec(), hub.identity().id.to_string());
        hub.shut_down().await;
        let (running, mia) = (rig.supervise(), mia.user().unwrap().to_string());
        Home { rig, running, ca, owner, hub: id, lamps, given: BTreeSet::new(), mia, stays: None, figures: BTreeMap::new() }
    }

    fn count(&mut self, what: &'static str) {
        *self.figures.entry(what).or_default() += 1;
    }

    fn caller(&self, port: u16) -> Caller {
        Caller::new(&self.ca, &self.owner, port)
    }

    /// Gives or takes a right, until the hub says that it is done. A hub that was ended meanwhile is asked how it stands.
    async fn act(&mut self, chance: &mut Chance) {
        let n = chance.below(self.lamps.len());
        let path = format!("/devices/{}/bindings", self.lamps[n].id);
        let mut asked = false;
        loop {
            let caller = self.caller(self.running.serving().await.addresses["https"].port());
            let Some((200, answer)) = caller.call("GET", &path, None).await else { continue };
            let there = answer["bindings"].as_array().unwrap().iter().any(|binding| binding["username"] == "mia");
            assert!(asked || there == self.given.contains(&n), "lamp {n}: what was acknowledged is not what is there");
            let answer = if there {
                caller.call("DELETE", &format!("{path}/{}", self.mia), None).await
            } else {
                caller.call("POST", &path, Some(json!({"username": "mia", "privilege": "operate"}))).await
            };
            asked = true;
            if matches!(answer, Some((200, _))) {
                if there {
                    self.given.remove(&n)
                } else {
                    self.given.insert(n)
                };
                break;
            }
        }
        self.count("rights");
    }

    /// SIGKILL for one or both; where the supervisor is gone, another one is started.
    async fn kill(&mut self, chance: &mut Chance) {
        let (what, supervisor) = (chance.below(3), self.running.id());
        let hubs = children(supervisor);
        if what > 0 {
            kill(supervisor);
        }
        if what != 1 {
            hubs.iter().for_each(|hub| kill(*hub));
        }
        if what > 0 {
            self.running.die().await;
            self.running = self.rig.supervise();
        }
        self.count(["hub killed", "supervisor killed", "both killed"][what]);
    }

    /// Waits until nothing is under way, and looks at everything.
    async fn check(&mut self, asked: &str, fault: Fault) {
        let update = self.rig.config.data_dir.join("update");
        let rig = &self.rig;
        let quiet = async || {
            let ledger = rig.ledger();
            let under_way = !ledger["ledger"]["trial"].is_null() || update.join("order.json").exists() || update.join("wish.json").exists();
            (!under_way).then_some(ledger)
        };
        let ledger = self.running.until("the update ends", quiet).await;
        let report = self.running.serving().await;
        let current = ledger["current"].as_str().map(str::to_owned);
        let new = current.as_deref() == Some(asked);
        assert!(new || current == self.stays, "{asked}: {ledger}");
        assert!(!new || fault == Fault::None, "{asked} does not serve, and stays: {ledger}");
        assert_eq!(ledger["current"], ledger["last_good"]);
        assert_eq!(runs(report.pid), current, "another program runs than the one that is current");
        self.count(if new { "updated" } else { "rolled back" });
        self.stays = current;
        let said = self.running.announced();
        assert_eq!((&said["hub_id"], &said["setup_code"]), (&json!(self.hub), &Value::Null), "{said}");
        let caller = self.caller(report.addresses["https"].port());
        for (n, lamp) in self.lamps.iter().enumerate() {
            let there = caller.holders(lamp).await.contains(&"mia".to_owned());
            assert_eq!(there, self.given.contains(&n), "lamp {n}: what was acknowledged is not what is there");
        }
        let names = std::fs::read_dir(&self.rig.config.data_dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let left: Vec<String> = names.filter(|name| name.starts_with("hub.redb.before")).collect();
        assert_eq!(left, [""; 0], "{ledger}");
    }
}

fn kill(process: u32) {
    super::rig::run("kill", &["-KILL", &process.to_string()]);
}

/// The processes that this one has started.
fn children(of: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse::<u32>().ok());
    let parent = |process: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    processes.filter(|process| parent(*process) == Some(of)).collect()
}

/// The version that a process is, as the release's program has told it.
fn runs(process: u32) -> Option<String> {
    let environment = std::fs::read(Path::new("/proc").join(process.to_string()).join("environ")).unwrap();
    let mut all = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    all.find_map(|variable| variable.strip_prefix("RUNS=").map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_is_killed_anywhere_ends_with_one_version_that_serves_and_everything_acknowledged() {
    let (mut chance, rounds) = (chance(), rounds(1));
    let mut home = Home::new().await;
    // How long one takes that nobody disturbs.
    home.act(&mut chance).await;
    let began = std::time::Instant::now();
    update_from_file(&home.rig.config, &home.rig.release("7.0.1", Fault::None)).await.unwrap();
    home.rig.ended(1, &home.running).await;
    home.check("7.0.1", Fault::None).await;
    let whole = began.elapsed().as_micros() as u64;
    for round in 1..=rounds {
        let fault = *chance.pick(&[Fault::None, Fault::None, Fault::None, Fault::Crash, Fault::Migrate]);
        let version = format!("7.{round}.0");
        home.act(&mut chance).await;
        update_from_file(&home.rig.config, &home.rig.release(&version, fault)).await.unwrap();
        for _ in 0..=chance.below(3) {
            // The moment is what is tried here.
            tokio::time::sleep(Duration::from_micros(chance.next() % whole)).await;
            home.kill(&mut chance).await;
            if chance.percent(30) {
                home.act(&mut chance).await;
            }
        }
        home.check(&version, fault).await;
    }
    let Home { rig, running, figures, .. } = home;
    running.stop().await;
    assert!(verify_audit(&rig.config).await.unwrap().newest.is_some());
    tell(&json!({"updates killed": rounds, "figures": figures}).to_string());
}
