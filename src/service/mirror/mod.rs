//! The mirror as the hub lives it: linking a cloud, what is sent to it, and what becomes of what it brings. The cloud is a
//! courier and a witness: whatever comes from it is a wish of a person whom this hub knows, and is decided here; only marks
//! of revocation are taken as they are, within bounds.
//!
//! What goes over the wire is `domain::mirror`'s; carrying it is the adapter's, which calls what is public here.

mod adapter;
mod age;
mod arrive;
mod away;
mod batch;
mod figures;
mod forged;
mod link;
mod marks;
mod news;
mod offers;
mod requests;
mod rows;
mod view;

pub use adapter::{Applied, CloudLook, LinkTarget, LookProblem, Looking, MirrorPhase, MirrorProblem, MirrorState, Prepared, Ticket};
pub use away::{AwayKeyView, MadeAwayKey};
pub use figures::MirrorFigures;
pub use link::NewLink;
pub use view::{CloudStatus, NoticeView, Pending};

pub(super) use away::end_away_keys_of;
pub(super) use marks::{end_life_of, raise_to};
pub(super) use news::put_own_notice;
pub(super) use requests::is_from_cloud;
pub(super) use rows::{marked, parse_binding};

use crate::domain::mirror::wire::CloudView;
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::watch;

/// What is shared in memory.
pub(super) struct Desk {
    target: watch::Sender<Option<LinkTarget>>,
    state: Mutex<MirrorState>,
    look: OnceLock<Arc<dyn CloudLook>>,
    /// The cloud that was looked at last.
    looked: Mutex<Option<CloudView>>,
    heard: Mutex<age::Heard>,
    /// Held by whoever takes what comes, and by whoever changes what may come.
    taking: tokio::sync::Mutex<()>,
}

impl Default for Desk {
    fn default() -> Self {
        Desk {
            target: watch::channel(None).0,
            state: Mutex::default(),
            look: OnceLock::new(),
            looked: Mutex::default(),
            heard: Mutex::default(),
            taking: tokio::sync::Mutex::default(),
        }
    }
}
