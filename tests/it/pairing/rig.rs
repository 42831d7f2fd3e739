//! A house with a radio, and devices in the air around it.

use crate::house::{Device as Made, House};
use hearthkey::domain::ids::ModelName;
use hearthkey::factory::MintOptions;
use hearthkey::service::{Change, NewPairing, PairingView, RadioState, Refusal, SettingsChange, WifiWish};
use hearthkey::sim::bluez::{Air, Failing, Peripheral};
use hearthkey::sim::identity::DeviceSecret;
use hearthkey::sim::pairing::{Event, Front, Host, Options, Told, device};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The longest that anything may take: the slowest fault and then some, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(100);

pub const SSID: &str = "home";
pub const PHRASE: &str = "correct horse battery";

/// The house and the air.
pub struct Rig {
    pub air: Air,
    pub house: House,
    addresses: AtomicU32,
}

/// A simulated device with its flash on disk.
pub struct Simulated {
    pub made: Made,
    pub address: String,
    front: Option<Front>,
    flash: TempDir,
    events: mpsc::Receiver<Event>,
    end: CancellationToken,
    life: Option<JoinHandle<()>>,
}

pub fn home_wifi() -> WifiWish {
    WifiWish::given(SSID, PHRASE.to_owned().into()).unwrap()
}

impl Rig {
    pub async fn new(air: Air) -> Rig {
        let house = House::with(|config| config.bluetooth.enabled = true).await;
        let rig = Rig { air, house, addresses: AtomicU32::new(1) };
        rig.radio_is(RadioState::Ready).await;
        rig
    }

