//! The hand of whoever runs the cloud: brands, programs and people of makers, bulletins, and whether what was done here is
//! still as it was written.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::bulletins::Made;
use super::services::{self, NewService, ServiceView};
use super::vendors::{self, NewVendor, VendorView};
use crate::cloud::clock::MachineClock;
use crate::cloud::makers::Makers;
use crate::cloud::makers::acts::{self, Doer};
use crate::cloud::makers::tenants::{self, Tenant, TenantError};
use crate::cloud::operator::Operator;
use crate::cloud::pool::DatabaseError;
use crate::cloud::reply::Refused;
use crate::domain::audit::chain::{Broken, Verdict};
use crate::domain::ids::HubId;
use crate::domain::mirror::wire::{Kind, Mark};

/// Why something was not done; the text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// A brand.
    #[error(transparent)]
    Tenant(#[from] TenantError),
    /// The same as programs are told.
    #[error("{0}")]
    Refused(String),
    /// A database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// What was done here is not as it was written.
    #[error("database {shard}: {broken}")]
    Broken {
        /// Which, from 0.
        shard: usize,
        /// Where.
        broken: Broken,
    },
    /// A mark that the operator does not make.
    #[error("{0}")]
    Mark(String),
}

impl From<Refused> for HandError {
    fn from(refused: Refused) -> HandError {
        let problem = refused.problem;
        let parts = [problem.title, problem.detail.as_ref(), problem.next.as_ref()];
        HandError::Refused(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(". "))
    }
}

impl From<tokio_postgres::Error> for HandError {
    fn from(error: tokio_postgres::Error) -> HandError {
        HandError::Database(error.into())
    }
}

impl From<deadpool_postgres::PoolError> for HandError {
    fn from(error: deadpool_postgres::PoolError) -> HandError {
        HandError::Database(error.into())
    }
}

impl Operator {
    fn makers(&self) -> Makers {
        Makers::new(self.shards.clone(), &self.keys, Arc::new(MachineClock), self.config.limits.items_per_hub)
    }

    /// Takes a brand from its workshop directory, or what is new there.
    ///
    /// # Errors
    /// [`HandError`].
    pub async fn add_tenant(&self, dir: &Path) -> Result<Tenant, HandError> {
        let makers = self.makers();
        let mut client = makers.shards.first().await?;
        Ok(tenants::add(&mut client, &makers.region, dir, makers.now()).await?)
    }

    /// All brands.
    ///
    /// # Errors
    /// [`HandError`].
    pub async fn tenants(&self) -> Result<Vec<Tenant>, HandError> {
        let client = self.shards.first().await?;
        let mut all = Vec::new();
        for offer in tenants::offers(&client).await? {
            all.push(tenants::show(&client, &offer.id).await?);
        }
        Ok(all)
    }

    /// Makes a service account; its secret is shown this once.
    ///
    /// # Errors
    /// [`HandError`].
    pub async fn add_service(&self, new: &NewService) -> Result<(ServiceView, Zeroizing<String>), HandError> {
        let makers = self.makers();
        let mut client = makers.shards.first().await?;
        Ok(services::add(&mut client, &makers.region, new, makers.now()).await?)
    }

    /// Ends a service account.
    ///
    /// # Errors
    /// [`HandError`].
    pub async fn end_service(&self, id: &str) -> Result<(), HandError> {
        let makers = self.makers();
        let mut client = makers.shards.first().await?;
        Ok(services::end(&mut client, id, makers.now()).await?)
    }

    /// All service accounts.
    ///
    /// # Errors
    /// [`HandError`].
    pub async fn services(&self) -> Result<Vec<ServiceView>, HandError> {
        Ok(services::list(&*self.shards.first().await?).await?)
    }

    /// Makes an account for one of a maker's people.
    ///
    /// # Errors
    /// [`HandError`].
    pub async fn add_vendor(&self, new: &NewVendor) -> Result<VendorView, HandError> {
        let makers = self.makers();
        let mut client = makers.shards.first().await?;
        Ok(vendors::add(&mut client, &makers.passwords, new, makers.now()).await?)
    }

    /// Ends an account of a maker's people, by its name: its sessions are over when this returns.
    ///
    /// # Errors
    /// [`HandError`].
    pub async fn end_vendor(&self, username: &str) -> Result<VendorView, HandError> {
        let makers = self.makers();
        let mut client = makers.shards.first().await?;
        Ok(vendors::end(&mut client, username, makers.now()).await?)
    }

    /// All people of makers.
    ///
    /// # Errors
    /// [`HandError`].
    pub async fn vendors(&self) -> Result<Vec<VendorView>, HandError> {
        Ok(vendors::list(&*self.shards.first().await?).await?)
    }

    /// Ends what is named (`binding:<device>/<subject>`, `user:<id>`, `away:<id>`) at a hub, and signs a bulletin of all that
    /// the hub has not yet heard.
    ///
    /// # Errors
    /// [`HandError::Mark`] for what is not there, an owner, or who administers a device: those are ended at home.
    pub async fn sign_bulletin(&self, hub: &str, end: &[String]) -> Result<Made, HandError> {
        let hub = &HubId::parse(hub).map_err(|error| HandError::Mark(error.to_string()))?;
        let makers = self.makers();
        let mut marks = Vec::new();
        for named in end {
            marks.push(mark(&makers, hub, named).await?);
        }
        for mark in &marks {
            makers.raise(hub, mark).await?;
        }
        Ok(makers.bulletin(&Doer::operator(), hub).await?)
    }

    /// Follows what was done here, in every database.
    ///
    /// # Errors
    /// [`HandError::Broken`] where it does not hold.
    pub async fn verify_acts(&self) -> Result<Vec<Verdict>, HandError> {
        let mut all = Vec::new();
        for shard in 0..self.shards.count() {
            let client = self.shards.at(shard).await?;
            all.push(acts::verify(&client).await?.map_err(|broken| HandError::Broken { shard, broken })?);
        }
        Ok(all)
    }
}

async fn mark(makers: &Makers, hub: &HubId, named: &str) -> Result<Mark, HandError> {
    let wrong = |why: &str| HandError::Mark(format!("{named}: {why}"));
    let form = "write binding:<device>/<subject>, user:<id> or away:<id>";
    let (kind, key) = named.split_once(':').ok_or_else(|| wrong(form))?;
    let kind = match kind {
        "binding" => Kind::Binding,
        "user" => Kind::User,
        "away" => Kind::Away,
        _ => return Err(wrong(form)),
    };
    let client = makers.shards.of_hub(hub).await?;
    let row = super::away::standing_row(&client, hub, kind.word(), key).await?;
    let (generation, body) = row.ok_or_else(|| wrong("nothing of that name stands at this hub"))?;
    let says = |pointer: &str, text: &str| body.pointer(pointer).and_then(serde_json::Value::as_str) == Some(text);
    if (kind == Kind::User && says("/role", "owner")) || (kind == Kind::Binding && says("/terms/privilege", "administer")) {
        return Err(wrong("owners, and who administers a device, are ended at home: the hub would refuse this"));
    }
    Ok(Mark { kind, key: key.to_owned(), generation, at: makers.now(), by: "operator".to_owned() })
}
