//! The link as people see it.

use super::link::{link_in, person_of, progress_in};
use super::news::newest_first;
use super::{MirrorPhase, MirrorState};
use crate::domain::authority::HubAction;
use crate::domain::binding::RevocationMark;
use crate::domain::mirror::signature::fingerprint;
use crate::domain::mirror::wire::{Consent, Notice};
use crate::service::rights::require_role;
use crate::service::{Actor, ClockView, Refusal, Service, audit, lock};
use crate::store::tables::{HubSecrets, MirrorLink, MirrorMark, NoticeRow, OutboxRow, RefusedRow, Retired, outbox_prefix};
use crate::store::{Read, Record, StoreError};
use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;
use std::collections::BTreeSet;

/// Rows of the outbox that are counted at most.
const COUNTED: usize = 100_000;

/// The link, and how it stands.
#[derive(Clone, Debug, Serialize)]
pub struct CloudStatus {
    /// Whether a cloud is linked.
    pub linked: bool,
    /// Its address.
    pub url: Option<String>,
    /// What it calls itself.
    pub name: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Its key, base64url.
    pub key: Option<String>,
    /// The fingerprint of that key.
    pub fingerprint: Option<String>,
    /// Since when, ms since 1970.
    pub linked_at: Option<u64>,
    /// Who linked it: an account's id.
    pub linked_by: Option<String>,
    /// What an owner agreed to.
    pub consent: BTreeSet<Consent>,
    /// How it stands.
    pub state: MirrorState,
    /// When the cloud was last heard, by its own vouched clock, ms since 1970.
    pub last_success: Option<u64>,
    /// How old the knowledge of revocations from outside is, in ms; 0 with no cloud.
    pub policy_age_ms: u64,
    /// What waits to be sent; for owners.
    pub pending: Option<Pending>,
    /// What was refused that came from the cloud, newest first; for owners.
    pub refused: Vec<RefusedRow>,
    /// What the cloud tells, newest first; for owners.
    pub notices: Vec<NoticeView>,
    /// The hub's epoch.
    pub epoch: u64,
    /// Whether another hub has taken this one's place.
    pub retired: bool,
    /// The hub's clock.
    pub clock: ClockView,
}

/// What waits to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Rows.
    pub rows: u64,
    /// Marks of revocation.
    pub marks: u64,
    /// Entries of the audit.
    pub audit: u64,
    /// The recovery bundle.
    pub bundle: bool,
}

/// A notice as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoticeView {
    /// What it says.
    #[serde(flatten)]
    pub notice: Notice,
    /// Whether an owner has seen it.
    pub seen: bool,
}

impl Service {
    /// The link and how it stands. Who is no owner sees that there is one, how it stands, and how old the knowledge of
    /// revocations is.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`], [`Refusal::SignedOut`].
    pub fn cloud_status(&self, actor: &Actor) -> Result<CloudStatus, Refusal> {
        self.me(actor)?;
        let now = self.now();
        let state = lock(&self.mirror.state).clone();
        let (policy_age_ms, clock) = (self.policy_age(), self.clock());
        self.store.read(|v| {
            let owner = match require_role(v, actor, HubAction::ManageAccess, now) {
                Ok(()) => true,
                Err(Refusal::RoleTooLow) => false,
                Err(other) => return Err(other),
            };
            let link = link_in(v)?;
            let progress = progress_in(v)?;
            let linked = link.is_some();
            let pending = match &link {
                Some(link) if owner => Some(self.pending(v, link, progress.audit_sent)?),
                _ => None,
            };
            let listed = |all: Vec<NoticeRow>| all.into_iter().map(|row| NoticeView { notice: row.notice, seen: row.seen }).collect();
            let link = link.as_ref();
            let shown = link.filter(|_| owner);
            Ok(CloudStatus {
                linked,
                url: link.map(|l| l.url.clone()),
                name: link.map(|l| l.name.clone()),
                region: link.map(|l| l.region.clone()),
                key: shown.map(|l| BASE64URL_NOPAD.encode(&l.key)),
                fingerprint: link.map(|l| fingerprint(&l.key)),
                linked_at: link.map(|l| l.linked_at),
                linked_by: shown.and_then(|l| person_of(&l.linked_by)).map(|id| id.to_string()),
                consent: link.map(|l| l.consent.clone()).unwrap_or_default(),
                state: if linked { state } else { MirrorState { phase: MirrorPhase::Off, ..MirrorState::default() } },
                last_success: Some(progress.last_success_s * 1_000).filter(|at| linked && *at > 0),
                policy_age_ms,
                pending,
                refused: if owner { newest_first::<RefusedRow, _>(v, 100)? } else { Vec::new() },
                notices: if owner { listed(newest_first::<NoticeRow, _>(v, 100)?) } else { Vec::new() },
                epoch: v.get::<HubSecrets>(HubSecrets::ROW)?.map_or(1, |s| s.epoch),
                retired: v.get::<Retired>(Retired::ROW)?.is_some(),
                clock,
            })
        })
    }

    /// What waits to be sent.
    pub(super) fn pending<R: Read>(&self, rows: &R, link: &MirrorLink, audit_sent: u64) -> Result<Pending, StoreError> {
        let mut marks = 0;
        for table in [RevocationMark::TABLE, MirrorMark::TABLE] {
            marks += rows.keys_after(OutboxRow::TABLE, &outbox_prefix(table), &[], COUNTED)?.len() as u64;
        }
        let all = rows.count(OutboxRow::TABLE)?;
        let audit = if link.consent.contains(&Consent::Audit) { audit::entries_after(rows, audit_sent)? } else { 0 };
        Ok(Pending {
            rows: all.saturating_sub(marks),
            marks,
            audit,
            bundle: link.consent.contains(&Consent::Bundle) && self.bundle_pending(),
        })
    }

    /// Whether a recovery bundle waits to be sent.
    fn bundle_pending(&self) -> bool {
        self.bundle_waits_ms().is_some()
    }
}
