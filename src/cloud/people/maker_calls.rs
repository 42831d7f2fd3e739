//! The calls of a maker's people: signing in, their brand's fleet, bulletins, and what was done here for the brand.

use std::sync::Arc;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::fleet::{Filter, PAGE_MAX};
use super::services::Scope;
use super::tokens::{self, IDLE_MS, Kind};
use super::vendors::{self, Vendor, VendorAct};
use crate::cloud::Context;
use crate::cloud::call::{Answer, Body, Call, Who};
use crate::cloud::makers::acts::{self, Doer};
use crate::cloud::makers::calls::{bearer, hub_in_path};
use crate::cloud::makers::uploads::Uploads;
use crate::cloud::reply::{Answered, Refused, Reply};
use crate::cloud::request::Request;
use crate::domain::ids::HubId;
use crate::net::problem::Problem;

/// Entries of the audit that a page has.
const ACTS: i64 = 100;

/// The calls of this file.
pub(in crate::cloud) const CALLS: &[Call] = &[
    Call::open(&Method::POST, "/v1/vendor/session", "Sign one of a maker's people in, from a listed network.", |c, r| Box::pin(sign_in(c, r)))
        .takes(Body::Json(4096, "username, password"))
        .gives(201, Answer::Json("token, idle_s, user"))
        .refuses(&[401]),
    Call::open(&Method::DELETE, "/v1/vendor/session", "Sign out.", |c, r| Box::pin(sign_out(c, r)))
        .for_whom(Who::Vendor)
        .gives(204, Answer::Nothing),
    Call::open(&Method::GET, "/v1/vendor/me", "Who you are, and what your role may do.", |c, r| Box::pin(me(c, r)))
        .for_whom(Who::Vendor)
        .gives(200, Answer::Json("id, username, display_name, role, brand, networks, may")),
    Call::open(
        &Method::GET,
        "/v1/fleet",
        "Devices of your brand as their hubs last reported them, page by page. Also for programs with the scope read_fleet.",
        |c, r| Box::pin(fleet(c, r)),
    )
    .for_whom(Who::Vendor)
    .asked(&[
        ("model", "Only of this model."),
        ("firmware", "Only with this firmware."),
        ("trust", "attested, provisional or unattested."),
        ("standing", "waiting, claimed, ready, suspended or quarantined."),
        ("synced_before", "Whose hub was last heard of before, ms since 1970."),
        ("synced_after", "Whose hub was heard of since, ms since 1970."),
        ("hub", "Only at this hub: for roles that see hubs."),
        ("device", "Only this device."),
        ("limit", "Devices of a page: 1 to 500, 100 unless given."),
        ("after", "What the page before says as next."),
    ])
    .gives(200, Answer::Json("devices: device, hub, model, firmware, trust, standing, last_sync; next")),
    Call::open(&Method::GET, "/v1/fleet/summary", "How many devices of your brand are alike.", |c, r| Box::pin(summary(c, r)))
        .for_whom(Who::Vendor)
        .gives(200, Answer::Json("lines: model, firmware, trust, standing, devices")),
    Call::open(&Method::GET, "/v1/vendor/uploads", "The newest uploads of your brand.", |c, r| Box::pin(uploads(c, r)))
        .for_whom(Who::Vendor)
        .gives(200, Answer::Json("uploads")),
    Call::open(&Method::GET, "/v1/vendor/acts", "What was done here for your brand, and by whom; newest first.", |c, r| Box::pin(done(c, r)))
        .for_whom(Who::Vendor)
        .asked(&[("before", "Entries before this time, ms since 1970.")])
        .gives(200, Answer::Json("entries: at, actor, action, object, outcome, reason, detail, via")),
    Call::open(
        &Method::POST,
        "/v1/hubs/{hub}/bulletins",
        "A signed bulletin of what a hub has not yet heard; before, rights of programs on a device of your brand may be ended. People's rights are \
         their home's.",
        |c, r| Box::pin(bulletin(c, r)),
    )
    .for_whom(Who::Vendor)
    .takes(Body::Json(4096, "device (of your brand, at this hub), subject (app:… or service:…; all programs without one)"))
    .gives(201, Answer::Json("hub, number, marks, bulletin, ended")),
];

