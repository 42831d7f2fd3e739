//! Temporary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code, reason = "a test that cannot go on fails")]
#[path = "it/house.rs"]
mod house;
mod cloud {
    #[path = "../it/cloud/rig.rs"]
    pub mod rig;
}
#[path = "it/partitions/mod.rs"]
mod partitions;
