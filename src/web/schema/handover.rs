//! Bodies about handing a device on.

use serde::Deserialize;
use utoipa::ToSchema;

/// To whom a device goes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// The user name of who administers it from now on.
    pub username: String,
}

/// What takes a device's place.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// The new device, by its id.
    pub by: String,
    /// The code on its label, when it has not been claimed yet.
    #[serde(default)]
    pub code: Option<String>,
}
