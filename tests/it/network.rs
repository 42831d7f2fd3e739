//! The hub on the network: what other people's mDNS (python-zeroconf, on a host of its own) makes of it, and simulated
//! devices that find it. Each test has a network of its own: two namespaces and a cable. Where the system does not let
//! it have one, everything happens on loopback under names that no other test has.

use crate::house::BRAND;
use crate::matrix::python;
use hearthkey::domain::ids::{BrandId, ModelName};
use hearthkey::factory::{MintOptions, RunChoice, SAMPLES, Workshop};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

const HUB: &str = "_hearthkey._tcp.local.";
const MQTT: &str = "_secure-mqtt._tcp.local.";
const HTTPS: &str = "_https._tcp.local.";
const THING: &str = "_hearthkey-thing._tcp.local.";

/// Two hosts and a cable, or loopback.
struct Network {
    /// Namespaces of the hub and of everybody else.
    hosts: Option<[String; 2]>,
    /// Distinguishes names on a network that other tests use too.
    mark: String,
}

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Network {
    fn new() -> Network {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let [hub, other] = ["a", "b"].map(|side| format!("hk{side}-{mark}"));
        let network = Network { hosts: Some([hub.clone(), other.clone()]), mark: mark.clone() };
        let commands = [
            format!("netns add {hub}"),
            format!("netns add {other}"),
            format!("-n {hub} link add hk0 type veth peer name hk1 netns {other}"),
            format!("-n {hub} addr add 10.77.0.1/24 dev hk0"),
            format!("-n {hub} addr add fd77::1/64 dev hk0 nodad"),
            format!("-n {other} addr add 10.77.0.2/24 dev hk1"),
            format!("-n {other} addr add fd77::2/64 dev hk1 nodad"),
            format!("-n {hub} link set lo up"),
            format!("-n {hub} link set hk0 up"),
            format!("-n {other} link set lo up"),
            format!("-n {other} link set hk1 up"),
        ];
        if commands.iter().all(|c| ip(c)) {
            return network;
        }
        #[expect(clippy::print_stderr, reason = "who reads the run must know what was not tried")]
        {
            eprintln!("no network namespaces here: the test uses loopback, and changes no addresses");
        }
        drop(network);
        Network { hosts: None, mark }
    }

    /// A program on the hub's host (0) or on the other (1).
    fn command(&self, host: usize, program: impl AsRef<Path>) -> Command {
        match &self.hosts {
            Some(hosts) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &hosts[host]]).arg(program.as_ref());
                command
            }
            None => Command::new(program.as_ref()),
        }
    }

    /// Of the hub.
    fn address(&self) -> &'static str {
        if self.hosts.is_some() { "10.77.0.1" } else { "127.0.0.1" }
    }

    /// A name that is the test's alone.
    fn name(&self, name: &str) -> String {
        if self.hosts.is_some() { name.into() } else { format!("{name}-{}", self.mark) }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in self.hosts.iter().flatten() {
            ip(&format!("netns del {host}"));
        }
    }
}

