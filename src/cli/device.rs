//! `hearthkey device`: one simulated device on the terminal. What it does is `sim::device`'s, and before it knows a hub
//! `sim::pairing`'s.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::sim::device::{self, Backoff, Event, Options, SignIn};
use crate::sim::firmware;
use crate::sim::identity::{DeviceSecret, HubId};
use crate::sim::mqtt::Version;
use crate::sim::network::{self, Asking};
use crate::sim::pairing;
use crate::sim::things::{Fault, Kind};
use crate::sim::tls::Address;

/// What `--help` says of images.
const IMAGES: &str = "\
An image of a simulated device is one line of JSON, and then any bytes:
  {\"hearthkey-device\": 1, \"version\": \"1.5.0\"}
With \"healthy\": false it comes up and finds itself not well, with \"starts\": false it does not come up, with \"silent\": true it
comes up and hangs until it is started again. Sign one with `hearthkey factory firmware`.";

/// Run a simulated device until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_long_help = IMAGES)]
pub struct DeviceArgs {
    /// The secret file that the factory wrote for this device.
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// The hub's MQTT listener; without it the device looks for a hub on the network, and asks there to be claimed.
    #[arg(long, value_name = "HOST:PORT", requires = "hub_id")]
    hub: Option<Address>,
    /// The hub's id: 26 characters, shown by the hub and announced by mDNS. Chooses one among several on the network.
    #[arg(long, value_name = "ID")]
    hub_id: Option<HubId>,
    /// Look for the hub on this network interface only. May be given more than once; without it, on all but loopback.
    #[arg(long, value_name = "NAME", conflicts_with = "hub")]
    interface: Vec<String>,
    /// Wait to be paired over Bluetooth with a controller of this machine; the hub is learned by it.
    #[arg(long, conflicts_with_all = ["hub", "hub_id", "interface", "plain"])]
    ble: bool,
    /// The Bluetooth controller, such as hci1; the default one when left out.
    #[arg(long, value_name = "NAME", requires = "ble")]
    adapter: Option<String>,
    /// What goes wrong with pairing: drop@STEP (connect, handshake, hello, model, credential, stored, sign-in), wrong-code,
    /// silent, slow, fragment-gap, old-firmware, unknown-version, clone, wifi-refused, wifi-not-found or not-stored.
    #[arg(long, value_name = "FAULT", requires = "ble")]
    ble_fault: Option<pairing::Fault>,
    /// The voucher file of the device, which it shows at pairing.
    #[arg(long, value_name = "FILE", requires = "ble")]
    voucher: Option<PathBuf>,
    /// Directory for what the device remembers; without it everything is forgotten at the end.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// What the device is: garage-door, thermostat or lamp. Taken from the name of its model when left out.
    #[arg(long)]
    kind: Option<Kind>,
    /// A fault it has: obstruction@POSITION (garage door) or no-heat (thermostat).
    #[arg(long)]
    fault: Option<Fault>,
    /// The public file of its brand (brand.json in the workshop), whose root key it was made with: it takes firmware of that brand.
    #[arg(long, value_name = "FILE", requires = "state", conflicts_with = "ble")]
    firmware_brand: Option<PathBuf>,
    /// The release that it left the factory with.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "firmware_brand")]
    firmware_rel: u64,
    /// The version of that release.
    #[arg(long, value_name = "VERSION", default_value = "1.0.0", requires = "firmware_brand")]
    firmware_version: String,
    /// What goes wrong with its updates, each once: download@BYTES, wrong-hash, no-room, refuse, install, unhealthy, silent, and
    /// power@STEP (downloading, downloaded, installing, trial, confirmed).
    #[arg(long, value_name = "FAULTS", value_delimiter = ',', requires = "firmware_brand")]
    firmware_faults: Vec<firmware::Fault>,
    /// The port of the hub's page, for downloads over HTTPS; 0 to have everything over MQTT.
    #[arg(long, value_name = "PORT", default_value_t = 8443, requires = "firmware_brand")]
    page_port: u16,
    /// Speak MQTT 3.1.1.
    #[arg(long, conflicts_with = "v5")]
    v4: bool,
    /// Speak MQTT 5.0 (the default).
    #[arg(long)]
    v5: bool,
    /// Connect without TLS; only for a hub on this machine.
    #[arg(long)]
    plain: bool,
    /// How much faster than life it moves.
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Try again after 0.1 to 2 seconds instead of 1 to 60.
    #[arg(long)]
    eager: bool,
}

/// Runs the device and writes a line for each thing that happens: seconds since the start, and the event.
///
/// # Errors
/// When the secret or the state cannot be read, or the device cannot keep its state.
pub async fn run(args: DeviceArgs, out: &mut (dyn Write + Send)) -> Result<()> {
    // One listener from the beginning to the end: what comes between two would be lost.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    if args.ble {
        return on_air(args, interrupt, out).await;
    }
    let secret = DeviceSecret::read(&args.secret)?;
    let begin = Instant::now();
    let mut asking = None;
    let looks = args.hub.is_none();
    let (hub, hub_id) = match (args.hub, args.hub_id) {
        (Some(hub), Some(id)) => (hub, id),
        (_, wanted) => {
            writeln!(out, "{:9.3}  looking for a hub on the network", begin.elapsed().as_secs_f64())?;
            out.flush()?;
            let found = tokio::select! {
                found = network::find_hub(wanted, &args.interface) => found?,
                _ = interrupt.recv() => return Ok(()),
            };
            writeln!(out, "{:9.3}  found {} ({}) at {}", begin.elapsed().as_secs_f64(), found.name, found.id, found.mqtts)?;
            asking = Some(Asking::of(&secret, &args.interface)?);
            (found.mqtts, found.id)
        }
    };
    if args.plain && !is_this_machine(&hub) {
        bail!("--plain is for a hub on this machine: {hub} is not");
    }
    let mut options = Options::new(secret, hub, hub_id);
    options.tls = !args.plain;
    options.state = args.state;
    options.kind = args.kind;
    options.fault = args.fault;
    options.firmware = match &args.firmware_brand {
        Some(path) => Some(firmware::Options {
            root: firmware::read_root(path).map_err(anyhow::Error::msg)?,
            rel: args.firmware_rel,
            version: args.firmware_version,
            page_port: Some(args.page_port).filter(|port| *port > 0),
            faults: args.firmware_faults,
        }),
        None => None,
    };
    options.version = if args.v4 { Version::V4 } else { Version::V5 };
    options.speed = args.speed;
    options.search = looks.then(|| args.interface.clone());
    if args.eager {
        options.backoff = Backoff::FAST;
    }
    let (sender, events) = mpsc::channel(256);
    let shutdown = CancellationToken::new();
    let device = tokio::spawn(device::run(options, sender, shutdown.clone()));
    Watcher { begin, interrupt, shutdown, out }
        .watch(events, async |event: &Event| {
            match (&mut asking, event) {
                (Some(asking), Event::WaitingToBeClaimed) => asking.begin()?,
                (Some(asking), Event::SignedIn { with: SignIn::NewSecret | SignIn::Secret }) => asking.end().await,
                _ => {}
            }
            Ok(())
        })
        .await?;
    if let Some(asking) = &mut asking {
        asking.end().await;
    }
    device.await.context("the device broke down")?.map_err(Into::into)
}

