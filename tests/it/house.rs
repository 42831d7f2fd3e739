//! A house for tests and benchmarks: a maker's workshop, a hub in a directory of its own on free ports, an owner, and
//! as many devices as asked for, known to the hub.

use hearthkey::domain::account::Role;
use hearthkey::domain::ids::{BrandId, DeviceId, ModelName};
use hearthkey::factory::{MintOptions, Minted, RunChoice, SAMPLES, Workshop};
use hearthkey::hub::{BoxClock, Config, Hub};
use hearthkey::service::{Actor, NewUser, SetupRequest};
use hearthkey::sim::identity::{DeviceSecret, HubId, HubKeys};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Error, Version};
use hearthkey::sim::tls::{Address, Security, Stream, Trust, dial};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

pub const BRAND: &str = "acme";
pub const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(10);

/// A house with everything in it.
pub struct House {
    pub hub: Hub,
    pub dir: TempDir,
    pub workshop: Workshop,
    pub brand: BrandId,
    pub owner: Actor,
    pub owner_token: String,
}

/// What kind of house.
pub struct HouseOptions {
    /// Whether it has its first owner.
    pub owner: bool,
    /// What is set differently.
    pub set: Box<dyn FnOnce(&mut Config) + Send>,
    /// The clocks of its box, when they are not the machine's.
    pub clock: Option<Arc<dyn BoxClock>>,
}

impl Default for HouseOptions {
    fn default() -> Self {
        HouseOptions { owner: true, set: Box::new(|_| {}), clock: None }
    }
}

/// A device as its maker made it.
pub struct Device {
    pub id: DeviceId,
    pub minted: Minted,
    pub keys: HubKeys,
    pub code: String,
    counter: AtomicU64,
}

/// A configuration on free loopback ports.
pub fn config(dir: &TempDir) -> Config {
    let free = SocketAddr::new(HERE, 0);
    let mut config = Config { data_dir: dir.path().join("hub"), attempts_per_minute: 1_000_000, ..Config::default() };
    for listen in [&mut config.https, &mut config.http, &mut config.mqtts, &mut config.mqtt] {
        listen.address = free;
        listen.enabled = true;
    }
    // Whatever radio the machine has is not the tests'.
    config.bluetooth.enabled = false;
    // The machines that tests run on know the time, though nothing on them may say so.
    config.clock.trusted = true;
    config.mdns.enabled = false;
    config
}

impl House {
    /// An empty house with an owner, in which the sample brand is trusted.
    pub async fn new() -> House {
        House::with(|_| {}).await
    }

    /// The same, with settings changed.
    pub async fn with(set: impl FnOnce(&mut Config) + Send + 'static) -> House {
        House::build(HouseOptions { set: Box::new(set), ..HouseOptions::default() }).await
    }

