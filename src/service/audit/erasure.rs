//! Erasing what the audit has about a person beside the chain. The chain itself stays: who acted is there by id alone.

use super::{append, event, head};
use crate::domain::account::{User, UserId, Username};
use crate::domain::audit::{Beside, Entry, Event, Outcome};
use crate::service::audit::HEAD;
use crate::service::{Refusal, Service};
use crate::store::tables::{AuditErasure, UserName};
use crate::store::{Read, Record, StoreError, Tx};

/// Entries looked at in one transaction.
const CHUNK: usize = 1_000;

/// Has all erased that stands beside entries of the audit that name this account: as the one who acted, for whom an app
/// acted, as what it was done to, as the name that was tried, or in the detail. To be called in the transaction that
/// ends the account, after its own entries and before the account's row loses its name. The work itself is done in
/// steps by [`Service::run_erasures`], by the hub's clock if by nobody else, and goes on after a restart. Entries of the
/// first form have nothing beside them: they go when the audit is cut.
pub(in crate::service) fn erase_person(tx: &Tx<'_>, user: &UserId, now: u64) -> Result<(), StoreError> {
    let key = user.as_str().as_bytes();
    let name = tx.get::<User>(key)?.map(|u| u.username.folded());
    // Who tried the name of somebody who has it now is theirs to know.
    let is_free = |name: &String| tx.get::<UserName>(name.as_bytes()).map(|holder| holder.is_none());
    let name = match name {
        Some(name) if !is_free(&name)? => None,
        other => other,
    };
    let entry = append(tx, now, event("hub", "audit.erase", user.as_str(), Outcome::Done, "requested", "", ""))?;
    let name = name.or(tx.get::<AuditErasure>(key)?.and_then(|known| known.name));
    tx.put(key, &AuditErasure { user: user.clone(), name, next: 1, to: entry.seq })
}

impl Service {
    /// Does what [`erase_person`] has asked for, in steps of bounded size.
    ///
    /// # Errors
    /// The store's fault; what is left is done at the next call.
    pub async fn run_erasures(&self) -> Result<(), Refusal> {
        while !self.store.read::<_, StoreError>(|v| v.scan::<AuditErasure>(b"", 1))?.is_empty() {
            self.store.write::<_, StoreError, _>(step).await?;
        }
        Ok(())
    }
}

/// One step of the first erasure there is.
fn step(tx: &Tx<'_>) -> Result<(), StoreError> {
    let Some((job_key, mut job)) = tx.scan::<AuditErasure>(b"", 1)?.pop() else { return Ok(()) };
    let end = job.to.saturating_add(1).to_be_bytes();
    let rows = tx.decode_all::<Entry>(tx.rows(<Entry as Record>::TABLE, &job.next.to_be_bytes(), &end, CHUNK, false)?)?;
    let mut head = head(tx)?;
    for (key, entry) in &rows {
        job.next = entry.seq + 1;
        let Some(beside) = tx.get::<Beside>(key)? else { continue };
        if names(&job, &entry.event, &beside) {
            let bytes = tx.bytes(<Beside as Record>::TABLE, key)?.map_or(0, |value| key.len() + value.len());
            head.bytes = head.bytes.saturating_sub(bytes as u64);
            tx.delete::<Beside>(key)?;
        }
    }
    tx.put(HEAD, &head)?;
    if rows.len() < CHUNK {
        return tx.delete::<AuditErasure>(&job_key).map(|_| ());
    }
    tx.put(&job_key, &job)
}

/// Whether an entry names the account. Its id is random: wherever it stands, it is meant.
fn names(job: &AuditErasure, event: &Event, beside: &Beside) -> bool {
    let id = job.user.as_str();
    if [&event.actor, &event.behalf, &event.object, &beside.tried, &beside.object, &beside.detail].iter().any(|text| text.contains(id)) {
        return true;
    }
    let tried = beside.tried.strip_prefix("user:").unwrap_or(&beside.tried);
    job.name.is_some() && Username::parse(tried).ok().map(|n| n.folded()) == job.name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::Role;
    use crate::store::{MasterKey, Store};

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn person() -> UserId {
        UserId::parse(ID).unwrap()
    }

    fn account() -> User {
        User {
            id: person(),
            username: Username::parse("Mia").unwrap(),
            display_name: "Mia".into(),
            role: Role::Member,
            password_hash: String::new(),
            created_at: 0,
            created_by: String::new(),
            ended: false,
            networks: Vec::new(),
            brand: None,
        }
    }

    fn by(actor: &str, object: &str, detail: &str) -> Event {
        event(actor, "x.y", object, Outcome::Done, "", detail, "https 10.0.0.7")
    }

    async fn look(store: &Store) -> Vec<bool> {
        store
            .read::<_, StoreError>(|v| {
                let all = v.scan::<Entry>(b"", 10_000)?;
                all.into_iter().map(|(_, e)| Ok(super::super::joined(v, e)?.erased)).collect()
            })
            .unwrap()
    }

    #[tokio::test]
    async fn what_names_a_person_goes_in_steps_also_after_a_kill_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(&dir.path().join("hub.redb"), MasterKey::new([7; 32])).unwrap();
        let store = open();
        let mut events = vec![
            (by(&format!("user:{ID}"), "door", ""), true),
            (Event { behalf: format!("user:{ID}"), ..by("app:7", "door", "") }, true),
            (by("user:other", ID, "as member"), true),
            (by("user:other", "door", &format!("user:{ID} and 2 more")), true),
            (by("?MIA", "hub", ""), true),
            (by("?user:mia", "hub", ""), true),
            (by("?miami", "hub", ""), false),
            (by("user:other", "door", "mia"), false),
        ];
        events.extend((0..2 * CHUNK).map(|_| (by("user:other", "door", ""), false)));
        events.push((by(&format!("user:{ID}"), "door", ""), true));
        let (written, mut expected): (Vec<Event>, Vec<bool>) = events.into_iter().unzip();
        let begin = move |tx: &Tx<'_>| {
            tx.put(ID.as_bytes(), &account())?;
            for event in &written {
                append(tx, 1, event.clone())?;
            }
            erase_person(tx, &person(), 2)
        };
        store.write::<_, StoreError, _>(begin).await.unwrap();
        store.write::<_, StoreError, _>(step).await.unwrap();
        let half = look(&store).await;
        assert!(half[0] && !half[expected.len() - 1], "one step is not all of it");
        store.close().await;
        let store = open();
        while !store.read::<_, StoreError>(|v| v.scan::<AuditErasure>(b"", 1)).unwrap().is_empty() {
            store.write::<_, StoreError, _>(step).await.unwrap();
        }
        // The entry that tells of it.
        expected.push(false);
        assert_eq!(look(&store).await, expected);
        super::super::verify_audit(&store).unwrap();
    }
}
