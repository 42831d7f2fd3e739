//! What happens: people give and take rights at the hub and in the cloud, the line breaks and loses, clocks leap, hubs are
//! put back or replaced. And the reference, which knows each grant by a number and compares no generation.

use super::replica::{Ended, Id, Replica, Rules, grant, id};
use super::sides::{Batch, Cloud, Hub, Reply};
use hearthkey::domain::mirror::wire::{Kind, Row};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// What may happen to the hub itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restore {
    Never,
    /// The database is put back, and the hub goes on as if nothing had been.
    SameEpoch {
        journal: bool,
        marks_again: bool,
    },
    /// Another hub takes its place under a new epoch; the old one may go on somewhere.
    NewEpoch,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub rules: Rules,
    pub restore: Restore,
}

/// What came of it, over all partitions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub seed: u64,
    pub partitions: u64,
    pub revocations: u64,
    pub restores: u64,
    /// Ended, and in force on a side after the line stood again.
    pub resurrected: u64,
    /// Partitions after, or in, which a digest was another.
    pub differed: u64,
    /// Partitions after which the sides still said different things.
    pub disagreed: u64,
    /// Given or changed on the hub, not ended, and not so on a side.
    pub lost: u64,
    pub conflicts: u64,
    /// Ended on a hub that broke before anybody else had heard of it.
    pub gone_with_a_broken_hub: u64,
    /// Ended on a hub whose place another had taken.
    pub told_to_a_replaced_hub: u64,
}

/// Runs so many partitions.
pub fn run(seed: u64, partitions: u64, plan: Plan) -> Figures {
    let mut figures = Figures { seed, ..Figures::default() };
    for n in 0..partitions {
        World::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n), plan).run(&mut figures);
    }
    figures
}

/// Who was given what, and what has ended: in the true order of events.
#[derive(Clone, Debug, Default)]
struct Reference {
    /// What stands on the hub: which grant, and what it says now.
    standing: BTreeMap<Id, (u64, u64)>,
    /// Of each grant of a right: whose, and in which life of the device.
    given: BTreeMap<u64, (u64, u64)>,
    /// Which grants have ended, and what a side needs to know of it.
    ended: BTreeMap<u64, Witness>,
}

#[derive(Clone, Debug)]
struct Witness {
    id: Id,
    generation: u64,
    at_hub: bool,
}

impl Reference {
    fn is_over(&self, grant: u64) -> bool {
        let ended = |grant: &u64| self.ended.contains_key(grant);
        ended(&grant) || self.given.get(&grant).is_some_and(|(user, claim)| ended(user) || ended(claim))
    }
}

struct World {
    plan: Plan,
    random: u64,
    now: u64,
    hub_is_off_by: i64,
    line: bool,
    hub: Hub,
    replaced: Option<Hub>,
    cloud: Cloud,
    backup: Option<(Hub, Reference)>,
    late: Vec<Batch>,
    truth: Reference,
    grants: u64,
    users: u64,
    figures: Figures,
}

const DEVICES: [&str; 3] = ["door", "lamp", "heat"];
const PEOPLE: usize = 4;

impl World {
    fn new(seed: u64, plan: Plan) -> World {
        let mut cloud = Cloud::new(plan.rules);
        cloud.tells_marks_again = matches!(plan.restore, Restore::SameEpoch { marks_again: true, .. });
        World {
            plan,
            random: seed,
            now: 1_790_000_000_000,
            hub_is_off_by: 0,
            line: true,
            hub: Hub::new(plan.rules),
            replaced: None,
            cloud,
            backup: None,
            late: Vec::new(),
            truth: Reference::default(),
            grants: 0,
            users: 0,
            figures: Figures::default(),
        }
    }

