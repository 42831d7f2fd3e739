//! What hubs report of devices: noted with the report itself, worked on afterwards. Each is put into the fleet's index, held
//! against the ledger of claims, and answered with the device's identity for that hub when the hub has only a voucher's word
//! for it.
//!
//! Nothing is told about an id that a hub merely names: the hub shows what the device said when it was paired, and the tag in
//! that is made with the device's key for that hub. One that does not hold is an answer too: the hub is told, and gets no key.
//! And not more than so many an hour.

use std::collections::{BTreeMap, HashMap};

use data_encoding::BASE64URL_NOPAD;
use deadpool_postgres::Transaction;
use serde_json::Value;

use super::Makers;
use super::acts::{self, Doer};
use super::identities::Known;
use super::ledger::Report;
use crate::cloud::people::tokens::fresh_id;
use crate::cloud::reply::Refused;
use crate::domain::ids::HubId;
use crate::domain::keys::Transcript;
use crate::domain::mirror::wire::{Forged, ItemBody, Kind, Mark, Paired, Row};

/// Devices that are worked on at a time.
const AT_A_TIME: i64 = 500;
/// First sights of one hub that are answered in an hour.
const SIGHTS_PER_HOUR: i64 = 500;
/// Tags of one hub that do not hold, in an hour: then nothing more is answered until it is over.
const FORGED_PER_HOUR: i64 = 20;
const HOUR_MS: u64 = 3_600_000;
/// After how long a device that is still provisional is answered once more, in ms: its hub may have been restored.
const AGAIN_MS: u64 = 24 * HOUR_MS;
/// When to look again at what had to wait, in ms.
const LATER_MS: u64 = 10 * 60 * 1000;

/// Notes what a hub reports of devices, within the transaction that takes the report. Whether there is something to work
/// on: then [`Makers::work_on`] is called after the commit (and if it is not, the background does it).
pub(in crate::cloud) async fn note(
    tx: &Transaction<'_>,
    hub: &HubId,
    rows: &[Row],
    marks: &[Mark],
    now: u64,
) -> Result<bool, tokio_postgres::Error> {
    let devices: BTreeMap<&str, &Row> =
        rows.iter().filter(|row| row.kind == Kind::Device && !row.key.is_empty()).map(|row| (row.key.as_str(), row)).collect();
    let ended = marks.iter().filter(|mark| mark.kind == Kind::Device).map(|mark| mark.key.as_str());
    let news: Vec<&str> = devices.keys().copied().chain(ended).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    if news.is_empty() {
        return Ok(false);
    }
    let (id, at) = (hub.as_bytes().as_slice(), now.cast_signed());
    if !devices.is_empty() {
        let column = |member: &str| devices.values().map(|row| text(&row.body, member).to_owned()).collect::<Vec<String>>();
        let ids: Vec<&str> = devices.keys().copied().collect();
        tx.execute(
            "INSERT INTO fleet (hub_id, device_id, brand, model, firmware, trust, standing, changed_at) \
             SELECT $1, d.*, $8 FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) AS d \
             ON CONFLICT (hub_id, device_id) DO UPDATE SET brand = excluded.brand, model = excluded.model, firmware = excluded.firmware, \
             trust = excluded.trust, standing = excluded.standing, changed_at = excluded.changed_at",
            &[&id, &ids, &column("brand"), &column("model"), &column("firmware"), &column("trust"), &column("standing"), &at],
        )
        .await?;
    }
    tx.execute(
        "INSERT INTO device_news (hub_id, device_id, news, due) SELECT $1, d, 1, $3 FROM unnest($2::text[]) AS d \
         ON CONFLICT (hub_id, device_id) DO UPDATE SET news = device_news.news + 1, due = excluded.due",
        &[&id, &news, &at],
    )
    .await?;
    Ok(true)
}

fn text<'a>(body: &'a Value, member: &str) -> &'a str {
    body.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// A device as a hub has it.
struct Reported {
    device: String,
    news: i64,
    report: Report,
    /// Body of its row, if it is there and not ended.
    body: Option<Value>,
}

impl Reported {
    /// Whether the hub shows what only the maker, or its voucher, can have told it.
    fn is(&self, known: &Known) -> bool {
        self.body.as_ref().is_some_and(|body| {
            text(body, "brand") == known.brand
                && text(body, "model") == known.model
                && text(body, "hardware") == known.hardware
                && text(body, "serial") == known.serial
        })
    }

    /// What the device said when it was paired, if the hub could not check it.
    fn said(&self) -> Option<Transcript> {
        let body = self.body.as_ref().filter(|body| text(body, "trust") == "provisional")?;
        serde_json::from_value::<Paired>(body.get("paired")?.clone()).ok()?.said()
    }
}

/// What is to be answered of what a hub shows.
#[derive(Default)]
struct Shown<'a> {
    /// It has its key.
    genuine: Vec<&'a str>,
    /// It knows its code and lacks the key; with the tag.
    forged: Vec<(&'a str, [u8; 32])>,
}

