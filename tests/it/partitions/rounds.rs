//! A round: people act on both sides while the wire is cut and programs die; then everything is mended, both sides come to
//! rest, and what they say is held against what was promised.

use super::acts::{Act, Book, COLOURS, Key, OWNER, Place};
use super::chance::Chance;
use super::doors::{Answer, Doors};
use super::hosts::{Between, Side};
use super::ledger::{Fault, Slot};
use super::machines::{Machines, Victim, consent};
use super::sight::{self, Beside, Sight};
use crate::house::House;
use hearthkey::domain::account::Role;
use hearthkey::service::NewLink;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long both sides may take to say the same once they can speak.
const REST: Duration = Duration::from_secs(150);
const DEVICES: u64 = 8;
const STEPS: usize = 12;

/// What happened in all rounds.
#[derive(Debug, Default)]
pub struct Figures {
    pub rounds: u64,
    pub acts: u64,
    pub faults: u64,
    pub kills: BTreeMap<String, u64>,
    pub lost: Vec<String>,
    pub resurrected: Vec<String>,
    pub slowest: Duration,
}

pub struct Home {
    seed: u64,
    chance: Chance,
    machines: Machines,
    doors: Doors,
    book: Book,
    marks: BTreeMap<(String, String), i64>,
    pub figures: Figures,
    round: Vec<String>,
    last: Beside,
    asks_people: bool,
    // Its directories.
    _dirs: (tempfile::TempDir, hearthkey::factory::Workshop),
}

impl Home {
    /// A house whose hub is linked to a cloud, on two hosts.
    pub async fn new(seed: u64, between: Between) -> Home {
        let house = House::with(|config| config.cloud.enabled = false).await;
        let data = house.dir.path().join("hub");
        let mut machines = Machines::new(between, &data).await;
        let cloud = machines.start_cloud().await;
        let mut book = Book { gifts: 0, ..Book::default() };
        for device in house.devices("lamp", DEVICES).await {
            let id = device.id.to_string();
            book.codes.insert(id.clone(), device.code.clone());
            book.twins.insert(id.clone(), Slot::default());
            if book.devices.len() < 5 {
                house.claim(&device).await;
                book.devices.insert(id, Slot::with(1));
            } else {
                book.devices.insert(id, Slot::default());
            }
        }
        let service = house.hub.service();
        let link = NewLink {
            url: cloud.url.clone(),
            key: cloud.key.clone(),
            region: cloud.region.clone(),
            consent: consent(),
            brands: Vec::new(),
            code: String::new(),
        };
        service.link_cloud(&house.owner, link).await.unwrap();
        let mut doors = Doors::new(&house.hub.identity().ca_der, machines.hub_address, &cloud, house.owner_token.clone());
        let made = service.make_away_key(&house.owner, "phone", Some(300)).await.unwrap();
        doors.away = made.token.reveal().to_owned();
        book.keys.insert(made.id, Slot::with(1));
        for name in ["anna", "ben", "carla"] {
            let (who, _) = house.person(name, Role::Member).await;
            book.people.insert(name.into(), Slot::with(1));
            book.accounts.insert(name.into(), who.user().unwrap().to_string());
            for n in 0..8 {
                let made = service.make_away_key(&who, &format!("phone {n}"), Some(300)).await.unwrap();
                book.keys.insert(made.id.clone(), Slot::with(1));
                book.tokens.push(Key { id: made.id, token: made.token.reveal().to_owned(), name: name.into() });
            }
        }
        let House { hub, dir, workshop, .. } = house;
        hub.shut_down().await;
        machines.start_hub().await;
        let chance = Chance::new(seed);
        let mut home = Home {
            seed,
            chance,
            machines,
            doors,
            book,
            marks: BTreeMap::new(),
            figures: Figures::default(),
            round: Vec::new(),
            last: Beside::default(),
            asks_people: true,
            _dirs: (dir, workshop),
        };
        home.rest().await;
        home
    }

    /// So many rounds.
    pub async fn rounds(&mut self, count: u64) {
        for n in 0..count {
            let start = Instant::now();
            self.round = Vec::new();
            let (acts, faults) = (self.figures.acts, self.figures.faults);
            self.disorder().await;
            let order = Instant::now();
            self.rest().await;
            self.figures.rounds += 1;
            let (acts, faults) = (self.figures.acts - acts, self.figures.faults - faults);
            say(&format!(
                "round {} of {count}: {acts} acts, {faults} faults, {} ms; at rest after {} ms; lost {}, resurrected {}",
                n + 1,
                start.elapsed().as_millis(),
                order.elapsed().as_millis(),
                self.figures.lost.len(),
                self.figures.resurrected.len(),
            ));
            if (n + 1) % 20 == 0 || n + 1 == count {
                self.compare().await;
            }
        }
    }

