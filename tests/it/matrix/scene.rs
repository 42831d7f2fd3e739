//! The house of the matrix: six rooms, and everybody who tries to get into them.

use super::watch::{Watcher, watch};
use crate::house::{Device, House, HouseOptions};
use crate::remotes::ready;
use crate::{apps, listed, support};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::hub::{BoxClock, ClockConfig, SystemBox};
use hearthkey::service::{Grant, Recipient};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Qos};
use hearthkey::sim::tls::{Stream, Trust};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// From where programs and a maker's people may come.
pub const LISTED: &str = "127.0.0.0/8";
pub const HERE: &str = "127.0.0.1";
pub const HOUR: u64 = 3_600_000;

/// The clock of the machine, put forward when a test wants something to be over.
pub struct Forward {
    machine: SystemBox,
    by: AtomicU64,
}

impl Forward {
    /// This much more time has passed.
    pub fn pass(&self, ms: u64) {
        self.by.fetch_add(ms, Ordering::SeqCst);
    }
}

impl BoxClock for Forward {
    fn wall_ms(&self) -> u64 {
        self.machine.wall_ms() + self.by.load(Ordering::SeqCst)
    }
    fn monotonic_ms(&self) -> u64 {
        self.machine.monotonic_ms() + self.by.load(Ordering::SeqCst)
    }
    fn is_synchronised(&self) -> bool {
        true
    }
}

/// A house whose clock can be put forward.
pub async fn house() -> (House, Arc<Forward>) {
    let clock = Arc::new(Forward { machine: SystemBox::new(&ClockConfig::default()), by: AtomicU64::new(0) });
    (House::build(HouseOptions { clock: Some(clock.clone()), ..HouseOptions::default() }).await, clock)
}

/// The devices, by the names of their rooms in the matrix.
pub struct Rooms {
    pub d: Device,
    pub g: Device,
    pub n: Device,
    pub r: Device,
    pub t: Device,
    pub w: Device,
}

impl Rooms {
    fn all(&self) -> [(char, &Device); 6] {
        [('D', &self.d), ('G', &self.g), ('N', &self.n), ('R', &self.r), ('T', &self.t), ('W', &self.w)]
    }

    /// The name of the room of the device with this id.
    pub fn name(&self, id: &str) -> Option<char> {
        self.all().into_iter().find(|(_, device)| device.id.as_str() == id).map(|(name, _)| name)
    }

    fn of(&self, name: char) -> &Device {
        self.all().into_iter().find(|(n, _)| *n == name).map(|(_, device)| device).unwrap()
    }
}

/// One who tries: a column of the matrix.
pub struct Subject {
    pub name: &'static str,
    pub username: String,
    /// The room of the device it is.
    pub device: Option<char>,
    key: Key,
}

/// With what somebody signs in.
enum Key {
    Word(String),
    /// Counter tokens, beginning with this one.
    Counter(u64),
}

impl Subject {
    /// Fits every place: a shadow request, a command, its result, a hello.
    pub fn payload(&self, marker: &str) -> String {
        // A device may write both; one that acts on another writes what anybody writes.
        let section = if self.device.is_some_and(|room| room != 'T') { "reported" } else { "desired" };
        json!({"marker": marker, "clientToken": marker, "state": {section: {}}, "id": marker, "status": "done", "args": {},
               "nonce": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})
        .to_string()
    }
}

pub struct Scene {
    pub house: House,
    pub rooms: Rooms,
    pub subjects: Vec<Subject>,
    secrets: Vec<(char, String)>,
    nora: String,
}

impl Scene {
    pub async fn new() -> Scene {
        let (house, clock) = house().await;
        let ((d, d_secret), (t, t_secret)) = (ready(&house, "lamp", "Lamp").await, ready(&house, "lamp", "Remote").await);
        let (g, g_secret) = ready(&house, "garage-door", "Door").await;
        let mut lamps = house.devices("lamp", 3).await;
        let (n, r, w) = (lamps.pop().unwrap(), lamps.pop().unwrap(), lamps.pop().unwrap());
        let rooms = Rooms { d, g, n, r, t, w };
        let (nora, nora_token) = house.person("nora", Role::Member).await;
        house.hub.service().claim(&nora, &rooms.n.code, None, "", "").await.unwrap();
        let mut scene = Scene { house, rooms, subjects: Vec::new(), secrets: Vec::new(), nora: nora_token };
        scene.secrets = vec![('D', d_secret.clone()), ('G', g_secret), ('T', t_secret.clone())];
        scene.add_device("claimed", 'D', Key::Word(d_secret));
        scene.add_device("waiting", 'W', Key::Counter(100));
        scene.add_device("rebase", 'R', Key::Counter(1));
        scene.add_device("remote", 'T', Key::Word(t_secret));
        scene.bind(Recipient::Device(scene.rooms.t.id.clone()), Terms::of(Privilege::Operate)).await;
        scene.add_people(&clock).await;
        scene.add_programs().await;
        scene.add_support().await;
        scene
    }

