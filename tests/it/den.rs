//! A hub's gate by itself, on a clock that tests set: a service over a store in a directory of its own, and connections
//! that are pipes from any address. What signs in here are things whose every move a test decides.

use crate::house::BRAND;
use hearthkey::broker::{Broker, Config, Peer};
use hearthkey::domain::account::Role;
use hearthkey::domain::batch::HubRequest;
use hearthkey::domain::device::Standing;
use hearthkey::domain::ids::{BrandId, DeviceId, HubId, ModelName};
use hearthkey::domain::time::Grade;
use hearthkey::factory::{MintOptions, RunChoice, SAMPLES, Workshop};
use hearthkey::service::{Actor, Clock, HubIdentity, NewUser, Service, SetupRequest};
use hearthkey::sim::identity::{DeviceSecret, HubKeys};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Error, Event, Message, Publish, Qos};
use hearthkey::store::tables::HubSecrets;
use hearthkey::store::{MasterKey, Store, StoreError};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for whoever answers at all.
pub const ANSWERS: u64 = 10_000;
/// For tests in which the displaced never answer: they wait so long each time.
pub const SILENT: u64 = 20;
const SHORT: Duration = Duration::from_millis(1);

struct TestClock {
    now: AtomicU64,
    /// Nobody knows what time it is.
    lost: AtomicBool,
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
    fn monotonic_ms(&self) -> u64 {
        self.now_ms()
    }
    fn grade(&self) -> Grade {
        if self.lost.load(Ordering::Relaxed) { Grade::None } else { Grade::Vouched }
    }
}

pub struct Den {
    clock: Arc<TestClock>,
    pub service: Arc<Service>,
    broker: Arc<Broker>,
    pub owner: Actor,
    workshop: Workshop,
    brand: BrandId,
    dir: TempDir,
    parting_ms: u64,
}

/// A thing that can act as a device, as far as it knows its secrets.
#[derive(Clone)]
pub struct Thing {
    pub id: DeviceId,
    pub code: String,
    pub keys: Arc<HubKeys>,
    pub counter: u64,
    /// Its operational secret, if it signs in with that.
    pub secret: Option<String>,
    /// Drawn when it was switched on; none in firmware that does not answer challenges.
    pub instance: Option<[u8; 16]>,
    pub ip: &'static str,
    pub client_id: &'static str,
}

/// A connection, and the hub's task that serves it, which ends when the hub has thought about the connection's end.
pub struct Line {
    end: End,
    pub serving: JoinHandle<()>,
}

enum End {
    /// Nobody listens at this end, and nobody has closed it.
    Held { _client: Box<Client<DuplexStream>> },
    /// Somebody listens and answers, until the hub ends it: the code it gave.
    Lives(JoinHandle<Option<u8>>),
}