    /// The wire is cut after every so many bytes of what follows an act, once each.
    pub async fn cuts(&mut self, offsets: impl Iterator<Item = u64>) {
        for bytes in offsets {
            self.round = Vec::new();
            self.machines.between.cut_after(bytes);
            for _ in 0..2 {
                let shown = sight::shown_rights(&self.machines).await.unwrap();
                let Some(act) = self.book.next(&mut self.chance, &shown) else { continue };
                let answer = act.ask(&self.doors).await;
                self.figures.acts += 1;
                self.round.push(format!("cut after {bytes}: {act:?} -> {answer:?}"));
                self.book.write(&act, &answer);
                tokio::time::sleep(Duration::from_millis(self.chance.next() % 200)).await;
            }
            self.figures.faults += 1;
            self.rest().await;
        }
        self.compare().await;
    }

    /// A right is taken away from away, and the cloud forgets that before the hub has heard of it.
    pub async fn forget_what_was_taken(&mut self) {
        let device = self.book.devices.iter().find(|(_, slot)| slot.stands().0).map(|(id, _)| id.clone()).unwrap();
        let (name, user) = self.book.accounts.iter().next().map(|(name, id)| (name.clone(), id.clone())).unwrap();
        let gift = self.book.gift();
        let give = Act::Give { device: device.clone(), name: name.clone(), gift, privilege: "operate" };
        self.book.write(&give, &give.ask(&self.doors).await);
        self.rest().await;
        self.machines.between.cut();
        let (shown, generation) = sight::shown_rights(&self.machines).await.unwrap()[&(device.clone(), name.clone())];
        let database = self.machines.database().await.unwrap();
        let which = format!("kind = 'binding' AND key = '{device}/user:{user}'");
        database.batch_execute(&format!("CREATE TABLE kept AS SELECT * FROM rows WHERE {which}")).await.unwrap();
        let take = Act::AwayTake { device, name, user, shown, generation };
        let answer = take.ask(&self.doors).await;
        assert!(matches!(answer, Answer::Good(_)), "{answer:?}");
        self.book.write(&take, &answer);
        let forget = format!("DELETE FROM marks WHERE {which}; INSERT INTO rows SELECT * FROM kept; DROP TABLE kept");
        database.batch_execute(&forget).await.unwrap();
        self.rest().await;
    }

    /// Acts and faults, all at once.
    async fn disorder(&mut self) {
        let weather = self.machines.between.weather(&mut self.chance);
        self.round.push(weather);
        let mut shown = sight::shown_rights(&self.machines).await.unwrap_or_default();
        for _ in 0..STEPS {
            let Some(act) = self.book.next(&mut self.chance, &shown) else { continue };
            // What the cloud shows may have changed since it was looked at.
            let act = match act {
                Act::AwayTake { .. } => {
                    let Ok(now) = sight::shown_rights(&self.machines).await else { continue };
                    shown = now;
                    match act {
                        Act::AwayTake { device, name, user, .. } => {
                            let Some((gift, generation)) = shown.get(&(device.clone(), name.clone())).copied() else { continue };
                            Act::AwayTake { device, name, user, shown: gift, generation }
                        }
                        other => other,
                    }
                }
                other => other,
            };
            let doors = self.doors.clone();
            let asking = act.ask(&doors);
            let strikes = self.chance.percent(45);
            let delay = Duration::from_millis(self.chance.next() % 300);
            let answer = if strikes {
                let striking = async {
                    tokio::time::sleep(delay).await;
                    strike(&mut self.machines, &mut self.chance).await
                };
                let (answer, (what, victim)) = tokio::join!(asking, striking);
                self.figures.faults += 1;
                if let Some(victim) = victim {
                    *self.figures.kills.entry(format!("{victim:?}")).or_default() += 1;
                }
                self.round.push(what);
                answer
            } else {
                asking.await
            };
            self.figures.acts += 1;
            self.round.push(format!("{act:?} -> {answer:?}"));
            self.book.write(&act, &answer);
            if self.chance.percent(30) {
                self.machines.revive().await;
                self.round.push("revived".into());
            }
            if self.chance.percent(30) {
                tokio::time::sleep(Duration::from_millis(self.chance.next() % 400)).await;
            }
        }
    }

