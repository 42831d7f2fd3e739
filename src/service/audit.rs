//! Writing the audit inside the transaction of the act itself. Refusals come in through [`refusals`]; pages, exports and
//! checks are [`reading`]'s, room is [`retention`]'s, erasing what is personal is [`erasure`]'s.

mod erasure;
mod gaps;
mod ranges;
mod reading;
mod refusals;
mod retention;

pub use reading::{AuditCheck, AuditExport, AuditPage, Lines as AuditLines, verify_audit};

#[allow(unused_imports, reason = "for the calls that end an account for good")]
pub(super) use erasure::erase_person;
pub(super) use gaps::{go_on_after, newest};
pub(super) use ranges::{entries_after, range_after};
pub(super) use reading::Desk;
pub(super) use refusals::Refusals;

use super::Actor;
use crate::domain::audit::chain::Head;
use crate::domain::audit::{Beside, Entry, Event, Outcome, Recorded};
use crate::store::tables::HubSecrets;
use crate::store::{Read, Record, StoreError, Tx};
use ed25519_dalek::SigningKey;

pub(super) const HEAD: &[u8] = b"head";
pub(super) const CUT: &[u8] = b"cut";
/// Rows read at a time.
const BLOCK: usize = 500;
/// After every entry's key.
const END: &[u8] = &[u8::MAX; 9];

/// Appends `event` to the chain, in the transaction of what it tells.
pub(super) fn append(tx: &Tx<'_>, now: u64, event: Event) -> Result<Entry, StoreError> {
    let event = super::support::told_with_session(tx, now, event)?;
    let mut head = head(tx)?;
    let (entry, beside) = Entry::after(head.newest(), now, event, salt()?);
    let key = entry.seq.to_be_bytes();
    head.bytes += tx.put_counted(&key, &entry)?;
    if let Some(beside) = beside {
        head.bytes += tx.put_counted(&key, &beside)?;
    }
    (head.seq, head.hash) = (entry.seq, entry.hash);
    tx.put(HEAD, &head)?;
    Ok(entry)
}

/// Where the chain ends. A hub of before it was noted down has it counted once.
fn head(tx: &Tx<'_>) -> Result<Head, StoreError> {
    if let Some(head) = tx.get::<Head>(HEAD)? {
        return Ok(head);
    }
    let (mut head, mut from) = (Head::default(), Vec::new());
    loop {
        let rows = tx.rows(<Entry as Record>::TABLE, &from, END, BLOCK, false)?;
        head.bytes += rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        let Some(last) = tx.decode_all::<Entry>(rows)?.pop() else { return Ok(head) };
        (head.seq, head.hash) = (last.1.seq, last.1.hash);
        from = (head.seq + 1).to_be_bytes().to_vec();
    }
}

fn salt() -> Result<[u8; 16], StoreError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|_| StoreError::Row {
        table: <Beside as Record>::TABLE.name(),
        key: "salt".into(),
        reason: "the system gave no randomness".into(),
    })?;
    Ok(salt)
}

/// An event of something done by a person, or for one by an app.
pub(super) fn done(actor: &Actor, action: &str, object: &str, detail: impl Into<String>) -> Event {
    on_behalf(actor, event(actor.subject.to_string(), action, object, Outcome::Done, "", detail, &actor.via))
}

/// The event, naming the person for whom an app acted.
pub(super) fn on_behalf(actor: &Actor, event: Event) -> Event {
    Event { behalf: actor.behalf.as_ref().map(|user| format!("user:{user}")).unwrap_or_default(), ..event }
}

/// An event.
pub(super) fn event(
    actor: impl Into<String>,
    action: &str,
    object: &str,
    outcome: Outcome,
    reason: &str,
    detail: impl Into<String>,
    via: &str,
) -> Event {
    Event {
        actor: actor.into(),
        behalf: String::new(),
        action: action.into(),
        object: object.into(),
        outcome,
        reason: reason.into(),
        detail: detail.into(),
        via: via.into(),
    }
}

/// An entry with what stands beside it.
pub(super) fn joined<R: Read>(rows: &R, entry: Entry) -> Result<Recorded, StoreError> {
    let beside = rows.get::<Beside>(&entry.seq.to_be_bytes())?;
    Ok(entry.joined(beside))
}

/// The key by which the hub signs.
pub(super) fn identity<R: Read>(rows: &R) -> Result<Option<SigningKey>, StoreError> {
    Ok(rows.get::<HubSecrets>(HubSecrets::ROW)?.map(|secrets| SigningKey::from_bytes(&secrets.identity_seed)))
}
