//! The mirror in figures, for the metrics.

use super::Pending;
use super::link::{link_in, progress_in};
use crate::service::Service;
use crate::store::StoreError;

/// How the mirror stands, in figures; all 0 while no cloud is linked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorFigures {
    /// Whether a cloud is linked.
    pub linked: bool,
    /// When the cloud was last heard, by its own vouched clock, s since 1970.
    pub last_success_s: u64,
    /// How old the knowledge of revocations from outside is, in ms.
    pub policy_age_ms: u64,
    /// What waits to be sent.
    pub pending: Pending,
}

impl Service {
    /// How the mirror stands. When the store cannot be read, as if no cloud were linked.
    #[must_use]
    pub fn mirror_figures(&self) -> MirrorFigures {
        let read = self.store.read::<_, StoreError>(|v| {
            let Some(link) = link_in(v)? else { return Ok(MirrorFigures::default()) };
            let progress = progress_in(v)?;
            let pending = self.pending(v, &link, progress.audit_sent)?;
            Ok(MirrorFigures { linked: true, last_success_s: progress.last_success_s, policy_age_ms: self.policy_age(), pending })
        });
        read.unwrap_or_default()
    }
}
