//! What the cloud tells owners, what was refused that it brought, and bulletins, which also come by hand.

use super::arrive::After;
use super::link::link_in;
use super::link::progress_in;
use super::marks::take_marks;
use crate::domain::authority::HubAction;
use crate::domain::mirror::statement::Bulletin;
use crate::domain::mirror::wire::Notice;
use crate::service::rights::require_role;
use crate::service::{Actor, Refusal, Service, audit};
use crate::store::tables::{MirrorProgress, NoticeRow, RefusedRow};
use crate::store::{Read, Record, StoreError, Tx};
use data_encoding::BASE64URL_NOPAD;
use std::sync::Arc;

/// Notices that are kept; the oldest goes first.
const NOTICES: usize = 100;
/// Refused wishes and marks that are kept.
const REFUSED: usize = 50;
/// Characters of a notice.
const TEXT_MAX: usize = 500;
/// Characters of a word.
const WORD_MAX: usize = 64;
/// After every key.
const END: &[u8] = &[u8::MAX; 9];

/// Keeps a notice of the cloud.
pub(super) fn put_notice(tx: &Tx<'_>, notice: &Notice) -> Result<(), StoreError> {
    let cut = |text: &str, most: usize| text.chars().filter(|c| !c.is_control()).take(most).collect::<String>();
    let notice = Notice {
        code: cut(&notice.code, WORD_MAX),
        device: notice.device.as_deref().map(|d| cut(d, WORD_MAX)),
        text: cut(&notice.text, TEXT_MAX),
        at: notice.at,
    };
    // The same again is the same.
    let known = tx.scan_back::<NoticeRow>(END, NOTICES)?;
    if known.iter().any(|(_, row)| !row.seen && row.notice.code == notice.code && row.notice.device == notice.device) {
        return Ok(());
    }
    add(tx, NOTICES, &NoticeRow { notice, seen: false })
}

/// Keeps a notice of the hub itself, whose text tells one from another.
pub(in crate::service) fn put_own_notice(tx: &Tx<'_>, notice: &Notice) -> Result<(), StoreError> {
    let known = tx.scan_back::<NoticeRow>(END, NOTICES)?;
    if known.iter().any(|(_, row)| !row.seen && row.notice.text == notice.text) {
        return Ok(());
    }
    add(tx, NOTICES, &NoticeRow { notice: notice.clone(), seen: false })
}

/// Lists what was refused, for owners.
pub(super) fn list_refused(tx: &Tx<'_>, row: &RefusedRow) -> Result<(), StoreError> {
    add(tx, REFUSED, row)
}

/// Adds a row to a table that keeps the newest ones.
fn add<T: Record>(tx: &Tx<'_>, most: usize, row: &T) -> Result<(), StoreError> {
    let last = tx.rows(T::TABLE, &[], END, 1, true)?.pop();
    let next = last.and_then(|(key, _)| <[u8; 8]>::try_from(key.as_slice()).ok()).map_or(0, |key| u64::from_be_bytes(key) + 1);
    let full = tx.count(T::TABLE)? as usize >= most;
    if full && let Some((oldest, _)) = tx.rows(T::TABLE, &[], END, 1, false)?.pop() {
        tx.delete::<T>(&oldest)?;
    }
    tx.put(&next.to_be_bytes(), row)
}

/// All rows of such a table, newest first.
pub(super) fn newest_first<T: Record, R: Read>(rows: &R, most: usize) -> Result<Vec<T>, StoreError> {
    Ok(rows.scan_back::<T>(END, most)?.into_iter().map(|(_, row)| row).collect())
}

impl Service {
    /// Takes a bulletin that somebody has carried here, on a phone or a stick: the marks in it count as if the cloud had been
    /// reached. Says how many were new. When this returns, nothing more reaches who has lost a right.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`]; [`Refusal::Conflict`] when no cloud is linked; [`Refusal::Invalid`] for what the linked
    /// cloud has not signed for this hub.
    pub async fn take_bulletin(self: &Arc<Self>, actor: &Actor, text: &str) -> Result<u64, Refusal> {
        actor.user()?;
        let taken = self.bulletin(text).await?;
        let (who, now) = (actor.clone(), self.now());
        let event = audit::done(&who, "cloud.bulletin", "hub", format!("{taken} marks"));
        self.store.write::<_, StoreError, _>(move |tx| audit::append(tx, now, event.clone()).map(drop)).await?;
        Ok(taken)
    }

    /// Takes a bulletin, by whatever way it came.
    pub(super) async fn bulletin(self: &Arc<Self>, text: &str) -> Result<u64, Refusal> {
        let wrong = || Refusal::Invalid("bulletin: this is none of the cloud that is linked to this hub".into());
        let statement = BASE64URL_NOPAD.decode(text.trim().as_bytes()).map_err(|_| wrong())?;
        let (hub, now) = (self.hub.id, self.now());
        let marked = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                let link = link_in(tx)?.ok_or_else(|| Refusal::Conflict("no cloud is linked".into()))?;
                let said = Bulletin::verify(&link.key, &statement).map_err(|_| wrong())?;
                if said.hub != hub {
                    return Err(wrong());
                }
                let mut progress = progress_in(tx)?;
                // An older one says nothing new, and marks only grow: it does no harm.
                if said.number > progress.bulletin {
                    progress.bulletin = said.number;
                    tx.put(MirrorProgress::ROW, &progress)?;
                }
                Ok(take_marks(tx, &said.marks, now)?)
            })
            .await?;
        let taken = marked.taken;
        self.after(After::of(marked)).await;
        Ok(taken)
    }

    /// An owner has seen what the cloud tells.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`].
    pub async fn notices_seen(&self, actor: &Actor) -> Result<(), Refusal> {
        let (who, now) = (actor.clone(), self.now());
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                for (key, row) in tx.scan_back::<NoticeRow>(END, NOTICES)? {
                    if !row.seen {
                        tx.put(&key, &NoticeRow { seen: true, ..row })?;
                    }
                }
                Ok(())
            })
            .await
    }
}
