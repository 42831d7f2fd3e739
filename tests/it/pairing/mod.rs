//! Pairing over a stand-in for BlueZ: the real hub with its Bluetooth room, simulated devices, a private D-Bus.
//!
//! libdbus learns from the environment, when the process starts, which bus is the system's. So each test runs its own
//! program once more, with a bus address of its own in the environment ([`in_air`]).

mod ending;
mod improv;
mod lasting;
mod page;
mod radio;
mod rig;
mod wifi;

use std::future::Future;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use hearthkey::sim::bluez::Air;
use hearthkey::sim::pairing::{At, Fault};
use rig::Rig;

const BUS: &str = "HEARTHKEY_TEST_BUS";

/// Runs a test in a process whose system bus is `Air`'s.
fn in_air<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Air) -> F) {
    #[expect(clippy::disallowed_methods, reason = "says that this is the second process")]
    let bus = std::env::var(BUS).ok();
    let Some(bus) = bus else {
        let dir = tempfile::tempdir().unwrap();
        let bus = dir.path().join("bus");
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args([&format!("pairing::{name}"), "--exact", "--nocapture"]).env(BUS, &bus);
        let status = again.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", bus.display())).status().unwrap();
        assert!(status.success(), "{name} failed; what it says is above");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let air = Air::start().await.unwrap();
        let socket = PathBuf::from(air.address().strip_prefix("unix:path=").unwrap());
        symlink(socket, bus).unwrap();
        tokio::time::timeout(Duration::from_secs(240), test(air)).await.expect("the test took too long");
    });
}

#[test]
fn a_device_is_paired_whatever_the_mtu() {
    in_air("a_device_is_paired_whatever_the_mtu", async |air| {
        let rig = Rig::new(air).await;
        for mtu in [23, 185, 247, 517] {
            let mut device = rig.device(|_| {}).await;
            rig.place(&mut device, mtu);
            let done = rig.pair(&device).await;
            assert_eq!((done.step, done.problem), ("done", None), "{mtu}");
            assert_eq!(done.trust, Some(hearthkey::domain::device::Trust::Attested));
            assert!(done.encrypted);
            device.heard(|told| matches!(told, hearthkey::sim::pairing::Told::Paired { .. })).await;
            assert!(rig.owned(&device), "{mtu}");
            rig.disconnected(&device).await;
        }
    });
}

#[test]
fn a_device_is_found_among_others_by_its_label_alone() {
    in_air("a_device_is_found_among_others_by_its_label_alone", async |air| {
        let rig = Rig::new(air).await;
        let mut all = Vec::new();
        for _ in 0..4 {
            let mut device = rig.device(|_| {}).await;
            rig.place(&mut device, 185);
            all.push(device);
        }
        assert_eq!(rig.pair(&all[2]).await.step, "done");
        for (at, device) in all.iter().enumerate() {
            assert_eq!(rig.owned(device), at == 2, "{at}");
        }
    });
}

/// Every fault of the simulator with what a person is told; the fault `slow` is no failure.
const FAULTS: [(&str, &[&str]); 14] = [
    ("drop@connect", &["no_connection", "lost", "wrong_code", "malformed"]),
    ("drop@handshake", &["wrong_code", "lost"]),
    ("drop@hello", &["lost"]),
    ("drop@credential", &["lost"]),
    ("drop@stored", &["lost"]),
    ("wrong-code", &["wrong_code"]),
    ("silent", &["timed_out"]),
    // The last one of a message is not missed, but waited for.
    ("fragment-gap", &["malformed", "timed_out"]),
    ("old-firmware", &["malformed"]),
    ("unknown-version", &["other_version"]),
    ("clone", &["wrong_tag"]),
    ("wifi-refused", &["no_sign_in"]),
    ("wifi-not-found", &["no_sign_in"]),
    ("not-stored", &["not_stored"]),
];

#[test]
fn whatever_goes_wrong_both_sides_are_as_they_were_and_the_next_pairing_succeeds() {
    in_air("whatever_goes_wrong_both_sides_are_as_they_were_and_the_next_pairing_succeeds", async |air| {
        let rig = Rig::new(air).await;
        // Before any batch is imported, the hub asks a stranger for its model.
        let mut stranger = rig.stranger(|options| options.fault = Some(Fault::Drop(At::Model)));
        rig.place(&mut stranger, 185);
        let before = rig.both(&stranger);
        assert_eq!(rig.pair(&stranger).await.problem.map(|p| p.code), Some("lost"));
        rig.unchanged(&stranger, &before, "drop@model").await;
        stranger.remove(&rig).await;
        for (fault, problems) in FAULTS {
            let fault: Fault = fault.parse().unwrap();
            let mut device = rig.device(|options| options.fault = Some(fault)).await;
            rig.place(&mut device, 185);
            let before = rig.both(&device);
            let begun = rig.begin_with(&device, rig::home_wifi(), true).await.unwrap();
            let ended = rig.ended(&begun.id).await;
            if fault == Fault::Drop(At::Stored) && ended.step == "done" {
                // It was quicker with its sign-in than the radio with the news that the link is gone: it is paired.
                assert!(rig.owned(&device));
                device.remove(&rig).await;
                continue;
            }
            let problem = ended.problem.expect("a problem").code;
            println!("{fault}: {} {problem}", ended.step);
            assert!(ended.step == "failed" && problems.contains(&problem), "{fault}: {problem}");
            rig.disconnected(&device).await;
            rig.unchanged(&device, &before, &fault.to_string()).await;
            device.remove(&rig).await;
        }
        let mut device = rig.device(|_| {}).await;
        rig.place(&mut device, 185);
        assert_eq!(rig.pair(&device).await.step, "done");
    });
}

#[test]
fn a_slow_device_is_given_its_time() {
    in_air("a_slow_device_is_given_its_time", async |air| {
        let rig = Rig::new(air).await;
        let mut device = rig.device(|options| options.fault = Some(Fault::Slow)).await;
        rig.place(&mut device, 517);
        let ended = rig.pair(&device).await;
        println!("slow: {} {:?}", ended.step, ended.problem);
        assert!(ended.step == "done" || ended.problem.is_some_and(|p| p.code == "timed_out"));
    });
}
