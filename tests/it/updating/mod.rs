//! New versions of the hub: from the vendor and from a file, tried, kept, given up; and `hearthkey doctor`.

mod cuts;
mod doctor;
mod files;
mod habit;
pub mod rig;
mod supervised;
#[cfg(feature = "sim")]
mod system;
mod vendor;
