//! Firmware of devices.

use super::Answer::{File, Json, Nothing, Tagged};
use super::Verb::{Delete, Get, Post, Put};
use super::{Body, Call};
use crate::web::api::firmware;

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Get, "/api/v1/firmware", "Releases, by model, and what holds for them", |c, _, s| Box::pin(firmware::overview(c, s)))
        .gives(&[(200, Json("Firmware"))])
        .refuses(&[403]),
    Call::signed_in(Post, "/api/v1/firmware", "Take in a release", |c, r, s| Box::pin(firmware::import(c, r, s)))
        .takes(Body::File)
        .gives(&[(201, Json("ImportedRelease"))])
        .refuses(&[409]),
    Call::signed_in(Put, "/api/v1/firmware/{brand}/{model}/policy", "Choose what holds for a model's devices", |c, r, s| {
        Box::pin(firmware::choose_for_model(c, r, s))
    })
    .takes(Body::Json("FirmwarePolicy"))
    .matching()
    .gives(&[(200, Tagged("ChosenFirmwarePolicy"))]),
    Call::signed_in(Post, "/api/v1/firmware/{brand}/{model}/{rel}/resume", "Let a release go on that was stopped", |c, r, s| {
        Box::pin(firmware::resume(c, r, s))
    })
    .gives(&[(204, Nothing)]),
    Call::signed_in(Delete, "/api/v1/firmware/{brand}/{model}/{rel}", "Remove the image of a release", |c, r, s| {
        Box::pin(firmware::remove(c, r, s))
    })
    .gives(&[(204, Nothing)])
    .refuses(&[409]),
    Call::signed_in(Get, "/api/v1/devices/{id}/firmware", "What a device runs, and what it is offered", |c, r, s| {
        Box::pin(firmware::of_device(c, r, s))
    })
    .gives(&[(200, Tagged("DeviceFirmware"))]),
    Call::signed_in(Put, "/api/v1/devices/{id}/firmware/policy", "Choose what holds for this device alone", |c, r, s| {
        Box::pin(firmware::choose_for_device(c, r, s))
    })
    .takes(Body::Json("FirmwarePolicy"))
    .matching()
    .gives(&[(200, Tagged("ChosenFirmwarePolicy"))]),
    Call::signed_in(Delete, "/api/v1/devices/{id}/firmware/policy", "Let hold for it what holds for its model", |c, r, s| {
        Box::pin(firmware::as_model(c, r, s))
    })
    .matching()
    .gives(&[(204, Nothing)]),
    Call::signed_in(Post, "/api/v1/devices/{id}/firmware/approve", "Say yes to one release", |c, r, s| {
        Box::pin(firmware::approve(c, r, s))
    })
    .takes(Body::Json("FirmwareApproval"))
    .gives(&[(200, Tagged("DeviceFirmware"))])
    .refuses(&[409]),
    Call::open(Get, "/firmware/{offer}", "A device fetches the image that it is offered, by its ticket", |c, r| {
        Box::pin(firmware::download(c, r))
    })
    .gives(&[(200, File), (206, File)])
    .refuses(&[416]),
];
