//! How long a pairing takes, and what it costs on the air: a thousand devices one after another, over the stand-in for BlueZ,
//! each from the wish to pair until it has signed in over TLS.
//!
//! `cargo bench --features sim --bench pair [-- --quick]`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops at the first surprise"
)]

mod rig;

use hearthkey::service::{Change, NewPairing, RadioState};
use hearthkey::sim::bluez::{Air, Failing, Peripheral};
use hearthkey::sim::gatt::{Advertisement, Changed, GattDevice, LINK_DEPTH, Link, Refused, Service, Signal};
use hearthkey::sim::identity::DeviceSecret;
use hearthkey::sim::pairing::{self, Front};
use rig::Arguments;
use rig::house::House;
use rig::report::{Table, note, percentile, say};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const BUS: &str = "HEARTHKEY_BENCH_BUS";
const MTUS: [u16; 4] = [23, 185, 247, 517];

/// libdbus learns when its process starts which bus is the system's: this program starts itself once more, with a private one.
fn main() {
    #[expect(clippy::disallowed_methods, reason = "says that this is the second process")]
    let bus = std::env::var(BUS);
    let Ok(bus) = bus else {
        let dir = tempfile::tempdir().unwrap();
        let bus = dir.path().join("bus");
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(std::env::args().skip(1)).env(BUS, &bus).env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", bus.display()));
        assert!(again.status().unwrap().success());
        return;
    };
    let each = if Arguments::read().quick() { 10 } else { 250 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let air = Air::start().await.unwrap();
        symlink(air.address().strip_prefix("unix:path=").unwrap(), PathBuf::from(bus)).unwrap();
        measure(&air, each).await;
    });
}

/// What went over the air: values and bytes, to the device and from it.
#[derive(Default)]
struct Traffic {
    written: AtomicU64,
    written_bytes: AtomicU64,
    notified: AtomicU64,
    notified_bytes: AtomicU64,
}

/// A device that counts.
struct Counted {
    front: Front,
    traffic: Arc<Traffic>,
}

impl GattDevice for Counted {
    fn services(&self) -> Vec<Service> {
        self.front.services()
    }
    fn advertised(&self) -> Option<Advertisement> {
        self.front.advertised()
    }
    fn plugged(&mut self, changed: Changed) {
        self.front.plugged(changed);
    }
    fn connected(&mut self, mtu: u16, link: Link) -> Result<(), Refused> {
        let (counted, mut said) = mpsc::channel(LINK_DEPTH);
        let traffic = self.traffic.clone();
        tokio::spawn(async move {
            while let Some(signal) = said.recv().await {
                if let Signal::Notify(_, value) = &signal {
                    traffic.notified.fetch_add(1, Ordering::Relaxed);
                    traffic.notified_bytes.fetch_add(value.len() as u64, Ordering::Relaxed);
                }
                if link.send(signal).await.is_err() {
                    return;
                }
            }
        });
        self.front.connected(mtu, counted)
    }
    fn read(&mut self, characteristic: Uuid) -> Result<Vec<u8>, Refused> {
        self.front.read(characteristic)
    }
    fn write(&mut self, characteristic: Uuid, value: &[u8]) -> Result<(), Refused> {
        self.traffic.written.fetch_add(1, Ordering::Relaxed);
        self.traffic.written_bytes.fetch_add(value.len() as u64, Ordering::Relaxed);
        self.front.write(characteristic, value)
    }
    fn subscribed(&mut self, characteristic: Uuid, on: bool) {
        self.front.subscribed(characteristic, on);
    }
    fn disconnected(&mut self) {
        self.front.disconnected();
    }
}

async fn measure(air: &Air, each: usize) {
    let house = House::with(|config| config.bluetooth.enabled = true).await;
    let service = house.hub.service();
    while service.radio(&house.owner).unwrap().state != RadioState::Ready {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    note(&format!("minting {} devices", each * MTUS.len()));
    let mut devices = house.devices("lamp", (each * MTUS.len()) as u64).await;
    let mut table =
        Table::new(&["MTU", "pairings", "p50", "p99", "slowest", "to the device", "in writes", "from the device", "in notifications"]);
    let mut first = 0;
    for mtu in MTUS {
        note(&format!("pairing {each} devices with an MTU of {mtu}"));
        let traffic = Arc::new(Traffic::default());
        let mut times = Vec::new();
        for number in 0..each {
            let made = devices.pop().unwrap();
            let (front, host) = pairing::device(pairing::Options::new(DeviceSecret::read(&made.minted.secret).unwrap())).unwrap();
            let address = format!("AA:BB:CC:{:02X}:{:02X}:{:02X}", mtu & 0xFF, number >> 8, number & 0xFF);
            let device = Box::new(Counted { front, traffic: traffic.clone() });
            let name = Some("Lamp".to_owned());
            air.add_device(Peripheral { name, address: address.clone(), mtu, rssi: -50, device, failing: Failing::default() }).unwrap();
            let (end, (tell, _events)) = (CancellationToken::new(), mpsc::channel(1));
            let life = tokio::spawn(host.run(tell, end.clone()));
            let began = Instant::now();
            let mut changes = service.changes();
            let wish = NewPairing { code: Some(made.code.clone().into()), ..NewPairing::default() };
            let id = service.begin_pairing(&house.owner, wish).await.unwrap().id;
            loop {
                let now = service.pairing(&house.owner, &id).unwrap();
                match now.step {
                    "done" => break,
                    "failed" | "cancelled" => panic!("{:?}", now.problem),
                    _ => while !matches!(changes.recv().await, Ok(Change::Pairing { .. }) | Err(_)) {},
                }
            }
            times.push(u32::try_from(began.elapsed().as_micros()).unwrap());
            while air.connected(&address) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            air.remove_device(&address).unwrap();
            end.cancel();
            life.await.unwrap().unwrap();
        }
        if first == 0 {
            first = resident_kb();
        }
        times.sort_unstable();
        let ms = |share: f64| format!("{:.0} ms", percentile(&times, share) / 1e3);
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64 / each as f64;
        table.row(&[
            mtu.to_string(),
            each.to_string(),
            ms(0.5),
            ms(0.99),
            ms(1.0),
            format!("{:.0} B", of(&traffic.written_bytes)),
            format!("{:.1}", of(&traffic.written)),
            format!("{:.0} B", of(&traffic.notified_bytes)),
            format!("{:.1}", of(&traffic.notified)),
        ]);
    }
    say("Attested devices, without Wi-Fi and voucher; bytes and values are means of one pairing\n");
    table.print();
    say(&format!(
        "\nResident, hub and devices in one process: {} MB after the first {each}, {} MB after {}",
        first / 1024,
        resident_kb() / 1024,
        each * MTUS.len()
    ));
}

/// What this process has in memory, in KiB.
fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