impl Den {
    /// A hub that gives the displaced so many milliseconds.
    pub async fn new(parting_ms: u64) -> Den {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new([7; 32])).unwrap();
        let identity = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
        let age = age::x25519::Identity::generate();
        let hub = HubIdentity {
            id: HubId::from_public_key(&identity.verifying_key().to_bytes()),
            name: "test".into(),
            ca_der: vec![0x30, 0],
            ca_fingerprint: "AB:CD".into(),
            request_line: HubRequest::line(&identity, &age.to_public().to_string(), 1),
            age_identity: age::secrecy::ExposeSecret::expose_secret(&age.to_string()).to_owned().into(),
        };
        let secrets = HubSecrets {
            identity_seed: identity.to_bytes(),
            age_identity: hub.age_identity.to_string(),
            mirror_seed: [8; 32],
            epoch: 1,
            ca_key_pem: String::new(),
            ca_pem: String::new(),
            server_key_pem: String::new(),
            pepper: None,
        };
        store.write::<_, StoreError, _>(move |tx| tx.put(HubSecrets::ROW, &secrets)).await.unwrap();
        let clock = Arc::new(TestClock { now: AtomicU64::new(1_800_000_000_000), lost: AtomicBool::new(false) });
        let (service, broker) = serve(store, &clock, hub, parting_ms).await;
        let code = service.setup_code().await.unwrap().unwrap();
        let request = SetupRequest { code, user: new_user("olivia", Role::Owner) };
        let here = IpAddr::from([127, 0, 0, 1]);
        let opened = service.set_up(request, here, "test").await.unwrap();
        let owner = service.actor(&opened.token, "test", here).unwrap();
        let workshop = Workshop::open(dir.path().join("factory")).unwrap();
        let brand = BrandId::parse(BRAND).unwrap();
        let made = workshop.new_brand(&brand).unwrap();
        for sample in SAMPLES {
            workshop.add_model(&brand, sample.json).unwrap();
        }
        service.trust_brand(&owner, brand.clone(), &made.fingerprint.to_string()).await.unwrap();
        Den { clock, service, broker, owner, workshop, brand, dir, parting_ms }
    }

    /// Switches the hub off and on again: what is not on disk is gone. `lost` when its clock then knows nothing.
    pub async fn restart(&mut self, lost: bool) {
        self.service.close().await;
        let known = self.service.hub();
        let hub = HubIdentity {
            id: known.id,
            name: known.name.clone(),
            ca_der: known.ca_der.clone(),
            ca_fingerprint: known.ca_fingerprint.clone(),
            request_line: known.request_line.clone(),
            age_identity: known.age_identity.clone(),
        };
        self.clock.lost.store(lost, Ordering::Relaxed);
        (self.service, self.broker) = serve(self.store(), &self.clock, hub, self.parting_ms).await;
    }

    /// The store of a hub that is switched off.
    pub fn store(&self) -> Store {
        Store::open(&self.dir.path().join("hub.redb"), MasterKey::new([7; 32])).unwrap()
    }

    /// The time, ms since 1970.
    pub fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    /// A device type more.
    pub fn add_model(&self, json: &str) {
        self.workshop.add_model(&self.brand, json).unwrap();
    }

    /// A registry batch with a new device in it, for this hub, that nobody has given it yet.
    pub fn batch(&self, model: &str) -> std::path::PathBuf {
        let run = self.workshop.mint(&self.brand, &ModelName::parse(model).unwrap(), 1, &MintOptions::default(), &()).unwrap();
        let file = self.dir.path().join(format!("{}.hkb", run.run));
        self.workshop.batch(&self.brand, &RunChoice::One(run.run.clone()), &self.service.hub().request_line, &file, &()).unwrap();
        file
    }

    pub fn wait(&self, ms: u64) {
        self.clock.now.fetch_add(ms, Ordering::Relaxed);
    }

    /// A device that the hub knows and nobody has claimed. Its firmware signs in with tokens and answers no challenges.
    pub async fn device(&self, model: &str) -> Thing {
        let run = self.workshop.mint(&self.brand, &ModelName::parse(model).unwrap(), 1, &MintOptions::default(), &()).unwrap();
        let file = self.dir.path().join(format!("{}.hkb", run.run));
        self.workshop.batch(&self.brand, &RunChoice::One(run.run.clone()), &self.service.hub().request_line, &file, &()).unwrap();
        self.service.import_batch(&self.owner, file).await.unwrap();
        let minted = run.devices().next().unwrap().unwrap();
        let secret = DeviceSecret::read(&minted.secret).unwrap();
        Thing {
            id: minted.device_id,
            code: secret.claim_qr(),
            keys: Arc::new(secret.for_hub(self.service.hub().id.to_string().parse().unwrap())),
            counter: 0,
            secret: None,
            instance: None,
            ip: "192.168.1.20",
            client_id: "device",
        }
    }

    /// The same, claimed by the owner and signing in with its operational secret.
    pub async fn claimed(&self, model: &str) -> Thing {
        let mut thing = self.device(model).await;
        self.service.claim(&self.owner, &thing.code, None, "", "").await.unwrap();
        thing.secret = Some(self.fetch_secret(&mut thing).await);
        thing.instance = Some([1; 16]);
        self.live(&mut thing).await.leave().await;
        thing
    }

    async fn fetch_secret(&self, thing: &mut Thing) -> String {
        let (mut client, _serving) = self.try_token(thing).await.unwrap();
        client.subscribe(&[(&thing.topic("claim/credential"), Qos::AtLeastOnce)]).await.unwrap();
        let hello = Message::new(thing.topic("claim/hello"), thing.keys.hello(&[3; 24], 0), Qos::AtLeastOnce);
        client.publish(&hello).await.unwrap();
        let message = client.receive(Duration::from_secs(10)).await.unwrap().expect("a credential");
        thing.keys.open_credential(&message.payload, &[3; 24]).unwrap().password().to_string()
    }

    pub async fn person(&self, name: &str, role: Role) -> Actor {
        self.service.add_user(&self.owner, new_user(name, role)).await.unwrap();
        let here = IpAddr::from([127, 0, 0, 1]);
        let opened = self.service.sign_in_person(name, PASSWORD.to_owned().into(), here, "test").await.unwrap();
        self.service.actor(&opened.token, "test", here).unwrap()
    }

    pub async fn connect(&self, ip: &str, options: &ConnectOptions) -> (Result<Client<DuplexStream>, Error>, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let peer = Peer { ip: ip.parse().unwrap(), spki: None, certificate: None };
        let serving = tokio::spawn(self.broker.clone().serve(far, peer, CancellationToken::new()));
        (Client::connect(near, options).await, serving)
    }

    /// Signs in with the next counter.
    pub async fn try_token(&self, thing: &mut Thing) -> Result<(Client<DuplexStream>, JoinHandle<()>), u8> {
        thing.counter += 1;
        let password = thing.keys.token(thing.counter, &nonce(), &[]);
        self.try_password(thing, password).await
    }

    pub async fn try_password(&self, thing: &Thing, password: String) -> Result<(Client<DuplexStream>, JoinHandle<()>), u8> {
        let options = ConnectOptions::new(thing.client_id).credentials(thing.id.as_str(), password);
        match self.connect(thing.ip, &options).await {
            (Ok(client), serving) => Ok((client, serving)),
            (Err(Error::Refused(connack)), _) => Err(connack.code),
            (Err(other), _) => panic!("no CONNACK: {other}"),
        }
    }

    /// Signs in as the thing's firmware does, with a re-base where the hub asks for one, and again when it is cut off.
    pub async fn sign_in(&self, thing: &mut Thing) -> Result<(Client<DuplexStream>, JoinHandle<()>), u8> {
        loop {
            let (mut client, serving) = match thing.secret.clone() {
                Some(secret) => self.try_password(thing, secret).await?,
                None => self.try_token(thing).await?,
            };
            if settle_in(thing, &mut client).await.is_ok() {
                return Ok((client, serving));
            }
            serving.await.unwrap();
        }
    }

    /// Signs in and stays there, answering.
    pub async fn live(&self, thing: &mut Thing) -> Line {
        self.try_live(thing).await.expect("it is let in")
    }

    pub async fn try_live(&self, thing: &mut Thing) -> Result<Line, u8> {
        let (client, serving) = self.sign_in(thing).await?;
        let mine = thing.clone();
        Ok(Line { end: End::Lives(tokio::spawn(mine.listen(client))), serving })
    }

    /// Signs in, and goes out of reach without a word.
    pub async fn pass_by(&self, thing: &mut Thing) -> Line {
        let (client, serving) = self.sign_in(thing).await.expect("it is let in");
        Line { end: End::Held { _client: Box::new(client) }, serving }
    }

    /// Two take turns for as long as they are let in, or `rounds` times; how many times they were, and the lines they had.
    pub async fn quarrel(&self, one: &mut Thing, other: &mut Thing, rounds: usize, pause_ms: u64) -> usize {
        let mut before: Option<Line> = None;
        for round in 0..rounds {
            let line = match self.try_live(if round % 2 == 0 { one } else { other }).await {
                Ok(line) => line,
                Err(code) => {
                    assert_eq!(code, 0x8A);
                    return round;
                }
            };
            if let Some(before) = before.replace(line) {
                before.serving.await.unwrap();
            }
            self.wait(pause_ms);
        }
        rounds
    }

    pub fn standing(&self, thing: &Thing) -> Standing {
        self.service.device(&self.owner, &thing.id).unwrap().state
    }

    /// The kinds of evidence there are, the oldest first.
    pub fn evidence(&self, thing: &Thing) -> Vec<String> {
        self.service.evidence(&self.owner, &thing.id).unwrap().entries.into_iter().rev().map(|e| e.kind).collect()
    }

    /// Waits until the audit has it: refusals are written soon, and after the answer.
    pub async fn until_audited(&self, action: &str, object: &DeviceId, reason: &str) {
        let wanted = (object.to_string(), reason.to_owned());
        let waiting = async {
            while !self.audited(action).contains(&wanted) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it is audited");
    }

    /// Object and reason of every entry of this kind.
    pub fn audited(&self, action: &str) -> Vec<(String, String)> {
        let entries = self.service.audit(&self.owner, None, 500).unwrap();
        entries.into_iter().filter(|e| e.event.action == action).map(|e| (e.event.object, e.event.reason)).collect()
    }
}

