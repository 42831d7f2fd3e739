//! A box whose clock says 1970, or 2099: the hub starts and decides, keeps what is bound to a time closed, and devices that know its key sign
//! in as ever.

use super::rig::Home;
use super::tell;
use crate::durability::Process;
use crate::house::{Device, House};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::service::{Grant, Recipient};
use hearthkey::sim::mqtt::{ConnectOptions, Qos};
use hearthkey::sim::tls::Trust;
use std::path::PathBuf;

/// What makes a program believe in another time, where it is installed.
fn faketime() -> Option<PathBuf> {
    let found = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|dir| dir.path().join("faketime/libfaketimeMT.so.1"));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        tell("left out: libfaketime is not installed");
    }
    found
}

/// A device that knows the hub by its key signs in over TLS: whether it is let in as itself.
async fn is_let_in(home: &Home, process: &Process, device: &Device) -> bool {
    let (client, _) = process.tls(device, Trust::Pinned(home.ca.clone())).await;
    let Ok(mut client) = client else { return false };
    matches!(client.subscribe(&[(&device.topic("#"), Qos::AtLeastOnce)]).await.as_deref(), Ok([1]))
}

/// Whether a person with a right for a time gets at a device.
async fn gets_at(process: &Process, name: &str, token: &str, device: &Device) -> bool {
    let Ok(mut client) = process.connect(&ConnectOptions::new(name).credentials(format!("user:{name}"), token)).await else { return false };
    matches!(client.subscribe(&[(&device.topic("shadow/update/accepted"), Qos::AtLeastOnce)]).await.as_deref(), Ok([1]))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_clock_of_1970_or_2099_the_hub_decides_and_keeps_closed_what_is_bound_to_a_time() {
    let Some(library) = faketime() else { return };
    let house = House::new().await;
    let device = house.device("lamp").await;
    house.claim(&device).await;
    let (_, mia) = house.person("mia", Role::Member).await;
    let now = house.hub.service().now();
    let terms = Terms { until: Some(now + 3_600_000), ..Terms::of(Privilege::Operate) };
    house.hub.service().grant(&house.owner, &device.id, Grant { to: Recipient::Person("mia".into()), terms }).await.unwrap();
    let (_, pinned) = house.dial(Trust::FirstUse).await;
    let home = Home::of(house).await;
    let at = |time: Option<&str>| {
        let mut command = Process::command(&home.data);
        match time {
            Some(time) => {
                command.env("LD_PRELOAD", &library).env("FAKETIME", format!("@{time}")).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            }
            None => {
                command.env("HEARTHKEY_CLOCK__TRUSTED", "true");
            }
        }
        Process::by(command)
    };
    for time in [Some("1970-01-02 00:00:00"), None, Some("2099-06-01 00:00:00"), None] {
        let process = at(time).await;
        assert!(is_let_in(&home, &process, &device).await, "{time:?}: the device is kept out");
        assert_eq!(process.tls(&device, Trust::FirstUse).await.1, pinned, "{time:?}: the hub has another key");
        assert_eq!(gets_at(&process, "mia", &mia, &device).await, time.is_none(), "{time:?}: a right for a time");
        process.die().await;
    }
    home.audit(1).await;
}
