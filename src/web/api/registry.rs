//! The registry: brands, batches, vouchers, models.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::domain::authority::HubAction;
use crate::domain::ids::{BrandId, ModelName};
use crate::net::problem::Problem;
use crate::service::Refusal;
use serde_json::json;
use std::sync::Arc;
use warp::http::StatusCode;

const FILE: &str = "application/octet-stream";
/// Longest voucher file that is read at all, in bytes; what a voucher may have is the service's to say.
const VOUCHER_BYTES: usize = 256 * 1024;

pub(in crate::web) async fn brands(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&json!({"brands": context.service.brands(&session.actor).map_err(refusal::problem)?}))
}

pub(in crate::web) async fn trust(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    may(&session, HubAction::ManageRegistry)?;
    let brand = BrandId::parse(request.parameter(0)).map_err(|e| Problem::invalid(e.to_string()))?;
    let body: schema::TrustBrand = request.json(&context).await?;
    answer::ok(&context.service.trust_brand(&session.actor, brand, &body.fingerprint).await.map_err(refusal::problem)?)
}

/// The role is checked before a byte of the file is taken.
pub(in crate::web) async fn batch(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    may(&session, HubAction::ImportIdentities)?;
    request.expect_type(&[FILE])?;
    let Ok(_place) = context.uploads.try_acquire() else {
        return Err(Problem::unavailable("Other batches are being taken in.", 30));
    };
    let upload = request.file(&context, context.config.batch_bytes).await?;
    let report = context.service.import_batch(&session.actor, upload.path().to_owned()).await.map_err(refusal::problem)?;
    answer::json(StatusCode::CREATED, &report)
}

pub(in crate::web) async fn voucher(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    may(&session, HubAction::ImportIdentities)?;
    request.expect_type(&[FILE])?;
    let file = request.bytes(&context, VOUCHER_BYTES).await?;
    let device = context.service.import_voucher(&session.actor, &file).await.map_err(refusal::problem)?;
    answer::json(StatusCode::CREATED, &json!({"device_id": device.id, "brand": device.brand, "model": device.model}))
}

pub(in crate::web) async fn model(context: Arc<Context>, request: Request) -> Answered {
    let unknown = || Problem::not_found().detail("there is no such model");
    let brand = BrandId::parse(request.parameter(0)).map_err(|_| unknown())?;
    let name = ModelName::parse(request.parameter(1)).map_err(|_| unknown())?;
    answer::ok(&context.service.model(&brand, &name).map_err(refusal::problem)?.to_json())
}

fn may(session: &Session, action: HubAction) -> Result<(), Problem> {
    if session.actor.may(action) { Ok(()) } else { Err(refusal::problem(Refusal::RoleTooLow)) }
}
