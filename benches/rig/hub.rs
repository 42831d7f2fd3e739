//! A hub with devices in it, seeded once in this process, and then run as the program that is shipped.

use super::house::{Device, House};
use super::load::Login;
use super::process::{Group, Process};
use super::report::say;
use futures_util::StreamExt;
use hearthkey::sim::identity::{DeviceSecret, HubId};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Message, Qos};
use hearthkey::sim::tls::{Address, Security, Stream, Trust, dial};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hearthkey");
/// Sign-ins at the same time.
const AT_ONCE: usize = 16;

/// Who may come in, by user name and password.
#[derive(Clone)]
pub struct Credentials {
    /// A person who may see every device.
    pub person: (String, String),
    /// Devices.
    pub devices: Vec<(String, String)>,
}

impl Credentials {
    /// A connection of the person.
    pub fn person(&self, client_id: &str) -> Login {
        Login { client_id: client_id.into(), username: self.person.0.clone(), password: self.person.1.clone() }
    }

    /// A connection of a device.
    pub fn device(&self, index: usize, client_id: &str) -> Login {
        let (username, password) = self.devices[index].clone();
        Login { client_id: client_id.into(), username, password }
    }

    /// The topic of a device's load.
    pub fn topic(&self, index: usize) -> String {
        format!("things/{}/bench", self.devices[index].0)
    }
}

/// A data directory that a hub can be started on, and who may sign in there.
pub struct Seeded {
    /// Everything lies below it.
    _root: TempDir,
    /// The workshop's and the hub's directories.
    pub dir: PathBuf,
    /// Who may come in with a password.
    pub who: Credentials,
    /// Ids of the devices and their secret files.
    pub devices: Vec<(String, PathBuf)>,
    /// The hub's id.
    pub hub_id: String,
}

/// The argument by which a benchmark's program is told to make a house and nothing else.
const SEED: &str = "--seed-a-house";

