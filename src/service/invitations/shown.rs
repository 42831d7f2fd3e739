//! Invitations as they are shown: to those who list them, to whoever shows the code, and in the audit.

use crate::domain::account::{Role, UserId};
use crate::domain::binding::{Subject, Terms};
use crate::domain::device::Household;
use crate::domain::ids::DeviceId;
use crate::service::bindings::name_of;
use crate::store::tables::{Invitation, Promise};
use crate::store::{Read, StoreError};
use serde::Serialize;

/// Rights that an audit entry names.
const NAMED: usize = 20;

/// An invitation as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct InvitationView {
    /// Its id.
    pub id: String,
    /// Who gives.
    pub by: UserId,
    /// What people call who gives.
    pub by_name: String,
    /// The role of the account that it makes.
    pub role: Option<Role>,
    /// How the one who is meant is called.
    pub display_name: String,
    /// The rights that it gives.
    pub grants: Vec<PromiseView>,
    /// When it was made, ms since 1970.
    pub created_at: u64,
    /// Until when it serves, ms since 1970.
    pub expires: u64,
}

/// A promised right, to those who may know the device.
#[derive(Clone, Debug, Serialize)]
pub struct PromiseView {
    /// On which device.
    pub device_id: DeviceId,
    /// What people call it.
    pub device_name: String,
    /// What it gives.
    #[serde(flatten)]
    pub terms: Terms,
}

/// An invitation as whoever shows its code sees it.
#[derive(Clone, Debug, Serialize)]
pub struct InvitationLook {
    /// The hub's name.
    pub hub: String,
    /// What people call who gives.
    pub by_name: String,
    /// The role of the account that it makes.
    pub role: Option<Role>,
    /// How the one who is meant is called.
    pub display_name: String,
    /// The rights that it gives.
    pub grants: Vec<GiftView>,
    /// Until when it serves, ms since 1970.
    pub expires: u64,
}

/// A promised right, to who is invited.
#[derive(Clone, Debug, Serialize)]
pub struct GiftView {
    /// What people call the device.
    pub device_name: String,
    /// What it gives.
    #[serde(flatten)]
    pub terms: Terms,
}

pub(super) fn listed<R: Read>(rows: &R, row: Invitation) -> Result<InvitationView, StoreError> {
    let view = |p: Promise| Ok(PromiseView { device_name: device_name(rows, &p.device)?, device_id: p.device, terms: p.terms });
    Ok(InvitationView {
        by_name: name_of(rows, &Subject::User(row.by.clone()))?,
        grants: row.grants.into_iter().map(view).collect::<Result<_, StoreError>>()?,
        id: row.id,
        by: row.by,
        role: row.role,
        display_name: row.display_name,
        created_at: row.created_at,
        expires: row.expires_at,
    })
}

/// What whoever shows the code is told.
pub(super) fn looked<R: Read>(rows: &R, hub: &str, row: Invitation) -> Result<InvitationLook, StoreError> {
    let view = |p: Promise| Ok(GiftView { device_name: device_name(rows, &p.device)?, terms: p.terms });
    Ok(InvitationLook {
        hub: hub.to_owned(),
        by_name: name_of(rows, &Subject::User(row.by))?,
        grants: row.grants.into_iter().map(view).collect::<Result<_, StoreError>>()?,
        role: row.role,
        display_name: row.display_name,
        expires: row.expires_at,
    })
}

/// What people call a device.
pub(super) fn device_name<R: Read>(rows: &R, device: &DeviceId) -> Result<String, StoreError> {
    Ok(rows.get::<Household>(device.as_str().as_bytes())?.map_or_else(|| device.to_string(), |h| h.name))
}

/// For the audit: what is promised. The code is not part of it.
pub(super) fn told(row: &Invitation) -> String {
    let mut text = row.role.map_or_else(|| "shares".to_owned(), |role| format!("account as {role:?}").to_lowercase());
    for promise in row.grants.iter().take(NAMED) {
        let privilege = format!("{:?}", promise.terms.privilege).to_lowercase();
        text.push_str(&format!(", {privilege} on {}", promise.device));
    }
    text
}
