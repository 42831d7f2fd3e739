//! The real thing: a hub's service on a clock that the history drives, its people, and devices that prove their keys.

use super::{GRAIN, Offer, PEOPLE, ROLES, START, Step, WINDOWS, Who};
use bytes::Bytes;
use hearthkey::domain::account::{Role, UserId};
use hearthkey::domain::authority::Authority;
use hearthkey::domain::batch::HubRequest;
use hearthkey::domain::binding::{Privilege, Subject, Terms};
use hearthkey::domain::device::Standing;
use hearthkey::domain::ids::{BrandId, DeviceId, HubId, ModelName};
use hearthkey::domain::policy::Action;
use hearthkey::domain::time::{Day, Grade, Window};
use hearthkey::factory::{MintOptions, RunChoice, SAMPLES, Workshop};
use hearthkey::service::{
    Actor, Answer, AppGrant, Clock, CloseReason, Grant, HubIdentity, NewAppToken, NewInvitation, NewUser, Outlet, Question, Recipient,
    Refusal, Service, SettingsChange, SetupRequest, SignInAttempt, SignedIn, UserChange,
};
use hearthkey::sim::identity::{DeviceSecret, HubKeys};
use hearthkey::store::{MasterKey, Store};
use std::future::{Future, ready};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PASSWORD: &str = "correct horse battery";
const NONCE: [u8; 24] = [3; 24];

struct TestClock {
    now: AtomicU64,
    known: AtomicBool,
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
    fn monotonic_ms(&self) -> u64 {
        self.now_ms()
    }
    fn grade(&self) -> Grade {
        if self.known.load(Ordering::Relaxed) { Grade::Vouched } else { Grade::None }
    }
}

/// What the hub says to devices: the last sealed credential. Nobody else is connected.
#[derive(Default)]
struct Mouth(Mutex<Vec<u8>>);

type Done<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl Outlet for Mouth {
    fn publish(&self, topic: &str, payload: Bytes, _: u8, _: bool, _: Option<Duration>) {
        if topic.ends_with("/claim/credential") {
            *self.0.lock().unwrap() = payload.to_vec();
        }
    }
    fn close<'a>(&'a self, _: &'a Subject, _: CloseReason) -> Done<'a> {
        Box::pin(ready(()))
    }
    fn close_session<'a>(&'a self, _: [u8; 32]) -> Done<'a> {
        Box::pin(ready(()))
    }
    fn close_fallen<'a>(&'a self, _: &'a Subject) -> Done<'a> {
        Box::pin(ready(()))
    }
    fn narrow<'a>(&'a self) -> Done<'a> {
        Box::pin(ready(()))
    }
}

struct Thing {
    id: DeviceId,
    code: String,
    keys: HubKeys,
    counter: u64,
    resets: u64,
}

pub struct Place {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    mouth: Arc<Mouth>,
    age: age::x25519::Identity,
    store: Store,
    service: Arc<Service>,
    people: Vec<Actor>,
    things: Vec<Thing>,
    /// The apps' ids, and whose they are.
    apps: Vec<(String, usize)>,
    /// Ids and codes.
    invitations: Vec<(String, String)>,
    attempts: u32,
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

fn name(person: usize) -> String {
    format!("person-{person}")
}

fn window(n: usize) -> Window {
    let (days, from, to) = WINDOWS[n];
    let wall = |m: u64| format!("{:02}:{:02}", m / 60, m % 60).try_into().unwrap();
    let all = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];
    Window { days: days.iter().map(|d| all[usize::try_from(*d).unwrap()]).collect(), from: wall(from), to: wall(to) }
}

