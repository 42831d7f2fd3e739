//! What comes from the cloud: marks first, in a transaction of their own; then wishes, each decided once; the cursor last.

use super::batch::settle;
use super::link::{drop_prepared, link_in, progress_in, send_anew, switch_in};
use super::marks::{Marked, take_marks};
use super::news::put_notice;
use super::{Applied, Ticket};
use crate::domain::account::UserId;
use crate::domain::binding::Subject;
use crate::domain::ids::DeviceId;
use crate::domain::mirror::wire::{Done, Item, ItemBody, Kind, MARKS_MAX, ROWS_MAX, SyncReply};
use crate::service::{Change, CloseReason, Refusal, Service};
use crate::store::tables::{Doing, DoneRow, MirrorProgress, MirrorSwitch, OutboxRow, PreparedBatch};
use crate::store::{Read, Record, StoreError, Tx};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Characters of an item's id.
const ID_MAX: usize = 64;
/// For how long it is remembered how an item ended, in ms.
const REMEMBERED_MS: u64 = 30 * 24 * 3_600_000;
/// How many are remembered.
const REMEMBERED: u64 = 50_000;
/// How often kinds are sent anew because the cloud asks, in ms.
const ANEW_EVERY_MS: u64 = 3_600_000;
/// Rows that are looked at at a time.
const BLOCK: usize = 1_000;

/// What follows marks that were taken, after the commit.
pub(super) struct After {
    changed: bool,
    devices: BTreeSet<DeviceId>,
    people: Vec<UserId>,
    apps: Vec<String>,
}

impl After {
    pub(super) fn of(marked: Marked) -> After {
        After { changed: marked.taken > 0, devices: marked.devices, people: marked.people, apps: marked.apps }
    }
}