/// The person who calls.
pub(in crate::cloud) async fn vendor(context: &Context, request: &Request) -> Result<Vendor, Refused> {
    let token = bearer(request)?;
    if Kind::of(&token) != Some(Kind::Vendor) {
        return Err(Problem::signed_out().into());
    }
    let makers = &context.makers;
    let client = makers.shards.first().await?;
    let vendor = vendors::of_token(&client, &makers.region, &token, request.source, makers.now()).await;
    if vendor.is_err() {
        context.limits.attempt(request.source)?;
    }
    vendor
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    username: String,
    #[serde(deserialize_with = "tokens::secret")]
    password: Zeroizing<String>,
}

async fn sign_in(context: Arc<Context>, request: Request) -> Answered {
    context.limits.attempt(request.source)?;
    let given: SignIn = request.json()?;
    let makers = &context.makers;
    let mut client = makers.shards.first().await?;
    let who = (given.username.as_str(), given.password.as_str());
    let (token, view) = vendors::sign_in(&mut client, &makers.region, &makers.passwords, who, request.source, makers.now()).await?;
    Reply::json(hyper::StatusCode::CREATED, &json!({"token": token.as_str(), "idle_s": IDLE_MS / 1000, "user": view}))
}

async fn sign_out(context: Arc<Context>, request: Request) -> Answered {
    let token = bearer(&request)?;
    let client = context.makers.shards.first().await?;
    tokens::close(&client, &context.makers.region, Kind::Vendor, &token).await?;
    Ok(Reply::nothing())
}

async fn me(context: Arc<Context>, request: Request) -> Answered {
    let vendor = vendor(&context, &request).await?;
    let named = [
        ("summary", VendorAct::Summary),
        ("search", VendorAct::Search),
        ("see_hub", VendorAct::SeeHub),
        ("see_uploads", VendorAct::SeeUploads),
        ("bulletin", VendorAct::Bulletin),
        ("read_acts", VendorAct::ReadActs),
        ("see_releases", VendorAct::SeeReleases),
        ("stage_releases", VendorAct::StageReleases),
        ("withdraw_releases", VendorAct::WithdrawReleases),
    ];
    let may: Vec<&str> = named.into_iter().filter(|(_, act)| vendors::may(vendor.view.role, *act)).map(|(word, _)| word).collect();
    let mut shown = serde_json::to_value(&vendor.view).map_err(|error| Refused::fault("an account cannot be written", &error))?;
    if let Some(members) = shown.as_object_mut() {
        members.insert("may".to_owned(), may.into());
    }
    Reply::ok(&shown)
}

/// Who looks at a fleet: for which brand, whether they see hubs, and as whom they are recorded.
async fn looker(context: &Context, request: &Request) -> Result<(String, bool, Doer), Refused> {
    let token = bearer(request)?;
    if Kind::of(&token) == Some(Kind::Service) {
        let service = crate::cloud::makers::calls::service(context, request, Scope::ReadFleet).await?;
        return Ok((service.brand.as_str().to_owned(), true, service.doer));
    }
    let vendor = vendor(context, request).await?;
    vendor.require(VendorAct::Search)?;
    Ok((vendor.view.brand.clone(), vendors::may(vendor.view.role, VendorAct::SeeHub), vendor.doer))
}