impl Makers {
    /// Works on what a hub has reported of devices.
    pub(in crate::cloud) async fn work_on(&self, hub: &HubId) -> Result<(), Refused> {
        // Bounded: what comes meanwhile is worked on in the next turn.
        for _ in 0..100 {
            let reported = self.reported(hub).await?;
            if reported.is_empty() {
                break;
            }
            let ids: Vec<String> = reported.iter().map(|one| one.device.clone()).collect();
            let known = self.known(&ids).await?;
            let reports: Vec<&Report> = reported.iter().filter(|one| known.contains_key(&one.device)).map(|one| &one.report).collect();
            self.hold_against_ledger(hub, &reports, &known).await?;
            self.answer(hub, reported, &known).await?;
        }
        self.make_batches_of(hub).await
    }

    async fn reported(&self, hub: &HubId) -> Result<Vec<Reported>, Refused> {
        let (id, at) = (hub.as_bytes().as_slice(), self.now().cast_signed());
        let client = self.shards.of_hub(hub).await?;
        let rows = client
            .query(
                "SELECT n.device_id, n.news, r.gen, r.body, m.gen, h.epoch FROM device_news n \
                 JOIN hubs h ON h.hub_id = n.hub_id \
                 LEFT JOIN rows r ON r.hub_id = n.hub_id AND r.kind = 'device' AND r.key = n.device_id \
                 LEFT JOIN marks m ON m.hub_id = n.hub_id AND m.kind = 'device' AND m.key = n.device_id \
                 WHERE n.hub_id = $1 AND n.due <= $2 AND h.unlinked_at IS NULL ORDER BY n.device_id LIMIT $3",
                &[&id, &at, &AT_A_TIME],
            )
            .await?;
        let reported = rows.iter().map(|row| {
            let device: String = row.get(0);
            let (generation, mark): (i64, i64) = (row.get::<_, Option<i64>>(2).unwrap_or(0), row.get::<_, Option<i64>>(4).unwrap_or(0));
            let body = row.get::<_, Option<String>>(3).and_then(|text| serde_json::from_str::<Value>(&text).ok());
            let body = body.filter(|_| generation > mark);
            let claimed_at = body.as_ref().and_then(|body| body.get("claimed_at")).and_then(Value::as_u64);
            let attested = body.as_ref().is_some_and(|body| text(body, "trust") == "attested");
            let resets = body.as_ref().and_then(|body| body.get("resets")).and_then(Value::as_u64).filter(|_| attested);
            let report = Report {
                device: device.clone(),
                epoch: row.get(5),
                generation: generation.max(mark),
                claimed_at: claimed_at.map(u64::cast_signed),
                resets: resets.map(u64::cast_signed),
            };
            Reported { device, news: row.get(1), report, body }
        });
        Ok(reported.collect())
    }

