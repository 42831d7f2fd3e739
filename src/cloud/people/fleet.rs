//! A brand's devices as their hubs last reported them: by model, firmware, trust, standing and last sync, page by page. What is
//! a home's own (names, rooms, people, state) is not in it. Each database is asked for a window of bounded size, so that a
//! filter that fits little costs no more than one that fits much.

use serde::Serialize;
use tokio_postgres::types::ToSql;

use crate::cloud::makers::Makers;
use crate::cloud::reply::Refused;
use crate::domain::ids::HubId;
use crate::net::problem::Problem;

/// Devices of a page at most.
pub(in crate::cloud) const PAGE_MAX: u64 = 500;
/// Devices of one database that are looked at for a page.
const WINDOW: i64 = 10_000;
/// Lines of a summary at most.
const LINES_MAX: i64 = 1_000;
/// A hub id that is above all others.
const LAST_HUB: [u8; 17] = [0xff; 17];

/// What is looked for. What is absent does not matter.
#[derive(Clone, Debug, Default)]
pub(in crate::cloud) struct Filter {
    pub(in crate::cloud) model: Option<String>,
    pub(in crate::cloud) firmware: Option<String>,
    pub(in crate::cloud) trust: Option<String>,
    pub(in crate::cloud) standing: Option<String>,
    /// Hubs that were last heard of before that, ms since 1970.
    pub(in crate::cloud) synced_before: Option<u64>,
    /// Hubs that were heard of since.
    pub(in crate::cloud) synced_after: Option<u64>,
    pub(in crate::cloud) hub: Option<HubId>,
    pub(in crate::cloud) device: Option<String>,
}

/// A device of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cloud) struct Found {
    device: String,
    /// Who may see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hub: Option<String>,
    model: String,
    firmware: String,
    trust: String,
    standing: String,
    /// When its hub was last heard of, ms since 1970.
    last_sync: Option<u64>,
    #[serde(skip)]
    key: Key,
}

type Key = (String, Vec<u8>);

/// A page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cloud) struct Page {
    devices: Vec<Found>,
    /// What to give as `after` for the next page; absent at the end. A page may be empty and have a next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How many devices are alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in crate::cloud) struct Line {
    model: String,
    firmware: String,
    trust: String,
    standing: String,
    devices: u64,
}

/// Where a page begins: `device.hub`, or `device.` after all hubs that have it.
fn after(text: Option<&str>) -> Result<Key, Refused> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok((String::new(), Vec::new())) };
    let wrong = || Refused::from(Problem::invalid("after: give what the page before says as next"));
    let (device, hub) = text.split_once('.').ok_or_else(wrong)?;
    let hub = if hub.is_empty() { LAST_HUB.to_vec() } else { HubId::parse(hub).map_err(|_| wrong())?.as_bytes().to_vec() };
    Ok((device.to_owned(), hub))
}

fn next((device, hub): &Key, sees_hub: bool) -> String {
    let hub = <[u8; 16]>::try_from(hub.as_slice()).ok().filter(|_| sees_hub).map(|hub| HubId::from_bytes(hub).to_string());
    format!("{device}.{}", hub.unwrap_or_default())
}

