//! What is sent: a batch is put together from the outbox in one transaction and kept as it is until the cloud has
//! acknowledged it, so that what goes out twice is the same, byte by byte.

use super::link::{link_in, progress_in, switch_in};
use super::marks;
use super::rows::{Teller, Told, prefix_in, sent_key, tables_of};
use super::{Prepared, Ticket};
use crate::domain::account::User;
use crate::domain::binding::{Binding, RevocationMark};
use crate::domain::device::Household;
use crate::domain::mirror::merge::body_hash;
use crate::domain::mirror::wire::{BYTES_MAX, ClockReading, Consent, Kind, MARKS_MAX, Mark, ROWS_MAX, Row, SyncRequest, VERSION};
use crate::domain::time::Grade;
use crate::domain::twin::Twin;
use crate::service::{Refusal, Service, audit};
use crate::store::tables::{
    AwayKey, Doing, DoneRow, MirrorLink, MirrorMark, MirrorProgress, OutboxRow, PreparedBatch, Sent, entity_key, outbox_key, outbox_prefix,
};
use crate::store::{Read, Record, StoreError, Table, Tx};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is sent anew is noted in steps of so many rows.
const STEP: usize = 2_000;
/// Bytes that a request has besides its parts.
const FRAME: usize = 2_048;
/// The least bytes of a batch, whatever the cloud says.
const LEAST_BYTES: usize = 16 * 1024;
/// How often copies are compared when nothing waits, in ms.
const COMPARED_EVERY_MS: u64 = 3_600_000;
/// Kinds that are compared.
const COMPARED: [Kind; 4] = [Kind::Device, Kind::Binding, Kind::User, Kind::Away];

/// A batch being put together.
struct Building<'a> {
    teller: Teller<'a>,
    request: SyncRequest,
    taken: Vec<(Vec<u8>, u64)>,
    left: usize,
}

impl Service {
    /// The batch to send now, of at most `max_bytes`; `None` when no cloud is linked. One that has nothing to say is sent
    /// too: it asks what there is.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn next_batch(self: &Arc<Self>, max_bytes: usize) -> Result<Option<Prepared>, Refusal> {
        let digests = self.digests_if_due().await?;
        let (hub, clock, max) = (self.origin(), self.clock_reading(), max_bytes.clamp(LEAST_BYTES, BYTES_MAX));
        let now = clock.now;
        self.store
            .write::<_, StoreError, _>(move |tx| {
                let Some(link) = link_in(tx)? else { return Ok(None) };
                let (switch, mut progress) = (switch_in(tx)?, progress_in(tx)?);
                if let Some(kept) = tx.get::<PreparedBatch>(PreparedBatch::ROW)?
                    && (kept.epoch, kept.batch) == (switch.epoch, switch.batch)
                    && kept.request.len() <= max
                    && let Some(prepared) = as_prepared(kept.epoch, kept.batch, kept.request)
                {
                    return Ok(Some(prepared));
                }
                let request = SyncRequest {
                    v: VERSION,
                    epoch: switch.epoch,
                    batch: switch.batch,
                    cursor: progress.cursor,
                    clock: clock.clone(),
                    ..SyncRequest::default()
                };
                let teller = Teller { consent: &link.consent, hub: &hub, epoch: switch.epoch, now };
                let mut building = Building { teller, request, taken: Vec::new(), left: max - FRAME };
                building.send_anew(tx, &mut progress)?;
                building.take_outbox(tx)?;
                let audit_to = building.audit(tx, &link, &progress)?;
                let digest = digests.clone().filter(|_| building.is_quiet() && tx.count(OutboxRow::TABLE).is_ok_and(|n| n == 0));
                let Building { mut request, taken, .. } = building;
                let kept = PreparedBatch {
                    epoch: switch.epoch,
                    batch: switch.batch,
                    digest: digest.is_some(),
                    request: {
                        request.digest = digest;
                        serde_json::to_vec(&request).unwrap_or_default()
                    },
                    taken,
                    audit_to,
                };
                tx.put(PreparedBatch::ROW, &kept)?;
                tx.put(MirrorProgress::ROW, &progress)?;
                let ticket = Ticket { epoch: kept.epoch, batch: kept.batch };
                Ok(Some(Prepared { request, body: kept.request, ticket }))
            })
            .await
            .map_err(Refusal::from)
    }

    /// The hub's clock, as it is sent.
    fn clock_reading(&self) -> ClockReading {
        let timing = self.clock.timing();
        let grade = match timing.grade {
            Grade::None => "none",
            Grade::Ntp => "ntp",
            Grade::Vouched => "vouched",
        };
        ClockReading { now: timing.now, grade: grade.into() }
    }

    /// The digests of all kinds, when nothing waits and a comparison is due. What changes meanwhile is noted in the outbox,
    /// and then they are not sent.
    async fn digests_if_due(self: &Arc<Self>) -> Result<Option<BTreeMap<Kind, String>>, Refusal> {
        let service = self.clone();
        let look = move || {
            let now = service.now();
            service.store.read::<_, StoreError>(|v| {
                let Some(link) = link_in(v)? else { return Ok(None) };
                let progress = progress_in(v)?;
                let due = progress.digest_due || now.abs_diff(progress.digest_at) >= COMPARED_EVERY_MS;
                let quiet = progress.resync.is_empty() && v.count(OutboxRow::TABLE)? == 0 && v.count(PreparedBatch::TABLE)? == 0;
                if !due || !quiet {
                    return Ok(None);
                }
                let hub = service.origin();
                let teller = Teller { consent: &link.consent, hub: &hub, epoch: switch_in(v)?.epoch, now };
                COMPARED.into_iter().map(|kind| Ok((kind, teller.digest(v, kind)?))).collect::<Result<_, StoreError>>().map(Some)
            })
        };
        let looked = tokio::task::spawn_blocking(look).await;
        Ok(looked.map_err(|_| Refusal::Conflict("what is mirrored could not be compared".into()))??)
    }
}

