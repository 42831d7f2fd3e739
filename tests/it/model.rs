//! Rights against a naive reference: random histories of claiming, sharing, taking away, ending, suspending, removing,
//! time passing and restarts, after each step of which every person's every right must be what a simple-minded account of
//! the same history says. No right survives its end, and none is lost early.

use hearthkey::domain::account::Role;
use hearthkey::domain::batch::HubRequest;
use hearthkey::domain::binding::{Privilege, Subject, Terms};
use hearthkey::domain::ids::{BrandId, DeviceId, HubId, ModelName};
use hearthkey::domain::policy::Action;
use hearthkey::domain::time::Grade;
use hearthkey::factory::{MintOptions, RunChoice, SAMPLES, Workshop};
use hearthkey::service::{Actor, Clock, Grant, HubIdentity, NewUser, Question, Recipient, Service, SetupRequest};
use hearthkey::sim::identity::DeviceSecret;
use hearthkey::store::{MasterKey, Store};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const START: u64 = 1_800_000_000_000;
const PEOPLE: usize = 5;
const DEVICES: usize = 2;
const PRIVILEGES: [Privilege; 4] = [Privilege::View, Privilege::Operate, Privilege::Manage, Privilege::Administer];

/// What may happen. People and devices are numbers; person 0 set the hub up and stays.
#[derive(Clone, Debug)]
enum Step {
    Claim { by: usize, device: usize },
    Grant { by: usize, to: usize, device: usize, privilege: usize, from: Option<u64>, until: Option<u64> },
    Revoke { by: usize, of: usize, device: usize, with: bool },
    Take { by: usize, device: usize },
    Suspend { by: usize, device: usize, suspend: bool },
    Remove { by: usize, device: usize },
    End { by: usize, who: usize, with: bool },
    Pass { ms: u64 },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (person, device) = (0..PEOPLE, 0..DEVICES);
    let span = || proptest::option::weighted(0.3, 1u64..8);
    let grant = (person.clone(), person.clone(), device.clone(), prop_oneof![2 => 0..3usize, 3 => Just(3usize)], span(), span());
    let step = prop_oneof![
        3 => (person.clone(), device.clone()).prop_map(|(by, device)| Step::Claim { by, device }),
        12 => grant.prop_map(|(by, to, device, privilege, from, until)| Step::Grant { by, to, device, privilege, from, until }),
        5 => (person.clone(), person.clone(), device.clone(), any::<bool>())
            .prop_map(|(by, of, device, with)| Step::Revoke { by, of, device, with }),
        1 => (person.clone(), device.clone()).prop_map(|(by, device)| Step::Take { by, device }),
        2 => (person.clone(), device.clone(), any::<bool>()).prop_map(|(by, device, suspend)| Step::Suspend { by, device, suspend }),
        1 => (person.clone(), device).prop_map(|(by, device)| Step::Remove { by, device }),
        1 => (person, 1..PEOPLE, any::<bool>()).prop_map(|(by, who, with)| Step::End { by, who, with }),
        6 => (1u64..6).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The simple-minded account: who has what from whom.
#[derive(Clone, Debug)]
struct Right {
    privilege: Privilege,
    from: Option<u64>,
    until: Option<u64>,
    giver: Option<usize>,
}

#[derive(Debug)]
struct Account {
    now: u64,
    alive: [bool; PEOPLE],
    claimed: [bool; DEVICES],
    suspended: [bool; DEVICES],
    rights: BTreeMap<(usize, usize), Right>,
}

fn role(person: usize) -> Role {
    [Role::Owner, Role::Member, Role::Owner, Role::Member, Role::Guest][person]
}

impl Account {
    fn may(&self, person: usize, device: usize, action: Action) -> bool {
        let Some(right) = self.rights.get(&(device, person)) else { return false };
        let holds = right.from.is_none_or(|f| f <= self.now) && right.until.is_none_or(|u| self.now < u);
        let needed = match action {
            Action::View => 0,
            Action::Operate => 1,
            Action::OperateCritical | Action::Manage => 2,
            Action::Administer => 3,
        };
        let drives = matches!(action, Action::Operate | Action::OperateCritical);
        self.alive[person] && self.claimed[device] && holds && PRIVILEGES[needed] <= right.privilege && !(drives && self.suspended[device])
    }

    fn administers_for_good(&self, device: usize, person: usize) -> bool {
        let lasts = |r: &Right| r.privilege == Privilege::Administer && r.until.is_none() && r.from.is_none_or(|f| f <= self.now);
        self.alive[person] && self.rights.get(&(device, person)).is_some_and(lasts)
    }

    fn would_orphan(&self, device: usize, leaving: &BTreeSet<usize>) -> bool {
        let lasting: Vec<usize> = (0..PEOPLE).filter(|p| self.administers_for_good(device, *p)).collect();
        !lasting.is_empty() && lasting.iter().any(|p| leaving.contains(p)) && lasting.iter().all(|p| leaving.contains(p))
    }

    /// Who got their right from `of`, and from those, and so on; never `spared`, nor through them.
    fn fed_by(&self, device: usize, of: usize, spared: usize) -> BTreeSet<usize> {
        let mut all = BTreeSet::new();
        loop {
            let more: Vec<usize> = (0..PEOPLE)
                .filter(|p| *p != of && *p != spared && !all.contains(p))
                .filter(|p| self.rights.get(&(device, *p)).and_then(|r| r.giver).is_some_and(|g| g == of || all.contains(&g)))
                .collect();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    /// Does it, if it may be done.
    fn apply(&mut self, step: &Step) -> bool {
        match *step {
            Step::Claim { by, device } => {
                let may = self.alive[by] && role(by) != Role::Guest && !self.claimed[device] && !self.suspended[device];
                if may {
                    self.claimed[device] = true;
                    self.rights.insert((device, by), Right { privilege: Privilege::Administer, from: None, until: None, giver: None });
                }
                may
            }
            Step::Grant { by, to, device, privilege, from, until } => {
                let (from, until) = (from.map(|f| self.now + f - 1), until.map(|u| self.now + u - 1));
                let sane = until.is_none_or(|u| u > self.now && from.is_none_or(|f| f < u));
                if !self.may(by, device, Action::Administer) || !sane || !self.alive[to] {
                    return false;
                }
                let own = &self.rights[&(device, by)];
                if own.until.is_some_and(|end| until.is_none_or(|u| u > end)) || own.from.is_some_and(|s| from.unwrap_or(self.now) < s) {
                    return false;
                }
                let right = Right { privilege: PRIVILEGES[privilege], from, until, giver: Some(by) };
                let lasts = right.privilege == Privilege::Administer && until.is_none() && from.is_none_or(|f| f <= self.now);
                if !lasts && self.would_orphan(device, &BTreeSet::from([to])) {
                    return false;
                }
                self.rights.insert((device, to), right);
                true
            }
            Step::Revoke { by, of, device, with } => {
                let own = by == of;
                if !(self.alive[by] && (own || self.may(by, device, Action::Administer))) || !self.rights.contains_key(&(device, of)) {
                    return false;
                }
                let mut ending = if with && !own { self.fed_by(device, of, by) } else { BTreeSet::new() };
                ending.insert(of);
                if self.would_orphan(device, &ending) {
                    return false;
                }
                self.rights.retain(|(d, p), _| *d != device || !ending.contains(p));
                true
            }
            Step::Take { by, device } => {
                let may = self.alive[by] && role(by) == Role::Owner && self.claimed[device];
                if may {
                    self.rights.insert((device, by), Right { privilege: Privilege::Administer, from: None, until: None, giver: Some(by) });
                }
                may
            }
            Step::Suspend { by, device, suspend } => {
                let may = self.alive[by] && role(by) == Role::Owner && self.suspended[device] != suspend && self.claimed[device];
                if may {
                    self.suspended[device] = suspend;
                }
                may
            }
            Step::Remove { by, device } => {
                let may = self.may(by, device, Action::Administer) && !self.suspended[device];
                if may {
                    self.claimed[device] = false;
                    self.rights.retain(|(d, _), _| *d != device);
                }
                may
            }
            Step::End { by, who, with } => {
                if !(self.alive[by] && role(by) == Role::Owner && self.alive[who]) {
                    return false;
                }
                for device in 0..DEVICES {
                    let fed = if with { self.fed_by(device, who, by) } else { BTreeSet::new() };
                    self.rights.retain(|(d, p), _| *d != device || (*p != who && !fed.contains(p)));
                }
                self.alive[who] = false;
                true
            }
            Step::Pass { ms } => {
                self.now += ms;
                true
            }
            Step::Restart => true,
        }
    }
}

struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn monotonic_ms(&self) -> u64 {
        self.now_ms()
    }
    fn grade(&self) -> Grade {
        Grade::Vouched
    }
}

/// The real thing.
struct Place {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    age: age::x25519::Identity,
    store: Store,
    service: Arc<Service>,
    people: Vec<Actor>,
    names: Vec<String>,
    devices: Vec<(DeviceId, String)>,
}

fn identity(age: &age::x25519::Identity) -> HubIdentity {
    let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    HubIdentity {
        id: HubId::from_public_key(&key.verifying_key().to_bytes()),
        name: "test".into(),
        ca_der: vec![0x30, 0],
        ca_fingerprint: "AB:CD".into(),
        request_line: HubRequest::line(&key, &age.to_public().to_string(), 1),
        age_identity: age::secrecy::ExposeSecret::expose_secret(&age.to_string()).to_owned().into(),
    }
}

impl Place {
    async fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock(AtomicU64::new(START)));
        let age = age::x25519::Identity::generate();
        let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new([7; 32])).unwrap();
        let service = Service::new(store.clone(), clock.clone(), identity(&age)).await.unwrap();
        let workshop = Workshop::open(dir.path().join("factory")).unwrap();
        let brand = BrandId::parse("acme").unwrap();
        let made = workshop.new_brand(&brand).unwrap();
        SAMPLES.iter().for_each(|s| {
            workshop.add_model(&brand, s.json).unwrap();
        });
        service.trust_brand(&Actor::console(), brand.clone(), &made.fingerprint.to_string()).await.unwrap();
        let run = workshop.mint(&brand, &ModelName::parse("lamp").unwrap(), DEVICES as u64, &MintOptions::default(), &()).unwrap();
        let file = dir.path().join("batch.hkb");
        workshop.batch(&brand, &RunChoice::All, &service.hub().request_line, &file, &()).unwrap();
        service.import_batch(&Actor::console(), file).await.unwrap();
        let devices = run.devices().map(|minted| {
            let minted = minted.unwrap();
            (minted.device_id, DeviceSecret::read(&minted.secret).unwrap().claim_qr())
        });
        let devices = devices.collect();
        let mut place = Place { dir, clock, age, store, service, people: Vec::new(), names: Vec::new(), devices };
        for person in 0..PEOPLE {
            place.add(person).await;
        }
        place
    }