    /// Everything is mended, and both sides say the same; that is held against the book.
    async fn rest(&mut self) {
        let fair = self.chance.percent(70);
        self.machines.between.mend(fair);
        self.machines.revive().await;
        let start = Instant::now();
        let mended = now_ms();
        let mut stirred = start;
        let mut why = Vec::new();
        // The hub is looked at before the cloud: what was done in between is seen the next time.
        let mut calm = false;
        let _ = self.doors.home("POST", "/cloud/sync", Value::Null).await;
        let (hub, beside) = loop {
            if start.elapsed() > REST {
                self.fail(&format!("the sides do not come to rest: {why:#?}")).await;
            }
            match (sight::of_hub(&self.doors).await, sight::of_cloud(&self.machines).await) {
                (Some(hub), Ok((cloud, beside))) => {
                    why = hub.differences(&cloud);
                    if beside.waiting > 0 {
                        why.push(format!("{} requests wait", beside.waiting));
                    }
                    let link = self.doors.read_home("/cloud").await.unwrap_or_default();
                    let waits = ["rows", "marks"].iter().any(|what| link["pending"][what] != 0);
                    if waits || link["last_success"].as_u64().is_none_or(|at| at + 1_000 < mended) {
                        why.push(format!("the link: {} {} {}", link["state"], link["pending"], link["last_success"]));
                    }
                    if why.is_empty() && calm {
                        break (hub, beside);
                    }
                    calm = why.is_empty();
                }
                (hub, cloud) => why = vec![format!("hub answers: {}, cloud: {:?}", hub.is_some(), cloud.err())],
            }
            if stirred.elapsed() > Duration::from_secs(3) {
                stirred = Instant::now();
                let _ = self.doors.home("POST", "/cloud/sync", Value::Null).await;
                // Something happens in the house: then there is something to say.
                if let Some((id, _)) = self.book.devices.iter().find(|(_, slot)| slot.stands().0) {
                    let name = format!("Lamp {}", self.book.gifts);
                    let _ = self.doors.home("PATCH", &format!("/devices/{id}"), json!({ "name": name })).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        self.figures.slowest = self.figures.slowest.max(start.elapsed());
        self.judge(&hub, &beside);
        self.last = beside;
        if !self.figures.lost.is_empty() || !self.figures.resurrected.is_empty() {
            self.fail("a promise was broken").await;
        }
    }

    /// Holds what both sides say against what was promised.
    fn judge(&mut self, hub: &Sight, beside: &Beside) {
        let names: BTreeMap<&str, &str> = hub.people.iter().map(|(id, name)| (name.as_str(), id.as_str())).collect();
        let (none, mut found) = (Default::default(), Vec::new());
        for ((device, name), slot) in &mut self.book.rights {
            let id = names.get(name.as_str());
            let right = id.and_then(|id| hub.rights.get(&(device.clone(), format!("user:{id}"))));
            let seen = right.and_then(|(_, until)| sight::gift(*until));
            let before = format!("{slot:?}");
            let place = Place::Right(device.clone(), name.clone());
            let (done, refused) = judged(&self.book.wishes, &place, &beside.requests);
            let fault = slot.settle(&done, &refused, seen).err();
            found.extend(fault.map(|f| (f, format!("right {device} {name}: seen {seen:?}, done {done:?}, refused {refused:?}, {before}"))));
        }
        for (device, slot) in &mut self.book.twins {
            let seen = hub.twins.get(device).and_then(|(_, desired)| sight::colour(desired));
            let before = format!("{slot:?}");
            let (done, refused) = judged(&self.book.wishes, &Place::Twin(device.clone()), &beside.requests);
            let seen = seen.map(|colour| latest(colour, self.book.gifts));
            let fault = slot.settle(&done, &refused, seen).err();
            found.extend(fault.map(|f| (f, format!("twin {device}: seen {seen:?}, done {done:?}, refused {refused:?}, {before}"))));
        }
        for (device, slot) in &mut self.book.devices {
            let fault = slot.settle(&none, &none, hub.devices.contains_key(device).then_some(1)).err();
            found.extend(fault.map(|f| (f, format!("device {device}"))));
        }
        for (name, slot) in &mut self.book.people {
            let fault = slot.settle(&none, &none, names.contains_key(name.as_str()).then_some(1)).err();
            found.extend(fault.map(|f| (f, format!("account {name}"))));
        }
        for (id, slot) in &mut self.book.keys {
            let fault = slot.settle(&none, &none, beside.keys.contains(id).then_some(1)).err();
            found.extend(fault.map(|f| (f, format!("key {id}"))));
        }
        for (key, before) in &self.marks {
            if beside.marks.get(key).is_none_or(|now| now < before) {
                found.push((Fault::Lost, format!("the mark of {key:?} at {before}")));
            }
        }
        for (id, (_, gift)) in &self.book.wishes {
            if !beside.requests.contains_key(id) {
                found.push((Fault::Lost, format!("request {id} for {gift}")));
            }
        }
        if beside.under_a_mark > 0 {
            found.push((Fault::Resurrected, format!("{} rows under their marks", beside.under_a_mark)));
        }
        self.marks.clone_from(&beside.marks);
        self.book.close_wishes();
        self.book.accounts = hub.people.iter().filter(|(_, name)| *name != OWNER).map(|(id, name)| (name.clone(), id.clone())).collect();
        for name in self.book.accounts.keys() {
            self.book.people.entry(name.clone()).or_insert_with(|| Slot::with(1));
        }
        for (fault, what) in found {
            match fault {
                Fault::Lost => self.figures.lost.push(what),
                Fault::Resurrected => self.figures.resurrected.push(what),
            }
        }
    }

    async fn fail(&mut self, why: &str) -> ! {
        let status = self.doors.home("GET", "/cloud", Value::Null).await;
        panic!(
            "seed {}: {why}\n{:#?}\nthe round:\n{}\nwire: {}\nlink: {status:?}\n{}",
            self.seed,
            self.figures,
            self.round.join("\n"),
            self.machines.between.carried(),
            self.machines.said()
        );
    }

    /// Both sides compare all they have, kind by kind, by digests.
    pub async fn compare(&mut self) {
        self.asks_people = !self.asks_people;
        let mut words: Vec<&str> = consent().iter().map(|c| c.word()).collect();
        words.retain(|word| self.asks_people || *word != "people_requests");
        // Whoever agrees to something else has everything sent anew, and compared.
        self.doors.home("PATCH", "/cloud", json!({ "consent": words })).await.good();
        self.rest().await;
        let start = Instant::now();
        while !sight::compared(&self.machines).await.unwrap_or(false) {
            if start.elapsed() > REST {
                self.fail("the copies differ").await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        say("digests of devices, rights, accounts and keys are equal");
    }

    /// What it was, in a few lines.
    pub fn tell(&mut self) {
        let Figures { rounds, acts, faults, kills, lost, resurrected, slowest } = &self.figures;
        let done: Vec<String> = self.book.done.iter().map(|(what, count)| format!("{what} {count}")).collect();
        say(&format!(
            "seed {}: {rounds} rounds, {acts} acts, {faults} faults, kills {kills:?}; lost {}, resurrected {}; slowest to rest {} ms",
            self.seed,
            lost.len(),
            resurrected.len(),
            slowest.as_millis()
        ));
        say(&format!("wire {}", self.machines.between.carried()));
        say(&format!("acts: {}", done.join(", ")));
        say(&format!("requests: {:?}; kinds that differed {}, conflicts {}", self.last.codes, self.last.differed, self.last.conflicts));
    }
}

#[expect(clippy::disallowed_methods, reason = "the programs have the machine's clock")]
fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

fn judged(
    wishes: &BTreeMap<String, (Place, u64)>,
    place: &Place,
    states: &BTreeMap<String, String>,
) -> (std::collections::BTreeSet<u64>, std::collections::BTreeSet<u64>) {
    let of = |state: &str| {
        let mine = wishes.iter().filter(|(id, (at, _))| at == place && states.get(*id).is_some_and(|s| s == state));
        mine.map(|(_, (_, gift))| *gift).collect()
    };
    (of("done"), of("refused"))
}

/// The last gift with this colour.
fn latest(colour: u64, gifts: u64) -> u64 {
    gifts - (gifts % COLOURS + COLOURS - colour) % COLOURS
}

async fn strike(machines: &mut Machines, chance: &mut Chance) -> (String, Option<Victim>) {
    match chance.below(100) {
        0..15 => (machines.between.weather(chance), None),
        15..30 => {
            machines.between.cut();
            ("cut".into(), None)
        }
        30..45 => {
            let bytes = chance.next() % 20_000;
            machines.between.mend(false);
            machines.between.cut_after(bytes);
            (format!("cut after {bytes}"), None)
        }
        45..52 => {
            let side = *chance.pick(&[Side::Hub, Side::Cloud]);
            machines.between.unplug(side);
            (format!("unplugged {side:?}"), None)
        }
        52..72 => {
            machines.between.mend(false);
            ("mended".into(), None)
        }
        n => {
            let victim = match n {
                72..82 => Victim::Hub,
                82..90 => Victim::Cloud,
                _ => Victim::Postgres,
            };
            machines.kill(victim).await;
            (format!("killed {victim:?}"), Some(victim))
        }
    }
}

#[expect(clippy::print_stderr, reason = "who runs 200 rounds wants to see them pass")]
fn say(line: &str) {
    eprintln!("{line}");
}
