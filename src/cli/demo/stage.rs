//! What the demo plays on: a maker's workshop, a hub in a process of its own, and devices as tasks.

use crate::factory::{BrandId, MintOptions, ModelName, RunChoice, SAMPLES, Workshop};
use crate::sim::device::{self, Backoff, Control, Event, Options};
use crate::sim::firmware;
use crate::sim::identity::{DeviceSecret, HubId};
use crate::sim::tls::Address;
use anyhow::{Context, anyhow, bail};
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The demo's maker.
pub(super) const BRAND: &str = "acme";
/// Its models, in the order of [`Stage::devices`].
pub(super) const MODELS: [&str; 3] = ["garage-door", "thermostat", "lamp"];

/// Which ports the hub takes.
#[derive(Clone, Copy)]
pub(super) enum Ports {
    /// 8443, 8080 and 8883, or free ones where those are taken.
    Usual,
    /// Any that are free.
    Free,
}

/// A running hub.
pub(super) struct HubProcess {
    pub(super) child: Child,
    pub(super) id: String,
    pub(super) https: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) mqtts: SocketAddr,
    pub(super) setup_code: Option<String>,
    pub(super) ca_fingerprint: String,
}

/// A device as it left the factory.
pub(super) struct DemoDevice {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) secret: PathBuf,
    /// The code as it is printed.
    pub(super) grouped: String,
    /// The text of the QR code.
    pub(super) label: String,
    pub(super) running: Option<(CancellationToken, JoinHandle<()>)>,
    /// What can be done to it by hand while it runs.
    pub(super) controls: Option<mpsc::Sender<Control>>,
}

/// Everything together.
pub(super) struct Stage {
    pub(super) dir: PathBuf,
    pub(super) hub: HubProcess,
    pub(super) devices: Vec<DemoDevice>,
    pub(super) fingerprint: String,
    /// Removes the directory with the stage.
    _temporary: Option<TemporaryDir>,
}

/// The workshop's directory, and what the hub keeps.
pub(super) fn factory_dir(dir: &Path) -> PathBuf {
    dir.join("factory")
}
pub(super) fn hub_dir(dir: &Path) -> PathBuf {
    dir.join("hub")
}

/// Makes brand, models and one device of each, unless the directory has them; the brand's fingerprint and the devices.
pub(super) fn make_devices(dir: &Path) -> anyhow::Result<(String, Vec<DemoDevice>)> {
    let workshop = Workshop::open(factory_dir(dir))?;
    let brand = BrandId::parse(BRAND)?;
    let fingerprint = match workshop.brand(&brand) {
        Ok(known) => known.fingerprint,
        Err(_) => {
            let made = workshop.new_brand(&brand)?;
            for sample in SAMPLES {
                workshop.add_model(&brand, sample.json)?;
            }
            for model in MODELS {
                workshop.mint(&brand, &ModelName::parse(model)?, 1, &MintOptions::default(), &())?;
            }
            made.fingerprint
        }
    };
    let mut devices = Vec::new();
    for run in workshop.runs(&brand)? {
        for minted in run.devices() {
            let minted = minted?;
            let secret = DeviceSecret::read(&minted.secret)?;
            devices.push(DemoDevice {
                id: minted.device_id.to_string(),
                title: minted.model.as_str().replace('-', " "),
                grouped: minted.code.to_string(),
                label: secret.claim_qr(),
                secret: minted.secret,
                running: None,
                controls: None,
            });
        }
    }
    devices.sort_by_key(|d| MODELS.iter().position(|m| d.title == m.replace('-', " ")));
    Ok((fingerprint.to_string(), devices))
}

/// The registry batch of all devices for a hub, from the request it wrote at its first start.
pub(super) fn make_batch(dir: &Path, request: &str) -> anyhow::Result<PathBuf> {
    let out = dir.join("batch.hkb");
    if out.exists() {
        std::fs::remove_file(&out)?;
    }
    Workshop::open(factory_dir(dir))?.batch(&BrandId::parse(BRAND)?, &RunChoice::All, request, &out, &())?;
    Ok(out)
}

impl Stage {
    /// Mints, starts a hub, and lets it know the devices.
    pub(super) async fn build(dir: Option<PathBuf>, ports: Ports) -> anyhow::Result<Stage> {
        Stage::build_with(dir, ports, None).await
    }

    /// The same with a radio, which BlueZ drives on the D-Bus at this address.
    #[cfg(feature = "sim")]
    pub(super) async fn build_near(ports: Ports, bus: &str) -> anyhow::Result<Stage> {
        Stage::build_with(None, ports, Some(bus)).await
    }

