//! From what the house refuses to what HTTP says about it: the one place where that is decided.

use super::answer;
use crate::net::problem::Problem;
use crate::service::{FirmwareRefusal, Refusal, RegistryError};
use std::convert::Infallible;
use warp::reject::{self, Reject, Rejection};
use warp::reply::Response;

/// The problem that tells of `refusal`. Faults of the hub are logged here; their texts stay in the log.
pub(super) fn problem(refusal: Refusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        Refusal::SignedOut => Problem::signed_out(),
        Refusal::WrongPassword => Problem::sign_in_refused(),
        Refusal::SecondFactorRequired => Problem::new(401, "second_factor_required", "A second factor is needed")
            .next("Send the code that your authenticator app shows, or a recovery code."),
        Refusal::WrongSecondFactor => Problem::new(401, "sign_in_refused", "The code is wrong, or was used before")
            .next("Wait for the app's next code, or use a recovery code."),
        Refusal::WrongCode => Problem::new(401, "sign_in_refused", "This code sets no password")
            .next("Check it. It serves once and for a day: ask an owner for a new one."),
        // The reason says itself what to do.
        Refusal::NotAllowed(_) => Problem::not_allowed(detail).next(""),
        Refusal::RoleTooLow | Refusal::PeopleOnly => Problem::not_allowed(detail),
        Refusal::NotFound(_) => Problem::not_found().detail(detail),
        Refusal::ClaimRefused => Problem::claim_refused(),
        Refusal::Invalid(_) => Problem::invalid(detail),
        Refusal::Conflict(_) => Problem::conflict(detail),
        Refusal::VersionConflict(_) => Problem::version_conflict().detail(detail),
        Refusal::TooMany(wait_ms) => Problem::too_many(wait_ms),
        Refusal::Offline => Problem::offline(),
        Refusal::RecoveryCodeFirst => Problem::new(409, "recovery_code_first", "There is no recovery code yet")
            .detail(detail)
            .next("Make one and put it on paper; then agree to the bundle."),
        Refusal::Cloud(problem) => Problem::new(502, problem.code, "The cloud cannot be reached").detail(problem.detail).next(problem.next),
        Refusal::Twin(rejection) => match rejection.code {
            403 => Problem::not_allowed(detail),
            404 => Problem::not_found().detail(detail),
            409 => Problem::conflict(detail),
            413 => Problem::new(413, "too_large", "The request is too large").detail(detail),
            429 => Problem::too_many(1_000).detail(detail),
            500.. => Problem::internal(),
            _ => Problem::invalid(detail),
        },
        Refusal::Registry(RegistryError::Known(_)) => Problem::conflict(detail),
        Refusal::Registry(_) => Problem::invalid(detail),
        Refusal::Firmware(refused) => of_firmware(&refused, detail),
        Refusal::Retired => Problem::retired(),
        Refusal::Store(error) => {
            tracing::error!(%error, "a call could not be served");
            Problem::unavailable("The hub's store does not answer.", 5)
        }
    }
}

/// Why a release was not taken; its text says what to do.
fn of_firmware(refused: &FirmwareRefusal, detail: String) -> Problem {
    let (status, title) = match refused {
        FirmwareRefusal::TooLarge { .. } => (413, "The image is too large for this hub"),
        FirmwareRefusal::CacheFull => (409, "There is no room for the image"),
        FirmwareRefusal::RelTaken(_) => (409, "This contradicts what is there"),
        FirmwareRefusal::Busy => return Problem::unavailable(detail, 30),
        FirmwareRefusal::Disk(_) => {
            tracing::error!(error = %refused, "a release could not be kept");
            return Problem::unavailable("The hub has no room for the file.", 60).next("Free some disk space on the hub, then try again.");
        }
        _ => (422, "The release was not taken"),
    };
    Problem::new(status, refused.code(), title).detail(detail)
}

/// A problem as a rejection, for filters that run before any call is chosen.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Problem);

impl Reject for Refused {}

/// The answer to what no route has taken. What is not known better is not found: warp's rejections pile up over all
/// routes that were tried, and say little about the one that was meant.
pub(super) async fn of_rejection(rejection: Rejection) -> Result<Response, Infallible> {
    let problem = if let Some(Refused(problem)) = rejection.find() {
        problem.clone()
    } else if rejection.find::<reject::InvalidHeader>().is_some() {
        Problem::malformed("A header of the request cannot be read.")
    } else {
        Problem::not_found()
    };
    Ok(answer::problem(&problem))
}
