//! Two hosts and what lies between them: network namespaces, and a wire that delays, loses, doubles and reorders packets,
//! and that can be cut. Beside it, each host has a cable to the test, which always carries. Where the system does not let
//! the test have hosts, there is a relay on loopback that can be cut, and it is said what was not tried.

use super::chance::Chance;
use hearthkey::sim::link::Link;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Where the hub is and where the cloud is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Hub = 0,
    Cloud = 1,
}

/// Two hosts.
pub struct Hosts {
    names: [String; 2],
    /// Third and second byte of every address.
    net: (u8, u8),
    wire: Child,
}

/// What lies between hub and cloud.
pub enum Between {
    Hosts(Hosts),
    /// A relay in front of the cloud's port.
    Relay {
        link: Link,
        cloud: SocketAddr,
    },
}

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn unplug_all(names: &[String]) {
    for name in names {
        ip(&format!("netns del {name}"));
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

impl Hosts {
    fn new(seed: u64) -> Option<Hosts> {
        let mark = std::process::id();
        // Of networks that this machine does not have otherwise; another run at the same time has another.
        let net = (96 + (mark / 250 % 32) as u8, (mark % 250) as u8);
        let names = ["hub", "cloud"].map(|side| format!("hkp-{side}-{mark}"));
        let at = |last: u8| Ipv4Addr::new(10, net.0, net.1, last);
        let [hub, cloud] = &names;
        let mut commands = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let (n, mine, other) = (n as u8, 1 + n as u8, 2 - n as u8);
            let (near, far) = (at(9 + 4 * n), at(10 + 4 * n));
            commands.extend([
                format!("netns add {name}"),
                format!("-n {name} link set lo up"),
                format!("-n {name} tuntap add dev wire mode tun"),
                format!("-n {name} addr add {} peer {} dev wire", at(mine), at(other)),
                format!("-n {name} link set wire up"),
                format!("link add hkp{n}-{mark} type veth peer name cable netns {name}"),
                format!("addr add {near}/30 dev hkp{n}-{mark}"),
                format!("link set hkp{n}-{mark} up"),
                format!("-n {name} addr add {far}/30 dev cable"),
                format!("-n {name} link set cable up"),
            ]);
        }
        commands.push(format!("route add {} via {}", at(2), at(14)));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rigs/wire/wire.py");
        let made = commands.iter().all(|c| ip(c));
        let wire = made.then(|| {
            let mut wire = Command::new("python3");
            wire.arg(script).args([hub, "wire", cloud, "wire", &seed.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut wire = wire.spawn().ok()?;
            let ready = one_line(&mut wire).is_some();
            ready.then_some(wire)
        });
        match wire.flatten() {
            Some(wire) => Some(Hosts { names, net, wire }),
            None => {
                unplug_all(&names);
                None
            }
        }
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net.0, self.net.1, last)
    }

    fn order(&mut self, order: &Value) -> Value {
        let input = self.wire.stdin.as_mut().unwrap();
        writeln!(input, "{order}").unwrap();
        serde_json::from_str(&one_line(&mut self.wire).expect("the wire ended")).unwrap()
    }

    fn plug(&self, side: Side, up: bool) {
        let (name, state) = (&self.names[side as usize], if up { "up" } else { "down" });
        assert!(ip(&format!("-n {name} link set wire {state}")));
    }
}

/// The next line; nothing is read beyond it, as answers come one by one.
fn one_line(of: &mut Child) -> Option<String> {
    let mut line = String::new();
    BufReader::new(of.stdout.as_mut()?).read_line(&mut line).ok().filter(|n| *n > 0)?;
    Some(line)
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = self.wire.kill();
        let _ = self.wire.wait();
        // With the hosts go their cables.
        unplug_all(&self.names);
    }
}

impl Between {
    pub async fn new(seed: u64) -> Between {
        if let Some(hosts) = Hosts::new(seed) {
            return Between::Hosts(hosts);
        }
        #[expect(clippy::print_stderr, reason = "who reads the run must know what was not tried")]
        {
            eprintln!(
                "no network namespaces or no TUN interfaces here: hub and cloud are on one host, and what lies between them is cut, \
                 but nothing is delayed, lost, doubled or reordered"
            );
        }
        Between::relay().await
    }

    /// One host, and a relay that counts bytes.
    pub async fn relay() -> Between {
        let cloud = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        Between::Relay { link: Link::open(0, cloud).await.unwrap(), cloud }
    }

    /// A program on one of the hosts, without what the environment says to this one.
    pub fn command(&self, side: Side, program: &str) -> tokio::process::Command {
        let mut command = match self {
            Between::Hosts(hosts) => {
                let mut command = tokio::process::Command::new("ip");
                command.args(["netns", "exec", &hosts.names[side as usize], program]);
                command
            }
            Between::Relay { .. } => tokio::process::Command::new(program),
        };
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Where the cloud listens, and the URL by which the hub reaches it.
    pub fn cloud(&self) -> (SocketAddr, String) {
        match self {
            Between::Hosts(hosts) => {
                let address = SocketAddr::from((hosts.address(2), 9443));
                (address, format!("https://{address}"))
            }
            Between::Relay { link, cloud } => (*cloud, format!("https://localhost:{}", link.address.port())),
        }
    }

    /// Where the hub listens for people at home.
    pub fn hub(&self) -> SocketAddr {
        match self {
            Between::Hosts(hosts) => SocketAddr::from((hosts.address(10), 8443)),
            Between::Relay { .. } => SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())),
        }
    }

    /// Other weather; which.
    pub fn weather(&mut self, chance: &mut Chance) -> String {
        let Between::Hosts(hosts) = self else { return "no weather here".into() };
        let pick = |chance: &mut Chance, all: &[f64]| all[chance.below(all.len())];
        let order = json!({
            "delay_ms": pick(chance, &[0.0, 5.0, 40.0, 150.0]), "jitter_ms": pick(chance, &[0.0, 10.0, 60.0]),
            "loss": pick(chance, &[0.0, 0.01, 0.05, 0.2]), "double": pick(chance, &[0.0, 0.01, 0.1]),
            "reorder": pick(chance, &[0.0, 0.01, 0.1]),
        });
        hosts.order(&order);
        format!("weather {order}")
    }

    pub fn cut(&mut self) {
        match self {
            Between::Hosts(hosts) => drop(hosts.order(&json!({"cut": true}))),
            Between::Relay { link, .. } => link.cut(),
        }
    }

    /// It is cut when it has carried so many more bytes, both ways together.
    pub fn cut_after(&mut self, bytes: u64) {
        match self {
            Between::Hosts(hosts) => drop(hosts.order(&json!({ "cut_after": bytes }))),
            Between::Relay { link, .. } => link.cut_after(bytes),
        }
    }

    /// The hosts see that there is no wire.
    pub fn unplug(&mut self, side: Side) {
        match self {
            Between::Hosts(hosts) => hosts.plug(side, false),
            Between::Relay { link, .. } => link.cut(),
        }
    }

    /// It carries again, in fair weather if asked.
    pub fn mend(&mut self, fair: bool) {
        match self {
            Between::Hosts(hosts) => {
                hosts.plug(Side::Hub, true);
                hosts.plug(Side::Cloud, true);
                let mut order = json!({"cut": false});
                if fair {
                    order = json!({"cut": false, "delay_ms": 0, "jitter_ms": 0, "loss": 0, "double": 0, "reorder": 0});
                }
                hosts.order(&order);
            }
            Between::Relay { link, .. } => link.mend(),
        }
    }

    /// What the wire has carried and not carried.
    pub fn carried(&mut self) -> Value {
        match self {
            Between::Hosts(hosts) => hosts.order(&json!({})),
            Between::Relay { .. } => Value::Null,
        }
    }
}