    fn add(&mut self, name: &'static str, username: String, word: String) {
        self.subjects.push(Subject { name, username, device: None, key: Key::Word(word) });
    }

    fn add_device(&mut self, name: &'static str, room: char, key: Key) {
        let username = self.rooms.of(room).id.to_string();
        self.subjects.push(Subject { name, username, device: Some(room), key });
    }

    /// The owner binds somebody to D.
    async fn bind(&self, to: Recipient, terms: Terms) {
        self.house.hub.service().grant(&self.house.owner, &self.rooms.d.id, Grant { to, terms }).await.unwrap();
    }

    async fn add_people(&mut self, clock: &Forward) {
        let now = self.house.hub.service().now();
        let over = self.house.person("emil", Role::Guest).await.1;
        self.bind(Recipient::Person("emil".into()), Terms { until: Some(now + HOUR), ..Terms::of(Privilege::Operate) }).await;
        clock.pass(2 * HOUR);
        self.add("expired", "user:emil".into(), over);
        self.add("owner", "user:olivia".into(), self.house.owner_token.clone());
        let operate = || Terms::of(Privilege::Operate);
        let only = ["on", "identify"].map(str::to_owned).into();
        let windows = vec![another_day(now)];
        for (subject, name, role, terms) in [
            ("viewer", "vera", Role::Guest, Some(Terms::of(Privilege::View))),
            ("operator", "otto", Role::Guest, Some(operate())),
            ("manager", "mona", Role::Member, Some(Terms::of(Privilege::Manage))),
            ("member", "max", Role::Member, None),
            ("guest", "greta", Role::Guest, None),
            ("part", "paul", Role::Guest, Some(Terms { only: Some(only), ..operate() })),
            ("window", "wanda", Role::Guest, Some(Terms { windows, ..operate() })),
        ] {
            let token = self.house.person(name, role).await.1;
            if let Some(terms) = terms {
                self.bind(Recipient::Person(name.into()), terms).await;
            }
            self.add(subject, format!("user:{name}"), token);
        }
    }

    async fn add_programs(&mut self) {
        for (name, device, privilege) in [("app", &self.rooms.d, "view"), ("door-app", &self.rooms.g, "operate")] {
            let (id, token) = apps::token(&self.house, &self.house.owner_token, device, privilege).await;
            self.subjects.push(Subject { name, username: format!("app:{id}"), device: None, key: Key::Word(token) });
        }
        for (name, privilege) in [("service", "view"), ("worker", "operate")] {
            let (id, secret) = listed::service(&self.house, &[LISTED]).await;
            listed::bind(&self.house, &self.rooms.d, &id, privilege).await;
            let token = listed::token(&self.house, HERE, &id, &secret).await.unwrap();
            self.add(name, format!("service:{id}"), token);
        }
    }

    async fn add_support(&mut self) {
        for (name, who) in [("support", "sam"), ("outsider", "oscar")] {
            let (_, token) = support::vendor(&self.house, who, "support", "acme").await;
            let session = support::opened(&self.house, who, &[&self.rooms.d], "operate").await;
            if name == "outsider" {
                let ended = self.house.http("DELETE", &format!("/support/{session}"), &self.house.owner_token, None).await;
                assert_eq!(ended.0, 204);
            }
            self.add(name, format!("user:{who}"), token);
        }
    }