/// A program whose lines are read; it ends with the test.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Running { child, input, lines: BufReader::new(output).lines() }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("the program ended").unwrap()
    }

    /// Reads on to a line with this in it.
    fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    fn interrupt(&mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// python-zeroconf on one of the hosts.
struct Peer(Running);

impl Peer {
    fn on(network: &Network, host: usize, addresses: &[&str]) -> Peer {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rigs/mdns/peer.py");
        let mut peer = Peer(Running::start(network.command(host, python("mdns")).arg(script)));
        let addresses = if network.hosts.is_some() { addresses } else { &["127.0.0.1"] };
        peer.ask(json!({ "addresses": addresses }));
        peer
    }

    fn ask(&mut self, asked: Value) -> Value {
        writeln!(self.0.input.as_mut().unwrap(), "{asked}").unwrap();
        let answer: Value = serde_json::from_str(&self.0.line()).unwrap();
        assert_ne!(answer["late"], true, "{asked} did not come about");
        answer
    }

    fn find(&mut self, kind: &str, name: &str) -> Value {
        self.ask(json!({"do": "await", "type": kind, "name": name}))
    }
}

/// A hub as a program, and what it said at its start.
struct RunningHub {
    running: Running,
    said: Value,
    log: PathBuf,
}

impl RunningHub {
    fn start(network: &Network, dir: &TempDir, name: &str, more: &[&str]) -> RunningHub {
        let log = dir.path().join(format!("{name}.log"));
        let mut command = network.command(0, env!("CARGO_BIN_EXE_hearthkey"));
        let any = if network.hosts.is_some() { "[::]:0" } else { "127.0.0.1:0" };
        command.args(["hub", "--announce-json", "--name", name, "--https", any, "--http", any, "--mqtts", any]);
        command.arg("--data-dir").arg(dir.path().join(name)).args(more).stderr(std::fs::File::create(&log).unwrap());
        if network.hosts.is_none() {
            command.env("HEARTHKEY_MDNS__INTERFACES", "[lo]");
        }
        let mut running = Running::start(&mut command);
        let said = serde_json::from_str(&running.line()).unwrap();
        RunningHub { running, said, log }
    }

    fn port(&self, listener: &str) -> u64 {
        self.said[listener].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Waits until one of its metrics, asked for on its own host, is so.
    fn until_metric(&self, peer: &mut Peer, name: &str, value: u32) {
        let url = format!("https://127.0.0.1:{}/metrics", self.port("https"));
        peer.ask(json!({"do": "page", "url": url, "line": format!("hearthkey_{name} {value}")}));
    }
}

#[test]
fn other_peoples_programs_find_the_hub_with_its_ports_and_see_it_go() {
    let network = Network::new();
    let dir = tempfile::tempdir().unwrap();
    let name = network.name("attic");
    let mut hub = RunningHub::start(&network, &dir, &name, &[]);
    let mut peer = Peer::on(&network, 1, &["10.77.0.2"]);
    for (kind, port) in [(HUB, "https"), (MQTT, "mqtts"), (HTTPS, "https")] {
        let found = peer.find(kind, &name);
        assert_eq!(found["port"], hub.port(port), "{kind}");
        assert_eq!(found["host"], format!("{name}.local."));
        assert!(found["addresses"].as_array().unwrap().contains(&network.address().into()), "{found}");
        let fingerprint = hub.said["ca_fingerprint"].as_str().unwrap().replace(':', "").to_lowercase();
        assert_eq!((&found["txt"]["id"], &found["txt"]["fp"]), (&hub.said["hub_id"], &fingerprint.into()));
        assert_eq!(found["txt"]["v"], env!("CARGO_PKG_VERSION"));
    }
    let found = peer.find(HUB, &name);
    assert_eq!(found["txt"]["mqtts"], hub.port("mqtts").to_string());
    assert_eq!(found["txt"]["api"], "/api/v1");
    if network.hosts.is_some() {
        let mut by_ipv6 = Peer::on(&network, 1, &["fd77::2"]);
        let found = by_ipv6.ask(json!({"do": "await", "type": HUB, "name": name, "address": "fd77::1"}));
        assert!(!found["addresses"].as_array().unwrap().contains(&"127.0.0.1".into()), "{found}");
    }
    hub.running.interrupt();
    for kind in [HUB, MQTT, HTTPS] {
        peer.ask(json!({"do": "gone", "type": kind, "name": name}));
    }
}

#[test]
fn an_address_and_an_interface_that_come_later_are_announced() {
    let network = Network::new();
    let Some([here, there]) = &network.hosts else { return };
    let dir = tempfile::tempdir().unwrap();
    let _hub = RunningHub::start(&network, &dir, "attic", &[]);
    let mut peer = Peer::on(&network, 1, &["10.77.0.2"]);
    peer.find(HUB, "attic");
    assert!(ip(&format!("-n {here} addr add 10.77.0.9/24 dev hk0")));
    peer.ask(json!({"do": "await", "type": HUB, "name": "attic", "address": "10.77.0.9"}));
    for command in [
        format!("-n {here} link add hk2 type veth peer name hk3 netns {there}"),
        format!("-n {here} addr add 10.78.0.1/24 dev hk2"),
        format!("-n {there} addr add 10.78.0.2/24 dev hk3"),
        format!("-n {there} link set hk3 up"),
        format!("-n {here} link set hk2 up"),
    ] {
        assert!(ip(&command), "{command}");
    }
    let mut other = Peer::on(&network, 1, &["10.78.0.2"]);
    let found = other.ask(json!({"do": "await", "type": HUB, "name": "attic", "address": "10.78.0.1"}));
    assert_eq!(found["host"], "attic.local.");
}

#[test]
fn a_name_that_another_host_has_is_left_to_it() {
    let network = Network::new();
    let dir = tempfile::tempdir().unwrap();
    let name = network.name("attic");
    let mut peer = Peer::on(&network, 1, &["10.77.0.2"]);
    let host = format!("{name}.local.");
    peer.ask(
        json!({"do": "register", "type": "_http._tcp.local.", "name": "printer", "host": host, "port": 80, "txt": {}, "address": "10.77.0.2"}),
    );
    let hub = RunningHub::start(&network, &dir, &name, &[]);
    let second = format!("{name}-2");
    let found = peer.find(HUB, &second);
    assert_eq!((&found["host"], &found["txt"]["id"]), (&format!("{second}.local.").into(), &hub.said["hub_id"]));
    assert!(std::fs::read_to_string(&hub.log).unwrap().contains("another host on the network has this hub's name"));
    let mut beside = Peer::on(&network, 0, &["10.77.0.1"]);
    hub.until_metric(&mut beside, "mdns_announced", 1);
    let (at, ca) = (json!(["127.0.0.1", hub.port("https")]), format!("http://127.0.0.1:{}/trust/ca.der", hub.port("http")));
    let names = json!([format!("{name}.local"), format!("{second}.local"), "other.local"]);
    let answer = beside.ask(json!({"do": "tls", "at": at, "ca": ca, "names": names}));
    assert_eq!(answer["holds"], json!([format!("{name}.local"), format!("{second}.local")]));
}

#[test]
fn a_service_with_the_hubs_name_makes_it_take_another() {
    let network = Network::new();
    let dir = tempfile::tempdir().unwrap();
    let name = network.name("attic");
    let first = RunningHub::start(&network, &dir, &name, &[]);
    let mut peer = Peer::on(&network, 1, &["10.77.0.2"]);
    assert_eq!(peer.find(HUB, &name)["txt"]["id"], first.said["hub_id"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let second = RunningHub::start(&network, &elsewhere, &name, &[]);
    assert_eq!(peer.find(HUB, &format!("{name}-2"))["txt"]["id"], second.said["hub_id"]);
    assert_eq!(peer.find(HUB, &name)["txt"]["id"], first.said["hub_id"]);
}

#[test]
fn a_hub_on_two_interfaces_of_one_network_keeps_its_name() {
    let network = Network::new();
    let Some([here, there]) = &network.hosts else { return };
    for command in [
        format!("-n {there} link add br0 type bridge"),
        format!("-n {there} link set hk1 master br0"),
        format!("-n {here} link add hk2 type veth peer name hk3 netns {there}"),
        format!("-n {there} link set hk3 master br0"),
        format!("-n {there} addr del 10.77.0.2/24 dev hk1"),
        format!("-n {there} addr add 10.77.0.2/24 dev br0"),
        format!("-n {here} addr add 10.77.0.3/24 dev hk2"),
        format!("-n {there} link set hk3 up"),
        format!("-n {there} link set br0 up"),
        format!("-n {here} link set hk2 up"),
    ] {
        assert!(ip(&command), "{command}");
    }
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::start(&network, &dir, "attic", &[]);
    let mut peer = Peer::on(&network, 1, &["10.77.0.2"]);
    let found = peer.find(HUB, "attic");
    assert_eq!((&found["host"], &found["txt"]["id"]), (&"attic.local.".into(), &hub.said["hub_id"]));
    let mut beside = Peer::on(&network, 0, &["10.77.0.1"]);
    hub.until_metric(&mut beside, "mdns_announced", 1);
    let log = std::fs::read_to_string(&hub.log).unwrap();
    assert!(!log.contains("another host on the network"), "{log}");
}

#[test]
fn a_device_that_asks_to_be_claimed_is_listed_until_it_goes() {
    let network = Network::new();
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::start(&network, &dir, &network.name("attic"), &[]);
    let (mut peer, mut beside) = (Peer::on(&network, 1, &["10.77.0.2"]), Peer::on(&network, 0, &["10.77.0.1"]));
    let register = |name: &str, info: &str| json!({"do": "register", "type": THING, "name": network.name(name), "host": format!("{}.local.", network.name(name)), "port": 9, "txt": {"i": info, "n": "Lamp"}, "address": "10.77.0.2"});
    peer.ask(register("closed", "0100aabbccdd010203040506"));
    peer.ask(register("lamp", "0101aabbccdd010203040506"));
    peer.ask(register("claimed", "0102aabbccdd010203040507"));
    hub.until_metric(&mut beside, "mdns_things", 2);
    peer.ask(json!({"do": "unregister"}));
    hub.until_metric(&mut beside, "mdns_things", 0);
}

#[test]
fn a_simulated_device_finds_its_hub_and_asks_there_to_be_claimed() {
    let network = Network::new();
    let dir = tempfile::tempdir().unwrap();
    let name = network.name("attic");
    let data = dir.path().join(&name);
    let workshop = Workshop::open(dir.path().join("factory")).unwrap();
    let brand = BrandId::parse(BRAND).unwrap();
    let made = workshop.new_brand(&brand).unwrap();
    for sample in SAMPLES {
        workshop.add_model(&brand, sample.json).unwrap();
    }
    // A first start, which writes what the maker needs.
    RunningHub::start(&network, &dir, &name, &[]).running.interrupt();
    let request = std::fs::read_to_string(data.join("request.txt")).unwrap();
    let run = workshop.mint(&brand, &ModelName::parse("lamp").unwrap(), 1, &MintOptions::default(), &()).unwrap();
    let file = dir.path().join("lamps.hkb");
    workshop.batch(&brand, &RunChoice::One(run.run.clone()), request.trim(), &file, &()).unwrap();
    let minted = run.devices().next().unwrap().unwrap();
    let trust = format!("{BRAND}={}", made.fingerprint);
    let hub = RunningHub::start(&network, &dir, &name, &["--trust", &trust, "--import", file.to_str().unwrap()]);
    let device = |wanted: Option<&str>| {
        let mut command = network.command(1, env!("CARGO_BIN_EXE_hearthkey"));
        command.args(["device", "--eager", "--secret"]).arg(&minted.secret);
        if network.hosts.is_none() {
            command.args(["--interface", "lo"]);
        }
        // Among others of other tests one has to say which.
        let wanted = if network.hosts.is_none() { wanted.or(hub.said["hub_id"].as_str()) } else { wanted };
        command.args(wanted.into_iter().flat_map(|id| ["--hub-id", id]));
        Running::start(&mut command)
    };
    let mut first = device(None);
    let found = first.line_with("found ");
    // By whichever of its addresses it has heard of first.
    let addresses = [network.address().to_string(), "[fd77::1]".to_owned()];
    let at = |address: &String| found.contains(&format!("{address}:{}", hub.port("mqtts")));
    assert!(found.contains(&name) && addresses.iter().any(at), "{found}");
    first.line_with("waiting to be claimed");
    let mut peer = Peer::on(&network, 1, &["10.77.0.2"]);
    let thing = peer.ask(json!({"do": "await", "type": THING}));
    assert_eq!((thing["txt"]["n"].as_str(), thing["txt"]["i"].as_str().map(|i| &i[..4])), (Some("lamp"), Some("0101")), "{thing}");
    let mut beside = Peer::on(&network, 0, &["10.77.0.1"]);
    hub.until_metric(&mut beside, "mdns_things", 1);
    first.interrupt();
    peer.ask(json!({"do": "gone", "type": THING, "name": thing["name"]}));

    let elsewhere = tempfile::tempdir().unwrap();
    let other = RunningHub::start(&network, &elsewhere, &network.name("cellar"), &[]);
    peer.find(HUB, &network.name("cellar"));
    if network.hosts.is_some() {
        let mut command = network.command(1, env!("CARGO_BIN_EXE_hearthkey"));
        let done = command.args(["device", "--secret"]).arg(&minted.secret).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains("--hub-id") && said.contains("cellar") && said.contains("attic"), "{said}");
    }
    let mut chosen = device(other.said["hub_id"].as_str());
    assert!(chosen.line_with("found ").contains("cellar"));
    chosen.interrupt();
}
