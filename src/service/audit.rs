//! Writing the audit inside the transaction of the act itself, and reading it. Refusals come in through [`refusals`].

mod erasure;
mod refusals;

#[allow(unused_imports, reason = "for the calls that end an account for good")]
pub(super) use erasure::erase_person;
pub(super) use refusals::Refusals;

use super::rights::require_role;
use super::{Actor, Refusal, Service};
use crate::domain::audit::chain::Head;
use crate::domain::audit::{Beside, Entry, Event, Outcome, Recorded};
use crate::domain::authority::HubAction;
use crate::store::{Read, Record, Store, StoreError, Tx};

const HEAD: &[u8] = b"head";
/// Rows read at a time.
const BLOCK: usize = 500;
/// After every entry's key.
const END: &[u8] = &[u8::MAX; 9];

/// Appends `event` to the chain, in the transaction of what it tells.
pub(super) fn append(tx: &Tx<'_>, now: u64, event: Event) -> Result<Entry, StoreError> {
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
    Event {
        behalf: actor.behalf.as_ref().map(|user| format!("user:{user}")).unwrap_or_default(),
        ..event(actor.subject.to_string(), action, object, Outcome::Done, "", detail, &actor.via)
    }
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
fn joined<R: Read>(rows: &R, entry: Entry) -> Result<Recorded, StoreError> {
    let beside = rows.get::<Beside>(&entry.seq.to_be_bytes())?;
    Ok(entry.joined(beside))
}

impl Service {
    /// Up to `limit` entries before number `before`, newest first.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for all but owners.
    pub fn audit(&self, actor: &Actor, before: Option<u64>, limit: usize) -> Result<Vec<Recorded>, Refusal> {
        let before = before.map_or_else(|| END.to_vec(), |b| b.to_be_bytes().to_vec());
        self.store.read::<_, Refusal>(|v| {
            require_role(v, actor, HubAction::ReadAudit, self.now())?;
            let rows = v.scan_back::<Entry>(&before, limit.clamp(1, 500))?;
            Ok(rows.into_iter().map(|(_, e)| joined(v, e)).collect::<Result<_, _>>()?)
        })
    }

    /// Checks the whole chain, as [`verify_audit`].
    ///
    /// # Errors
    /// The same.
    pub fn verify_audit(&self) -> Result<Option<Entry>, Refusal> {
        verify_audit(&self.store)
    }
}

/// Checks the whole chain; its newest entry, if there is one.
///
/// # Errors
/// [`Refusal::Conflict`] naming the first entry that does not hold.
pub fn verify_audit(store: &Store) -> Result<Option<Entry>, Refusal> {
    let mut last: Option<Entry> = None;
    loop {
        let from = last.as_ref().map_or(0, |l| l.seq + 1);
        let rows = store.read::<_, StoreError>(|v| {
            let rows = v.decode_all::<Entry>(v.rows(<Entry as Record>::TABLE, &from.to_be_bytes(), END, BLOCK, false)?)?;
            rows.into_iter().map(|(key, e)| Ok((v.get::<Beside>(&key)?, key, e))).collect::<Result<Vec<_>, StoreError>>()
        })?;
        if rows.is_empty() {
            return Ok(last);
        }
        for (beside, key, entry) in rows {
            let before = last.as_ref().map(|l| (l.seq, l.hash));
            if key != entry.seq.to_be_bytes() || !entry.follows(before) || !entry.fits(beside.as_ref()) {
                return Err(Refusal::Conflict(format!("the audit is broken at entry {}", last.map_or(1, |l| l.seq + 1))));
            }
            last = Some(entry);
        }
    }
}