    /// Waits until something holds, looking again whenever the hub says that something has changed.
    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let mut changes = self.house.hub.service().changes();
        let waited = timeout(PATIENCE, async {
            while !holds() {
                // The air tells nothing: it is looked at now and then.
                let _ = timeout(Duration::from_millis(50), changes.recv()).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("in vain: {what}"));
    }

    pub async fn radio_is(&self, state: RadioState) {
        let service = self.house.hub.service();
        self.until(&format!("{state:?}"), || service.radio(&self.house.owner).unwrap().state == state).await;
    }

    /// A device that the hub's registry knows.
    pub async fn device(&self, set: impl FnOnce(&mut Options)) -> Simulated {
        self.simulate(self.house.device("lamp").await, set)
    }

    /// A device of which the hub knows nothing but its brand.
    pub fn stranger(&self, set: impl FnOnce(&mut Options)) -> Simulated {
        let model = ModelName::parse("lamp").unwrap();
        let run = self.house.workshop.mint(&self.house.brand, &model, 1, &MintOptions::default(), &()).unwrap();
        let minted = run.devices().next().unwrap().unwrap();
        let voucher = std::fs::read(&minted.voucher).unwrap();
        self.simulate(self.house.as_device(minted), |options| {
            options.voucher = Some(voucher);
            set(options);
        })
    }

    fn simulate(&self, made: Made, set: impl FnOnce(&mut Options)) -> Simulated {
        let flash = tempfile::tempdir().unwrap();
        let (front, events, end, life) = switched_on(&made, flash.path(), set);
        let number = self.addresses.fetch_add(1, Ordering::Relaxed);
        let address = format!("AA:BB:CC:00:{:02X}:{:02X}", number >> 8, number & 0xFF);
        Simulated { made, address, front: Some(front), flash, events, end, life: Some(life) }
    }

    /// Takes a device away and switches it on again: its flash is what it was, its faults are gone. It is to be placed anew.
    pub async fn switch_on_again(&self, device: &mut Simulated) {
        self.air.remove_device(&device.address).unwrap();
        device.end.cancel();
        device.life.take().unwrap().await.unwrap();
        let (front, events, end, life) = switched_on(&device.made, device.flash.path(), |_| {});
        (device.front, device.events, device.end, device.life) = (Some(front), events, end, Some(life));
    }

    /// Puts a device in reach.
    pub fn place(&self, device: &mut Simulated, mtu: u16) {
        self.place_failing(device, mtu, Failing::default());
    }

    pub fn place_failing(&self, device: &mut Simulated, mtu: u16, failing: Failing) {
        let front = Box::new(device.front.take().unwrap());
        let name = Some("Lamp".to_owned());
        let address = device.address.clone();
        self.air.add_device(Peripheral { name, address, mtu, rssi: -50, device: front, failing }).unwrap();
    }

    /// How the hub calls what it hears from the device.
    pub fn heard_as(&self, device: &Simulated) -> String {
        format!("ble-{}", device.address.replace(':', "").to_lowercase())
    }

    /// Begins a pairing by the device's label.
    pub async fn begin(&self, device: &Simulated) -> Result<PairingView, Refusal> {
        self.begin_with(device, home_wifi(), false).await
    }

    pub async fn begin_with(&self, device: &Simulated, wifi: WifiWish, choose: bool) -> Result<PairingView, Refusal> {
        let nearby = choose.then(|| self.heard_as(device));
        let new = NewPairing { code: Some(device.made.code.clone().into()), nearby, wifi, name: "Lamp".into(), ..NewPairing::default() };
        self.house.hub.service().begin_pairing(&self.house.owner, new).await
    }

    /// Pairs a device, to the end.
    pub async fn pair(&self, device: &Simulated) -> PairingView {
        let begun = self.begin(device).await.unwrap();
        self.ended(&begun.id).await
    }

    pub fn pairing(&self, id: &str) -> PairingView {
        self.house.hub.service().pairing(&self.house.owner, id).unwrap()
    }

    /// Waits for the end of a pairing.
    pub async fn ended(&self, id: &str) -> PairingView {
        self.until("the end of a pairing", || matches!(self.pairing(id).step, "done" | "failed" | "cancelled")).await;
        self.pairing(id)
    }

    /// Waits until a pairing is at a step.
    pub async fn step(&self, id: &str, step: &str) {
        let mut changes = self.house.hub.service().changes();
        let reached = timeout(PATIENCE, async {
            loop {
                let now = self.pairing(id);
                if now.step == step {
                    return;
                }
                assert!(!matches!(now.step, "done" | "failed" | "cancelled"), "{} instead of {step}: {:?}", now.step, now.problem);
                while !matches!(changes.recv().await, Ok(Change::Pairing { .. }) | Err(_)) {}
            }
        });
        reached.await.unwrap_or_else(|_| panic!("{} instead of {step}", self.pairing(id).step));
    }

    pub async fn disconnected(&self, device: &Simulated) {
        self.until("the link is closed", || !self.air.connected(&device.address)).await;
    }

    /// Whether the house has the device, by the name that it was paired under.
    pub fn owned(&self, device: &Simulated) -> bool {
        let all = self.house.hub.service().devices(&self.house.owner).unwrap();
        all.iter().any(|d| d.id == device.made.id && d.name == "Lamp")
    }

    /// What both sides have: what the hub keeps of the device, and its flash.
    pub fn both(&self, device: &Simulated) -> (String, BTreeMap<String, serde_json::Value>) {
        let service = self.house.hub.service();
        let known = service.device(&self.house.owner, &device.made.id).map(|d| format!("{d:?}")).unwrap_or_else(|e| e.to_string());
        let all = service.devices(&self.house.owner).unwrap().len();
        (format!("{known} {all}"), files(device.flash.path()))
    }

    pub async fn unchanged(&self, device: &Simulated, before: &(String, BTreeMap<String, serde_json::Value>), why: &str) {
        self.until(&format!("unchanged after {why}: {:?}, not {:?}", self.both(device), before), || self.both(device) == *before).await;
    }

    /// Lets the hub hand its own Wi-Fi on.
    pub async fn share_wifi(&self) {
        let change = SettingsChange { share_wifi: Some(true), ..SettingsChange::default() };
        self.house.hub.service().change_settings(&self.house.owner, change).await.unwrap();
    }
}

fn switched_on(
    made: &Made,
    flash: &Path,
    set: impl FnOnce(&mut Options),
) -> (Front, mpsc::Receiver<Event>, CancellationToken, JoinHandle<()>) {
    let mut options = Options::new(DeviceSecret::read(&made.minted.secret).unwrap());
    options.state = Some(flash.to_owned());
    options.networks = vec![(SSID.to_owned(), PHRASE.to_owned())];
    set(&mut options);
    let (front, host) = device(options).unwrap();
    let (tell, events) = mpsc::channel(256);
    let end = CancellationToken::new();
    let life = tokio::spawn(live(host, tell, end.clone()));
    (front, events, end, life)
}

async fn live(host: Host, tell: mpsc::Sender<Event>, end: CancellationToken) {
    host.run(tell, end).await.unwrap();
}

/// What a flash says, without what says nothing: a file that is there and holds no credential is as none.
fn files(directory: &Path) -> BTreeMap<String, serde_json::Value> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    // A file that is written anew goes by another name for a moment.
    let kept = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let read = |path: std::path::PathBuf| {
        let mut said: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        said.as_object_mut()?.remove("v");
        Some((path.file_name()?.to_string_lossy().into_owned(), telling(said)?))
    };
    kept.filter_map(read).collect()
}

fn telling(said: serde_json::Value) -> Option<serde_json::Value> {
    use serde_json::Value;
    match said {
        Value::Object(members) => {
            let members: serde_json::Map<_, _> = members.into_iter().filter_map(|(name, value)| Some((name, telling(value)?))).collect();
            (!members.is_empty()).then_some(Value::Object(members))
        }
        Value::Array(items) => (!items.is_empty()).then_some(Value::Array(items)),
        Value::Null => None,
        Value::Number(number) => (number.as_f64() != Some(0.0)).then_some(Value::Number(number)),
        other => Some(other),
    }
}

impl Simulated {
    /// Waits for an event in its pairing.
    pub async fn heard(&mut self, mut wanted: impl FnMut(&Told) -> bool) {
        let found = timeout(PATIENCE, async {
            loop {
                match self.events.recv().await.expect("the device lives") {
                    Event::Pairing(told) if wanted(&told) => return,
                    _ => {}
                }
            }
        });
        found.await.expect("the device says so");
    }

    /// Takes it away.
    pub async fn remove(mut self, rig: &Rig) {
        rig.air.remove_device(&self.address).unwrap();
        self.end.cancel();
        if let Some(life) = self.life.take() {
            life.await.unwrap();
        }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