/// Runs a device that is paired over Bluetooth first.
#[cfg(feature = "sim")]
async fn on_air(args: DeviceArgs, interrupt: Signal, out: &mut (dyn Write + Send)) -> Result<()> {
    let mut options = pairing::Options::new(DeviceSecret::read(&args.secret)?);
    options.voucher = match &args.voucher {
        Some(path) => Some(std::fs::read(path).with_context(|| format!("cannot read the voucher file {}", path.display()))?),
        None => None,
    };
    options.state = args.state;
    options.kind = args.kind;
    options.thing_fault = args.fault;
    options.fault = args.ble_fault;
    options.version = if args.v4 { Version::V4 } else { Version::V5 };
    options.speed = args.speed;
    if args.eager {
        options.backoff = Backoff::FAST;
    }
    writeln!(out, "{}: claim code {}", options.secret.device_id, options.secret.claim_code())?;
    let (front, host) = pairing::device(options)?;
    let (sender, events) = mpsc::channel(256);
    let shutdown = CancellationToken::new();
    let device = tokio::spawn(host.run(sender, shutdown.clone()));
    let name = Some("Hearthkey".to_owned());
    let air = tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            let ended = crate::sim::peripheral::run(args.adapter, name, Box::new(front), shutdown.clone()).await;
            // Without a radio there is nothing to wait for.
            shutdown.cancel();
            ended
        }
    });
    Watcher { begin: Instant::now(), interrupt, shutdown, out }.watch(events, async |_| Ok(())).await?;
    device.await.context("the device broke down")??;
    air.await.context("the device's Bluetooth broke down")?.map_err(Into::into)
}

#[cfg(not(feature = "sim"))]
#[expect(clippy::unused_async, reason = "the other one awaits")]
async fn on_air(args: DeviceArgs, _interrupt: Signal, _out: &mut (dyn Write + Send)) -> Result<()> {
    let wanted = args.adapter.map(|name| format!(" on {name}")).unwrap_or_default();
    bail!("this build has no simulated Bluetooth, so there can be no device{wanted}: build it with `cargo build --features sim`")
}