impl Service {
    /// The cloud has answered a batch: `vouched_s` is the time that it vouches for (s since 1970), `rtt_ms` how long the
    /// answer took. Marks come first, in a transaction of their own; then what else came; the cursor last. When this
    /// returns, nothing more reaches who has lost a right.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] for the answer to another batch; the store's fault: then the batch is sent again.
    pub async fn batch_acked(self: &Arc<Self>, ticket: Ticket, reply: &SyncReply, vouched_s: u64, rtt_ms: u64) -> Result<Applied, Refusal> {
        let _one = self.mirror.taking.lock().await;
        let answered = move |kept: Option<PreparedBatch>, linked: bool| {
            let kept = kept.filter(|k| linked && (k.epoch, k.batch) == (ticket.epoch, ticket.batch));
            kept.ok_or_else(|| Refusal::Conflict("this answers another batch than the one that was sent".into()))
        };
        if reply.ack != ticket.batch || reply.revoke.len() > MARKS_MAX {
            return Err(Refusal::Conflict("this answers another batch than the one that was sent, or with more than an answer has".into()));
        }
        self.store.read::<_, Refusal>(|v| answered(v.get::<PreparedBatch>(PreparedBatch::ROW)?, link_in(v)?.is_some()).map(drop))?;
        let marks = self.marks_came(reply).await?;
        let mut applied = Applied { marks, ..Applied::default() };
        let mut cursor = reply.cursor;
        for (n, item) in reply.items.iter().enumerate() {
            if n >= ROWS_MAX {
                // What is left comes again.
                cursor = item.cursor.saturating_sub(1);
                applied.again = true;
                break;
            }
            applied.items += u64::from(self.item_came(item, vouched_s).await?);
        }
        let (now, wanted) = (self.now(), reply.resync.clone());
        let again = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                let kept = answered(tx.get::<PreparedBatch>(PreparedBatch::ROW)?, link_in(tx)?.is_some())?;
                let mut progress = progress_in(tx)?;
                settle(tx, &kept, &mut progress, now)?;
                tx.delete::<PreparedBatch>(PreparedBatch::ROW)?;
                let switch = switch_in(tx)?;
                tx.put(MirrorSwitch::ROW, &MirrorSwitch { batch: switch.batch + 1, ..switch })?;
                // What was taken once is never asked for again, whatever the cloud says of it.
                progress.cursor = progress.cursor.max(cursor);
                progress.last_success_s = progress.last_success_s.max(vouched_s);
                progress.last_success_at = now;
                anew_if_asked(&mut progress, &wanted, now);
                forget_old(tx, now)?;
                tx.put(MirrorProgress::ROW, &progress)?;
                Ok(tx.count(OutboxRow::TABLE)? > 0 || !progress.resync.is_empty())
            })
            .await?;
        if !reply.more && cursor == reply.cursor {
            // Every mark there is has come down.
            self.marks_known().await?;
        }
        applied.again |= again || reply.more;
        self.clock_vouched(vouched_s, rtt_ms).await?;
        if self.cloud_heard() {
            // What was closed because the cloud had not been heard is open again.
            self.policy_changed().await;
        }
        Ok(applied)
    }

    /// The cloud expects another batch: everything is sent anew, beginning with that number.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn mirror_resync(&self, expected_batch: u64) -> Result<(), Refusal> {
        let _one = self.mirror.taking.lock().await;
        self.store
            .write::<_, StoreError, _>(move |tx| {
                if link_in(tx)?.is_none() {
                    return Ok(());
                }
                drop_prepared(tx)?;
                let switch = switch_in(tx)?;
                tx.put(MirrorSwitch::ROW, &MirrorSwitch { batch: expected_batch.max(1), ..switch })?;
                let mut progress = progress_in(tx)?;
                progress.audit_sent = 0;
                // A cloud that has gone back to an older copy counts from there. What comes twice is known by its id.
                progress.cursor = 0;
                progress.digest_due = true;
                send_anew(&mut progress, Kind::ALL);
                tx.put(MirrorProgress::ROW, &progress)
            })
            .await
            .map_err(Refusal::from)
    }

    /// Marks, and what follows from them.
    async fn marks_came(&self, reply: &SyncReply) -> Result<u64, Refusal> {
        if reply.revoke.is_empty() {
            return Ok(0);
        }
        let (marks, now) = (reply.revoke.clone(), self.now());
        let marked = self.store.write::<_, StoreError, _>(move |tx| take_marks(tx, &marks, now)).await?;
        let taken = marked.taken;
        self.after(After::of(marked)).await;
        Ok(taken)
    }

    /// Takes back from live connections what marks have ended.
    pub(super) async fn after(&self, after: After) {
        if !after.changed {
            return;
        }
        self.policy_changed().await;
        for person in &after.people {
            self.close_sessions(&Subject::User(person.clone()), CloseReason::NotAuthorized).await;
        }
        self.apps_ended(&after.apps).await;
        for id in after.devices {
            self.changed(Change::Device { id });
        }
        if !after.people.is_empty() {
            self.changed(Change::Accounts);
        }
    }

    /// One item; whether it was new.
    async fn item_came(self: &Arc<Self>, item: &Item, vouched_s: u64) -> Result<bool, Refusal> {
        if item.id.is_empty() || item.id.len() > ID_MAX || !item.id.bytes().all(|b| b.is_ascii_graphic()) {
            tracing::warn!("the cloud sent something without a proper id; it is left out");
            return Ok(false);
        }
        let (id, now) = (item.id.clone(), self.now());
        let fresh = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                if let Some(known) = tx.get::<DoneRow>(id.as_bytes())? {
                    let done = match known.doing {
                        Doing::Ended => known.done,
                        // The hub stopped in the midst of it: it may have been done, and is not done a second time.
                        Doing::Begun => answer(&id, "interrupted", "the hub was interrupted while it did this: look whether it was done"),
                    };
                    // The cloud does not know the answer yet.
                    tx.put(id.as_bytes(), &DoneRow { doing: Doing::Ended, done, at: known.at })?;
                    return Ok(false);
                }
                if tx.count(DoneRow::TABLE)? >= REMEMBERED {
                    forget_oldest(tx)?;
                }
                tx.put(id.as_bytes(), &DoneRow { doing: Doing::Begun, done: answer(&id, "begun", ""), at: now })?;
                Ok(true)
            })
            .await?;
        if !fresh {
            return Ok(false);
        }
        let done = match &item.body {
            ItemBody::Request(request) => self.decide_request(&item.id, request, vouched_s).await?,
            ItemBody::Batch(offer) => match self.offer_came(&item.id, offer).await? {
                // It is answered when it has been taken.
                None => return Ok(true),
                Some(done) => done,
            },
            ItemBody::Notice(notice) => {
                let notice = notice.clone();
                self.store.write::<_, StoreError, _>(move |tx| put_notice(tx, &notice)).await?;
                self.changed(Change::Cloud);
                Done { id: item.id.clone(), ok: true, code: "done".into(), detail: String::new() }
            }
            ItemBody::Forged(forged) => self.forged_came(&item.id, forged).await?,
            ItemBody::Bulletin { bulletin } => match self.bulletin(bulletin).await {
                Ok(_) => Done { id: item.id.clone(), ok: true, code: "done".into(), detail: String::new() },
                Err(Refusal::Store(fault)) => return Err(fault.into()),
                Err(refusal) => answer(&item.id, "malformed", &refusal.to_string()),
            },
        };
        self.item_ended(done).await?;
        Ok(true)
    }

    /// Notes how an item ended; the cloud is told with the next batch.
    pub(super) async fn item_ended(&self, done: Done) -> Result<(), Refusal> {
        let now = self.now();
        self.store
            .write::<_, StoreError, _>(move |tx| {
                let at = tx.get::<DoneRow>(done.id.as_bytes())?.map_or(now, |row| row.at);
                tx.put(done.id.as_bytes(), &DoneRow { doing: Doing::Ended, done: done.clone(), at })
            })
            .await
            .map_err(Refusal::from)
    }
}

