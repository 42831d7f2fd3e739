//! Pairings that are ended: by a person, at every step.

use super::in_air;
use super::rig::{Rig, home_wifi};
use hearthkey::sim::bluez::Failing;
use hearthkey::sim::pairing::{At, Fault};

/// Cancels a pairing that is at a step, and looks that nothing is left of it.
async fn cancelled_at(
    rig: &Rig,
    step: &str,
    device: &super::rig::Simulated,
    id: &str,
    before: &(String, std::collections::BTreeMap<String, serde_json::Value>),
) {
    rig.step(id, step).await;
    rig.house.hub.service().cancel_pairing(&rig.house.owner, id).unwrap();
    assert_eq!(rig.ended(id).await.step, "cancelled", "{step}");
    rig.disconnected(device).await;
    rig.unchanged(device, before, step).await;
}

#[test]
fn a_pairing_is_cancelled_at_every_step() {
    in_air("ending::a_pairing_is_cancelled_at_every_step", async |air| {
        let rig = Rig::new(air).await;
        // It is not there: it is searched for, and another one waits behind it.
        let (absent, queued) = (rig.device(|_| {}).await, rig.device(|_| {}).await);
        let (absent_before, queued_before) = (rig.both(&absent), rig.both(&queued));
        let first = rig.begin(&absent).await.unwrap();
        rig.step(&first.id, "searching").await;
        let second = rig.begin(&queued).await.unwrap();
        cancelled_at(&rig, "queued", &queued, &second.id, &queued_before).await;
        cancelled_at(&rig, "searching", &absent, &first.id, &absent_before).await;

        let mut device = rig.device(|_| {}).await;
        rig.place_failing(&mut device, 185, Failing { connecting_hangs: true, ..Failing::default() });
        let before = rig.both(&device);
        let begun = rig.begin(&device).await.unwrap();
        cancelled_at(&rig, "connecting", &device, &begun.id, &before).await;
        device.remove(&rig).await;

        let mut device = rig.device(|options| options.fault = Some(Fault::Silent)).await;
        rig.place(&mut device, 185);
        let before = rig.both(&device);
        let begun = rig.begin(&device).await.unwrap();
        cancelled_at(&rig, "proving", &device, &begun.id, &before).await;
        device.remove(&rig).await;

        let mut device = rig.stranger(|_| {});
        rig.place(&mut device, 185);
        let before = rig.both(&device);
        let begun = rig.begin(&device).await.unwrap();
        cancelled_at(&rig, "confirming", &device, &begun.id, &before).await;
        device.remove(&rig).await;

        let mut device = rig.device(|_| {}).await;
        rig.place(&mut device, 23);
        let before = rig.both(&device);
        let begun = rig.begin(&device).await.unwrap();
        cancelled_at(&rig, "sending", &device, &begun.id, &before).await;
        device.remove(&rig).await;

        let mut device = rig.device(|options| options.fault = Some(Fault::Drop(At::SignIn))).await;
        rig.place(&mut device, 185);
        let begun = rig.begin(&device).await.unwrap();
        rig.step(&begun.id, "waiting").await;
        let known = rig.both(&device).0;
        rig.house.hub.service().cancel_pairing(&rig.house.owner, &begun.id).unwrap();
        assert_eq!(rig.ended(&begun.id).await.step, "cancelled");
        // Its power is gone: its side is undone when it starts again, which is the simulator's own test.
        assert_eq!(rig.both(&device).0, known);
        device.remove(&rig).await;

        // After all of that, the radio is free.
        let mut device = rig.device(|_| {}).await;
        rig.place(&mut device, 247);
        assert_eq!(rig.pair(&device).await.step, "done");
    });
}

#[test]
fn a_provisional_device_waits_for_a_person_and_then_gets_its_network() {
    in_air("ending::a_provisional_device_waits_for_a_person_and_then_gets_its_network", async |air| {
        let rig = Rig::new(air).await;
        let mut device = rig.stranger(|_| {});
        rig.place(&mut device, 185);
        let begun = rig.begin(&device).await.unwrap();
        rig.step(&begun.id, "confirming").await;
        rig.house.hub.service().confirm_pairing(&rig.house.owner, &begun.id, Some(home_wifi())).unwrap();
        let done = rig.ended(&begun.id).await;
        assert_eq!((done.step, done.problem), ("done", None));
        assert_eq!(done.trust, Some(hearthkey::domain::device::Trust::Provisional));
    });
}