impl Place {
    pub async fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock { now: AtomicU64::new(START), known: AtomicBool::new(true) });
        let (age, mouth) = (age::x25519::Identity::generate(), Arc::new(Mouth::default()));
        let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new([7; 32])).unwrap();
        let service = Service::new(store.clone(), clock.clone(), identity(&age)).await.unwrap();
        service.connect(&mouth);
        let workshop = Workshop::open(dir.path().join("factory")).unwrap();
        let brand = BrandId::parse("acme").unwrap();
        let made = workshop.new_brand(&brand).unwrap();
        SAMPLES.iter().for_each(|s| {
            workshop.add_model(&brand, s.json).unwrap();
        });
        service.trust_brand(&Actor::console(), brand.clone(), &made.fingerprint.to_string()).await.unwrap();
        let lamp = ModelName::parse("lamp").unwrap();
        let run = workshop.mint(&brand, &lamp, super::DEVICES as u64, &MintOptions::default(), &()).unwrap();
        let file = dir.path().join("batch.hkb");
        workshop.batch(&brand, &RunChoice::All, &service.hub().request_line, &file, &()).unwrap();
        service.import_batch(&Actor::console(), file).await.unwrap();
        let hub = service.hub().id.to_string();
        let things = run.devices().map(|minted| {
            let minted = minted.unwrap();
            let secret = DeviceSecret::read(&minted.secret).unwrap();
            Thing { id: minted.device_id, code: secret.claim_qr(), keys: secret.for_hub(hub.parse().unwrap()), counter: 0, resets: 0 }
        });
        let things = things.collect();
        let (people, apps, invitations) = (Vec::new(), Vec::new(), Vec::new());
        let mut place = Place { dir, clock, mouth, age, store, service, people, things, apps, invitations, attempts: 0 };
        for person in 0..PEOPLE {
            place.add(person).await;
        }
        let utc = SettingsChange { time_zone: Some("UTC".into()), open_registration: None, audit_max_bytes: None, share_wifi: None };
        place.service.change_settings(&place.people[0], utc).await.unwrap();
        for thing in &place.things {
            // The hub believes the first word on resets.
            assert!(!place.service.claim_hello(&thing.id, &thing.keys.hello(&NONCE, 0), "test").await.unwrap());
        }
        place
    }

    async fn add(&mut self, person: usize) {
        let role = ROLES[person];
        let user = NewUser { username: name(person), password: PASSWORD.to_owned().into(), display_name: String::new(), role };
        let id = if person == 0 {
            let code = self.service.setup_code().await.unwrap().unwrap();
            self.service.set_up(SetupRequest { code, user }, HERE, "test").await.unwrap().user.id
        } else {
            self.service.add_user(&self.people[0], user).await.unwrap().id
        };
        self.people.push(Actor::person(id, role, "test".into(), HERE));
    }

    fn id(&self, person: usize) -> &UserId {
        self.people[person].user().unwrap()
    }

    fn subject(&self, who: Who) -> Subject {
        match who {
            Who::Person(p) => self.people[p].subject.clone(),
            Who::Device(d) => Subject::Device(self.things[d].id.clone()),
            Who::App(n) => Subject::App(self.apps[n % self.apps.len()].0.clone()),
        }
    }

    fn actor(&self, who: Who) -> Actor {
        match who {
            Who::Person(p) => self.people[p].clone(),
            Who::Device(d) => Actor::device(self.things[d].id.clone(), "test".into(), HERE),
            Who::App(n) => {
                let behalf = Some(self.id(self.apps[n % self.apps.len()].1).clone());
                Actor { subject: self.subject(who), behalf, authority: Authority::Nothing, via: "test".into(), source: HERE }
            }
        }
    }

    fn terms(&self, offer: &Offer) -> Terms {
        let at = |grains: u64| self.clock.now_ms() + (grains - 1) * GRAIN;
        Terms {
            from: offer.from.map(at),
            until: offer.until.map(at),
            windows: offer.window.map(window).into_iter().collect(),
            uses: offer.uses,
            ..Terms::of(Privilege::ALL[offer.privilege])
        }
    }

    async fn sign_in(&self, device: usize, password: String) -> SignedIn {
        let username = self.things[device].id.to_string();
        let attempt = SignInAttempt { username, password: password.into(), certificate: None, spki: None, source: HERE };
        self.service.sign_in(attempt).await.unwrap()
    }

    /// The device fetches what the claim gave it, and signs in with that.
    async fn complete(&mut self, device: usize) {
        let thing = &self.things[device];
        assert!(!self.service.claim_hello(&thing.id, &thing.keys.hello(&NONCE, thing.resets), "test").await.unwrap());
        let sealed = std::mem::take(&mut *self.mouth.0.lock().unwrap());
        let password = thing.keys.open_credential(&sealed, &NONCE).unwrap().password().to_string();
        self.sign_in(device, password).await;
    }

    /// Two that hold the device's key take its place from each other until the hub has seen enough.
    async fn quarrel(&mut self, device: usize) {
        let mut before: Option<(SignedIn, [u8; 16])> = None;
        for round in 0..8u8 {
            let thing = &mut self.things[device];
            thing.counter += 1;
            let password = thing.keys.token(thing.counter, &[round; 16], &[]);
            let after = self.sign_in(device, password).await;
            let thing = &self.things[device];
            if let Some((displaced, instance)) = before.replace((after.clone(), [round % 2; 16])) {
                let challenge = self.service.probe(&displaced).unwrap().challenge;
                let said = serde_json::json!({"challenge": data_encoding::BASE64URL_NOPAD.encode(&challenge)}).to_string();
                let answer = Answer::Response(thing.keys.alive_answer(said.as_bytes(), &instance).unwrap());
                self.service.displaced(&displaced, &after, "device", &challenge, &answer).await;
            }
            if self.service.device(&Actor::console(), &thing.id).unwrap().state == Standing::Quarantined {
                return;
            }
        }
        panic!("two that take turns are not found out");
    }

    pub async fn apply(&mut self, step: &Step) -> Result<(), Refusal> {
        let service = self.service.clone();
        match *step {
            Step::Claim { by, device, complete } => {
                service.claim(&self.people[by], &self.things[device].code, None, "", "").await?;
                if complete {
                    self.complete(device).await;
                }
            }
            Step::Grant { by, to, device, ref offer } => {
                let grant = Grant { to: Recipient::Person(name(to)), terms: self.terms(offer) };
                service.grant(&self.people[by], &self.things[device].id, grant).await?;
            }
            Step::Bind { by, other, device, ref offer } => {
                let grant = Grant { to: Recipient::Device(self.things[other].id.clone()), terms: self.terms(offer) };
                service.grant(&self.people[by], &self.things[device].id, grant).await?;
            }
            Step::Revoke { by, of, device, with } => {
                service.revoke(&self.people[by], &self.things[device].id, &self.subject(of), with).await?;
            }
            Step::Take { by, device } => drop(service.take_administration(&self.people[by], &self.things[device].id).await?),
            Step::Suspend { by, device, suspend } => drop(service.suspend(&self.people[by], &self.things[device].id, suspend).await?),
            Step::Quarantine { device } => self.quarrel(device).await,
            Step::Lift { by, device } => drop(service.lift(&self.people[by], &self.things[device].id, "").await?),
            Step::Remove { by, device } => service.remove_device(&self.people[by], &self.things[device].id).await?,
            Step::Reset { device } => {
                let thing = &mut self.things[device];
                thing.resets += 1;
                service.claim_hello(&thing.id, &thing.keys.hello(&NONCE, thing.resets), "test").await?;
            }
            Step::Transfer { by, to, device } => {
                service.transfer(&self.people[by], &self.things[device].id, &name(to)).await?;
            }
            Step::Invite { by, device, ref offer, life } => {
                let grants = vec![(self.things[device].id.clone(), self.terms(offer))];
                let new = NewInvitation { grants, expires_in_ms: Some(life * GRAIN), ..NewInvitation::default() };
                let made = service.invite(&self.people[by], new).await?;
                self.invitations.push((made.id, made.code.to_string()));
            }
            Step::Withdraw { by, invitation } => {
                // What is over may be there until it is swept away.
                service.sweep_invitations().await?;
                let (id, _) = &self.invitations[invitation % self.invitations.len()];
                service.withdraw_invitation(&self.people[by], id).await?;
            }
            Step::Accept { by, invitation } => {
                // From somewhere else each time: who guesses must wait, and that is tested elsewhere.
                self.attempts += 1;
                let actor = Actor { source: IpAddr::V4(Ipv4Addr::from(0x0A00_0000 + self.attempts * 256)), ..self.people[by].clone() };
                let (_, code) = &self.invitations[invitation % self.invitations.len()];
                service.accept_invitation(&actor, code).await?;
            }
            Step::Link { by, device, privilege, life } => {
                let grant = AppGrant { device: self.things[device].id.clone(), privilege: Privilege::ALL[privilege], only: None };
                let new = NewAppToken { name: "app".into(), devices: vec![grant], expires_in_ms: Some(life * GRAIN) };
                let made = service.make_app_token(&self.people[by], new).await?;
                self.apps.push((made.id, by));
            }
            Step::Unlink { by, app } => {
                let (id, of) = &self.apps[app % self.apps.len()];
                if *of == by { service.end_my_app(&self.people[by], id).await? } else { service.end_app(&self.people[by], id).await? }
            }
            Step::Password { by } => {
                let password = || PASSWORD.to_owned().into();
                let opened = service.sign_in_person(&name(by), password(), HERE, "test").await?;
                service.change_password(&self.people[by], &opened.token, password(), password()).await?;
            }
            Step::Role { by, of, role } => {
                let role = [Role::Owner, Role::Member, Role::Guest][role];
                let change = UserChange { role: Some(role), display_name: None };
                service.change_user(&self.people[by], self.id(of), change).await?;
                self.people[of].authority = Authority::Role(role);
            }
            Step::End { by, who, with } => drop(service.end_user(&self.people[by], self.id(who), with).await?),
            Step::Use { by, device } => {
                let wish = serde_json::json!({"on": true}).as_object().unwrap().clone();
                service.desire(&self.actor(by), &self.things[device].id, wish, None).await?;
            }
            Step::Pass { grains } => drop(self.clock.now.fetch_add(grains * GRAIN, Ordering::Relaxed)),
            Step::Clock { known } => {
                self.clock.known.store(known, Ordering::Relaxed);
                service.watch_clock().await?;
            }
            Step::Restart => {
                self.store.close().await;
                self.store = Store::open(&self.dir.path().join("hub.redb"), MasterKey::new([7; 32])).unwrap();
                self.service = Service::new(self.store.clone(), self.clock.clone(), identity(&self.age)).await.unwrap();
                self.service.connect(&self.mouth);
                self.service.sweep_apps().await?;
                self.service.sweep_invitations().await?;
            }
        }
        Ok(())
    }

    /// What the hub says.
    pub fn may(&self, who: Who, device: usize, action: Action) -> bool {
        let username = match who {
            Who::Person(p) => name(p),
            other => self.subject(other).to_string(),
        };
        let question = Question { device: self.things[device].id.clone(), action, name: None, username: Some(username), at: None };
        // The name of an ended account is free again: nobody is found by it, and nobody may.
        self.service.explain(&Actor::console(), &question).is_ok_and(|answer| answer.allowed)
    }
}