async fn fleet(context: Arc<Context>, request: Request) -> Answered {
    let (brand, sees_hub, doer) = looker(&context, &request).await?;
    let hub = match request.query("hub") {
        Some(_) if !sees_hub => return Err(Problem::not_allowed("Your role does not see hubs.").next("Leave hub out.").into()),
        Some(hub) => Some(HubId::parse(&hub).map_err(|error| Problem::invalid(format!("hub: {error}")))?),
        None => None,
    };
    let filter = Filter {
        model: request.query("model"),
        firmware: request.query("firmware"),
        trust: request.query("trust"),
        standing: request.query("standing"),
        synced_before: request.number("synced_before")?,
        synced_after: request.number("synced_after")?,
        hub,
        device: request.query("device"),
    };
    let (after, limit) = (request.query("after"), request.number("limit")?.unwrap_or(100));
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::invalid("limit: 1 to 500").into());
    }
    let page = context.makers.search_fleet(&brand, &filter, sees_hub, after.as_deref(), limit).await?;
    if after.is_none() {
        record(&context, doer.did("fleet.search", format!("brand:{brand}"), request.uri.query().unwrap_or_default())).await?;
    }
    Reply::ok(&page)
}

async fn record(context: &Context, act: acts::Act) -> Result<(), Refused> {
    let mut client = context.makers.shards.first().await?;
    let tx = client.transaction().await?;
    acts::append(&tx, context.makers.now(), act).await?;
    tx.commit().await?;
    Ok(())
}

async fn summary(context: Arc<Context>, request: Request) -> Answered {
    let vendor = vendor(&context, &request).await?;
    vendor.require(VendorAct::Summary)?;
    Reply::ok(&json!({"lines": context.makers.fleet_summary(vendor.brand.as_str()).await?}))
}

async fn uploads(context: Arc<Context>, request: Request) -> Answered {
    let vendor = vendor(&context, &request).await?;
    vendor.require(VendorAct::SeeUploads)?;
    let uploads = Uploads { shards: context.makers.shards.clone(), region: context.makers.region.clone() };
    Reply::ok(&json!({"uploads": uploads.list(vendor.brand.as_str()).await?}))
}

async fn done(context: Arc<Context>, request: Request) -> Answered {
    let vendor = vendor(&context, &request).await?;
    vendor.require(VendorAct::ReadActs)?;
    let before = request.number("before")?.unwrap_or(u64::MAX >> 1);
    let mut entries = Vec::new();
    for pool in context.makers.shards.all() {
        let client = pool.get().await?;
        entries.extend(acts::page(&client, vendor.brand.as_str(), before, ACTS).await?);
    }
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.at, entry.seq)));
    entries.truncate(usize::try_from(ACTS).unwrap_or(100));
    let shown = entries.iter().map(|entry| {
        let mut shown = serde_json::to_value(&entry.event).unwrap_or(Value::Null);
        if let Some(members) = shown.as_object_mut() {
            members.insert("at".to_owned(), entry.at.into());
        }
        shown
    });
    Reply::ok(&json!({"entries": shown.collect::<Vec<_>>()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ending {
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    subject: Option<String>,
}

async fn bulletin(context: Arc<Context>, request: Request) -> Answered {
    let vendor = vendor(&context, &request).await?;
    vendor.require(VendorAct::Bulletin)?;
    let (hub, ending): (HubId, Ending) = (hub_in_path(&request)?, request.json()?);
    let makers = &context.makers;
    if !makers.has_brand(&hub, vendor.brand.as_str()).await? {
        return Err(Problem::not_found().detail("No such hub is linked here that has a device of your brand.").into());
    }
    let ended = match (&ending.device, &ending.subject) {
        (Some(device), subject) => makers.end_programs(&vendor, &hub, device, subject.as_deref()).await?,
        (None, None) => 0,
        (None, Some(_)) => return Err(Problem::invalid("device: say on which device").into()),
    };
    let made = makers.bulletin(&vendor.doer, &hub).await?;
    let mut shown = serde_json::to_value(&made).map_err(|error| Refused::fault("a bulletin cannot be written", &error))?;
    if let Some(members) = shown.as_object_mut() {
        members.insert("ended".to_owned(), ended.into());
    }
    Reply::json(hyper::StatusCode::CREATED, &shown)
}