impl Thing {
    pub fn topic(&self, place: &str) -> String {
        format!("things/{}/{place}", self.id)
    }

    /// A copy, bit by bit, that is switched on somewhere else.
    pub fn copy(&self) -> Thing {
        let instance = self.instance.map(|i| i.map(|b| b.wrapping_add(100)));
        Thing { instance, ip: "192.168.1.66", ..self.clone() }
    }

    async fn listen(self, mut client: Client<DuplexStream>) -> Option<u8> {
        loop {
            match client.next().await {
                Ok(Event::Publish(Publish { topic, payload, .. })) if *topic == *self.topic("proof/challenge") => {
                    let answer = self.keys.alive_answer(&payload, &self.instance.unwrap()).unwrap();
                    let message = Message::new(self.topic("proof/response"), answer, Qos::AtMostOnce);
                    let _ = client.publish(&message).await;
                }
                Ok(_) => {}
                Err(Error::Closed(closed)) => return closed.code,
                Err(_) => return None,
            }
        }
    }
}

impl Line {
    /// Waits until the hub has ended it; the code it gave.
    pub async fn ended(self) -> Option<u8> {
        self.serving.await.unwrap();
        match self.end {
            End::Lives(living) => living.await.unwrap(),
            End::Held { .. } => None,
        }
    }