    /// splitmix64.
    fn below(&mut self, n: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one_of(&mut self, ids: Vec<Id>) -> Option<Id> {
        if ids.is_empty() { None } else { Some(ids[self.below(ids.len())].clone()) }
    }

    /// What the hub's clock says.
    fn hub_time(&self) -> u64 {
        self.now.saturating_add_signed(self.hub_is_off_by)
    }

    fn run(mut self, all: &mut Figures) {
        for device in DEVICES {
            self.write(&(Kind::Device, device.into()));
        }
        for _ in 0..PEOPLE {
            self.add_user();
        }
        self.talk(true);
        let steps = 40 + self.below(80);
        for _ in 0..steps {
            self.now += 1 + self.below(600_000) as u64;
            self.step();
        }
        self.heal();
        self.check();
        let f = &self.figures;
        all.partitions += 1;
        all.revocations += f.revocations;
        all.restores += f.restores;
        all.resurrected += f.resurrected;
        all.differed += u64::from(f.differed + self.hub.resyncs > 0);
        all.disagreed += f.disagreed;
        all.lost += f.lost;
        all.conflicts += self.hub.copy.conflicts + self.cloud.copy.conflicts;
        all.gone_with_a_broken_hub += f.gone_with_a_broken_hub;
        all.told_to_a_replaced_hub += f.told_to_a_replaced_hub;
    }

    fn step(&mut self) {
        match self.below(100) {
            0..6 => self.line = !self.line,
            6..10 => self.clock_leaps(),
            10..13 => self.backup = Some((self.hub.clone(), self.truth.clone())),
            13..16 => self.restore(),
            16..20 => self.something_late(),
            20..26 => self.at_a_replaced_hub(),
            26..38 => self.in_the_cloud(),
            38..68 if self.hub.serving => self.at_the_hub(),
            _ if self.line => self.talk(false),
            _ => {}
        }
    }

    fn clock_leaps(&mut self) {
        self.hub_is_off_by = match self.below(4) {
            0 => 0,
            1 => -1_790_000_000_000,
            2 => -((self.below(40) as i64) * 86_400_000),
            _ => (self.below(40) as i64) * 86_400_000,
        };
    }

    // The hub.

    fn at_the_hub(&mut self) {
        match self.below(20) {
            0..10 => self.give(),
            10..15 => {
                let id = self.standing(Kind::Binding);
                self.end_at_hub(id);
            }
            15 => {
                let id = self.standing(Kind::User);
                self.end_at_hub(id);
            }
            16 | 17 => self.add_user(),
            _ => self.device_goes_or_comes(),
        }
    }

    fn standing(&mut self, kind: Kind) -> Option<Id> {
        let copy = &self.hub.copy;
        let ids = copy.rows.keys().filter(|id| id.0 == kind && copy.is_active(id)).cloned().collect();
        self.one_of(ids)
    }

    fn give(&mut self) {
        let (Some(device), Some(user)) = (self.standing(Kind::Device), self.standing(Kind::User)) else { return };
        self.write(&(Kind::Binding, format!("{}/{}", device.1, user.1)));
    }

    fn add_user(&mut self) {
        self.users += 1;
        self.write(&(Kind::User, format!("user:{}", self.users)));
    }

    fn device_goes_or_comes(&mut self) {
        let device: Id = (Kind::Device, DEVICES[self.below(DEVICES.len())].into());
        if !self.hub.copy.stands(&device) {
            return self.write(&device);
        }
        let rights: Vec<Id> = self
            .hub
            .copy
            .rows
            .keys()
            .filter(|id| id.1.starts_with(&format!("{}/", device.1)) && self.hub.copy.stands(id))
            .cloned()
            .collect();
        rights.into_iter().chain([device]).for_each(|id| self.end_at_hub(Some(id)));
    }

    /// Makes something, or changes what stands.
    fn write(&mut self, id: &Id) {
        let (value, time) = (self.below(1_000) as u64, self.hub_time());
        let stands = self.hub.copy.stands(id);
        self.grants += u64::from(!stands);
        let row = written(&self.hub.copy, id, self.grants, value, time);
        let which = grant(&row);
        if let (Kind::Binding, Some((device, user))) = (id.0, id.1.split_once('/')) {
            let of = |kind, key: &str| grant(&self.hub.copy.rows[&(kind, key.to_owned())]);
            self.truth.given.insert(which, (of(Kind::User, user), of(Kind::Device, device)));
        }
        self.truth.standing.insert(id.clone(), (which, value));
        self.hub.copy.rows.insert(id.clone(), row);
        self.hub.wrote(id.clone());
    }

    fn end_at_hub(&mut self, id: Option<Id>) {
        let Some(id) = id else { return };
        let row = &self.hub.copy.rows[&id];
        let witness = Witness { id: id.clone(), generation: row.generation, at_hub: true };
        self.truth.ended.insert(grant(row), witness);
        self.figures.revocations += 1;
        let time = self.hub_time();
        match self.hub.copy.end(&id, "hub", time) {
            Ended::Mark => self.hub.raised(id),
            Ended::Row => self.hub.wrote(id),
        }
    }

    // The cloud.

    fn in_the_cloud(&mut self) {
        let kind = if self.percent(80) { Kind::Binding } else { Kind::User };
        let copy = &self.cloud.copy;
        let ids = copy.rows.keys().filter(|id| id.0 == kind && copy.is_active(id)).cloned().collect();
        let Some(id) = self.one_of(ids) else { return };
        let row = &self.cloud.copy.rows[&id];
        let witness = Witness { id: id.clone(), generation: row.generation, at_hub: false };
        self.truth.ended.insert(grant(row), witness);
        self.figures.revocations += 1;
        self.cloud.copy.end(&id, "cloud", self.now);
        self.cloud.placed(id, None);
    }

    // What goes wrong.

    fn restore(&mut self) {
        let (Some((backup, then)), true) = (&self.backup, self.plan.restore != Restore::Never) else { return };
        let (backup, then) = (backup.clone(), then.clone());
        self.figures.restores += 1;
        let mut journal = false;
        match self.plan.restore {
            Restore::Never => {}
            Restore::SameEpoch { journal: with, .. } => {
                journal = with;
                self.hub.rolls_back(&backup, with);
            }
            Restore::NewEpoch => {
                let epoch = self.cloud.epoch + 1;
                let old = std::mem::replace(&mut self.hub, Hub::replaces(&backup, epoch));
                self.replaced = self.percent(60).then_some(old);
                self.cloud.raise_epoch(epoch);
            }
        }
        // What only the hub that broke knew, nobody knows.
        let cloud = &self.cloud.copy;
        let known = |which: &u64, w: &Witness| journal || !w.at_hub || then.ended.contains_key(which) || cloud.mark(&w.id) >= w.generation;
        let before = self.truth.ended.len();
        self.truth.ended.retain(|which, witness| known(which, witness));
        self.figures.gone_with_a_broken_hub += (before - self.truth.ended.len()) as u64;
        self.truth.standing = then.standing;
    }

    /// The hub that was replaced goes on where nobody has told it.
    fn at_a_replaced_hub(&mut self) {
        let Some(mut old) = self.replaced.take() else { return };
        let time = self.hub_time();
        let ids: Vec<Id> = old.copy.rows.keys().filter(|id| id.0 == Kind::Binding && old.copy.is_active(id)).cloned().collect();
        if self.percent(20) {
            let batch = old.batch(10);
            let reply = self.cloud.sync(&batch, self.now);
            assert!(matches!(reply, Reply::EpochStale), "a hub that was replaced was heard");
            old.heard(reply, time);
            assert!(!old.serving);
            return;
        }
        if let Some(id) = self.one_of(ids) {
            if self.percent(50) {
                old.copy.end(&id, "replaced", time);
                old.raised(id);
                self.figures.told_to_a_replaced_hub += 1;
            } else {
                let row = written(&old.copy, &id, 0, 7, time);
                old.copy.rows.insert(id.clone(), row);
                old.wrote(id);
            }
        }
        self.replaced = Some(old);
    }

    /// Something that was sent long ago arrives, once more or at last.
    fn something_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let n = self.below(self.late.len());
        let batch = if self.percent(50) { self.late.swap_remove(n) } else { self.late[n].clone() };
        self.cloud.sync(&batch, self.now);
    }

