//! The hub, signing in, accounts, devices, twins, commands, events, the registry.

use super::Answer::{Events, Free, Json, Nothing, Tagged, Text};
use super::Verb::{Delete, Get, Patch, Post, Put};
use super::{Body, Call};
use crate::web::api::{access, bindings, commands, devices, hub, people, registry, twins};
use crate::web::{events, openapi};

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::open(Get, "/api/openapi.json", "This description", |_, _| Box::pin(openapi::show())).gives(&[(200, Free)]),
    Call::open(Get, "/metrics", "Metrics in Prometheus' text format, for programs on this box and for owners", |c, r| {
        Box::pin(hub::metrics(c, r))
    })
    .gives(&[(200, Text)])
    .refuses(&[401, 403]),
    Call::open(Get, "/api/v1/hub", "What hub this is", |c, _| Box::pin(hub::show(c))).gives(&[(200, Json("Hub"))]),
    Call::open(Post, "/api/v1/setup", "Make the first owner", |c, r| Box::pin(people::set_up(c, r)))
        .takes(Body::Json("Setup"))
        .gives(&[(201, Json("Opened"))])
        .refuses(&[401, 403, 409, 429]),
    Call::open(Post, "/api/v1/sessions", "Sign in", |c, r| Box::pin(people::sign_in(c, r)))
        .takes(Body::Json("SignIn"))
        .gives(&[(201, Json("Opened"))])
        .refuses(&[401, 403, 429]),
    Call::signed_in(Delete, "/api/v1/sessions/current", "Sign out", |c, _, s| Box::pin(people::sign_out(c, s))).gives(&[(204, Nothing)]),
    Call::signed_in(Get, "/api/v1/me", "Who is signed in", |c, _, s| Box::pin(people::me(c, s))).gives(&[(200, Json("Me"))]),
    Call::signed_in(Get, "/api/v1/users", "All accounts", |c, _, s| Box::pin(people::list(c, s)))
        .gives(&[(200, Json("Users"))])
        .refuses(&[403]),
    Call::signed_in(Post, "/api/v1/users", "Make an account", |c, r, s| Box::pin(people::add(c, r, s)))
        .takes(Body::Json("NewUser"))
        .gives(&[(201, Json("User"))])
        .refuses(&[409]),
    Call::signed_in(Delete, "/api/v1/users/{user}", "End an account, its rights, and the rights it gave", |c, r, s| {
        Box::pin(people::end(c, r, s))
    })
    .queried(&[
        ("keep_grants", "1 to let the rights stand that it gave to others"),
        ("erase", "1 to erase what is personal, in the audit too"),
    ])
    .gives(&[(200, Json("Bindings"))])
    .refuses(&[403, 404, 409, 422]),
    Call::signed_in(Put, "/api/v1/me/password", "Change one's password; other sessions end", |c, r, s| {
        Box::pin(people::change_password(c, r, s))
    })
    .takes(Body::Json("PasswordChange"))
    .gives(&[(204, Nothing)])
    .refuses(&[429]),
    Call::signed_in(Get, "/api/v1/devices", "The devices one may see", |c, _, s| Box::pin(devices::list(c, s)))
        .gives(&[(200, Json("Devices"))]),
    Call::signed_in(Get, "/api/v1/devices/{id}", "A device", |c, r, s| Box::pin(devices::show(c, r, s))).gives(&[(200, Tagged("Device"))]),
    Call::signed_in(Patch, "/api/v1/devices/{id}", "Change its name or room", |c, r, s| Box::pin(devices::change(c, r, s)))
        .takes(Body::Json("DeviceEdit"))
        .matching()
        .gives(&[(200, Tagged("Device"))]),
    Call::signed_in(Delete, "/api/v1/devices/{id}", "Remove it: it waits to be claimed again", |c, r, s| {
        Box::pin(devices::remove(c, r, s))
    })
    .gives(&[(204, Nothing)]),
    Call::signed_in(Post, "/api/v1/devices/{id}/suspend", "Shut it out", |c, r, s| Box::pin(devices::suspend(c, r, s, true)))
        .gives(&[(200, Tagged("Device"))])
        .refuses(&[409]),
    Call::signed_in(Post, "/api/v1/devices/{id}/resume", "Let it in again", |c, r, s| Box::pin(devices::suspend(c, r, s, false)))
        .gives(&[(200, Tagged("Device"))])
        .refuses(&[409]),
    Call::signed_in(Post, "/api/v1/devices/{id}/certificate", "Make a client certificate for it", |c, r, s| {
        Box::pin(devices::certify(c, r, s))
    })
    .takes(Body::Json("CertificateRequest"))
    .gives(&[(201, Json("Certificate"))]),
    Call::signed_in(Get, "/api/v1/devices/{id}/bindings", "Who has which right on it", |c, r, s| Box::pin(bindings::list(c, r, s)))
        .gives(&[(200, Json("Bindings"))]),
    Call::signed_in(Post, "/api/v1/devices/{id}/bindings", "Give a right, or change one", |c, r, s| Box::pin(bindings::grant(c, r, s)))
        .takes(Body::Json("NewBinding"))
        .gives(&[(200, Json("Binding"))])
        .refuses(&[409]),
    Call::signed_in(Delete, "/api/v1/devices/{id}/bindings/{user}", "Take a right away, and the rights it gave; or leave", |c, r, s| {
        Box::pin(bindings::revoke(c, r, s))
    })
    .queried(&[("keep_grants", "1 to let the rights stand that it gave to others")])
    .gives(&[(200, Json("Bindings"))])
    .refuses(&[409, 422]),
    Call::signed_in(Post, "/api/v1/devices/{id}/administration", "Take its administration, as an owner of the hub", |c, r, s| {
        Box::pin(bindings::administer(c, r, s))
    })
    .gives(&[(200, Tagged("Device"))])
    .refuses(&[409]),
    Call::signed_in(Get, "/api/v1/devices/{id}/twin", "Its state", |c, r, s| Box::pin(twins::show(c, r, s)))
        .gives(&[(200, Tagged("Twin"))])
        .refuses(&[403]),
    Call::signed_in(Patch, "/api/v1/devices/{id}/twin/desired", "Change what is desired (merge patch)", |c, r, s| {
        Box::pin(twins::desire(c, r, s))
    })
    .takes(Body::Json("Desired"))
    .matching()
    .gives(&[(200, Tagged("Twin"))])
    .refuses(&[409]),
    Call::signed_in(Post, "/api/v1/devices/{id}/commands", "Tell it to do something now", |c, r, s| Box::pin(commands::send(c, r, s)))
        .takes(Body::Json("NewCommand"))
        .gives(&[(202, Json("Command")), (200, Json("Command"))])
        .refuses(&[409]),
    Call::signed_in(Get, "/api/v1/devices/{id}/commands/{cmd}", "A command and how far it is", |c, r, s| Box::pin(commands::show(c, r, s)))
        .gives(&[(200, Json("Command"))])
        .refuses(&[403]),
    Call::signed_in(Post, "/api/v1/claims", "Claim a device by its code", |c, r, s| Box::pin(devices::claim(c, r, s)))
        .takes(Body::Json("Claim"))
        .gives(&[(201, Tagged("Device"))])
        .refuses(&[404, 429]),
    Call::signed_in(Get, "/api/v1/models/{brand}/{model}", "A device type", |c, r, _| Box::pin(registry::model(c, r)))
        .gives(&[(200, Json("Model"))]),
    Call::signed_in(Get, "/api/v1/events", "What happens, as Server-Sent Events", |c, r, s| Box::pin(events::stream(c, r, s)))
        .gives(&[(200, Events)])
        .refuses(&[429]),
    Call::signed_in(Post, "/api/v1/access/explain", "Why something is allowed, or not", |c, r, s| Box::pin(access::explain(c, r, s)))
        .takes(Body::Json("Question"))
        .gives(&[(200, Json("Explanation"))])
        .refuses(&[403, 404]),
    Call::signed_in(Get, "/api/v1/hub/request", "The line a maker needs to make a batch for this hub", |c, _, s| {
        Box::pin(hub::request_line(c, s))
    })
    .gives(&[(200, Text)])
    .refuses(&[403]),
    Call::signed_in(Get, "/api/v1/brands", "The brands that are believed", |c, _, s| Box::pin(registry::brands(c, s)))
        .gives(&[(200, Json("Brands"))])
        .refuses(&[403]),
    Call::signed_in(Put, "/api/v1/brands/{id}", "Believe a brand", |c, r, s| Box::pin(registry::trust(c, r, s)))
        .takes(Body::Json("TrustBrand"))
        .gives(&[(200, Json("Brand"))])
        .refuses(&[409]),
    Call::signed_in(Post, "/api/v1/batches", "Take in a registry batch", |c, r, s| Box::pin(registry::batch(c, r, s)))
        .takes(Body::File)
        .gives(&[(201, Json("Import"))])
        .refuses(&[409]),
    Call::signed_in(Post, "/api/v1/vouchers", "Take in a voucher", |c, r, s| Box::pin(registry::voucher(c, r, s)))
        .takes(Body::File)
        .gives(&[(201, Json("Introduced"))])
        .refuses(&[409]),
];
