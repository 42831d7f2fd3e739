//! The ledger of claims: which hub claimed which device first, by the rule of [`super::rule`]. It takes nothing away. Who
//! must hear of a conflict or a transfer is written in the ledger's own transaction, and told afterwards, until it is told.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::Transaction;

use super::Makers;
use super::acts::{self, Doer};
use super::identities::Known;
use super::rule::{Claim, Verdict, judge};
use crate::cloud::reply::Refused;
use crate::domain::ids::HubId;
use crate::domain::mirror::wire::{ItemBody, Notice};

/// What a hub reports of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cloud) struct Report {
    pub(in crate::cloud) device: String,
    /// The hub's epoch.
    pub(in crate::cloud) epoch: i64,
    /// Of the claim, or of what ended it.
    pub(in crate::cloud) generation: i64,
    /// When it was claimed there, ms since 1970; absent when it is not, or no more.
    pub(in crate::cloud) claimed_at: Option<i64>,
    /// The reset counter, if the device's key has proved it to the hub.
    pub(in crate::cloud) resets: Option<i64>,
}

/// What the ledger has of a device.
struct Held {
    hub: Vec<u8>,
    epoch: i64,
    generation: i64,
    resets: Option<i64>,
}

impl Makers {
    /// Holds reports of known devices against the ledger, and tells whoever must hear of what came of it.
    pub(super) async fn hold_against_ledger(
        &self,
        hub: &HubId,
        reports: &[&Report],
        known: &HashMap<String, Known>,
    ) -> Result<(), Refused> {
        let mut by_shard: BTreeMap<usize, Vec<&Report>> = BTreeMap::new();
        for report in reports {
            by_shard.entry(self.shards.index_of_text(&report.device)).or_default().push(report);
        }
        for (shard, reports) in by_shard {
            let mut client = self.shards.at(shard).await?;
            let devices: Vec<&str> = reports.iter().map(|report| report.device.as_str()).collect();
            let rows =
                client.query("SELECT device_id, hub_id, epoch, gen, resets FROM claims WHERE device_id = ANY($1)", &[&devices]).await?;
            let held: HashMap<String, Held> = rows
                .iter()
                .map(|row| (row.get(0), Held { hub: row.get(1), epoch: row.get(2), generation: row.get(3), resets: row.get(4) }))
                .collect();
            for report in reports {
                let stands = held.get(&report.device).is_some_and(|held| held.is(hub, report));
                // Most of what is reported is a new name or firmware.
                if stands || (report.claimed_at.is_none() && !held.contains_key(&report.device)) {
                    continue;
                }
                let Some(known) = known.get(&report.device) else { continue };
                let tx = client.transaction().await?;
                self.weigh(&tx, hub, report, &known.brand).await?;
                tx.commit().await?;
            }
            drop(client);
            self.tell(shard, &devices).await?;
        }
        Ok(())
    }