/// Who writes a line for each event.
struct Watcher<'a> {
    begin: Instant,
    /// Ctrl-C, from before there was anything to watch.
    interrupt: Signal,
    shutdown: CancellationToken,
    out: &'a mut (dyn Write + Send),
}

impl Watcher<'_> {
    /// Until the device has ended; Ctrl-C ends it. `act` is called before the line is written.
    async fn watch<E: std::fmt::Display>(
        &mut self,
        mut events: mpsc::Receiver<E>,
        mut act: impl AsyncFnMut(&E) -> Result<()>,
    ) -> Result<()> {
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => {
                        act(&event).await?;
                        writeln!(self.out, "{:9.3}  {event}", self.begin.elapsed().as_secs_f64())?;
                        self.out.flush()?;
                    }
                    None => return Ok(()),
                },
                _ = self.interrupt.recv() => self.shutdown.cancel(),
            }
        }
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if (0.1..=1000.0).contains(&speed) => Ok(speed),
        _ => Err("a number from 0.1 to 1000".into()),
    }
}

fn is_this_machine(address: &Address) -> bool {
    let ip = address.host.parse::<std::net::IpAddr>();
    address.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<DeviceArgs, clap::Error> {
        let all = ["device", "--secret", "s.json", "--hub", "127.0.0.1:8883", "--hub-id", "aaaaaaaaaaaaaaaaaaaaaaaaaa"];
        let matches = DeviceArgs::augment_args(Command::new("device")).try_get_matches_from(all.iter().chain(arguments))?;
        DeviceArgs::from_arg_matches(&matches)
    }

    #[test]
    fn a_fault_a_kind_and_a_speed_are_understood() {
        let args = parse(&["--fault", "obstruction@60", "--kind", "garage-door", "--speed", "20"]).unwrap();
        assert_eq!(args.fault, Some(Fault::Obstruction { at: 60 }));
        assert_eq!(args.kind, Some(Kind::GarageDoor));
        assert!((args.speed - 20.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_device_on_the_air_needs_no_hub_and_takes_none() {
        let parse = |arguments: &[&str]| {
            let all = ["device", "--secret", "s.json"];
            let matches = DeviceArgs::augment_args(Command::new("device")).try_get_matches_from(all.iter().chain(arguments))?;
            DeviceArgs::from_arg_matches(&matches)
        };
        let args = parse(&["--ble", "--adapter", "hci1", "--ble-fault", "drop@stored", "--voucher", "v.hkv"]).unwrap();
        assert_eq!(args.ble_fault, Some(pairing::Fault::Drop(pairing::At::Stored)));
        assert!(parse(&["--ble", "--hub", "127.0.0.1:8883"]).is_err());
        assert!(parse(&["--ble", "--ble-fault", "drop@moon"]).is_err());
    }

    #[test]
    fn what_goes_wrong_with_an_update_is_a_list() {
        let firmware = ["--state", "s", "--firmware-brand", "brand.json"];
        let args = parse(&[&firmware[..], &["--firmware-faults", "download@5000,power@trial,unhealthy"]].concat()).unwrap();
        let words: Vec<String> = args.firmware_faults.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["download@5000", "power@trial", "unhealthy"]);
        assert!(parse(&[&firmware[..], &["--firmware-faults", "power@noon"]].concat()).is_err());
        assert!(parse(&["--firmware-brand", "brand.json"]).is_err(), "without a flash there is no update");
    }

    #[test]
    fn nonsense_is_refused_before_anything_runs() {
        assert!(parse(&["--fault", "obstruction@101"]).is_err());
        assert!(parse(&["--speed", "-1"]).is_err());
        assert!(parse(&["--v4", "--v5"]).is_err());
    }

    #[test]
    fn an_address_wants_the_id_that_goes_with_it_and_neither_is_needed() {
        let parse = |arguments: &[&str]| {
            DeviceArgs::augment_args(Command::new("device")).try_get_matches_from([&["device", "--secret", "s"], arguments].concat())
        };
        assert!(parse(&[]).is_ok() && parse(&["--hub-id", "aaaaaaaaaaaaaaaaaaaaaaaaaa", "--interface", "lo"]).is_ok());
        assert!(parse(&["--hub", "127.0.0.1:8883"]).is_err());
    }

    #[test]
    fn only_loopback_is_this_machine() {
        assert!(is_this_machine(&"127.0.0.1:1883".parse().unwrap()));
        assert!(is_this_machine(&"[::1]:1883".parse().unwrap()));
        assert!(!is_this_machine(&"192.168.1.2:1883".parse().unwrap()));
    }
}