/// Makes a house with `devices` lamps, of which the first `claimed` are the owner's and have a password. A process of
/// its own makes it: only a process that has ended has surely let go of the store.
pub fn seed(devices: u64, claimed: usize) -> Seeded {
    let root = tempfile::tempdir().expect("a directory");
    let made = Command::new(std::env::current_exe().expect("this program"))
        .args([SEED, &devices.to_string(), &claimed.to_string()])
        .env("TMPDIR", root.path())
        .output()
        .expect("a house");
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    let made: Made =
        serde_json::from_str(said.trim()).unwrap_or_else(|e| panic!("no house was made: {e}: {}", String::from_utf8_lossy(&made.stderr)));
    let Made { dir, hub_id, token, secrets, devices } = made;
    Seeded { _root: root, dir, hub_id, devices, who: Credentials { person: ("user:olivia".to_owned(), token), devices: secrets } }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Made {
    dir: PathBuf,
    hub_id: String,
    token: String,
    secrets: Vec<(String, String)>,
    devices: Vec<(String, PathBuf)>,
}

/// Makes the house if this process was started for it; then there is nothing else to do.
pub fn was_to_seed() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(at) = arguments.iter().position(|a| a == SEED) else { return false };
    let number = |i: usize| arguments[at + i].parse::<usize>().expect("a number");
    let (devices, claimed) = (number(1), number(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let made = runtime.block_on(async {
        let house = House::new().await;
        let all = house.devices("lamp", devices as u64).await;
        let mut secrets = Vec::new();
        for device in all.iter().take(claimed) {
            house.claim(device).await;
            let secret = fetch_secret(&house, device).await;
            // The claim is complete when the device has come in with it.
            let options = ConnectOptions::new("seed").credentials(device.id.as_str(), secret.as_str());
            house.connect(&options).await.expect("a claimed device").disconnect(0).await.expect("a goodbye");
            secrets.push((device.id.to_string(), secret));
        }
        let House { hub, dir, owner_token, .. } = house;
        let hub_id = hub.identity().id.to_string();
        hub.shut_down().await;
        let devices = all.iter().map(|d| (d.id.to_string(), d.minted.secret.clone())).collect();
        Made { dir: dir.keep(), hub_id, token: owner_token, secrets, devices }
    });
    say(&serde_json::to_string(&made).expect("JSON"));
    true
}

async fn fetch_secret(house: &House, device: &Device) -> String {
    let mut client = house.connect_device(device).await;
    client.subscribe(&[(&device.topic("claim/credential"), Qos::AtLeastOnce)]).await.expect("a subscription");
    let nonce = [3u8; 24];
    let hello = serde_json::json!({"nonce": data_encoding::BASE64URL_NOPAD.encode(&nonce)}).to_string();
    client.publish(&Message::new(device.topic("claim/hello"), hello, Qos::AtLeastOnce)).await.expect("a hello");
    let message = client.receive(Duration::from_secs(10)).await.expect("a connection").expect("a credential");
    device.keys.open_credential(&message.payload, &nonce).expect("the device's credential").password().to_string()
}

/// A hub that runs, and how long it took to say that it serves.
pub struct Running {
    /// The process; its address is that of plain MQTT.
    pub process: Process,
    /// MQTT over TLS.
    pub mqtts: SocketAddr,
    /// The page and the API.
    pub https: SocketAddr,
    /// From the start of the program to its announcement.
    pub started_in: Duration,
}

impl Seeded {
    /// Runs the shipped program on the directory, with the quotas that a load generator needs lifted.
    pub fn start(&self) -> Running {
        self.start_by(&mut Command::new(PROGRAM))
    }

    /// The same, in a group of processes of the kernel ([`super::process::Group`]).
    pub fn start_in(&self, group: &Group) -> Running {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(group.processes()).arg(PROGRAM);
        self.start_by(&mut shell)
    }

    fn start_by(&self, program: &mut Command) -> Running {
        let any = "127.0.0.1:0";
        let began = Instant::now();
        let mut child = program
            .arg("hub")
            .arg("--data-dir")
            .arg(self.dir.join("hub"))
            .env("HEARTHKEY_MDNS__ENABLED", "false")
            .args(["--https", any, "--http", any, "--mqtts", any, "--mqtt", any, "--log", "warn", "--announce-json"])
            .env("HEARTHKEY_BROKER__MAX_CONNECTIONS_PER_PRINCIPAL", "100")
            .env("HEARTHKEY_BROKER__MAX_SESSIONS_PER_PRINCIPAL", "100")
            .env("HEARTHKEY_ATTEMPTS_PER_MINUTE", "10000000")
            .env("HEARTHKEY_MQTT__MAX_PER_IP", "4000")
            .env("HEARTHKEY_MQTTS__MAX_PER_IP", "4000")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the hub");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its announcement");
        let started_in = began.elapsed();
        let said: serde_json::Value = serde_json::from_str(&line).expect("an announcement in JSON");
        let address = |key: &str| said[key].as_str().and_then(|a| a.parse().ok()).expect("an address");
        Running { mqtts: address("mqtts"), https: address("https"), process: Process::new(child, address("mqtt")), started_in }
    }
    /// Signs every device in over TLS, in the order of the devices: by its password where it has been claimed, else by its own key.
    pub async fn connect_all(&self, hub: &Running) -> Vec<Client<Stream>> {
        let hub_id: HubId = self.hub_id.parse().expect("a hub's id");
        let one = |(at, (id, secret)): (usize, &(String, PathBuf))| {
            let keys = DeviceSecret::read(secret).expect("a device's secret").for_hub(hub_id);
            let (id, given, address) = (id.clone(), self.who.devices.get(at).map(|(_, password)| password.clone()), hub.mqtts);
            async move {
                let (stream, spki) = open(address).await;
                let password = given.unwrap_or_else(|| keys.token(1_000, &[7; 16], &spki));
                Client::connect(stream, &ConnectOptions::new("idle").credentials(id, password)).await.expect("a sign-in")
            }
        };
        futures_util::stream::iter(self.devices.iter().enumerate().map(one)).buffered(AT_ONCE).collect().await
    }
}

async fn open(address: SocketAddr) -> (Stream, [u8; 32]) {
    let address: Address = address.to_string().parse().expect("an address");
    let security = Security { trust: Trust::FirstUse, client: None };
    let connection = dial(&address, &security, Duration::from_secs(30)).await.expect("a TLS connection");
    (connection.stream, connection.spki.expect("a key"))
}