    async fn weigh(&self, tx: &Transaction<'_>, hub: &HubId, report: &Report, brand: &str) -> Result<(), Refused> {
        let (id, at) = (hub.as_bytes().as_slice(), self.now().cast_signed());
        // Two hubs that report at once come one after the other, also when the ledger has nothing yet.
        tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&report.device]).await?;
        let row = tx.query_opt("SELECT hub_id, epoch, gen, resets FROM claims WHERE device_id = $1", &[&report.device]).await?;
        let held = row.map(|row| Held { hub: row.get(0), epoch: row.get(1), generation: row.get(2), resets: row.get(3) });
        let Some(claimed_at) = report.claimed_at else {
            return Ok(release(tx, id, &report.device, held.as_ref(), at).await?);
        };
        if held.as_ref().is_some_and(|held| held.hub != id) && is_settled(tx, id, report).await? {
            return Ok(());
        }
        let before = held.as_ref().map(|held| Claim { hub: held.hub.clone(), resets: held.resets.map(i64::unsigned_abs) });
        let reported = Claim { hub: id.to_vec(), resets: report.resets.map(i64::unsigned_abs) };
        let verdict = judge(before.as_ref(), &reported);
        let resets = match (&held, verdict) {
            (Some(held), Verdict::Again) => held.resets.max(report.resets),
            _ => report.resets,
        };
        if verdict != Verdict::Conflict {
            tx.execute(
                "INSERT INTO claims (device_id, brand, hub_id, epoch, gen, resets, claimed_at, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                 ON CONFLICT (device_id) DO UPDATE SET hub_id = $3, epoch = $4, gen = $5, resets = $6, claimed_at = $7, at = $8",
                &[&report.device, &brand, &id, &report.epoch, &report.generation, &resets, &claimed_at, &at],
            )
            .await?;
        }
        let (kind, Some(held)) = (verdict, held) else { return Ok(()) };
        let kind = match kind {
            Verdict::Transfer => "transfer",
            Verdict::Conflict => "conflict",
            Verdict::First | Verdict::Again => return Ok(()),
        };
        if kind == "transfer" {
            // What was in dispute between the two is decided.
            tx.execute(
                "UPDATE conflicts SET over_at = $3 WHERE device_id = $1 AND over_at IS NULL AND (first_hub = $2 OR other_hub = $2)",
                &[&report.device, &id, &at],
            )
            .await?;
        }
        tx.execute(
            "INSERT INTO conflicts (device_id, first_hub, other_hub, brand, kind, first_gen, other_gen, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT DO NOTHING",
            &[&report.device, &held.hub, &id, &brand, &kind, &held.generation, &report.generation, &at],
        )
        .await?;
        let act = Doer::cloud(brand).did(&format!("claim.{kind}"), report.device.clone(), format!("{} and {hub}", hub_text(&held.hub)));
        acts::append(tx, self.now(), act).await?;
        Ok(())
    }

    /// Tells the houses what has come of these devices, and notes that they were told.
    async fn tell(&self, shard: usize, devices: &[&str]) -> Result<(), Refused> {
        let client = self.shards.at(shard).await?;
        let rows = client
            .query("SELECT device_id, first_hub, other_hub, kind, at FROM conflicts WHERE device_id = ANY($1) AND NOT told", &[&devices])
            .await?;
        for row in rows {
            let (device, first, other, kind): (String, Vec<u8>, Vec<u8>, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
            let at: i64 = row.get(4);
            let (code, text) = match kind.as_str() {
                "transfer" => ("transferred", TRANSFERRED),
                _ => ("claimed_elsewhere", CLAIMED_ELSEWHERE),
            };
            let hubs = if kind == "transfer" { vec![&first] } else { vec![&first, &other] };
            for hub in hubs {
                let Ok(hub) = <[u8; 16]>::try_from(hub.as_slice()).map(HubId::from_bytes) else { continue };
                let notice = Notice { code: code.to_owned(), device: Some(device.clone()), text: text.to_owned(), at: at.unsigned_abs() };
                self.send(&hub, &format!("{code}.{device}.{at}"), &ItemBody::Notice(notice)).await?;
            }
            client
                .execute(
                    "UPDATE conflicts SET told = true WHERE device_id = $1 AND first_hub = $2 AND other_hub = $3 AND at = $4",
                    &[&device, &first, &other, &at],
                )
                .await?;
        }
        Ok(())
    }
}

const TRANSFERRED: &str = "This device was reset by hand and now belongs to another home. If that is right, remove it here; if nobody of you gave it \
     away, ask where it is.";
const CLAIMED_ELSEWHERE: &str = "Another home has claimed a device with this identity. One of the two may be a copy. Nothing was taken away: compare the \
     serial number on the label, do not rely on this device for anything that matters, and ask its maker.";

/// Whether what this hub claims was settled before: it is in dispute already, or the device went from it to another home, and
/// nothing has been claimed there since.
async fn is_settled(tx: &Transaction<'_>, hub: &[u8], report: &Report) -> Result<bool, tokio_postgres::Error> {
    let row = tx
        .query_opt(
            "SELECT 1 FROM conflicts WHERE device_id = $1 AND over_at IS NULL AND ((kind = 'conflict' AND other_hub = $2 AND other_gen >= $3) \
             OR (kind = 'transfer' AND first_hub = $2 AND first_gen >= $3)) LIMIT 1",
            &[&report.device, &hub, &report.generation],
        )
        .await?;
    Ok(row.is_some())
}

/// A hub has the device no more: its claim ends, and what was in dispute with it. Who else claimed it holds it from now on.
async fn release(tx: &Transaction<'_>, hub: &[u8], device: &str, held: Option<&Held>, at: i64) -> Result<(), tokio_postgres::Error> {
    if held.is_some_and(|held| held.hub == hub) {
        let heir = tx
            .query_opt(
                "UPDATE claims c SET hub_id = x.other_hub, gen = x.other_gen, epoch = 0, resets = NULL, at = $3 FROM conflicts x \
                 WHERE c.device_id = $1 AND x.device_id = $1 AND x.first_hub = $2 AND x.kind = 'conflict' AND x.over_at IS NULL RETURNING 1",
                &[&device, &hub, &at],
            )
            .await?;
        if heir.is_none() {
            tx.execute("DELETE FROM claims WHERE device_id = $1 AND hub_id = $2", &[&device, &hub]).await?;
        }
    }
    tx.execute(
        "UPDATE conflicts SET over_at = $3 WHERE device_id = $1 AND over_at IS NULL AND (first_hub = $2 OR other_hub = $2)",
        &[&device, &hub, &at],
    )
    .await?;
    Ok(())
}

fn hub_text(id: &[u8]) -> String {
    <[u8; 16]>::try_from(id).map(|id| HubId::from_bytes(id).to_string()).unwrap_or_default()
}

impl Held {
    /// Whether the ledger says just that.
    fn is(&self, hub: &HubId, report: &Report) -> bool {
        self.hub == hub.as_bytes()
            && self.epoch == report.epoch
            && self.generation == report.generation
            && report.claimed_at.is_some()
            && self.resets >= report.resets
    }
}
