//! How the hub is reached and whom it reaches: ports, clock and certificates, Bluetooth, the cloud, its own versions.

use super::super::health::SOON_S;
use super::super::update::update_ledger;
use super::super::{BoxClock, Config, HealthReport, Listen, SystemBox};
use super::{Finding, Severity};
use crate::ble::{self, AdapterState};
use crate::update::Ended;
use std::fs;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// 2026 and 2100 begin, s since 1970: a clock outside is wrong.
const EARLIEST_S: u64 = 1_767_225_600;
const LATEST_S: u64 = 4_102_444_800;

pub(super) async fn ports(config: &Config, report: Option<&HealthReport>) -> Vec<Finding> {
    let all = [
        ("port_https", "https", &config.https),
        ("port_http", "http", &config.http),
        ("port_mqtts", "mqtts", &config.mqtts),
        ("port_mqtt", "mqtt", &config.mqtt),
    ];
    let mut found = Vec::new();
    for (code, name, listen) in all {
        if listen.enabled {
            found.push(port(code, name, listen, report).await);
        }
    }
    found
}

async fn port(code: &'static str, name: &'static str, listen: &Listen, report: Option<&HealthReport>) -> Finding {
    if let Some(at) = report.and_then(|report| report.addresses.get(name)) {
        return Finding::ok(code, format!("the hub listens on {at}"));
    }
    let at = listen.address;
    let other = format!("Stop the other program, or give the hub another port: `[{name}] address` in its configuration.");
    match TcpListener::bind(at).await {
        Ok(_) => Finding::ok(code, format!("{at} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let by = holder(at).map_or_else(String::new, |holder| format!(" by {holder}"));
            Finding::new(code, Severity::Error, format!("{at} is taken{by}"), other)
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Finding::new(
            code,
            Severity::Error,
            format!("{at} may not be used by this user: {error}"),
            "Use a port from 1024 on, or let systemd open it for the hub (`systemctl enable hearthkey-https.socket`, then restart the hub).",
        ),
        Err(error) => Finding::new(code, Severity::Error, format!("{at}: {error}"), "Choose an address that this box has."),
    }
}

/// Which process listens on a port, as far as this user may see: its socket's inode among the files of each process.
fn holder(at: SocketAddr) -> Option<String> {
    let port = format!(":{:04X}", at.port());
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let inode = tables.iter().flat_map(|table| table.lines().skip(1)).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // State 0A is LISTEN (proc_net_tcp of the kernel's documentation).
        let listens = fields.get(1)?.ends_with(&port) && *fields.get(3)? == "0A";
        if listens { fields.get(9).map(|inode| format!("socket:[{inode}]")) } else { None }
    })?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let holds = fs::read_dir(process.path().join("fd"))
            .ok()?
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == inode.as_str()));
        let name = || fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        holds.then(|| format!("process {pid} ({})", name().trim()))
    })
}

pub(super) fn clock(report: Option<&HealthReport>) -> Finding {
    let system = SystemBox::new(&super::super::ClockConfig::default());
    let now_s = system.wall_ms() / 1000;
    let set = "Let the box reach a time server (`timedatectl set-ntp true`), or let an owner vouch for the time on the hub's page. With a battery-backed clock, set clock.trusted.";
    if !(EARLIEST_S..LATEST_S).contains(&now_s) {
        return Finding::new("clock", Severity::Error, format!("the box's clock says {}", date(now_s)), set);
    }
    if let Some(report) = report {
        let text = |key: &str| report.clock.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let grade = text("grade");
        if report.clock.get("contradicted").and_then(serde_json::Value::as_bool).unwrap_or_default() {
            return Finding::new("clock", Severity::Warning, format!("two that know the time differ (it is believed as {grade})"), set);
        }
        if grade == "none" {
            return Finding::new("clock", Severity::Warning, "the hub does not know the time: rights that depend on it wait", set);
        }
        return Finding::ok("clock", format!("{}, known as {grade}, zone {}", date(now_s), text("time_zone")));
    }
    if system.is_synchronised() {
        Finding::ok("clock", format!("{}, synchronised", date(now_s)))
    } else {
        Finding::new("clock", Severity::Note, format!("{}, and nothing shows that this is right", date(now_s)), set)
    }
}

