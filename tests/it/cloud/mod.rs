//! The reference cloud over a real PostgreSQL of its own, driven by a hub that is written here over the protocol's pure
//! functions: what it keeps, what it refuses, and that nothing acknowledged is ever lost.

mod audits;
mod crashes;
mod database_tls;
mod exchange;
mod linking;
mod replacement;
pub mod rig;
mod several;
mod wakes;