    async fn build_with(dir: Option<PathBuf>, ports: Ports, bus: Option<&str>) -> anyhow::Result<Stage> {
        let (dir, temporary) = match dir {
            Some(dir) => (dir, None),
            None => {
                let temporary = TemporaryDir::new()?;
                (temporary.0.clone(), Some(temporary))
            }
        };
        let (fingerprint, devices) = make_devices(&dir)?;
        let ports = choose(ports)?;
        let request = first_start(&dir, ports).await?;
        let batch = make_batch(&dir, &request)?;
        let hub = start_hub_near(&dir, ports, Some((&fingerprint, &batch)), bus, &[]).await?;
        Ok(Stage { dir, hub, devices, fingerprint, _temporary: temporary })
    }

    /// A stage from its parts, kept in a directory that goes with it.
    pub(super) fn of(temporary: TemporaryDir, hub: HubProcess, devices: Vec<DemoDevice>, fingerprint: String) -> Stage {
        Stage { dir: temporary.0.clone(), hub, devices, fingerprint, _temporary: Some(temporary) }
    }

    /// Lets a device run, `speed` times as fast as life; its events go to `events` with its title.
    pub(super) fn start_device(&mut self, index: usize, speed: f64, events: Option<mpsc::Sender<(String, Event)>>) -> anyhow::Result<()> {
        self.start_with(index, speed, events, None)
    }

    /// The same, of a device that takes firmware of its maker.
    pub(super) fn start_updatable(&mut self, index: usize, events: mpsc::Sender<(String, Event)>) -> anyhow::Result<()> {
        let root = firmware::read_root(&factory_dir(&self.dir).join(BRAND).join("brand.json")).map_err(anyhow::Error::msg)?;
        let made_with = firmware::Options { page_port: Some(self.hub.https.port()), ..firmware::Options::new(root) };
        self.start_with(index, 20.0, Some(events), Some(made_with))
    }

    fn start_with(
        &mut self,
        index: usize,
        speed: f64,
        events: Option<mpsc::Sender<(String, Event)>>,
        firmware: Option<firmware::Options>,
    ) -> anyhow::Result<()> {
        let (address, hub_id) = self.hub_as_devices_see_it()?;
        let flash = self.flash(index)?;
        let device = self.devices.get_mut(index).ok_or_else(|| anyhow!("there is no device {index}"))?;
        let mut options = Options::new(DeviceSecret::read(&device.secret)?, address, hub_id);
        options.state = Some(flash);
        options.firmware = firmware;
        options.speed = speed;
        let (controls, pressed) = mpsc::channel(4);
        options.controls = Some(pressed);
        device.controls = Some(controls);
        device.running = Some(Stage::run_device(options, device.title.clone(), events));
        Ok(())
    }

    /// Where the hub is, and which one.
    pub(super) fn hub_as_devices_see_it(&self) -> anyhow::Result<(Address, HubId)> {
        let address = format!("localhost:{}", self.hub.mqtts.port()).parse().map_err(|e| anyhow!("{e}"))?;
        Ok((address, self.hub.id.parse().map_err(|e| anyhow!("{e}"))?))
    }

    /// The directory in which a device keeps what it remembers.
    pub(super) fn flash(&self, index: usize) -> anyhow::Result<PathBuf> {
        let device = self.devices.get(index).ok_or_else(|| anyhow!("there is no device {index}"))?;
        Ok(self.dir.join("devices").join(&device.id))
    }

    /// Lets whatever has these options run, called `title`, until the token is cancelled.
    pub(super) fn run_device(
        mut options: Options,
        title: String,
        events: Option<mpsc::Sender<(String, Event)>>,
    ) -> (CancellationToken, JoinHandle<()>) {
        options.backoff = Backoff::FAST;
        let (sender, mut receiver) = mpsc::channel(256);
        let stop = CancellationToken::new();
        let token = stop.clone();
        let task = tokio::spawn(async move {
            let forward = async {
                while let Some(event) = receiver.recv().await {
                    if let Some(events) = &events {
                        // Whoever looks too slowly misses events, not the device its life.
                        let _ = events.try_send((title.clone(), event));
                    }
                }
            };
            let (ended, ()) = tokio::join!(device::run(options, sender, token), forward);
            if let Err(error) = ended {
                tracing::error!(%error, "a simulated device ended");
            }
        });
        (stop, task)
    }

    /// The hub's ports, to start another one where it was.
    #[cfg(feature = "cloud")]
    pub(super) fn ports(&self) -> Chosen {
        [self.hub.https.port(), self.hub.http.port(), self.hub.mqtts.port()]
    }

    /// Ends devices and hub, cleanly.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        for device in &mut self.devices {
            if let Some((stop, task)) = device.running.take() {
                stop.cancel();
                let _ = task.await;
            }
        }
        stop_hub(&mut self.hub).await
    }
}

#[derive(Deserialize)]
struct Announcement {
    hub_id: String,
    https: SocketAddr,
    http: SocketAddr,
    mqtts: SocketAddr,
    setup_code: Option<String>,
    ca_fingerprint: String,
}

/// Ports for HTTPS, HTTP and MQTT over TLS, all on loopback.
pub(super) type Chosen = [u16; 3];

