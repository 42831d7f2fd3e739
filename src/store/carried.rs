//! What a hub that takes another's place gets of its store: rows of these tables, opened and named by their table. Sealed
//! values come out as they are inside, and go in again under the master key of the other box.

use super::codec;
use super::tables::{self, ChangeCount};
use super::{Read, Row, StoreError, Table, Tx};
use zeroize::Zeroizing;

/// Names of the tables whose change makes a bundle that was sent before out of date.
const COUNTED: &[&str] = &[
    "hub_secrets",
    "registry",
    "device_keys",
    "household",
    "resets",
    "bindings",
    "bindings_by_subject",
    "revocations",
    "credentials",
    "pairings",
    "certificates",
    "brands",
    "models",
    "batches",
    "users",
    "usernames",
    "second_factors",
    "authorizations",
    "oauth_clients",
    "services",
    "service_secrets",
    "settings",
    "recovery",
    "away_keys",
    "mirror_link",
    "mirror_marks",
    "following",
    "move_orders",
    "firmware_floors",
    "firmware_facts",
    "firmware_policies",
];

/// Names of those that travel along, and change too often to be a reason by themselves.
const RIDING: &[&str] = &["counters", "clock_floor", "audit_head"];

/// Names of tables that no backup has: who was signed in or invited, and with what, must not come back to life after it
/// has ended; what is only of the present moment; what a new epoch begins anew at the cloud; and how backups themselves
/// stand.
const NOT_BACKED_UP: &[&str] = &[
    "sessions",
    "setup",
    "app_tokens",
    "refresh_tokens",
    "authorization_codes",
    "service_tokens",
    "token_uses",
    "invitations",
    "reset_codes",
    "support",
    "momentary",
    "mqtt_sessions",
    "mqtt_waiting",
    "mirror_switch",
    "mirror_progress",
    "outbox",
    "mirror_batch",
    "mirror_sent",
    "mirror_offers",
    "carried_changes",
    "bundle_sent",
    "restored",
    "backup_state",
];

/// A row as it goes from one hub to another: its key, and its value as CBOR, opened.
pub type OpenRow = (Vec<u8>, Zeroizing<Vec<u8>>);

/// The tables whose rows are carried, in the order in which they are written.
#[must_use]
pub fn carried_tables() -> Vec<Table> {
    COUNTED.iter().chain(RIDING).filter_map(|name| tables::named(name)).collect()
}

/// The carried table with this name.
#[must_use]
pub fn carried_table(name: &str) -> Option<Table> {
    let known = COUNTED.iter().chain(RIDING).any(|carried| *carried == name);
    known.then(|| tables::named(name)).flatten()
}

/// The tables whose rows are in a backup, in the order in which they are written.
#[must_use]
pub fn backed_up_tables() -> Vec<Table> {
    tables::ALL.iter().copied().filter(|table| !NOT_BACKED_UP.contains(&table.name)).collect()
}

/// The table with this name, if a backup may have it.
#[must_use]
pub fn backed_up_table(name: &str) -> Option<Table> {
    tables::named(name).filter(|table| !NOT_BACKED_UP.contains(&table.name))
}

/// Whether a change of the table counts.
pub(super) fn counts(table: Table) -> bool {
    COUNTED.contains(&table.name)
}

