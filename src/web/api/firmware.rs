//! Firmware: what there is, taking a release in, what people choose, and the download for devices.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal};
use crate::domain::authority::HubAction;
use crate::domain::firmware::policy::Policy;
use crate::domain::firmware::release::{HEAD_MAX, IMAGE_MAX};
use crate::domain::ids::{BrandId, ModelName};
use crate::net::problem::Problem;
use crate::service::{Download, PolicyTarget, Refusal, ReleaseOrigin, Service};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use std::io::{self, SeekFrom};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use warp::Reply;
use warp::http::StatusCode;
use warp::http::header::{self, HeaderMap};
use warp::reply::Response;

const FILE: &str = "application/octet-stream";
/// Longest release file: its mark and length, head and image.
const FILE_MAX: u64 = 10 + HEAD_MAX as u64 + IMAGE_MAX;
/// Bytes of an image that are read at a time.
const BLOCK: usize = 64 * 1024;

pub(in crate::web) async fn overview(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&context.service.firmware(&session.actor).map_err(refusal::problem)?)
}

/// The role is checked before a byte of the file is taken; the file is verified while it comes.
pub(in crate::web) async fn import(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    if !session.actor.may(HubAction::ImportIdentities) {
        return Err(refusal::problem(Refusal::RoleTooLow));
    }
    request.expect_type(&[FILE])?;
    request.check_length(FILE_MAX)?;
    let mut import = context.service.begin_release_import(ReleaseOrigin::File(session.actor)).map_err(refusal::problem)?;
    while let Some(part) = request.part(&context).await? {
        import.take(&part).await.map_err(refusal::problem)?;
    }
    answer::json(StatusCode::CREATED, &import.finish().await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn choose_for_model(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let (brand, model) = model(&request)?;
    choose(context, request, session, PolicyTarget::Model(brand, model)).await
}

pub(in crate::web) async fn choose_for_device(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let device = request.device()?;
    choose(context, request, session, PolicyTarget::Device(device)).await
}

async fn choose(context: Arc<Context>, mut request: Request, session: Session, target: PolicyTarget) -> Answered {
    let if_version = request.if_match()?;
    let policy: Policy = request.json(&context).await?;
    let chosen = context.service.set_firmware_policy(&session.actor, target, Some(policy), if_version).await.map_err(refusal::problem)?;
    Ok(answer::tagged(answer::ok(&chosen)?, chosen.version))
}

pub(in crate::web) async fn as_model(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let (target, if_version) = (PolicyTarget::Device(request.device()?), request.if_match()?);
    context.service.set_firmware_policy(&session.actor, target, None, if_version).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn resume(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let ((brand, model), rel) = (model(&request)?, rel(&request)?);
    context.service.resume_release(&session.actor, &brand, &model, rel).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn remove(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let ((brand, model), rel) = (model(&request)?, rel(&request)?);
    context.service.remove_release_image(&session.actor, &brand, &model, rel).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn of_device(context: Arc<Context>, request: Request, session: Session) -> Answered {
    shown(&context.service, &session, &request)
}

pub(in crate::web) async fn approve(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Approval {
        rel: u64,
    }
    let device = request.device()?;
    let body: Approval = request.json(&context).await?;
    context.service.approve_firmware(&session.actor, &device, body.rel).await.map_err(refusal::problem)?;
    shown(&context.service, &session, &request)
}

fn shown(service: &Service, session: &Session, request: &Request) -> Answered {
    let view = service.device_firmware(&session.actor, &request.device()?).map_err(refusal::problem)?;
    Ok(answer::tagged(answer::ok(&view)?, view.policy.version))
}

fn model(request: &Request) -> Result<(BrandId, ModelName), Problem> {
    let unknown = || Problem::not_found().detail("there is no such model");
    let brand = BrandId::parse(request.parameter(0)).map_err(|_| unknown())?;
    Ok((brand, ModelName::parse(request.parameter(1)).map_err(|_| unknown())?))
}

fn rel(request: &Request) -> Result<u64, Problem> {
    request.parameter(2).parse().map_err(|_| Problem::not_found().detail("there is no such release"))
}

/// What of an image is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    /// From the first of these bytes to the second, both included.
    Part(u64, u64),
    /// Bytes that there are not.
    Beyond,
}

/// A device fetches the image that it is offered. For everybody and everything else there is nothing here.
pub(in crate::web) async fn download(context: Arc<Context>, request: Request) -> Answered {
    let bearer = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    let ticket = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map_or("", |(_, ticket)| ticket.trim());
    let download = match context.service.firmware_download(request.parameter(0), ticket) {
        Ok(download) => download,
        Err(Refusal::NotFound(_)) => return Err(Problem::not_found()),
        Err(Refusal::TooMany(_)) => return Err(Problem::unavailable("As many devices fetch firmware as may at the same time.", 10)),
        Err(fault) => return Err(refusal::problem(fault)),
    };
    let etag = format!("\"{}\"", download.sha256);
    let (status, first, last) = match wanted(&request.headers, download.size, &etag) {
        Wanted::All => (StatusCode::OK, 0, download.size.saturating_sub(1)),
        Wanted::Part(first, last) => (StatusCode::PARTIAL_CONTENT, first, last),
        Wanted::Beyond => {
            let problem = Problem::new(416, "range", "The image has no such bytes");
            let response = answer::with(answer::problem(&problem), header::CONTENT_RANGE, &format!("bytes */{}", download.size));
            return Ok(answer::with(response, header::ETAG, &etag));
        }
    };
    let (size, length) = (download.size, last - first + 1);
    let response = sent(&context, download, first, length).await?;
    let response = answer::with(response, header::CONTENT_TYPE, FILE);
    let response = answer::with(response, header::CONTENT_LENGTH, &length.to_string());
    let response = answer::with(answer::with(response, header::ETAG, &etag), header::ACCEPT_RANGES, "bytes");
    if status == StatusCode::OK {
        return Ok(response);
    }
    let mut response = answer::with(response, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
    *response.status_mut() = status;
    Ok(response)
}

/// One range, or all of it: what is not understood is as if it were not there (RFC 9110 §14.2), and so is a range of what has
/// changed since (§13.1.5).
fn wanted(headers: &HeaderMap, size: u64, etag: &str) -> Wanted {
    let Some(range) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else { return Wanted::All };
    if headers.get(header::IF_RANGE).is_some_and(|value| value.as_bytes() != etag.as_bytes()) {
        return Wanted::All;
    }
    let Some((first, last)) = range.trim().strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Wanted::All;
    };
    let number = |text: &str| if text.bytes().all(|b| b.is_ascii_digit()) { text.parse::<u64>().ok() } else { None };
    match (first.is_empty(), number(first), last.is_empty(), number(last)) {
        (true, _, false, Some(0)) => Wanted::Beyond,
        (true, _, false, Some(length)) => Wanted::Part(size.saturating_sub(length), size.saturating_sub(1)),
        (false, Some(first), _, _) if first >= size && (last.is_empty() || number(last).is_some_and(|last| last >= first)) => {
            Wanted::Beyond
        }
        (false, Some(first), true, _) => Wanted::Part(first, size.saturating_sub(1)),
        (false, Some(first), false, Some(last)) if first <= last => Wanted::Part(first, last.min(size.saturating_sub(1))),
        _ => Wanted::All,
    }
}

/// The bytes, block by block: the next is read when the one before it is on its way. They end with the offer.
async fn sent(context: &Context, download: Download, first: u64, length: u64) -> Answered {
    let failed = |error: io::Error| {
        tracing::error!(%error, image = %download.sha256, "an image could not be read");
        Problem::unavailable("The image cannot be read.", 60)
    };
    let mut file = tokio::fs::File::open(&download.path).await.map_err(failed)?;
    file.seek(SeekFrom::Start(first)).await.map_err(failed)?;
    let (blocks, mut ready) = mpsc::channel::<io::Result<Bytes>>(1);
    let (service, shutdown) = (context.service.clone(), context.hooks.shutdown.clone());
    tokio::spawn(async move {
        let pump = async {
            let mut left = length;
            while left > 0 {
                let Ok(place) = blocks.reserve().await else { return };
                if !service.firmware_offer_stands(download.offer) {
                    return place.send(Err(io::Error::other("the offer has ended")));
                }
                let mut block = vec![0; usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK))];
                if let Err(error) = file.read_exact(&mut block).await {
                    return place.send(Err(error));
                }
                left -= block.len() as u64;
                place.send(Ok(block.into()));
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = blocks.closed() => {}
            () = pump => {}
        }
    });
    let body = stream::poll_fn(move |cx| ready.poll_recv(cx));
    Ok::<Response, Problem>(warp::reply::stream(body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_the_standard_has_it() {
        let asked = |range: &str, if_range: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, range.parse().unwrap());
            if let Some(tag) = if_range {
                headers.insert(header::IF_RANGE, tag.parse().unwrap());
            }
            wanted(&headers, 1_000, "\"tag\"")
        };
        for (range, expected) in [
            ("bytes=0-0", Wanted::Part(0, 0)),
            ("bytes=10-19", Wanted::Part(10, 19)),
            ("bytes=990-", Wanted::Part(990, 999)),
            ("bytes=990-5000", Wanted::Part(990, 999)),
            ("bytes=-10", Wanted::Part(990, 999)),
            ("bytes=-5000", Wanted::Part(0, 999)),
            ("bytes=1000-", Wanted::Beyond),
            ("bytes=1000-1001", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=5-1", Wanted::All),
            ("bytes=5000-1", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=0-1,5-6", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=99999999999999999999-", Wanted::All),
            ("items=0-1", Wanted::All),
        ] {
            assert_eq!(asked(range, None), expected, "{range}");
        }
        assert_eq!(asked("bytes=1-2", Some("\"tag\"")), Wanted::Part(1, 2));
        assert_eq!(asked("bytes=1-2", Some("\"other\"")), Wanted::All);
        assert_eq!(asked("bytes=1-2", Some("W/\"tag\"")), Wanted::All, "a weak tag serves for nothing here");
        assert_eq!(wanted(&HeaderMap::new(), 1_000, "\"tag\""), Wanted::All);
    }
}