    fn talk(&mut self, surely: bool) {
        let most = 1 + self.below(6);
        let batch = self.hub.batch(most);
        if self.percent(20) {
            self.late.push(batch.clone());
        }
        if !surely && self.percent(10) {
            return;
        }
        let reply = self.cloud.sync(&batch, self.now);
        if surely || !self.percent(15) {
            let time = self.hub_time();
            self.hub.heard(reply, time);
        }
    }

    // The end.

    fn heal(&mut self) {
        self.line = true;
        let mut differed = 0;
        // The first may be one that was answered long ago.
        for n in 0..400 {
            let (batch, time) = (self.hub.batch(50), self.hub_time());
            let reply = self.cloud.sync(&batch, self.now);
            let newest = matches!(&reply, Reply::Done(done) if done.cursor == batch.cursor);
            let same = matches!(&reply, Reply::Done(done) if done.resync.is_empty());
            self.hub.heard(reply, time);
            if n > 0 && batch.digest.is_some() && newest {
                differed += u64::from(!same);
                if same || differed > 3 {
                    break;
                }
            }
        }
        assert!(self.hub.serving, "the hub never came to serve");
        self.figures.differed = differed;
    }

    fn check(&mut self) {
        let (hub, cloud) = (self.hub.copy.active(), self.cloud.copy.active());
        let mut over: BTreeSet<u64> = hub.values().chain(cloud.values()).map(|row| grant(row)).collect();
        over.retain(|grant| self.truth.is_over(*grant));
        self.figures.resurrected = over.len() as u64;

        let says = |copy: &BTreeMap<Id, &Row>| -> Vec<(Id, u64, u64, String)> {
            copy.values().map(|row| (id(row), row.generation, row.version, row.body.to_string())).collect()
        };
        let marks = |copy: &Replica| -> Vec<(Id, u64)> { copy.marks.iter().map(|(id, m)| (id.clone(), m.generation)).collect() };
        let agree = says(&hub) == says(&cloud) && marks(&self.hub.copy) == marks(&self.cloud.copy);
        self.figures.disagreed = u64::from(!agree);

        let has = |copy: &BTreeMap<Id, &Row>, id: &Id, which, value| {
            copy.get(id).is_some_and(|row| grant(row) == which && row.body["value"] == json!(value))
        };
        let promised = self.truth.standing.iter().filter(|(_, (which, _))| !self.truth.is_over(*which));
        self.figures.lost =
            promised.filter(|(id, (which, value))| !(has(&hub, id, *which, *value) && has(&cloud, id, *which, *value))).count() as u64;
    }
}

/// A row made anew under `fresh`, or a change of the one that stands.
fn written(copy: &Replica, id: &Id, fresh: u64, value: u64, time: u64) -> Row {
    let known = copy.rows.get(id);
    let stands = copy.stands(id);
    let which = if stands { known.map_or(fresh, grant) } else { fresh };
    let (generation, version) = match (copy.rules, known) {
        (Rules::LastWriteWins, _) => (1, time),
        (_, Some(row)) if stands => (row.generation, row.version + 1),
        (_, row) => (copy.mark(id).max(row.map_or(0, |row| row.generation)) + 1, 0),
    };
    Row { kind: id.0, key: id.1.clone(), generation, version, origin: String::new(), body: json!({"grant": which, "value": value}) }
}
