//! The calls about releases of firmware: of makers' programs, and of their people.

use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::acts::Doer;
use super::calls::{bearer, service, stream};
use super::releases::Staging;
use crate::cloud::Context;
use crate::cloud::call::{Answer, Body, Call, Who};
use crate::cloud::people::maker_calls::vendor;
use crate::cloud::people::services::Scope;
use crate::cloud::people::tokens::Kind;
use crate::cloud::people::vendors::VendorAct;
use crate::cloud::reply::{Answered, Refused, Reply};
use crate::cloud::request::Request;
use crate::net::problem::Problem;

const SHOWN: &str = "brand, model, rel, version, hardware, image_sha256, image_size, notes, least_before, security_minimum, made_at, sha256, size, \
     percent, stopped, withdrawn, by, at, changed_at";

/// The calls of this file.
pub(in crate::cloud) const CALLS: &[Call] = &[
    Call::open(
        &Method::POST,
        "/v1/releases",
        "Upload a release of firmware: the file that the maker has signed. Hubs are told once it is whole and has been verified. The same again \
         is the same (200); another image under a number that is taken is refused.",
        |c, r| Box::pin(upload(c, r)),
    )
    .for_whom(Who::Service)
    .takes(Body::Parts("application/octet-stream"))
    .asked(&[
        ("brand", "Whose release: the account's own brand."),
        ("percent", "Of all houses' devices so many percent get it; 0 unless given: then nobody does before it is staged."),
    ])
    .gives(201, Answer::Json(SHOWN))
    .refuses(&[409, 422]),
    Call::open(&Method::GET, "/v1/releases", "The releases of the brand, the newest of each model first.", |c, r| Box::pin(list(c, r)))
        .for_whom(Who::Service)
        .gives(200, Answer::Json("releases")),
    Call::open(
        &Method::PATCH,
        "/v1/releases/{model}/{rel}",
        "Say how many houses get a release, or that nobody else does. For programs with the scope upload_releases, developers and product managers.",
        |c, r| Box::pin(stage(c, r)),
    )
    .for_whom(Who::Service)
    .takes(Body::Json(1024, "percent (0 to 100), stopped; or one of the two"))
    .gives(200, Answer::Json(SHOWN))
    .refuses(&[404, 409, 422]),
    Call::open(
        &Method::DELETE,
        "/v1/releases/{model}/{rel}",
        "Withdraw a release, for good: hubs offer it to nobody any more, its file is gone, and its number stays taken. Devices that have become it \
         keep it. For developers and product managers; not for programs.",
        |c, r| Box::pin(withdraw(c, r)),
    )
    .for_whom(Who::Vendor)
    .gives(200, Answer::Json(SHOWN))
    .refuses(&[404]),
];

/// Who acts on releases, and of which brand.
async fn who(context: &Context, request: &Request, act: VendorAct) -> Result<(String, Doer), Refused> {
    if Kind::of(&bearer(request)?) == Some(Kind::Service) {
        let service = service(context, request, Scope::UploadReleases).await?;
        return Ok((service.brand.as_str().to_owned(), service.doer));
    }
    let vendor = vendor(context, request).await?;
    vendor.require(act)?;
    Ok((vendor.brand.as_str().to_owned(), vendor.doer))
}

async fn upload(context: Arc<Context>, mut request: Request) -> Answered {
    let service = service(&context, &request, Scope::UploadReleases).await?;
    if request.query("brand").is_some_and(|named| named != service.brand.as_str()) {
        return Err(Problem::not_allowed("This account is of another brand.").next("Use an account of that brand.").into());
    }
    let percent = percent(request.number("percent")?)?.unwrap_or(0);
    let body = request.parts.take().ok_or_else(|| Refused::fault("an upload", &"no body"))?;
    let (view, new) = context.makers.take_release(&service.doer, &service.brand, percent, stream(body)).await?;
    Reply::json(if new { StatusCode::CREATED } else { StatusCode::OK }, &view)
}

async fn list(context: Arc<Context>, request: Request) -> Answered {
    let (brand, _) = who(&context, &request, VendorAct::SeeReleases).await?;
    Reply::ok(&json!({"releases": context.makers.releases_of(&brand).await?}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    #[serde(default)]
    percent: Option<u64>,
    #[serde(default)]
    stopped: Option<bool>,
}

async fn stage(context: Arc<Context>, request: Request) -> Answered {
    let (brand, doer) = who(&context, &request, VendorAct::StageReleases).await?;
    let given: Stage = request.json()?;
    let staging = Staging { percent: percent(given.percent)?, stopped: given.stopped };
    if staging.percent.is_none() && staging.stopped.is_none() {
        return Err(Problem::invalid("percent, stopped: say at least one of them").into());
    }
    let rel = request.parameter(1).parse().map_err(|_| Problem::not_found())?;
    Reply::ok(&context.makers.stage_release(&doer, (&brand, request.parameter(0), rel), staging).await?)
}

async fn withdraw(context: Arc<Context>, request: Request) -> Answered {
    let vendor = vendor(&context, &request).await?;
    vendor.require(VendorAct::WithdrawReleases)?;
    let rel = request.parameter(1).parse().map_err(|_| Problem::not_found())?;
    Reply::ok(&context.makers.withdraw_release(&vendor.doer, (vendor.brand.as_str(), request.parameter(0), rel)).await?)
}

fn percent(given: Option<u64>) -> Result<Option<u8>, Refused> {
    let wrong = || Problem::invalid("percent: 0 to 100");
    let read = |percent| u8::try_from(percent).ok().filter(|percent| *percent <= 100).ok_or_else(wrong);
    Ok(given.map(read).transpose()?)
}
