//! Bulletins: marks of revocation for one hub, signed by the cloud, that a phone can carry to a hub without the internet. One
//! holds every mark that the hub has not yet taken; marks on top of that are raised first, and come down by themselves too.

use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;

use super::away::rights_to;
use super::vendors::Vendor;
use crate::cloud::makers::Makers;
use crate::cloud::makers::acts::{self, Doer};
use crate::cloud::reply::Refused;
use crate::domain::ids::HubId;
use crate::domain::mirror::statement::Bulletin;
use crate::domain::mirror::wire::{Kind, Mark};
use crate::net::problem::Problem;

/// Marks of one bulletin at most: it is carried by hand.
const MARKS_MAX: i64 = 500;

/// A bulletin as it is given out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// For which hub.
    pub hub: String,
    /// Rises with each for this hub.
    pub number: u64,
    /// How many marks it holds.
    pub marks: usize,
    /// The statement, base64url: what is put into the hub's page.
    pub bulletin: String,
}

impl Makers {
    /// A bulletin of everything that a hub has not yet taken.
    ///
    /// # Errors
    /// `not_found` for a hub that is not linked here.
    pub(in crate::cloud) async fn bulletin(&self, doer: &Doer, hub: &HubId) -> Result<Made, Refused> {
        let (id, now) = (hub.as_bytes().as_slice(), self.now());
        let mut client = self.shards.of_hub(hub).await?;
        let tx = client.transaction().await?;
        let row = tx
            .query_opt(
                "UPDATE hubs SET bulletin = bulletin + 1 WHERE hub_id = $1 AND unlinked_at IS NULL RETURNING bulletin, taken, epoch",
                &[&id],
            )
            .await?
            .ok_or_else(|| Problem::not_found().detail("No such hub is linked here."))?;
        let (number, taken, epoch): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let rows = tx
            .query(
                "SELECT kind, key, gen, at, by_ FROM marks WHERE hub_id = $1 AND cursor > $2 AND sent_in IS DISTINCT FROM $3 ORDER BY cursor LIMIT $4",
                &[&id, &taken, &epoch, &MARKS_MAX],
            )
            .await?;
        let marks: Vec<Mark> = rows
            .iter()
            .filter_map(|row| {
                let kind: Kind = serde_json::from_value(row.get::<_, &str>(0).into()).ok()?;
                let number = |at: usize| row.get::<_, i64>(at).unsigned_abs();
                Some(Mark { kind, key: row.get(1), generation: number(2), at: number(3), by: row.get(4) })
            })
            .collect();
        let count = marks.len();
        let statement = Bulletin { hub: *hub, number: number.unsigned_abs(), at_s: now / 1000, marks }.sign(&self.cloud);
        tx.execute(
            "INSERT INTO bulletins (hub_id, number, at, by_, statement) VALUES ($1, $2, $3, $4, $5)",
            &[&id, &number, &now.cast_signed(), &doer.who, &statement],
        )
        .await?;
        tx.execute("DELETE FROM bulletins WHERE hub_id = $1 AND number <= $2", &[&id, &(number - 100)]).await?;
        acts::append(&tx, now, doer.did("bulletin.sign", format!("hub:{hub}"), format!("number {number}, {count} marks"))).await?;
        tx.commit().await?;
        Ok(Made { hub: hub.to_string(), number: number.unsigned_abs(), marks: count, bulletin: BASE64URL_NOPAD.encode(&statement) })
    }

    /// Ends the rights of programs (apps and services) on one device of a maker's own brand at one hub: all of them, or one.
    /// What a home's people have, a maker does not touch.
    ///
    /// # Errors
    /// `not_found` for a device that is not the brand's, or not there.
    pub(in crate::cloud) async fn end_programs(
        &self,
        vendor: &Vendor,
        hub: &HubId,
        device: &str,
        subject: Option<&str>,
    ) -> Result<usize, Refused> {
        let client = self.shards.of_hub(hub).await?;
        let there = super::away::standing_row(&client, hub, "device", device).await?;
        let brand = there.as_ref().and_then(|(_, body)| body.get("brand")).and_then(serde_json::Value::as_str);
        if brand != Some(vendor.brand.as_str()) {
            return Err(Problem::not_found().into());
        }
        let rights = rights_to(&client, hub, device).await?;
        drop(client);
        let mut ended = 0;
        for (key, generation, _) in rights {
            let of = key.split_once('/').map_or("", |(_, of)| of);
            let program = of.starts_with("app:") || of.starts_with("service:");
            if program && subject.is_none_or(|subject| subject == of) {
                let mark = Mark { kind: Kind::Binding, key, generation, at: self.now(), by: vendor.doer.who.clone() };
                self.raise(hub, &mark).await?;
                ended += 1;
            }
        }
        let mut client = self.shards.of_hub(hub).await?;
        let tx = client.transaction().await?;
        let act = vendor.doer.did("programs.end", format!("device:{device}"), format!("{ended} rights of programs at hub {hub}"));
        acts::append(&tx, self.now(), act).await?;
        tx.commit().await?;
        Ok(ended)
    }
}
