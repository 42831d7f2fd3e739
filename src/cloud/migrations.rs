//! The tables, as steps that are applied in order and never changed once they are out. Each shard has all of them.

use super::keys::Keys;
use super::makers::region::RegionKey;
use super::pool::{DatabaseError, Shards};
use crate::domain::mirror::signature::fingerprint;
use data_encoding::HEXLOWER;
use refinery::{Migration, Runner};
use sha2::{Digest, Sha256};

/// Name and text of each step.
const STEPS: &[(&str, &str)] = &[
    ("V1__hubs", include_str!("migrations/V1__hubs.sql")),
    ("V20__makers", include_str!("migrations/V20__makers.sql")),
    ("V21__accounts", include_str!("migrations/V21__accounts.sql")),
    ("V30__forged", include_str!("migrations/V30__forged.sql")),
    ("V31__refused_marks", include_str!("migrations/V31__refused_marks.sql")),
    ("V32__rehome", include_str!("migrations/V32__rehome.sql")),
    ("V33__releases", include_str!("migrations/V33__releases.sql")),
    ("V36__withdrawn", include_str!("migrations/V36__withdrawn.sql")),
];

/// Checks that every process over these databases has the same keys, whichever comes first: with others it would sign what no
/// hub believes, and seal what nobody opens.
pub(super) async fn same_keys(shards: &Shards, keys: &Keys) -> Result<(), DatabaseError> {
    let region = RegionKey::new(&keys.region).keyed_hash("fact", "region key");
    let facts = [("cloud key", fingerprint(keys.cloud.verifying_key().as_bytes())), ("region key", HEXLOWER.encode(&region))];
    for pool in shards.all() {
        let client = pool.get().await?;
        for (name, value) in &facts {
            client.execute("INSERT INTO facts (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING", &[name, value]).await?;
            let was: String = client.query_one("SELECT value FROM facts WHERE name = $1", &[name]).await?.get(0);
            if was != *value {
                return Err(DatabaseError::OtherKeys(name));
            }
        }
    }
    Ok(())
}

/// Held while tables are made, so that processes that start at the same time do it one after the other.
const LOCK: i64 = 0x6865_6172_7468;

/// By which two programs see whether they make the same tables: a hash of all steps.
#[must_use]
pub fn form_of_tables() -> String {
    let mut hash = Sha256::new();
    for (name, text) in STEPS {
        hash.update(name);
        hash.update([0]);
        hash.update(text);
        hash.update([0]);
    }
    HEXLOWER.encode(&hash.finalize())
}

/// Raises every shard to the present form, and checks that the shards are named as they were.
pub(super) async fn apply(shards: &Shards) -> Result<(), DatabaseError> {
    let steps = STEPS.iter().map(|(name, text)| Migration::unapplied(name, text)).collect::<Result<Vec<_>, _>>()?;
    let count = shards.count();
    for (index, pool) in shards.all().enumerate() {
        let mut client = pool.get().await?;
        client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
        let raised = Runner::new(&steps).run_async(&mut **client).await;
        client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
        for step in raised?.applied_migrations() {
            tracing::info!(shard = index, "tables: {step}");
        }
        let now = format!("{index} of {count}");
        client.execute("INSERT INTO facts (name, value) VALUES ('shard', $1) ON CONFLICT DO NOTHING", &[&now]).await?;
        let was: String = client.query_one("SELECT value FROM facts WHERE name = 'shard'", &[]).await?.get(0);
        if was != now {
            return Err(DatabaseError::Order { was, now });
        }
    }
    Ok(())
}