impl Makers {
    /// A page of a brand's fleet.
    ///
    /// # Errors
    /// `invalid`; the database's.
    pub(in crate::cloud) async fn search_fleet(
        &self,
        brand: &str,
        filter: &Filter,
        sees_hub: bool,
        begin: Option<&str>,
        limit: u64,
    ) -> Result<Page, Refused> {
        let begin = after(begin)?;
        let limit = usize::try_from(limit.clamp(1, PAGE_MAX)).unwrap_or(100);
        let (mut devices, mut bound): (Vec<Found>, Option<Key>) = (Vec::new(), None);
        for shard in 0..self.shards.count() {
            let (found, end) = self.window(shard, brand, filter, sees_hub, &begin, limit).await?;
            devices.extend(found);
            bound = match (bound, end) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        devices.sort_by(|a, b| a.key.cmp(&b.key));
        // Beyond the end of the smallest window, another database may have something in between.
        if let Some(bound) = &bound {
            devices.retain(|found| found.key <= *bound);
        }
        let more = devices.len() > limit;
        devices.truncate(limit);
        let end = if more { devices.last().map(|found| found.key.clone()) } else { bound };
        Ok(Page { next: end.map(|key| next(&key, sees_hub)), devices })
    }

    /// What one database has, and where its window ends if there is more behind it.
    async fn window(
        &self,
        shard: usize,
        brand: &str,
        filter: &Filter,
        sees_hub: bool,
        (device, hub): &Key,
        limit: usize,
    ) -> Result<(Vec<Found>, Option<Key>), Refused> {
        let client = self.shards.at(shard).await?;
        let end = client
            .query_opt(
                "SELECT device_id, hub_id FROM fleet WHERE brand = $1 AND (device_id, hub_id) > ($2, $3) ORDER BY device_id, hub_id OFFSET $4 LIMIT 1",
                &[&brand, device, hub, &(WINDOW - 1)],
            )
            .await?;
        let end: Option<Key> = end.map(|row| (row.get(0), row.get(1)));
        // One more than is asked for, to know whether there is more.
        let (most, wanted) = (i64::try_from(limit + 1).unwrap_or(501), filter.hub.map(|hub| hub.as_bytes().to_vec()));
        let (before, since) = (filter.synced_before.map(u64::cast_signed), filter.synced_after.map(u64::cast_signed));
        let values: [&(dyn ToSql + Sync); 13] = [
            &brand,
            device,
            hub,
            &WINDOW,
            &filter.model,
            &filter.firmware,
            &filter.trust,
            &filter.standing,
            &before,
            &since,
            &wanted,
            &filter.device,
            &most,
        ];
        let rows = client
            .query(
                "SELECT f.device_id, f.hub_id, f.model, f.firmware, f.trust, f.standing, h.synced_at \
                 FROM (SELECT * FROM fleet WHERE brand = $1 AND (device_id, hub_id) > ($2, $3) ORDER BY device_id, hub_id LIMIT $4) f \
                 JOIN hubs h ON h.hub_id = f.hub_id AND h.unlinked_at IS NULL \
                 JOIN rows r ON r.hub_id = f.hub_id AND r.kind = 'device' AND r.key = f.device_id \
                 LEFT JOIN marks m ON m.hub_id = f.hub_id AND m.kind = 'device' AND m.key = f.device_id \
                 WHERE r.gen > coalesce(m.gen, 0) AND ($5::text IS NULL OR f.model = $5) AND ($6::text IS NULL OR f.firmware = $6) \
                 AND ($7::text IS NULL OR f.trust = $7) AND ($8::text IS NULL OR f.standing = $8) \
                 AND ($9::bigint IS NULL OR coalesce(h.synced_at, 0) < $9) AND ($10::bigint IS NULL OR h.synced_at >= $10) \
                 AND ($11::bytea IS NULL OR f.hub_id = $11) AND ($12::text IS NULL OR f.device_id = $12) \
                 ORDER BY f.device_id, f.hub_id LIMIT $13",
                &values,
            )
            .await?;
        let found = rows.iter().map(|row| {
            let hub: Vec<u8> = row.get(1);
            let shown = <[u8; 16]>::try_from(hub.as_slice()).ok().filter(|_| sees_hub).map(|hub| HubId::from_bytes(hub).to_string());
            Found {
                device: row.get(0),
                hub: shown,
                model: row.get(2),
                firmware: row.get(3),
                trust: row.get(4),
                standing: row.get(5),
                last_sync: row.get::<_, Option<i64>>(6).map(i64::unsigned_abs),
                key: (row.get(0), hub),
            }
        });
        Ok((found.collect(), end))
    }

    /// How many of a brand's devices are alike.
    ///
    /// # Errors
    /// The database's.
    pub(in crate::cloud) async fn fleet_summary(&self, brand: &str) -> Result<Vec<Line>, Refused> {
        let mut all: std::collections::BTreeMap<[String; 4], u64> = std::collections::BTreeMap::new();
        for shard in 0..self.shards.count() {
            let client = self.shards.at(shard).await?;
            let rows = client
                .query(
                    "SELECT f.model, f.firmware, f.trust, f.standing, count(*) FROM fleet f \
                     JOIN hubs h ON h.hub_id = f.hub_id AND h.unlinked_at IS NULL \
                     JOIN rows r ON r.hub_id = f.hub_id AND r.kind = 'device' AND r.key = f.device_id \
                     LEFT JOIN marks m ON m.hub_id = f.hub_id AND m.kind = 'device' AND m.key = f.device_id \
                     WHERE f.brand = $1 AND r.gen > coalesce(m.gen, 0) GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC LIMIT $2",
                    &[&brand, &LINES_MAX],
                )
                .await?;
            for row in rows {
                *all.entry([row.get(0), row.get(1), row.get(2), row.get(3)]).or_default() += row.get::<_, i64>(4).unsigned_abs();
            }
        }
        let lines = all.into_iter().map(|([model, firmware, trust, standing], devices)| Line { model, firmware, trust, standing, devices });
        Ok(lines.take(usize::try_from(LINES_MAX).unwrap_or(1000)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_where_the_one_before_ended_and_names_no_home_to_who_sees_none() {
        let hub = HubId::from_bytes([7; 16]);
        let key = ("lamp-1".to_owned(), hub.as_bytes().to_vec());
        assert_eq!(after(Some(&next(&key, true))).unwrap(), key);
        assert_eq!(next(&key, false), "lamp-1.");
        assert!(after(Some("lamp-1.")).unwrap() > key, "all hubs of this device are behind");
        assert_eq!(after(None).unwrap(), (String::new(), Vec::new()));
        assert!(after(Some("lamp")).is_err() && after(Some("lamp.x")).is_err());
    }
}
