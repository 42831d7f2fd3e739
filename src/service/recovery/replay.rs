//! A database that is older than the journal beside it, or that was made from an older copy of the home, takes from the
//! journal what it lacks. Everything there only ever takes away: what was revoked stays revoked, no sign-in serves twice, and
//! the audit tells what is missing in it.
//!
//! Marks are taken as they stand, without the bounds that marks from a cloud have: this hub has decided all of them. Also the
//! last administrator of a device and the last owner of the house stay ended (whoever ended them is not in the older copy):
//! then the hub prints a setup code for a new owner, and the device is reset by hand and claimed anew.

use crate::domain::account::{User, UserId};
use crate::domain::audit::Outcome;
use crate::domain::binding::{Binding, RevocationMark, Subject};
use crate::domain::device::{Household, Registered, ResetCounter, SignInCounter};
use crate::domain::ids::{DeviceId, HubId};
use crate::domain::mirror::journal::{COUNTER_STEP, reserved};
use crate::domain::mirror::wire::{Kind, Mark};
use crate::service::bindings::{end_account_of, revoke_in};
use crate::service::forget::forget_device;
use crate::service::mirror::{marked, parse_binding, raise_to};
use crate::service::{Refusal, audit};
use crate::store::journal::{self, Found};
use crate::store::tables::{AwayKey, RunCount, binding_key};
use crate::store::{Read, Store, StoreError, Tx};
use std::path::Path;
use std::sync::Arc;

/// What was taken from a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The database is an older copy than the journal.
    pub older: bool,
    /// The journal is another hub's: nothing was taken.
    pub of_another_hub: bool,
    /// Marks that were new: rights, people, devices and keys that are ended.
    pub marks: u64,
    /// Devices that have to prove their sign-in counter.
    pub counters: u64,
    /// Devices of which it was not known that they had been reset by hand.
    pub resets: u64,
    /// Entries of the audit that are gone, from and to.
    pub gap: Option<(u64, u64)>,
    /// The highest epoch that the journal knows; 0 for none.
    pub epoch: u64,
}

impl Replayed {
    /// Whether something was taken.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.marks + self.counters + self.resets > 0 || self.gap.is_some()
    }
}

/// Takes from the journal beside the open `store` what the database lacks, and counts the opening. To be called before
/// anything is served. `now` is ms since 1970.
///
/// # Errors
/// The store's fault; then nothing was taken, and the store must not serve.
pub async fn catch_up(store: &Store, now: u64) -> Result<Replayed, Refusal> {
    let found = store.found().unwrap_or_default();
    let taken = store
        .write::<_, StoreError, _>(move |tx| {
            let known = tx.get::<RunCount>(RunCount::ROW)?.unwrap_or_default().count;
            let taken = replay(tx, &found, found.lacks || found.known.run > known, now)?;
            let before = if taken.of_another_hub { known } else { known.max(found.known.run) };
            tx.put(RunCount::ROW, &RunCount { count: before.saturating_add(1) })?;
            Ok(taken)
        })
        .await?;
    if taken.changed() {
        tracing::warn!(?taken, "the database is older than the journal beside it: it has taken from there what must not be lost");
    }
    Ok(taken)
}

/// Takes what the journal at `path` says into a `store` that was filled from an older copy of the home, whatever the
/// database says of its age: every device that is known by a counter has to prove it. `None` when there is no journal.
///
/// # Errors
/// [`Refusal::Conflict`] when the journal cannot be read; the store's fault.
pub async fn replay_journal(store: &Store, path: &Path, now: u64) -> Result<Option<Replayed>, Refusal> {
    let unreadable = |e: std::io::Error| Refusal::Conflict(format!("{} cannot be read: {e}", path.display()));
    let Some(found) = journal::read(path).map_err(unreadable)?.map(Arc::new) else { return Ok(None) };
    let taken = store
        .write::<_, StoreError, _>(move |tx| {
            let taken = replay(tx, &found, true, now)?;
            if !taken.of_another_hub {
                // What stands now is no older than this journal.
                let known = tx.get::<RunCount>(RunCount::ROW)?.unwrap_or_default().count;
                tx.put(RunCount::ROW, &RunCount { count: known.max(found.known.run) })?;
            }
            Ok(taken)
        })
        .await?;
    Ok(Some(taken))
}