    /// Pulls the plug at this end.
    pub async fn leave(self) {
        match self.end {
            End::Lives(living) => living.abort(),
            End::Held { _client } => drop(_client),
        }
        self.serving.await.unwrap();
    }
}

/// Subscribes as the firmware does; an error when the hub has ended the connection, as after a re-base.
async fn settle_in(thing: &mut Thing, client: &mut Client<DuplexStream>) -> Result<(), Error> {
    if thing.secret.is_none() {
        client.subscribe(&[(&thing.topic("rebase/challenge"), Qos::AtLeastOnce)]).await?;
        client.ping().await?;
        if let Some(challenge) = client.receive(SHORT).await? {
            let (counter, answer) = thing.keys.rebase_answer(&challenge.payload, thing.counter).unwrap();
            thing.counter = counter;
            client.publish(&Message::new(thing.topic("rebase/response"), answer, Qos::AtMostOnce)).await?;
            loop {
                client.next().await?;
            }
        }
    }
    if thing.instance.is_some() {
        client.subscribe(&[(&thing.topic("proof/challenge"), Qos::AtMostOnce)]).await?;
    }
    Ok(())
}

async fn serve(store: Store, clock: &Arc<TestClock>, hub: HubIdentity, parting_ms: u64) -> (Arc<Service>, Arc<Broker>) {
    let service = Service::new(store, clock.clone(), hub).await.unwrap();
    let broker = Broker::new(service.clone(), Config { parting_ms, ..Config::default() }).unwrap();
    service.connect(&broker);
    (service, broker)
}

const PASSWORD: &str = "correct horse battery";

fn new_user(name: &str, role: Role) -> NewUser {
    NewUser { username: name.into(), password: PASSWORD.to_owned().into(), display_name: String::new(), role }
}

/// Different for every token: two things with one counter do not make the identical token.
fn nonce() -> [u8; 16] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    nonce
}