    async fn add(&mut self, person: usize) {
        let name = format!("person-{person}");
        let password = "correct horse battery";
        let user =
            NewUser { username: name.clone(), password: password.to_owned().into(), display_name: String::new(), role: role(person) };
        let token = if person == 0 {
            let code = self.service.setup_code().await.unwrap().unwrap();
            self.service.set_up(SetupRequest { code, user }, HERE, "test").await.unwrap().token
        } else {
            self.service.add_user(&self.people[0], user).await.unwrap();
            self.service.sign_in_person(&name, password.to_owned().into(), HERE, "test").await.unwrap().token
        };
        self.people.push(self.service.actor(&token, "test", HERE).unwrap());
        self.names.push(name);
    }

    async fn apply(&mut self, step: &Step) -> bool {
        let service = &self.service;
        match *step {
            Step::Claim { by, device } => service.claim(&self.people[by], &self.devices[device].1, None, "", "").await.is_ok(),
            Step::Grant { by, to, device, privilege, from, until } => {
                let now = self.clock.now_ms();
                let terms =
                    Terms { from: from.map(|f| now + f - 1), until: until.map(|u| now + u - 1), ..Terms::of(PRIVILEGES[privilege]) };
                let grant = Grant { to: Recipient::Person(self.names[to].clone()), terms };
                service.grant(&self.people[by], &self.devices[device].0, grant).await.is_ok()
            }
            Step::Revoke { by, of, device, with } => {
                let holder: &Subject = &self.people[of].subject;
                service.revoke(&self.people[by], &self.devices[device].0, holder, with).await.is_ok()
            }
            Step::Take { by, device } => service.take_administration(&self.people[by], &self.devices[device].0).await.is_ok(),
            Step::Suspend { by, device, suspend } => service.suspend(&self.people[by], &self.devices[device].0, suspend).await.is_ok(),
            Step::Remove { by, device } => service.remove_device(&self.people[by], &self.devices[device].0).await.is_ok(),
            Step::End { by, who, with } => service.end_user(&self.people[by], self.people[who].user().unwrap(), with).await.is_ok(),
            Step::Pass { ms } => {
                self.clock.0.fetch_add(ms, Ordering::Relaxed);
                true
            }
            Step::Restart => {
                self.store.close().await;
                self.store = Store::open(&self.dir.path().join("hub.redb"), MasterKey::new([7; 32])).unwrap();
                self.service = Service::new(self.store.clone(), self.clock.clone(), identity(&self.age)).await.unwrap();
                true
            }
        }
    }