fn date(s: u64) -> String {
    let at = i64::try_from(s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    at.map_or_else(|| "the end of the calendar".to_owned(), |at| at.to_string())
}

pub(super) fn certificates(report: Option<&HealthReport>) -> Vec<Finding> {
    let Some(report) = report else {
        return vec![Finding::new(
            "certificates",
            Severity::Note,
            "the certificates are sealed in the database of a hub that is stopped",
            "Start the hub to see them.",
        )];
    };
    let now_s = SystemBox::new(&super::super::ClockConfig::default()).wall_ms() / 1000;
    let one = |code: &'static str, what: &str, until: u64, fix: &str| {
        let said = format!("{what} is valid until {}", date(until));
        if now_s >= until {
            Finding::new(code, Severity::Error, said, fix)
        } else if until - now_s < SOON_S {
            Finding::new(code, Severity::Warning, said, fix)
        } else {
            Finding::ok(code, said)
        }
    };
    vec![
        one(
            "certificate",
            &format!("the certificate for {}", report.names.join(", ")),
            report.certificate_until,
            "The hub renews it by itself: if it does not, check the clock, and restart the hub.",
        ),
        one(
            "ca",
            "the hub's own authority",
            report.ca_until,
            "Check the clock first. An authority that has ended has to be made anew, and taken again by phones and devices.",
        ),
    ]
}

pub(super) async fn bluetooth(config: &Config) -> Finding {
    if !config.bluetooth.enabled {
        return Finding::ok("bluetooth", "switched off in the configuration");
    }
    let adapter = ble::examine(&config.bluetooth).await;
    let name = adapter.name.clone().unwrap_or_else(|| "an adapter".into());
    let without = "Devices nearby cannot be paired without it; everything else works.";
    let note = |found: &str, fix: &str| Finding::new("bluetooth", Severity::Note, format!("{found}. {without}"), fix);
    match adapter.state {
        AdapterState::Ready => Finding::ok("bluetooth", format!("{name} is on")),
        AdapterState::NoBus => {
            note("there is no system D-Bus", "Install and start dbus; in a container, give it /run/dbus/system_bus_socket.")
        }
        AdapterState::NoDaemon => note("BlueZ does not run", "Install the package bluez, and run `systemctl enable --now bluetooth`."),
        AdapterState::NoAdapter => note("there is no Bluetooth adapter", "Plug one in, or switch it on in the firmware of the box."),
        AdapterState::Blocked => Finding::new(
            "bluetooth",
            Severity::Warning,
            format!("{name} is blocked"),
            "Run `rfkill unblock bluetooth`, or use the switch on the box.",
        ),
        AdapterState::Off => Finding::new(
            "bluetooth",
            Severity::Warning,
            format!("{name} is off"),
            "Run `bluetoothctl power on`, or set bluetooth.power_on.",
        ),
        _ => note("the Bluetooth service does not answer yet", "Wait a moment, then look again; then `systemctl restart bluetooth`."),
    }
}

pub(super) fn cloud(config: &Config, report: Option<&HealthReport>) -> Finding {
    if !config.cloud.enabled {
        return Finding::ok("cloud", "switched off in the configuration: the hub calls nobody");
    }
    let Some(report) = report else {
        return Finding::new("cloud", Severity::Note, "whether a cloud is linked, a hub that runs knows", "Start the hub to see it.");
    };
    let state = report.cloud.get("state");
    let text = |key: &str| state.and_then(|state| state.get(key)).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let problem = state.and_then(|state| state.get("problem")).filter(|problem| !problem.is_null());
    match problem {
        Some(problem) => {
            let of = |key: &str| problem.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
            let next = Some(of("next")).filter(|next| !next.is_empty()).unwrap_or_else(|| "Look at the cloud on the hub's page.".into());
            Finding::new("cloud", Severity::Warning, format!("the cloud is not reached: {}", of("detail")), next)
        }
        None if report.cloud.get("linked").and_then(serde_json::Value::as_bool) != Some(true) => {
            Finding::ok("cloud", "no cloud is linked, and none is called")
        }
        None => Finding::ok("cloud", format!("linked ({})", text("phase"))),
    }
}

pub(super) fn versions(config: &Config) -> Finding {
    let (ledger, current, _) = update_ledger(config);
    if let Err(wrong) = config.update.vendor() {
        return Finding::new("update", Severity::Warning, wrong, "Correct `[update] key`.");
    }
    match (&ledger.trial, &ledger.last) {
        (Some(trial), _) => Finding::new(
            "update",
            Severity::Note,
            format!("version {} is being tried", trial.version),
            "Nothing: it stays, or the one before comes back.",
        ),
        (None, Some(last)) if last.ended == Ended::RolledBack => Finding::new(
            "update",
            Severity::Warning,
            format!(
                "version {} did not serve, and was given up: {}",
                last.version.as_ref().map_or("?", |version| version.as_str()),
                last.reason
            ),
            "Tell its vendor the reason. A later version is tried again.",
        ),
        _ => Finding::ok(
            "update",
            current.map_or_else(|| "the program of the system runs".to_owned(), |version| format!("version {version} runs")),
        ),
    }
}