/// Picks the ports once, so that a hub that starts again is found where it was.
pub(super) fn choose(ports: Ports) -> anyhow::Result<Chosen> {
    let mut held = Vec::new();
    let mut chosen = [8443, 8080, 8883];
    for port in &mut chosen {
        let usual = match ports {
            Ports::Usual => TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).ok(),
            Ports::Free => None,
        };
        let listener = usual.or_else(free_port).context("no free port on this machine")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(chosen)
}

/// A port below those that the system gives to whoever asks for any: until the hub takes it, nobody else is given it.
pub(super) fn free_port() -> Option<TcpListener> {
    (0..100).find_map(|_| {
        let mut random = [0u8; 2];
        getrandom::fill(&mut random).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, 20_000 + u16::from_be_bytes(random) % 12_000)).ok()
    })
}

/// Starts a hub that knows nothing yet, takes its request, and stops it again.
pub(super) async fn first_start(dir: &Path, ports: Chosen) -> anyhow::Result<String> {
    let file = hub_dir(dir).join("request.txt");
    if !file.exists() {
        let mut hub = start_hub(dir, ports, None).await?;
        stop_hub(&mut hub).await?;
    }
    std::fs::read_to_string(&file).with_context(|| format!("{} is missing", file.display()))
}

/// Starts the hub as a process of its own; returns when it serves.
pub(super) async fn start_hub(dir: &Path, ports: Chosen, provision: Option<(&str, &Path)>) -> anyhow::Result<HubProcess> {
    start_hub_near(dir, ports, provision, None, &[]).await
}

/// The same, knowing no maker, with settings given by the environment.
#[cfg(feature = "cloud")]
pub(super) async fn start_hub_with(dir: &Path, ports: Chosen, settings: &[(&str, String)]) -> anyhow::Result<HubProcess> {
    start_hub_near(dir, ports, None, None, settings).await
}

async fn start_hub_near(
    dir: &Path,
    ports: Chosen,
    provision: Option<(&str, &Path)>,
    bus: Option<&str>,
    settings: &[(&str, String)],
) -> anyhow::Result<HubProcess> {
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let mut command = Command::new(program);
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    // A hub for a look goes unseen by the house.
    command.env("HEARTHKEY_MDNS__ENABLED", "false");
    // Its devices are simulated: no radio of this machine hears them.
    command.env("HEARTHKEY_BLUETOOTH__ENABLED", if bus.is_some() { "true" } else { "false" });
    if let Some(bus) = bus {
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
    }
    command.arg("hub").arg("--announce-json").arg("--log").arg("warn").arg("--data-dir").arg(hub_dir(dir));
    // The demo is for a machine that knows the time, though nothing on it may say so.
    command.env("HEARTHKEY_CLOCK__TRUSTED", "true");
    for (flag, port) in ["--https", "--http", "--mqtts"].iter().zip(ports) {
        command.arg(flag).arg(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string());
    }
    if let Some((fingerprint, batch)) = provision {
        command.arg("--trust").arg(format!("{BRAND}={fingerprint}")).arg("--import").arg(batch);
    }
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true).spawn().context("the hub cannot be started")?;
    let stdout = child.stdout.take().ok_or_else(|| anyhow!("the hub has no output"))?;
    let mut lines = BufReader::new(stdout).lines();
    let line =
        tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await.context("the hub takes longer than 30 s to start")??;
    let Some(line) = line else { bail!("the hub ended while starting: {}", child.wait().await?) };
    let said: Announcement = serde_json::from_str(&line).context("the hub did not say where it listens")?;
    Ok(HubProcess {
        child,
        id: said.hub_id,
        https: said.https,
        http: said.http,
        mqtts: said.mqtts,
        setup_code: said.setup_code,
        ca_fingerprint: said.ca_fingerprint,
    })
}

/// Stops a hub as the service manager would: with SIGTERM, and waits.
pub(super) async fn stop_hub(hub: &mut HubProcess) -> anyhow::Result<()> {
    stop(&mut hub.child, "hub", Duration::from_secs(15)).await
}

/// The same for another program of ours, called `what`, which may take so long.
pub(super) async fn stop(child: &mut Child, what: &str, patience: Duration) -> anyhow::Result<()> {
    if let Some(pid) = child.id() {
        let told = Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await;
        if !told.is_ok_and(|s| s.success()) {
            child.start_kill()?;
        }
    }
    tokio::time::timeout(patience, child.wait()).await.with_context(|| format!("the {what} does not stop"))??;
    Ok(())
}

/// A directory that goes with the demo.
pub(super) struct TemporaryDir(pub(super) PathBuf);

impl TemporaryDir {
    pub(super) fn new() -> anyhow::Result<TemporaryDir> {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).map_err(|_| anyhow!("the system gave no randomness"))?;
        let path = std::env::temp_dir().join(format!("hearthkey-demo-{}", data_encoding::HEXLOWER.encode(&random)));
        std::fs::create_dir(&path)?;
        Ok(TemporaryDir(path))
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's temporary directory, which is emptied at boot.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
