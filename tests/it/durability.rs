//! What the hub has acknowledged survives its sudden death: it runs as a process of its own, is killed in the middle of
//! many writers' work, starts again on the same directory, and is asked.

use crate::faults::{chance, rounds, tell};
use crate::house::{Device, HERE, House, config};
use hearthkey::hub::Hub;
use hearthkey::sim::mqtt::{Client, ConnectOptions, Error, Message, Qos};
use hearthkey::sim::tls::{Address, Security, Stream, Trust, dial};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

const SHORT: Duration = Duration::from_secs(10);
const WRITERS: u64 = 6;

/// A hub in a process of its own.
pub struct Process {
    child: Child,
    pub mqtt: Address,
    pub mqtts: Address,
    /// Which hub it is.
    pub hub: String,
    pub plain: SocketAddr,
    pub https: SocketAddr,
}

impl Process {
    pub async fn start(data_dir: &Path) -> Process {
        Process::by(Process::command(data_dir)).await
    }

    /// How it is started, for whoever wants it otherwise.
    pub fn command(data_dir: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearthkey"));
        command.env("HEARTHKEY_MDNS__ENABLED", "false");
        command.args(["hub", "--announce-json", "--log", "error", "--data-dir"]).arg(data_dir);
        command.env("HEARTHKEY_BLUETOOTH__ENABLED", "false");
        for listener in ["--https", "--http", "--mqtts", "--mqtt"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        command.env("HEARTHKEY_ATTEMPTS_PER_MINUTE", "1000000");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// What it says when it has started: also in recovery mode.
    pub async fn said(mut command: Command) -> (Child, Value) {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let said = serde_json::from_str(&line).unwrap_or_else(|e| panic!("the hub said `{line}`: {e}"));
        (child, said)
    }

    /// Started by this command, it serves.
    pub async fn by(command: Command) -> Process {
        let (child, said) = Process::said(command).await;
        assert!(said["recovery_mode"].is_null(), "{said}");
        assert_eq!(said["setup_code"], Value::Null, "it has forgotten its owner");
        let plain = said["mqtt"].as_str().unwrap();
        let https = said["https"].as_str().unwrap().parse().unwrap();
        let mqtts = said["mqtts"].as_str().unwrap().parse().unwrap();
        let hub = said["hub_id"].as_str().unwrap().to_owned();
        Process { child, mqtts, hub, mqtt: plain.parse().unwrap(), plain: plain.parse().unwrap(), https }
    }

    pub async fn connect(&self, options: &ConnectOptions) -> Result<Client<Stream>, Error> {
        connect(&self.mqtt, options).await
    }

    /// A device signs in over TLS with its next counter; and the hash of the key that the hub has shown.
    pub async fn tls(&self, device: &Device, trust: Trust) -> (Result<Client<Stream>, Error>, Option<[u8; 32]>) {
        let Ok(connection) = dial(&self.mqtts, &Security { trust, client: None }, SHORT).await else {
            return (Err(Error::Closed(Default::default())), None);
        };
        let password = device.keys.token(device.next_counter(), &[6; 16], &connection.spki.unwrap());
        let options = ConnectOptions::new("device").credentials(device.id.as_str(), password);
        (Client::connect(connection.stream, &options).await, connection.spki)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// What it has in memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// SIGKILL: no signal handler, no last words.
    pub async fn die(mut self) {
        self.child.kill().await.unwrap();
    }
}

async fn connect(address: &Address, options: &ConnectOptions) -> Result<Client<Stream>, Error> {
    let connection =
        dial(address, &Security { trust: Trust::Plain, client: None }, SHORT).await.map_err(|_| Error::Closed(Default::default()))?;
    Client::connect(connection.stream, options).await
}

/// One device that writes as fast as it is answered, and what it has been promised.
pub struct Writer {
    pub device: Device,
    /// The password of the last sign-in that was accepted, and its counter.
    password: String,
    counter: u64,
    /// The highest number whose update was acknowledged and accepted.
    updated: u64,
    /// The highest number whose retained message was acknowledged.
    kept: u64,
    /// The highest number that was sent at all.
    sent: u64,
}

impl Writer {
    pub fn new(device: Device) -> Writer {
        Writer { device, password: String::new(), counter: 0, updated: 0, kept: 0, sent: 0 }
    }

    /// How many of its updates were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.updated
    }

    fn log(&self) -> String {
        self.device.topic("shadow/name/log/update")
    }

    async fn sign_in(&mut self, address: &Address) -> Result<Client<Stream>, Error> {
        let counter = self.device.next_counter();
        let password = self.device.keys.token(counter, &[8; 16], &[]);
        let client = connect(address, &ConnectOptions::new("writer").credentials(self.device.id.as_str(), password.as_str())).await?;
        (self.password, self.counter) = (password, counter);
        Ok(client)
    }

    /// Works until the hub is gone.
    pub async fn work(mut self, address: Address, acknowledged: Arc<Semaphore>) -> Writer {
        let _ = self.try_work(&address, &acknowledged).await;
        self
    }

    async fn try_work(&mut self, address: &Address, acknowledged: &Semaphore) -> Result<(), Error> {
        let (update, kept) = (self.log(), self.device.topic("kept"));
        loop {
            let mut client = self.sign_in(address).await?;
            client.subscribe(&[(&format!("{update}/accepted"), Qos::AtLeastOnce)]).await?;
            for _ in 0..20 {
                self.sent += 1;
                let body = json!({"state": {"reported": {"n": self.sent}}}).to_string();
                client.publish(&Message::new(&*update, body, Qos::AtLeastOnce)).await?;
                let accepted = client.receive(SHORT).await?.expect("an answer");
                let accepted: Value = serde_json::from_slice(&accepted.payload).unwrap();
                assert_eq!(accepted["state"]["reported"]["n"], self.sent);
                self.updated = self.sent;
                acknowledged.add_permits(1);
            }
            let retained = Message { retain: true, ..Message::new(&*kept, self.sent.to_string(), Qos::AtLeastOnce) };
            client.publish(&retained).await?;
            self.kept = self.sent;
            client.disconnect(0).await?;
        }
    }

    /// Asks the hub for all that it has promised.
    pub async fn check(&mut self, hub: &Process) {
        if self.counter == 0 {
            return;
        }
        let id = self.device.id.clone();
        let who = id.as_str();
        // A token used before the death is a replay after it, and its counter is used up: at most it opens a session
        // that may only re-base.
        let same = self.device.keys.token(self.counter, &[9; 16], &[]);
        for used in [self.password.as_str(), same.as_str()] {
            match hub.connect(&ConnectOptions::new("thief").credentials(who, used)).await {
                Err(Error::Refused(connack)) => assert_eq!(connack.code, 0x86),
                Err(other) => panic!("{who}: {other}"),
                Ok(mut lost) => {
                    let granted = lost.subscribe(&[(&self.device.topic("#"), Qos::AtMostOnce)]).await;
                    assert!(!matches!(granted.as_deref(), Ok([0])), "{who}: the counter went back");
                }
            }
        }
        let mut client = self.sign_in(&hub.mqtt).await.unwrap();
        let get = self.device.topic("shadow/name/log/get");
        client.subscribe(&[(&format!("{get}/accepted"), Qos::AtLeastOnce)]).await.unwrap();
        client.publish(&Message::new(get, "{}", Qos::AtLeastOnce)).await.unwrap();
        let twin: Value = serde_json::from_slice(&client.receive(SHORT).await.unwrap().expect("a twin").payload).unwrap();
        let (n, version) = (twin["state"]["reported"]["n"].as_u64().unwrap(), twin["version"].as_u64().unwrap());
        assert!((self.updated..=self.sent).contains(&n), "{who}: acknowledged {}, sent {}, found {n}", self.updated, self.sent);
        // What was under way when it died is there or not; what was not goes out again under its number.
        self.sent = n;
        assert_eq!(version, n, "{who}: an update was counted twice or not at all");
        client.subscribe(&[(&self.device.topic("kept"), Qos::AtLeastOnce)]).await.unwrap();
        let kept = if self.kept > 0 { client.receive(SHORT).await.unwrap() } else { None };
        let kept = kept.map_or(0, |m| std::str::from_utf8(&m.payload).unwrap().parse().unwrap());
        assert!(kept >= self.kept, "{who}: kept {}, found {kept}", self.kept);
        client.disconnect(0).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_sudden_death_and_no_counter_goes_back() {
    let (mut chance, rounds) = (chance(), rounds(12));
    let house = House::new().await;
    let devices = house.devices("lamp", WRITERS).await;
    for device in &devices {
        house.claim(device).await;
    }
    let House { hub, dir, owner_token, .. } = house;
    hub.shut_down().await;
    let data = dir.path().join("hub");
    let mut writers: Vec<Writer> = devices.into_iter().map(Writer::new).collect();
    for _ in 0..rounds {
        let process = Process::start(&data).await;
        for writer in &mut writers {
            writer.check(&process).await;
        }
        let person = ConnectOptions::new("person").credentials("user:olivia", owner_token.as_str());
        process.connect(&person).await.expect("the owner's session did not survive");
        let acknowledged = Arc::new(Semaphore::new(0));
        let working: Vec<_> = writers.drain(..).map(|w| tokio::spawn(w.work(process.mqtt.clone(), acknowledged.clone()))).collect();
        // It dies at a moment that nobody has chosen: somewhere within the next acknowledgements.
        acknowledged.acquire_many(30 + chance.below(300) as u32).await.unwrap().forget();
        process.die().await;
        for writer in working {
            writers.push(writer.await.unwrap());
        }
    }
    let process = Process::start(&data).await;
    for writer in &mut writers {
        writer.check(&process).await;
    }
    process.die().await;
    let (updates, sign_ins): (u64, u64) =
        writers.iter().map(|writer| (writer.acknowledged(), writer.counter)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    tell(&json!({"deaths": rounds, "updates": updates, "sign-ins": sign_ins}).to_string());
    // The audit's chain holds over all these deaths.
    let mut settings = config(&dir);
    settings.data_dir = data;
    let hub = Hub::start(settings).await.unwrap();
    assert!(hub.service().verify_audit().unwrap().entries > WRITERS);
    let owner = hub.service().actor(&hearthkey::service::SessionToken::new(&owner_token), "test", HERE).unwrap();
    assert_eq!(hub.service().devices(&owner).unwrap().len() as u64, WRITERS);
    hub.shut_down().await;
}
