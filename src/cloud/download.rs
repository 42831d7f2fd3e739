//! Registry batches on their way to the hub they were made for, and releases of firmware, whole or in parts (RFC 9110 §14).

use super::Context;
use super::call::{Answer, Call};
use super::reply::{Answered, Refused, Reply};
use super::request::Request;
use super::signed::SignedHub;
use crate::net::problem::Problem;
use hyper::header::{ACCEPT_RANGES, CONTENT_RANGE, RANGE};
use hyper::{Method, StatusCode};
use std::sync::Arc;

/// The calls of this file.
pub(super) const CALLS: &[Call] = &[
    Call::hub(&Method::GET, "/v1/hubs/{hub}/batches/{id}", "A registry batch, or a part of it (Range).", |context, request, hub| {
        Box::pin(batch(context, request, hub))
    })
    .gives(200, Answer::Octets)
    .refuses(&[416]),
    Call::hub(
        &Method::GET,
        "/v1/hubs/{hub}/firmware/{sha256}",
        "A release file for a model of this hub's devices, or a part of it (Range), by its hash.",
        |context, request, hub| Box::pin(firmware(context, request, hub)),
    )
    .gives(200, Answer::Octets)
    .refuses(&[416]),
];

/// Bytes of one answer at most. What is longer is asked for in parts.
const PART_MAX: u64 = 8 * 1024 * 1024;

/// What is asked of something so long.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    /// From this byte, so many.
    Part(u64, u64),
    Unsatisfiable,
}

async fn batch(context: Arc<Context>, request: Request, hub: SignedHub) -> Answered {
    let name = request.parameter(1);
    let length = context.makers.batch_length(&hub.id, name).await?;
    in_parts(&request, length, |from, count| context.makers.batch_bytes(&hub.id, name, from, count)).await
}

async fn firmware(context: Arc<Context>, request: Request, hub: SignedHub) -> Answered {
    let (number, length) = context.makers.release_file(&hub.id, request.parameter(1)).await?;
    in_parts(&request, length, |from, count| context.makers.release_bytes(number, from, count)).await
}

/// Answers with what is asked of something of this length.
async fn in_parts<F>(request: &Request, length: u64, read: impl FnOnce(u64, u64) -> F) -> Answered
where
    F: Future<Output = Result<Vec<u8>, Refused>>,
{
    let header = request.headers.get(RANGE).map(|v| v.to_str().unwrap_or_default());
    let (from, count, status) = match asked(header, length) {
        Asked::Whole if length > PART_MAX => {
            let problem = Problem::new(413, "in_parts", "It is too long for one answer")
                .detail(format!("Ask for at most {PART_MAX} bytes with Range."));
            return Err(problem.into());
        }
        Asked::Whole => (0, length, StatusCode::OK),
        Asked::Part(from, count) => (from, count.min(PART_MAX), StatusCode::PARTIAL_CONTENT),
        Asked::Unsatisfiable => {
            let refused = Refused::from(Problem::new(416, "range", "There is no such part"));
            return Ok(refused.reply().with(CONTENT_RANGE, &format!("bytes */{length}")));
        }
    };
    let body = read(from, count).await?;
    let last = (from + count).saturating_sub(1);
    let reply = Reply::typed(status, "application/octet-stream", body).with(ACCEPT_RANGES, "bytes");
    Ok(if status == StatusCode::PARTIAL_CONTENT { reply.with(CONTENT_RANGE, &format!("bytes {from}-{last}/{length}")) } else { reply })
}

/// Reads `Range`. Several ranges, other units and what is not of the form are as none (RFC 9110 §14.2).
fn asked(header: Option<&str>, length: u64) -> Asked {
    let Some((first, last)) = header.and_then(|h| h.strip_prefix("bytes=")).and_then(|h| h.split_once('-')) else { return Asked::Whole };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => part(first, last, length),
        (Ok(first), Err(_)) if last.is_empty() => part(first, u64::MAX, length),
        (Err(_), Ok(count)) if first.is_empty() => {
            if count == 0 || length == 0 {
                Asked::Unsatisfiable
            } else {
                part(length.saturating_sub(count), u64::MAX, length)
            }
        }
        _ => Asked::Whole,
    }
}

fn part(first: u64, last: u64, length: u64) -> Asked {
    if first >= length { Asked::Unsatisfiable } else { Asked::Part(first, last.min(length - 1) - first + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_what_the_standard_says() {
        for (header, expected) in [
            (None, Asked::Whole),
            (Some("bytes=0-4"), Asked::Part(0, 5)),
            (Some("bytes=5-"), Asked::Part(5, 5)),
            (Some("bytes=8-100"), Asked::Part(8, 2)),
            (Some("bytes=-3"), Asked::Part(7, 3)),
            (Some("bytes=-30"), Asked::Part(0, 10)),
            (Some("bytes=-0"), Asked::Unsatisfiable),
            (Some("bytes=10-"), Asked::Unsatisfiable),
            (Some("bytes=5-4"), Asked::Whole),
            (Some("bytes=0-1,3-4"), Asked::Whole),
            (Some("lines=0-1"), Asked::Whole),
            (Some("bytes=a-b"), Asked::Whole),
        ] {
            assert_eq!(asked(header, 10), expected, "{header:?}");
        }
        assert_eq!(asked(Some("bytes=0-0"), 0), Asked::Unsatisfiable);
    }
}