/// Up to `limit` rows of `table` after the key `after`, opened.
///
/// # Errors
/// The database's fault, or a row that cannot be read.
pub fn opened_rows<R: Read>(rows: &R, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Vec<OpenRow>, StoreError> {
    // The first key after one is the same with a zero byte.
    let from = after.map_or_else(Vec::new, |key| [key, &[0]].concat());
    let found: Vec<Row> = rows.rows(table, &from, &codec::after_prefix(&[]), limit, false)?;
    found.into_iter().map(|(key, value)| codec::open(rows.vault(), table, &key, &value).map(|plain| (key, plain))).collect()
}

/// How often what is carried has changed: it rises with every commit in which it did.
///
/// # Errors
/// The database's fault.
pub fn changes<R: Read>(rows: &R) -> Result<u64, StoreError> {
    Ok(rows.get::<ChangeCount>(ChangeCount::ROW)?.map_or(0, |c| c.count))
}

impl Tx<'_> {
    /// Puts a row that was opened elsewhere; sealed again where its table is.
    ///
    /// # Errors
    /// The database's fault.
    pub fn put_opened(&self, table: Table, key: &[u8], plain: &[u8]) -> Result<(), StoreError> {
        let bytes = codec::close(self.vault(), table, key, plain)?;
        self.put_bytes(table, key, &bytes)
    }

    /// Takes a row of any table away.
    ///
    /// # Errors
    /// The database's fault.
    pub fn delete_opened(&self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.delete_bytes(table, key)
    }

    /// Says that what was put is of this layout: at the next opening it is brought up to date.
    ///
    /// # Errors
    /// The database's fault.
    pub fn mark_layout(&self, version: u32) -> Result<(), StoreError> {
        self.put(super::LAYOUT_ROW, &super::Layout { version })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::{Credential, TrustedBrand};
    use super::super::{MasterKey, Record, Store};
    use super::*;
    use crate::domain::ids::BrandId;

    fn store(key: u8) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new([key; 32])).unwrap();
        (dir, store)
    }

    fn credential(n: u8) -> Credential {
        Credential { keyed_hash: [n; 32], undelivered: Some([n; 32]), made_at: 5 }
    }

    #[test]
    fn every_table_that_is_named_and_known_here_is_found_once() {
        let all = carried_tables();
        assert!(all.len() >= 25, "{}", all.len());
        for table in &all {
            assert_eq!(all.iter().filter(|t| t.name == table.name).count(), 1, "{}", table.name);
        }
        assert!(carried_table("sessions").is_none() && carried_table("setup").is_none() && carried_table("audit").is_none());
    }

    #[test]
    fn a_backup_leaves_out_only_tables_that_there_are() {
        for name in NOT_BACKED_UP {
            assert!(tables::named(name).is_some(), "{name}");
            assert!(backed_up_table(name).is_none());
        }
        assert_eq!(backed_up_tables().len() + NOT_BACKED_UP.len(), tables::ALL.len());
    }

    #[tokio::test]
    async fn sealed_rows_are_opened_here_and_sealed_again_under_another_key() {
        let ((_a, old), (_b, new)) = (store(1), store(2));
        let fill = |tx: &Tx<'_>| (1..=5u8).try_for_each(|n| tx.put(&[n], &credential(n)));
        old.write::<_, StoreError, _>(fill).await.unwrap();
        let table = <Credential as Record>::TABLE;
        let mut rows = old.read::<_, StoreError>(|v| opened_rows(v, table, None, 3)).unwrap();
        let last = rows.last().unwrap().0.clone();
        rows.extend(old.read::<_, StoreError>(|v| opened_rows(v, table, Some(&last), 3)).unwrap());
        assert_eq!(rows.iter().map(|(k, _)| k[0]).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        new.write::<_, StoreError, _>(move |tx| rows.iter().try_for_each(|(key, plain)| tx.put_opened(table, key, plain))).await.unwrap();
        for n in 1..=5u8 {
            let row = new.read::<_, StoreError>(|v| v.get::<Credential>(&[n])).unwrap().unwrap();
            assert_eq!((row.keyed_hash, row.undelivered), ([n; 32], Some([n; 32])));
        }
        // What stands in the one file is not what stands in the other.
        let raw = |store: &Store| store.read::<_, StoreError>(|v| v.bytes(table, &[1])).unwrap().unwrap();
        assert_ne!(raw(&old), raw(&new));
    }

    #[tokio::test]
    async fn what_is_carried_counts_once_a_commit_and_what_is_not_does_not() {
        let (_dir, store) = store(1);
        let count = || store.read::<_, StoreError>(|v| changes(v)).unwrap();
        assert_eq!(count(), 0);
        store.write::<_, StoreError, _>(|tx| tx.put(b"a", &credential(1))).await.unwrap();
        assert_eq!(count(), 1);
        let seen = crate::domain::device::LastSeen { at: 5 };
        store.write::<_, StoreError, _>(move |tx| tx.put(b"a", &seen)).await.unwrap();
        assert_eq!(count(), 1, "when a device was last heard is not carried");
        let counter = crate::domain::device::SignInCounter { counter: 3, ..Default::default() };
        store.write::<_, StoreError, _>(move |tx| tx.put(b"a", &counter)).await.unwrap();
        assert_eq!(count(), 1, "a sign-in alone is no reason");
        let brand = TrustedBrand {
            id: BrandId::parse("acme").unwrap(),
            fingerprint: String::new(),
            root: None,
            trusted_at: 0,
            trusted_by: String::new(),
        };
        store
            .write::<_, StoreError, _>(move |tx| {
                tx.put(b"acme", &brand)?;
                tx.delete::<Credential>(b"a")
            })
            .await
            .unwrap();
        assert_eq!(count(), 2);
        let refused = store.write::<(), StoreError, _>(|tx| {
            tx.put(b"b", &credential(2))?;
            Err(StoreError::Stopped)
        });
        assert!(refused.await.is_err());
        assert_eq!(count(), 2, "what was undone has changed nothing");
    }
}