/// Takes into the database what it lacks of what a journal says; in the audit it is told. `older` says that the database is
/// known to be an older copy: then every sign-in counter has to be proved, also one that may have been used no further.
///
/// # Errors
/// The database's fault.
pub fn replay(tx: &Tx<'_>, found: &Found, older: bool, now: u64) -> Result<Replayed, StoreError> {
    let known = &found.known;
    let identity = audit::identity(tx)?.map(|key| HubId::from_public_key(key.verifying_key().as_bytes()));
    let Some(hub) = identity else { return Ok(Replayed::default()) };
    if known.hub.is_some_and(|of| of != *hub.as_bytes()) {
        tracing::warn!("the journal is another hub's; nothing is taken from it");
        return Ok(Replayed { of_another_hub: true, ..Replayed::default() });
    }
    // One batch that is in the journal alone was cut off by the power, and nobody was told that it had been done.
    let newest = audit::newest(tx)?;
    let (ends, stood) = (newest.map_or(0, |(seq, _)| seq), newest == found.head_before);
    // An audit that ends further back than one batch was put back with its database.
    let older = older || known.newest_head().is_some_and(|(seq, _)| seq > ends) && !stood;
    let mut taken = Replayed { older, epoch: known.epoch, ..Replayed::default() };
    for mark in known.marks.values() {
        taken.marks += u64::from(take_mark(tx, mark, now)?);
    }
    for (device, counter) in &known.counters {
        taken.counters += u64::from(take_counter(tx, device, *counter, older)?);
    }
    for (device, count) in &known.resets {
        let at = device.as_bytes();
        if tx.get::<ResetCounter>(at)?.is_none_or(|row| row.counter < *count) {
            tx.put(at, &ResetCounter { counter: *count })?;
            taken.resets += 1;
        }
    }
    if let Some(place) = known.newest_head() {
        // Also after what was cut off, so that journal and chain never name two entries by one number.
        taken.gap = audit::go_on_after(tx, place, now)?;
    }
    if taken.changed() {
        let missing = taken.gap.map_or(String::new(), |(from, to)| format!("; the audit lacks the entries {from} to {to}"));
        let detail = format!("{} marks, {} sign-in counters, {} reset counters{missing}", taken.marks, taken.counters, taken.resets);
        let reason = if older { "older_database" } else { "cut_off" };
        audit::append(tx, now, audit::event("hub", "hub.replay", "hub", Outcome::Done, reason, detail, "journal"))?;
    }
    Ok(taken)
}

fn take_mark(tx: &Tx<'_>, mark: &Mark, now: u64) -> Result<bool, StoreError> {
    let by = if mark.by.is_empty() { "hub" } else { mark.by.as_str() };
    match mark.kind {
        Kind::Binding => take_right(tx, mark, by, now),
        Kind::User => take_person(tx, mark, by, now),
        Kind::Device => take_device(tx, mark, by, now),
        Kind::Away => {
            if marked(tx, Kind::Away, &mark.key)? >= mark.generation {
                return Ok(false);
            }
            tx.delete::<AwayKey>(mark.key.as_bytes())?;
            raise_to(tx, Kind::Away, &mark.key, mark.generation, by, now)?;
            Ok(true)
        }
        Kind::Twin => Ok(false),
    }
}

fn take_right(tx: &Tx<'_>, mark: &Mark, by: &str, now: u64) -> Result<bool, StoreError> {
    let Some((device, subject)) = parse_binding(&mark.key) else { return Ok(false) };
    let at = binding_key(&device, &subject);
    if tx.get::<RevocationMark>(&at)?.is_some_and(|known| known.generation >= mark.generation) {
        return Ok(false);
    }
    // What was given with it has marks of its own.
    if tx.get::<Binding>(&at)?.is_some_and(|binding| binding.generation <= mark.generation) {
        revoke_in(tx, &device, &subject, by, now)?;
    }
    tx.put(&at, &RevocationMark { generation: mark.generation, at: now, by: by.to_owned() })?;
    Ok(true)
}

fn take_person(tx: &Tx<'_>, mark: &Mark, by: &str, now: u64) -> Result<bool, StoreError> {
    let Some(id) = UserId::parse(&mark.key) else { return Ok(false) };
    match tx.get::<User>(id.as_str().as_bytes())? {
        Some(user) if user.ended => Ok(false),
        Some(user) => {
            // Whose rights went along has a mark of its own, too.
            end_account_of(tx, user, &Subject::User(id), by, false, now)?;
            Ok(true)
        }
        None if marked(tx, Kind::User, &mark.key)? >= mark.generation => Ok(false),
        None => raise_to(tx, Kind::User, &mark.key, mark.generation, by, now).map(|()| true),
    }
}

fn take_device(tx: &Tx<'_>, mark: &Mark, by: &str, now: u64) -> Result<bool, StoreError> {
    let Ok(device) = DeviceId::parse(&mark.key) else { return Ok(false) };
    if marked(tx, Kind::Device, &mark.key)? >= mark.generation {
        return Ok(false);
    }
    let key = device.as_str().as_bytes();
    if tx.get::<Registered>(key)?.is_some() || tx.get::<Household>(key)?.is_some() {
        forget_device(tx, &device, by, now)?;
    }
    raise_to(tx, Kind::Device, &mark.key, mark.generation, by, now)?;
    Ok(true)
}

/// A counter is noted ahead: a database that would have noted the same is as new as the note, and one that is a step behind
/// had a sign-in cut off by the power, which was not acknowledged.
fn take_counter(tx: &Tx<'_>, device: &str, noted: u64, older: bool) -> Result<bool, StoreError> {
    let row = tx.get::<SignInCounter>(device.as_bytes())?.unwrap_or_default();
    let behind = row.counter < noted && (older || reserved(row.counter).saturating_add(COUNTER_STEP) < noted);
    if !behind || (row.restored && row.counter >= noted) {
        return Ok(false);
    }
    tx.put(device.as_bytes(), &SignInCounter { counter: noted, restored: true, ..row })?;
    Ok(true)
}