    /// The topic of a line for one of the subjects.
    pub fn topic(&self, text: &str, subject: usize) -> String {
        let Rooms { d, g, n, t, .. } = &self.rooms;
        let own = match self.subjects[subject].device {
            Some(room) if room != 'T' => self.rooms.of(room),
            _ => d,
        };
        [("{own}", own), ("{other}", n), ("{door}", g), ("{remote}", t)]
            .iter()
            .fold(text.to_owned(), |text, (name, device)| text.replace(name, device.id.as_str()))
    }

    /// With what this subject signs in again and again: one password for all times, or one for each.
    pub fn passwords(&self, who: &Subject) -> Vec<String> {
        match &who.key {
            Key::Word(word) => vec![word.clone()],
            Key::Counter(first) => tokens(self.rooms.of(who.device.unwrap()), *first..6_000, 1),
        }
    }

    /// With what it signs in once more after that, the `number`th time.
    pub fn password(&self, who: &Subject, number: u64) -> String {
        match &who.key {
            Key::Word(word) => word.clone(),
            Key::Counter(_) => tokens(self.rooms.of(who.device.unwrap()), 10_000 + number..10_001 + number, 2).remove(0),
        }
    }

    /// The devices whose telemetry a subscriber may hear.
    pub fn probers(&self) -> Vec<Value> {
        let passwords = |room: char| match self.secrets.iter().find(|(name, _)| *name == room) {
            Some((_, secret)) => vec![secret.clone()],
            None => tokens(self.rooms.of(room), 50..52, 1),
        };
        let prober = |room: char| {
            let device = self.rooms.of(room);
            json!({"name": room, "room": room, "topic": device.topic("probe"), "client_id": "prober", "username": device.id, "passwords": passwords(room)})
        };
        ['D', 'G', 'N', 'T', 'W'].map(prober).into()
    }

    /// A watcher's connection. They hear thousands of messages: without TLS.
    async fn connect(&self, username: &str, password: &str) -> Client<Stream> {
        let (stream, _) = self.house.dial(Trust::Plain).await;
        Client::connect(stream, &ConnectOptions::new("watcher").credentials(username, password)).await.unwrap()
    }

    /// Everybody who may hear of something, and everybody else who can sign in, with their ears open.
    pub async fn watchers(&self) -> Vec<Watcher> {
        let mut watchers = Vec::new();
        for (room, name) in [('D', "D"), ('G', "G"), ('N', "N"), ('T', "T"), ('W', "W")] {
            let device = self.rooms.of(room);
            let token = device.keys.token(device.next_counter(), &[7; 16], &[]);
            let mut client = self.connect(device.id.as_str(), &token).await;
            listen(&mut client, device).await;
            if room == 'T' {
                listen(&mut client, &self.rooms.d).await;
            }
            watchers.push(watch(name, client, Some(device.topic(""))));
        }
        let named = self.subjects.iter().filter(|s| s.device.is_none()).map(|s| (s.name, s.username.as_str(), &s.key));
        let nora = Key::Word(self.nora.clone());
        for (name, username, key) in named.chain([("nora", "user:nora", &nora)]) {
            let Key::Word(token) = key else { continue };
            let mut client = self.connect(username, token).await;
            client.subscribe(&[("#", Qos::ExactlyOnce), ("$aws/#", Qos::ExactlyOnce)]).await.unwrap();
            watchers.push(watch(name, client, None));
        }
        watchers
    }
}

/// A device listens to all of a room.
async fn listen(client: &mut Client<Stream>, room: &Device) {
    let (all, aws) = (room.topic("#"), format!("$aws/things/{}/shadow/#", room.id));
    let granted = client.subscribe(&[(&all, Qos::ExactlyOnce), (&aws, Qos::ExactlyOnce)]).await.unwrap();
    assert_eq!(granted, [2, 2], "{}", room.id);
}

fn tokens(device: &Device, counters: std::ops::Range<u64>, nonce: u8) -> Vec<String> {
    counters.map(|c| device.keys.token(c, &[nonce; 16], &[])).collect()
}

/// An hour of the week that is days away, on whichever wall.
fn another_day(now: u64) -> hearthkey::domain::time::Window {
    let then = jiff::Timestamp::from_millisecond(i64::try_from(now).unwrap()).unwrap() + Duration::from_secs(3 * 24 * 3600);
    let day = then.strftime("%a").to_string().to_lowercase();
    serde_json::from_value(json!({"days": [day], "from": "12:00", "to": "13:00"})).unwrap()
}
