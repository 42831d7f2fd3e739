//! The mirror as the hub lives it: linking a cloud, what is sent to it, and what becomes of what it brings. The cloud is a
//! courier and a witness: whatever comes from it is a wish of a person whom this hub knows, and is decided here; only marks
//! of revocation are taken as they are, within bounds.
//!
//! What goes over the wire is `domain::mirror`'s; carrying it is the adapter's, which calls what is public here.

mod adapter;

pub use adapter::{Applied, CloudLook, LinkTarget, LookProblem, Looking, MirrorPhase, MirrorProblem, MirrorState, Prepared, Ticket};

use crate::domain::mirror::wire::CloudView;
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::watch;

/// What is shared in memory.
pub(super) struct Desk {
    target: watch::Sender<Option<LinkTarget>>,
    retired: watch::Sender<bool>,
    state: Mutex<MirrorState>,
    look: OnceLock<Arc<dyn CloudLook>>,
    /// The cloud that was looked at last.
    looked: Mutex<Option<CloudView>>,
}

impl Default for Desk {
    fn default() -> Self {
        Desk {
            target: watch::channel(None).0,
            retired: watch::channel(false).0,
            state: Mutex::default(),
            look: OnceLock::new(),
            looked: Mutex::default(),
        }
    }
}