    /// Of what the hub has only a voucher's word for: what has shown its key, and what has shown that it lacks it.
    fn shown<'a>(&self, hub: &HubId, reported: &'a [Reported], known: &HashMap<String, Known>) -> Shown<'a> {
        let mut shown = Shown::default();
        for one in reported {
            let Some((known, said)) = known.get(&one.device).filter(|known| one.is(known)).zip(one.said()) else { continue };
            match known.shows(&self.region, hub, &said) {
                Ok(true) => shown.genuine.push(&one.device),
                Ok(false) => shown.forged.push((&one.device, said.tag)),
                Err(why) => tracing::error!(why, "an identity does not open"),
            }
        }
        shown
    }

    /// Tells the hub, once for each tag, that it was not made with the device's key. What must wait.
    async fn refuse_forged<'a>(
        &self,
        tx: &Transaction<'_>,
        hub: &HubId,
        forged: &[(&'a str, [u8; 32])],
        known: &HashMap<String, Known>,
    ) -> Result<Vec<&'a str>, Refused> {
        let (id, now, mut later) = (hub.as_bytes().as_slice(), self.now(), Vec::new());
        for (device, tag) in forged {
            let told = "SELECT 1 FROM forged WHERE hub_id = $1 AND device_id = $2 AND tag = $3";
            if tx.query_opt(told, &[&id, device, &tag.as_slice()]).await?.is_some() {
                continue;
            }
            if forged_lately(tx, hub, now).await? >= FORGED_PER_HOUR {
                later.push(*device);
                continue;
            }
            let tag_text = BASE64URL_NOPAD.encode(tag);
            let item = ItemBody::Forged(Forged { device: (*device).to_owned(), tag: tag_text });
            match self.send_in(tx, hub, &fresh_id().map_err(|error| Refused::fault("no randomness", &error))?, &item).await {
                Err(refused) if refused.problem.code == "full" => {
                    later.push(*device);
                    continue;
                }
                sent => sent?,
            }
            tx.execute(
                "INSERT INTO forged (hub_id, device_id, tag, at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (hub_id, device_id) DO UPDATE SET tag = excluded.tag, at = excluded.at",
                &[&id, device, &tag.as_slice(), &now.cast_signed()],
            )
            .await?;
            let brand = known.get(*device).map_or("", |known| known.brand.as_str());
            let doer = Doer { who: format!("hub:{hub}"), ..Doer::cloud(brand) };
            acts::append(tx, now, doer.denied("identity.sight", (*device).to_owned(), "wrong_tag")).await?;
        }
        Ok(later)
    }

    /// Makes batches of what the hub has only a voucher's word for, and puts aside what must wait.
    async fn answer(&self, hub: &HubId, reported: Vec<Reported>, known: &HashMap<String, Known>) -> Result<(), Refused> {
        let (id, now) = (hub.as_bytes().as_slice(), self.now());
        let at = now.cast_signed();
        let mut client = self.shards.of_hub(hub).await?;
        let tx = client.transaction().await?;
        // Whoever else works on this hub comes before or after.
        tx.query_opt("SELECT 1 FROM hubs WHERE hub_id = $1 FOR UPDATE", &[&id]).await?;
        let lately: i64 = tx
            .query_one(
                "SELECT count(*) FROM assignments WHERE hub_id = $1 AND at > $2 AND by_ = 'sight'",
                &[&id, &now.saturating_sub(HOUR_MS).cast_signed()],
            )
            .await?
            .get(0);
        let mut left = usize::try_from((SIGHTS_PER_HOUR - lately).max(0)).unwrap_or(0);
        let shown = self.shown(hub, &reported, known);
        let mut later: Vec<&str> = self.refuse_forged(&tx, hub, &shown.forged, known).await?;
        let forged = forged_lately(&tx, hub, now).await?;
        if forged >= FORGED_PER_HOUR {
            left = 0;
        }
        let provisional = shown.genuine;
        let answered: Vec<String> = tx
            .query(
                "SELECT device_id FROM assignments WHERE hub_id = $1 AND device_id = ANY($2) AND at > $3",
                &[&id, &provisional, &now.saturating_sub(AGAIN_MS).cast_signed()],
            )
            .await?
            .iter()
            .map(|row| row.get(0))
            .collect();
        let mut by_brand: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for device in provisional.into_iter().filter(|device| !answered.iter().any(|done| done == device)) {
            let Some(known) = known.get(device) else { continue };
            if left > 0 {
                left -= 1;
                by_brand.entry(&known.brand).or_default().push(device);
            } else {
                later.push(device);
            }
        }
        for (brand, devices) in by_brand {
            let batch = fresh_id().map_err(|error| Refused::fault("no randomness", &error))?;
            want(&tx, hub, &batch, brand, now).await?;
            tx.execute(
                "INSERT INTO assignments (hub_id, device_id, brand, batch, by_, at) SELECT $1, d, $3, $4, 'sight', $5 FROM unnest($2::text[]) AS d \
                 ON CONFLICT (hub_id, device_id) DO UPDATE SET batch = excluded.batch, by_ = excluded.by_, at = excluded.at",
                &[&id, &devices, &brand, &batch, &at],
            )
            .await?;
            let detail =
                format!("{} devices of {brand}: {}", devices.len(), devices.iter().take(10).copied().collect::<Vec<_>>().join(" "));
            acts::append(&tx, now, Doer::cloud(brand).did("identity.sight", format!("hub:{hub}"), detail)).await?;
        }
        if !later.is_empty() {
            tx.execute(
                "UPDATE device_news SET due = $3 WHERE hub_id = $1 AND device_id = ANY($2)",
                &[&id, &later, &(now + LATER_MS).cast_signed()],
            )
            .await?;
            tracing::warn!(%hub, waiting = later.len(), "a hub sees more new devices in an hour than are answered");
        }
        let (done, news): (Vec<&str>, Vec<i64>) =
            reported.iter().filter(|one| !later.contains(&one.device.as_str())).map(|one| (one.device.as_str(), one.news)).unzip();
        // What was reported again since stays.
        tx.execute(
            "DELETE FROM device_news n USING unnest($2::text[], $3::bigint[]) AS d (device, news) \
             WHERE n.hub_id = $1 AND n.device_id = d.device AND n.news = d.news",
            &[&id, &done, &news],
        )
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Tags of a hub that did not hold, in the last hour.
async fn forged_lately(tx: &Transaction<'_>, hub: &HubId, now: u64) -> Result<i64, tokio_postgres::Error> {
    let statement = "SELECT count(*) FROM forged WHERE hub_id = $1 AND at > $2";
    Ok(tx.query_one(statement, &[&hub.as_bytes().as_slice(), &now.saturating_sub(HOUR_MS).cast_signed()]).await?.get(0))
}

/// Puts a batch on the list of what is to be made.
pub(super) async fn want(tx: &Transaction<'_>, hub: &HubId, batch: &str, brand: &str, now: u64) -> Result<(), tokio_postgres::Error> {
    tx.execute(
        "INSERT INTO batches (hub_id, id, brand, state, at) VALUES ($1, $2, $3, 'wanted', $4)",
        &[&hub.as_bytes().as_slice(), &batch, &brand, &now.cast_signed()],
    )
    .await?;
    Ok(())
}