fn as_prepared(epoch: u64, batch: u64, body: Vec<u8>) -> Option<Prepared> {
    let request = serde_json::from_slice(&body).ok()?;
    Some(Prepared { request, body, ticket: Ticket { epoch, batch } })
}

impl Building<'_> {
    /// Whether nothing of what is mirrored is in it.
    fn is_quiet(&self) -> bool {
        self.request.revoke.is_empty() && self.request.refused.is_empty() && self.request.put.is_empty() && self.request.twin.is_empty()
    }

    /// Whether a part of this size still fits; then it is counted.
    fn fits(&mut self, part: &impl serde::Serialize) -> bool {
        let size = serde_json::to_vec(part).map_or(usize::MAX, |bytes| bytes.len().saturating_add(1));
        let fits = size <= self.left;
        if fits {
            self.left -= size;
        }
        fits
    }

    /// Notes rows of the kinds that are sent anew, a step at a time; each begins with a row that says so.
    fn send_anew(&mut self, tx: &Tx<'_>, progress: &mut MirrorProgress) -> Result<(), StoreError> {
        let mut left = STEP;
        while left > 0
            && let Some(anew) = progress.resync.first_mut()
        {
            let kind = anew.kind;
            if !anew.begun {
                let beginning =
                    Row { kind, key: String::new(), generation: 0, version: 0, origin: String::new(), body: serde_json::Value::Null };
                if !self.fits(&beginning) {
                    return Ok(());
                }
                self.request.put.push(beginning);
                anew.begun = true;
            }
            let Some(table) = tables_of(kind).get(anew.table).copied() else {
                progress.resync.remove(0);
                continue;
            };
            let keys = tx.keys_after(table, &prefix_in(table, kind), &anew.after, left)?;
            for key in &keys {
                tx.send_again(table, key)?;
            }
            left -= keys.len();
            match keys.into_iter().next_back() {
                Some(last) => anew.after = last,
                None => (anew.table, anew.after) = (anew.table + 1, Vec::new()),
            }
        }
        Ok(())
    }

    /// Takes what fits: marks before everything else, then people before the keys and rights that name them.
    fn take_outbox(&mut self, tx: &Tx<'_>) -> Result<(), StoreError> {
        const ORDER: [Table; 8] = [
            RevocationMark::TABLE,
            MirrorMark::TABLE,
            User::TABLE,
            Household::TABLE,
            Binding::TABLE,
            AwayKey::TABLE,
            DoneRow::TABLE,
            Twin::TABLE,
        ];
        for table in ORDER {
            let prefix = outbox_prefix(table);
            for (at, noted) in tx.scan::<OutboxRow>(&prefix, MARKS_MAX)? {
                let key = at.get(prefix.len()..).unwrap_or_default();
                if !self.take(tx, table, key, &noted)? {
                    // What does not fit any more comes with the next batch.
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes one row; false when it does not fit any more.
    fn take(&mut self, tx: &Tx<'_>, table: Table, key: &[u8], noted: &OutboxRow) -> Result<bool, StoreError> {
        let at = outbox_key(table, key);
        if table == DoneRow::TABLE {
            let done = tx.get::<DoneRow>(key)?.filter(|row| row.doing == Doing::Ended).map(|row| row.done);
            if let Some(done) = &done
                && (self.request.done.len() >= ROWS_MAX || !self.fits(done))
            {
                return Ok(false);
            }
            match done {
                Some(done) => {
                    self.request.done.push(done);
                    self.taken.push((at, noted.changes));
                }
                None => drop(tx.delete::<OutboxRow>(&at)?),
            }
            return Ok(true);
        }
        let mut told = false;
        if table == MirrorMark::TABLE
            && let Some(refused) = marks::refusal(tx, key)?
        {
            if self.request.refused.len() >= MARKS_MAX || !self.fits(&refused) {
                return Ok(false);
            }
            self.request.refused.push(refused);
            told = true;
        }
        match self.teller.tell(tx, table, key)? {
            Told::Nothing if told => {}
            Told::Ended(mark) => {
                if self.request.revoke.len() >= MARKS_MAX || !self.fits(&mark) {
                    return Ok(false);
                }
                forget_sent(tx, &mark)?;
                self.request.revoke.push(mark);
            }
            Told::Stands(row) => {
                let sent = Sent { generation: row.generation, version: row.version, hash: body_hash(&row.body) };
                if !noted.again && tx.get::<Sent>(&sent_key(&row))?.is_some_and(|known| known == sent) {
                    tx.delete::<OutboxRow>(&at)?;
                    return Ok(true);
                }
                if self.request.put.len() + self.request.twin.len() >= ROWS_MAX || !self.fits(&row) {
                    return Ok(false);
                }
                tx.put(&sent_key(&row), &sent)?;
                if row.kind == Kind::Twin { self.request.twin.push(row) } else { self.request.put.push(row) }
            }
            Told::Nothing => {
                tx.delete::<OutboxRow>(&at)?;
                return Ok(true);
            }
        }
        self.taken.push((at, noted.changes));
        Ok(true)
    }

    /// The next range of the audit, if it is agreed to; the number of its last entry.
    fn audit(&mut self, tx: &Tx<'_>, link: &MirrorLink, progress: &MirrorProgress) -> Result<Option<u64>, StoreError> {
        if !link.consent.contains(&Consent::Audit) {
            return Ok(None);
        }
        let found = audit::range_after(tx, progress.audit_sent, self.left.saturating_sub(FRAME), self.teller.now)?;
        let Some((range, to)) = found else { return Ok(None) };
        if !range.items.is_empty() {
            self.request.audit = Some(range);
        }
        Ok(Some(to))
    }
}

/// What has ended is not compared with what was sent of it any more.
fn forget_sent(tx: &Tx<'_>, mark: &Mark) -> Result<(), StoreError> {
    let at = entity_key(mark.kind, &mark.key);
    if tx.get::<Sent>(&at)?.is_some_and(|sent| sent.generation <= mark.generation) {
        tx.delete::<Sent>(&at)?;
    }
    Ok(())
}

/// Settles a batch that the cloud has: what has not changed since it was put together does not wait any more.
pub(super) fn settle(tx: &Tx<'_>, kept: &PreparedBatch, progress: &mut MirrorProgress, now: u64) -> Result<(), StoreError> {
    for (at, changes) in &kept.taken {
        match tx.get::<OutboxRow>(at)? {
            Some(row) if row.changes == *changes => drop(tx.delete::<OutboxRow>(at)?),
            Some(row) if row.again => tx.put(at, &OutboxRow { again: false, ..row })?,
            _ => {}
        }
    }
    if let Some(to) = kept.audit_to {
        progress.audit_sent = to;
    }
    if kept.digest {
        (progress.digest_due, progress.digest_at) = (false, now);
    }
    Ok(())
}
