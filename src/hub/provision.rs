//! What the configuration names to be trusted and taken at every start. A stick that was pulled out must not keep a
//! house without its hub: what fails is told, and the hub goes on with what it knows, unless it is told to be strict.

use super::{Config, StartError};
use crate::domain::ids::BrandId;
use crate::service::{Actor, Refusal, Service};
use std::path::Path;

/// Trusts and takes what the configuration names; what was not. Each is idempotent, so that the same configuration
/// starts again.
///
/// # Errors
/// The first failure, when the configuration is strict.
pub(super) async fn provision(service: &Service, config: &Config) -> Result<Vec<String>, StartError> {
    let mut failures = Vec::new();
    for (brand, fingerprint) in &config.trust {
        if let Err(source) = trust(service, brand, fingerprint).await {
            failures.push(StartError::Trust { brand: brand.clone(), source });
        }
    }
    for path in &config.import {
        if let Err(source) = import(service, path).await {
            failures.push(StartError::Import { path: path.display().to_string(), source });
        }
    }
    if config.provision_strictly && !failures.is_empty() {
        return Err(failures.swap_remove(0));
    }
    for error in &failures {
        tracing::error!(%error, "the hub goes on with what it knows");
    }
    Ok(failures.iter().map(ToString::to_string).collect())
}

async fn trust(service: &Service, brand: &str, fingerprint: &str) -> Result<(), Refusal> {
    let brand = BrandId::parse(brand).map_err(|_| Refusal::Invalid("a brand's name is 1 to 64 of a-z, 0-9 and -".into()))?;
    service.trust_brand(&Actor::console(), brand, fingerprint).await.map(drop)
}

async fn import(service: &Service, path: &Path) -> Result<(), Refusal> {
    if service.batch_is_known(path.to_owned()).await? {
        tracing::info!(path = %path.display(), "batch known already");
        return Ok(());
    }
    let report = service.import_batch(&Actor::console(), path.to_owned()).await?;
    tracing::info!(brand = %report.brand, added = report.added, known = report.known, "batch imported");
    Ok(())
}
