//! stub
use serde::{Deserialize, Serialize};
/// stub
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}