/// That something was not done.
pub(super) fn answer(id: &str, code: &str, detail: &str) -> Done {
    Done { id: id.to_owned(), ok: false, code: code.to_owned(), detail: detail.to_owned() }
}

/// Sends kinds anew that the cloud has otherwise; not again and again, should it never come to an end.
fn anew_if_asked(progress: &mut MirrorProgress, wanted: &[Kind], now: u64) {
    if wanted.is_empty() {
        return;
    }
    if progress.resync_at > 0 && now.abs_diff(progress.resync_at) < ANEW_EVERY_MS {
        tracing::warn!(?wanted, "the cloud's copy is another one still; it is sent anew later");
        return;
    }
    tracing::warn!(?wanted, "the cloud's copy is another one: it is sent anew");
    send_anew(progress, wanted.iter().copied());
    progress.resync_at = now;
    progress.digest_due = true;
}

/// Forgets how items ended that came too long ago to come again.
fn forget_old(tx: &Tx<'_>, now: u64) -> Result<(), StoreError> {
    // A few at a time, in the order of their ids, which are made one after the other: the oldest come first.
    for (key, row) in tx.scan::<DoneRow>(b"", 16)? {
        if row.at.saturating_add(REMEMBERED_MS) < now {
            tx.delete::<DoneRow>(&key)?;
        }
    }
    Ok(())
}

/// Makes room, whatever the cloud sends.
fn forget_oldest(tx: &Tx<'_>) -> Result<(), StoreError> {
    let mut after = Vec::new();
    let mut all: Vec<(u64, Vec<u8>)> = Vec::new();
    loop {
        let keys = tx.keys_after(DoneRow::TABLE, b"", &after, BLOCK)?;
        let Some(last) = keys.last().cloned() else { break };
        for key in keys {
            if let Some(row) = tx.get::<DoneRow>(&key)? {
                all.push((row.at, key));
            }
        }
        after = last;
    }
    all.sort_unstable();
    for (_, key) in all.iter().take(BLOCK) {
        tx.delete::<DoneRow>(key)?;
    }
    Ok(())
}
