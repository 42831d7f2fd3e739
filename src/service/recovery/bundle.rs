//! The recovery bundle: made anew when something in it has changed and things have calmed down, sealed to the recovery
//! code's public half, so that neither this hub nor whoever keeps it can open it.

use super::content::{self, Extent};
use crate::domain::mirror::statement::BundleSeal;
use crate::domain::mirror::wire::BUNDLE_MAX;
use crate::service::{Refusal, Service, audit, lock};
use crate::store::tables::{BundleSent, HubSecrets, RecoveryKeys};
use crate::store::{Read, StoreError, View, changes};
use std::io::Write;
use zeroize::Zeroizing;

/// For how long nothing more must have changed before a bundle is made, in ms.
const QUIET_MS: u64 = 20_000;
/// After which time it is made all the same, in ms.
const LONGEST_MS: u64 = 5 * 60_000;
/// What age and the seal add at most: the header, and 16 bytes for every 64 KiB.
const AROUND: usize = 8 * 1024;

/// What is remembered between two looks.
#[derive(Default)]
pub(super) struct Due {
    /// The count of changes as it was last seen, since when it is that, and since when the bundle is out of date.
    seen: Option<(u64, u64, u64)>,
    /// The newest that was made, until it is handed over.
    made: Option<BundleSent>,
    /// The count of changes with which it was too large.
    too_large: Option<u64>,
}

impl Due {
    /// Takes note of the count of changes: since when it is that, and since when the bundle is out of date.
    fn observe(&mut self, count: u64, now: u64) -> (u64, u64) {
        let (since, first) = match self.seen {
            Some((seen, since, first)) => (if seen == count { since } else { now }, first),
            None => (now, now),
        };
        self.seen = Some((count, since, first));
        (since, first)
    }
}

/// How a bundle stands.
enum Look {
    UpToDate,
    /// It is wanted; at once when there is none yet that the present code opens.
    Wanted {
        count: u64,
        at_once: bool,
    },
}

impl Service {
    /// A new bundle, when one is due. Whoever hands it over says so with [`Service::bundle_sent`].
    ///
    /// Takes as long as reading what is in it: some ten ms for a hundred devices.
    #[must_use]
    pub fn bundle_due(&self) -> Option<Vec<u8>> {
        let made = self.store.read(|v| self.due_in(v));
        match made {
            Ok(bundle) => bundle,
            Err(error) => {
                tracing::error!(%error, "the recovery bundle could not be made; it is tried again");
                None
            }
        }
    }

    /// In how many ms to ask [`Service::bundle_due`] again, because a change waits for things to calm down; `None` when
    /// nothing waits.
    #[must_use]
    pub fn bundle_waits_ms(&self) -> Option<u64> {
        let look = self.store.read(look).ok()?;
        let Look::Wanted { count, at_once } = look else { return None };
        let (mut due, now) = (lock(&self.recovery.due), self.clock.monotonic_ms());
        if due.too_large == Some(count) {
            return None;
        }
        let (since, first) = due.observe(count, now);
        if at_once {
            return Some(0);
        }
        Some((since + QUIET_MS).min(first + LONGEST_MS).saturating_sub(now))
    }

    /// The bundle that was last made has been handed over.
    ///
    /// # Errors
    /// The store's fault: then it is handed over once more.
    pub async fn bundle_sent(&self) -> Result<(), Refusal> {
        let Some(made) = lock(&self.recovery.due).made.take() else { return Ok(()) };
        Ok(self.store.write::<_, StoreError, _>(move |tx| tx.put(BundleSent::ROW, &made)).await?)
    }

    /// Whether what a bundle would have is too large for one.
    pub(super) fn bundle_is_too_large(&self) -> bool {
        lock(&self.recovery.due).too_large.is_some()
    }

    fn due_in(&self, rows: &View<'_>) -> Result<Option<Vec<u8>>, Refusal> {
        let now = self.clock.monotonic_ms();
        {
            let mut due = lock(&self.recovery.due);
            let Look::Wanted { count, at_once } = look(rows)? else {
                *due = Due::default();
                return Ok(None);
            };
            if due.too_large == Some(count) {
                return Ok(None);
            }
            let (since, first) = due.observe(count, now);
            if !at_once && now.saturating_sub(since) < QUIET_MS && now.saturating_sub(first) < LONGEST_MS {
                return Ok(None);
            }
        }
        let made = self.make_bundle(rows)?;
        let mut due = lock(&self.recovery.due);
        due.seen = None;
        let count = changes(rows)?;
        let Some((bundle, sent)) = made else {
            tracing::error!("the recovery bundle would be larger than {BUNDLE_MAX} bytes; the one before stays");
            due.too_large = Some(count);
            return Ok(None);
        };
        due.too_large = None;
        due.made = Some(sent);
        Ok(Some(bundle))
    }

    /// A bundle of what stands now; `None` when it is too large for one, also without what can be got again.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] when there is no recovery code.
    pub(super) fn make_bundle(&self, rows: &View<'_>) -> Result<Option<(Vec<u8>, BundleSent)>, Refusal> {
        let keys = rows.get::<RecoveryKeys>(RecoveryKeys::ROW)?.ok_or_else(super::no_code)?;
        let (hub, at) = (self.hub.id, self.now());
        for extent in [Extent::All, Extent::WithoutWaiting] {
            let Some(content) = content::write(rows, &hub, at, extent, BUNDLE_MAX - AROUND)? else { continue };
            let secrets = rows.get::<HubSecrets>(HubSecrets::ROW)?.ok_or_else(super::no_code)?;
            let identity = audit::identity(rows)?.ok_or_else(super::no_code)?;
            let seal = BundleSeal::of(hub, secrets.epoch, at / 1000, &content).sign(&identity);
            let bundle = sealed(&keys.recipient, &BundleSeal::join(&seal, &content))?;
            if bundle.len() > BUNDLE_MAX {
                continue;
            }
            let sent = BundleSent {
                at,
                bytes: bundle.len() as u64,
                changes: changes(rows)?,
                recipient: keys.recipient,
                without_waiting: extent == Extent::WithoutWaiting,
            };
            return Ok(Some((bundle, sent)));
        }
        Ok(None)
    }
}

fn look(rows: &View<'_>) -> Result<Look, StoreError> {
    let Some(keys) = rows.get::<RecoveryKeys>(RecoveryKeys::ROW)? else { return Ok(Look::UpToDate) };
    let count = changes(rows)?;
    let sent = rows.get::<BundleSent>(BundleSent::ROW)?.filter(|sent| sent.recipient == keys.recipient);
    Ok(match sent {
        Some(sent) if sent.changes == count => Look::UpToDate,
        sent => Look::Wanted { count, at_once: sent.is_none() },
    })
}

pub(super) fn sealed(recipient: &str, whole: &Zeroizing<Vec<u8>>) -> Result<Vec<u8>, Refusal> {
    let failed = |_| Refusal::Conflict("the recovery bundle could not be sealed; make a new recovery code".into());
    let recipient: age::x25519::Recipient = recipient.parse().map_err(failed)?;
    let mut out = Vec::with_capacity(whole.len() + AROUND);
    let mut write = || -> Result<(), std::io::Error> {
        let encryptor =
            age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).map_err(std::io::Error::other)?;
        let mut writer = encryptor.wrap_output(&mut out)?;
        writer.write_all(whole)?;
        writer.finish().map(|_| ())
    };
    write().map_err(|_| Refusal::Conflict("the recovery bundle could not be sealed; try again".into()))?;
    Ok(out)
}
