//! Which rows of the store the journal notes, and what it says of them. Every write comes by here, so that no use case can
//! forget it: the writer asks for each row that a batch has put.

use crate::domain::account::User;
use crate::domain::audit::chain::Head;
use crate::domain::binding::RevocationMark;
use crate::domain::device::{ResetCounter, SignInCounter};
use crate::domain::ids::HubId;
use crate::domain::mirror::journal::{Entry, reserved};
use crate::domain::mirror::wire::{Kind, Mark};
use crate::store::tables::{HubSecrets, MirrorMark, RunCount};
use crate::store::{Read, Record, StoreError, Table, codec};
use ed25519_dalek::SigningKey;

/// Rows that are looked at at a time.
const BLOCK: usize = 1_000;

/// The tables concerned.
const TABLES: [Table; 8] = [
    <HubSecrets as Record>::TABLE,
    <RevocationMark as Record>::TABLE,
    <MirrorMark as Record>::TABLE,
    <User as Record>::TABLE,
    <SignInCounter as Record>::TABLE,
    <ResetCounter as Record>::TABLE,
    <Head as Record>::TABLE,
    <RunCount as Record>::TABLE,
];

/// Whether rows of the table are noted.
pub(in crate::store) fn concerns(table: Table) -> bool {
    TABLES.contains(&table)
}

/// What the journal says of the row `key` of `table`, as it stands in `rows`.
pub(in crate::store) fn entries_of<R: Read>(rows: &R, table: Table, key: &[u8]) -> Result<Vec<Entry>, StoreError> {
    let Ok(text) = std::str::from_utf8(key) else { return Ok(Vec::new()) };
    let one = |entry: Option<Entry>| Ok(entry.into_iter().collect());
    if table == RevocationMark::TABLE {
        return one(rows.get::<RevocationMark>(key)?.and_then(|mark| {
            let (device, subject) = text.split_once('\0')?;
            let key = format!("{device}/{subject}");
            Some(Entry::Mark(Mark { kind: Kind::Binding, key, generation: mark.generation, at: mark.at, by: mark.by }))
        }));
    }
    if table == MirrorMark::TABLE {
        return one(rows.get::<MirrorMark>(key)?.filter(|mark| mark.generation > 0).and_then(|mark| {
            let (kind, key) = text.split_once('\0')?;
            let kind = Kind::ALL.into_iter().find(|known| known.word() == kind)?;
            Some(Entry::Mark(Mark { kind, key: key.to_owned(), generation: mark.generation, at: mark.at, by: mark.by }))
        }));
    }
    if table == User::TABLE {
        // An account has one life: that it has ended is its mark.
        let ended = rows.get::<User>(key)?.is_some_and(|user| user.ended);
        let mark = || Mark { kind: Kind::User, key: text.to_owned(), generation: 1, at: 0, by: String::new() };
        return one(ended.then(|| Entry::Mark(mark())));
    }
    if table == SignInCounter::TABLE {
        let counter = rows.get::<SignInCounter>(key)?.map_or(0, |row| row.counter);
        return one((counter > 0).then(|| Entry::Counter { device: text.to_owned(), counter: reserved(counter) }));
    }
    if table == ResetCounter::TABLE {
        return one(rows.get::<ResetCounter>(key)?.map(|row| Entry::Resets { device: text.to_owned(), count: row.counter }));
    }
    if table == Head::TABLE {
        let place = rows.get::<Head>(key)?.and_then(|head| head.newest());
        let epoch = rows.get::<HubSecrets>(HubSecrets::ROW)?.map_or(1, |secrets| secrets.epoch);
        return one(place.map(|(seq, hash)| Entry::Head { epoch, seq, hash }));
    }
    if table == RunCount::TABLE {
        return one(rows.get::<RunCount>(key)?.map(|row| Entry::Run(row.count)));
    }
    if table == HubSecrets::TABLE {
        let Some(secrets) = rows.get::<HubSecrets>(key)? else { return Ok(Vec::new()) };
        let public = SigningKey::from_bytes(&secrets.identity_seed).verifying_key().to_bytes();
        let hub = *HubId::from_public_key(&public).as_bytes();
        return Ok(vec![Entry::Hub(hub), Entry::Epoch(secrets.epoch)]);
    }
    Ok(Vec::new())
}

/// What the journal says of everything that stands in `rows`. A row that cannot be read is left out: whoever needs it is told.
pub(in crate::store) fn entries_of_all<R: Read>(rows: &R) -> Result<Vec<Entry>, StoreError> {
    let mut all = Vec::new();
    for table in TABLES {
        let mut from = Vec::new();
        loop {
            let block = rows.rows(table, &from, &codec::after_prefix(b""), BLOCK, false)?;
            let Some((last, _)) = block.last() else { break };
            // The first key after one is the same with a zero byte.
            from = [last.as_slice(), &[0]].concat();
            for (key, _) in &block {
                match entries_of(rows, table, key) {
                    Ok(entries) => all.extend(entries),
                    Err(error @ StoreError::Row { .. }) => tracing::error!(%error, "a row cannot be noted in the journal"),
                    Err(fault) => return Err(fault),
                }
            }
        }
    }
    Ok(all)
}