    fn may(&self, person: usize, device: usize, action: Action) -> bool {
        let username = Some(self.names[person].clone());
        let question = Question { device: self.devices[device].0.clone(), action, name: None, username, at: None };
        // The name of an ended account is free again: nobody is found by it, and nobody may.
        self.service.explain(&self.people[0], &question).is_ok_and(|answer| answer.allowed)
    }
}

#[test]
fn every_right_is_what_a_simple_account_of_the_history_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 40, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&steps(), |steps| {
        runtime.block_on(async {
            let mut place = Place::new().await;
            let mut account = Account {
                now: START,
                alive: [true; PEOPLE],
                claimed: [false; DEVICES],
                suspended: [false; DEVICES],
                rights: BTreeMap::new(),
            };
            // Whatever else happens, something is there to share.
            let first = [Step::Claim { by: 0, device: 0 }, Step::Claim { by: 1, device: 1 }];
            for step in first.iter().chain(&steps) {
                // A claim that fails counts as a guess, and guesses make wait: that is tested elsewhere.
                if matches!(step, Step::Claim { device, .. } if account.claimed[*device]) {
                    continue;
                }
                // A device that nobody has claimed may be suspended too: that is another story.
                if matches!(step, Step::Suspend { device, .. } if !account.claimed[*device]) {
                    continue;
                }
                let (expected, did) = (account.apply(step), place.apply(step).await);
                prop_assert_eq!(did, expected, "{:?}", step);
                for (person, device) in (0..PEOPLE).flat_map(|p| (0..DEVICES).map(move |d| (p, d))) {
                    for action in Action::ALL {
                        let expected = account.may(person, device, action);
                        prop_assert_eq!(place.may(person, device, action), expected, "{:?} {} {} after {:?}", action, person, device, step);
                    }
                }
            }
            Ok(())
        })
    });
    outcome.unwrap();
}