    /// A house as the options say.
    pub async fn build(options: HouseOptions) -> House {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir);
        (options.set)(&mut config);
        let hub = match options.clock {
            Some(clock) => Hub::start_by(config, clock).await.unwrap(),
            None => Hub::start(config).await.unwrap(),
        };
        let workshop = Workshop::open(dir.path().join("factory")).unwrap();
        let brand = BrandId::parse(BRAND).unwrap();
        let made = workshop.new_brand(&brand).unwrap();
        for sample in SAMPLES {
            workshop.add_model(&brand, sample.json).unwrap();
        }
        let service = hub.service();
        service.trust_brand(&Actor::console(), brand.clone(), &made.fingerprint.to_string()).await.unwrap();
        let mut owner = Actor::console();
        let mut owner_token = String::new();
        if options.owner {
            let user = NewUser {
                username: "olivia".into(),
                password: "correct horse battery".to_owned().into(),
                display_name: String::new(),
                role: Role::Owner,
            };
            let request = SetupRequest { code: hub.setup_code.clone().unwrap(), user };
            let opened = service.set_up(request, HERE, "test").await.unwrap();
            owner = service.actor(&opened.token, "test", HERE).unwrap();
            owner_token = opened.token.reveal().to_owned();
        }
        House { hub, dir, workshop, brand, owner, owner_token }
    }

    /// Mints devices of a sample model, and lets the hub know them.
    pub async fn devices(&self, model: &str, count: u64) -> Vec<Device> {
        let model = ModelName::parse(model).unwrap();
        let run = self.workshop.mint(&self.brand, &model, count, &MintOptions::default(), &()).unwrap();
        let file = self.dir.path().join(format!("{}.hkb", run.run));
        let request = &self.hub.identity().request_line;
        self.workshop.batch(&self.brand, &RunChoice::One(run.run.clone()), request, &file, &()).unwrap();
        self.hub.service().import_batch(&self.owner, file).await.unwrap();
        run.devices().map(|minted| self.as_device(minted.unwrap())).collect()
    }

    /// A minted device as it behaves towards this hub, whether the hub knows it or not.
    pub fn as_device(&self, minted: Minted) -> Device {
        let hub: HubId = self.hub.identity().id.to_string().parse().unwrap();
        let secret = DeviceSecret::read(&minted.secret).unwrap();
        let code = secret.claim_qr();
        Device { id: minted.device_id.clone(), keys: secret.for_hub(hub), code, minted, counter: AtomicU64::new(0) }
    }

    /// The hub's CA certificate as a PEM file, for clients that read one.
    pub fn ca_file(&self) -> std::path::PathBuf {
        let path = self.dir.path().join("ca.pem");
        let base64 = data_encoding::BASE64_MIME.encode(&self.hub.identity().ca_der);
        std::fs::write(&path, format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64.trim())).unwrap();
        path
    }

    /// Mints one device and lets the hub know it.
    pub async fn device(&self, model: &str) -> Device {
        self.devices(model, 1).await.remove(0)
    }

    /// The owner claims a device by its code.
    pub async fn claim(&self, device: &Device) {
        self.hub.service().claim(&self.owner, &device.code, None, "", "").await.unwrap();
    }

    /// Adds a person and signs it in: its actor and its token.
    pub async fn person(&self, name: &str, role: Role) -> (Actor, String) {
        let password = "another long password";
        let new = NewUser { username: name.into(), password: password.to_owned().into(), display_name: String::new(), role };
        self.hub.service().add_user(&self.owner, new).await.unwrap();
        let opened = self.hub.service().sign_in_person(name, password.to_owned().into(), HERE, "test").await.unwrap();
        (self.hub.service().actor(&opened.token, "test", HERE).unwrap(), opened.token.reveal().to_owned())
    }

    /// A call of the REST API: status and body.
    pub async fn http(&self, method: &str, path: &str, token: &str, body: Option<serde_json::Value>) -> (u16, serde_json::Value) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = reqwest::Certificate::from_der(&self.hub.identity().ca_der).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
        let url = format!("https://localhost:{}/api/v1{path}", self.hub.addresses.https.unwrap().port());
        let mut request = client.request(method.parse().unwrap(), url);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Connects to MQTT over TLS as whoever the options say.
    pub async fn connect(&self, options: &ConnectOptions) -> Result<Client<Stream>, Error> {
        let (stream, _) = self.dial(Trust::FirstUse).await;
        Client::connect(stream, options).await
    }

    /// A TLS (or plain) connection to the gate, and the hash of the key it showed.
    pub async fn dial(&self, trust: Trust) -> (Stream, Option<[u8; 32]>) {
        let plain = matches!(trust, Trust::Plain);
        let address = if plain { self.hub.addresses.mqtt } else { self.hub.addresses.mqtts }.unwrap();
        let address: Address = address.to_string().parse().unwrap();
        let connection = dial(&address, &Security { trust, client: None }, PATIENCE).await.unwrap();
        (connection.stream, connection.spki)
    }

    /// Connects a device with its next counter token.
    pub async fn connect_device(&self, device: &Device) -> Client<Stream> {
        self.try_device(device, Version::V5, device.next_counter()).await.unwrap()
    }

    /// The same in a version and with a counter of choice.
    pub async fn try_device(&self, device: &Device, version: Version, counter: u64) -> Result<Client<Stream>, Error> {
        let (stream, spki) = self.dial(Trust::FirstUse).await;
        let password = device.keys.token(counter, &[7; 16], &spki.unwrap());
        let options = ConnectOptions::new("test").credentials(device.id.as_str(), password).version(version);
        Client::connect(stream, &options).await
    }

    /// Connects the owner, as a person over MQTT.
    pub async fn connect_person(&self, name: &str, token: &str) -> Result<Client<Stream>, Error> {
        self.connect(&ConnectOptions::new("person").credentials(format!("user:{name}"), token)).await
    }
}

impl Device {
    /// The counter of the next token.
    pub fn next_counter(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A topic in the device's room.
    pub fn topic(&self, place: &str) -> String {
        format!("things/{}/{place}", self.id)
    }
}
