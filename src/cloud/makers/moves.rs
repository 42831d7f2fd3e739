//! Devices of a stolen hub: they are given to the hub that follows it, with keys for that one and an order to move for each.

use std::collections::BTreeMap;

use super::Makers;
use super::acts::{self, Doer};
use super::identities::Known;
use super::sightings::want;
use crate::cloud::hubs::lock;
use crate::cloud::people::tokens::fresh_id;
use crate::cloud::reply::Refused;
use crate::cloud::signed::number;
use crate::cloud::sync::marks;
use crate::domain::ids::{DeviceId, HubId};
use crate::domain::keys::{COUNTER_MAX, seal_order};
use crate::domain::mirror::wire::{ItemBody, Kind, Mark, Notice};
use crate::domain::rehome::MoveRequest;

/// Orders of one page at most.
const PAGE: usize = 200;
/// Devices and marks that are handed over at a time.
const STEP: i64 = 1_000;

const MOVED: &str = "This hub follows one that was stolen. The cloud has ended the stolen one, and brings the devices' keys and their orders to \
     move; each comes over when it next looks for its hub. Everybody should choose a new password now: whoever has the box has the old \
     ones in a hashed form. Apps and service accounts have to be set up anew.";

/// What is known of a hub that follows a stolen one.
struct Following {
    old: HubId,
    from: Vec<HubId>,
    request: MoveRequest,
    at: i64,
    assigned: bool,
}

/// Orders by device, and whether there are more.
pub(in crate::cloud) type Page = (BTreeMap<String, Vec<u8>>, bool);

impl Makers {
    /// The move orders for devices after `after`, for a hub that follows a stolen one; `None` for every other. The first time,
    /// the devices of the stolen one become its own.
    pub(in crate::cloud) async fn moves_of(&self, hub: &HubId, after: &str) -> Result<Option<Page>, Refused> {
        let Some(following) = self.following(hub).await? else { return Ok(None) };
        if !following.assigned {
            self.hand_over(hub, &following).await?;
        }
        let client = self.shards.of_hub(hub).await?;
        let rows = client
            .query(
                "SELECT device_id FROM assignments WHERE hub_id = $1 AND by_ = 'rehome' AND device_id > $2 ORDER BY device_id LIMIT $3",
                &[&hub.as_bytes().as_slice(), &after, &i64::try_from(PAGE + 1).unwrap_or(i64::MAX)],
            )
            .await?;
        drop(client);
        let mut devices: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let more = devices.len() > PAGE;
        devices.truncate(PAGE);
        let mut orders = BTreeMap::new();
        for known in self.known(&devices).await?.into_values() {
            let order = self.order(hub, &following, &known).await?;
            orders.insert(known.device, order);
        }
        Ok(Some((orders, more)))
    }

    async fn following(&self, hub: &HubId) -> Result<Option<Following>, Refused> {
        let client = self.shards.of_hub(hub).await?;
        let row = client
            .query_opt("SELECT old_hub, left_hubs, request, at, assigned_at FROM rehomes WHERE hub_id = $1", &[&hub.as_bytes().as_slice()])
            .await?;
        let Some(row) = row else { return Ok(None) };
        let fault = |what: &dyn std::fmt::Display| Refused::fault("what is noted of a stolen hub is damaged", what);
        let old = <[u8; 16]>::try_from(row.get::<_, Vec<u8>>(0)).map_err(|_| fault(hub))?;
        drop(client);
        // One that was given up for another gets nothing any more.
        let client = self.shards.of_hub(&HubId::from_bytes(old)).await?;
        let (id, new) = (old.as_slice(), hub.as_bytes().as_slice());
        if client.query_opt("SELECT 1 FROM hubs WHERE hub_id = $1 AND rehomed_to = $2", &[&id, &new]).await?.is_none() {
            return Ok(None);
        }
        let from: Vec<u8> = row.get(1);
        Ok(Some(Following {
            old: HubId::from_bytes(old),
            from: from.as_chunks::<16>().0.iter().map(|id| HubId::from_bytes(*id)).collect(),
            request: MoveRequest::read(&row.get::<_, Vec<u8>>(2)).map_err(|error| fault(&error))?,
            at: row.get(3),
            assigned: row.get::<_, Option<i64>>(4).is_some(),
        }))
    }

    /// Gives claims and marks of the stolen hub to the one that follows it. Whatever interrupts it, it begins again and does
    /// nothing twice.
    async fn hand_over(&self, hub: &HubId, following: &Following) -> Result<(), Refused> {
        self.hand_over_marks(hub, following).await?;
        let mut by_brand: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for shard in 0..self.shards.count() {
            let client = self.shards.at(shard).await?;
            let (old, new) = (following.old.as_bytes().as_slice(), hub.as_bytes().as_slice());
            client
                .execute("UPDATE claims SET hub_id = $2, epoch = 1, at = $3 WHERE hub_id = $1", &[&old, &new, &self.now().cast_signed()])
                .await?;
            let mut last = String::new();
            loop {
                let rows = client
                    .query(
                        "SELECT device_id, brand FROM claims WHERE hub_id = $1 AND device_id > $2 ORDER BY device_id LIMIT $3",
                        &[&new, &last, &STEP],
                    )
                    .await?;
                let Some(end) = rows.last() else { break };
                last = end.get(0);
                for row in &rows {
                    by_brand.entry(row.get(1)).or_default().push(row.get(0));
                }
            }
        }
        let now = self.now();
        let mut client = self.shards.of_hub(hub).await?;
        let tx = client.transaction().await?;
        lock(&tx, hub).await?.filter(|row| !row.unlinked).ok_or_else(Refused::not_linked)?;
        let id = hub.as_bytes().as_slice();
        let done =
            tx.execute("UPDATE rehomes SET assigned_at = $2 WHERE hub_id = $1 AND assigned_at IS NULL", &[&id, &now.cast_signed()]).await?;
        if done == 0 {
            return Ok(());
        }
        for (brand, devices) in &by_brand {
            let batch = fresh_id().map_err(|error| Refused::fault("no randomness", &error))?;
            want(&tx, hub, &batch, brand, now).await?;
            tx.execute(
                "INSERT INTO assignments (hub_id, device_id, brand, batch, by_, at) SELECT $1, d, $3, $4, 'rehome', $5 FROM unnest($2::text[]) AS d \
                 ON CONFLICT (hub_id, device_id) DO UPDATE SET batch = excluded.batch, by_ = excluded.by_, at = excluded.at",
                &[&id, devices, brand, &batch, &now.cast_signed()],
            )
            .await?;
            let detail = format!("{} devices of {brand}, of the stolen {}", devices.len(), following.old);
            acts::append(&tx, now, Doer::cloud(brand).did("devices.rehome", format!("hub:{hub}"), detail)).await?;
        }
        let notice = Notice { code: "rehomed".to_owned(), device: None, text: MOVED.to_owned(), at: now };
        self.send_in(&tx, hub, &format!("rehomed.{}", following.at), &ItemBody::Notice(notice)).await?;
        tx.commit().await?;
        self.wish.notify_one();
        Ok(())
    }

    /// What was revoked at the stolen hub stays revoked.
    async fn hand_over_marks(&self, hub: &HubId, following: &Following) -> Result<(), Refused> {
        let (mut kind, mut key) = (String::new(), String::new());
        loop {
            let client = self.shards.of_hub(&following.old).await?;
            let rows = client
                .query(
                    "SELECT kind, key, gen, at, by_ FROM marks WHERE hub_id = $1 AND (kind, key) > ($2, $3) ORDER BY kind, key LIMIT $4",
                    &[&following.old.as_bytes().as_slice(), &kind, &key, &STEP],
                )
                .await?;
            drop(client);
            let Some(end) = rows.last() else { return Ok(()) };
            (kind, key) = (end.get(0), end.get(1));
            let mut client = self.shards.of_hub(hub).await?;
            let tx = client.transaction().await?;
            lock(&tx, hub).await?.filter(|row| !row.unlinked).ok_or_else(Refused::not_linked)?;
            let marks: Vec<Mark> = rows
                .iter()
                .filter_map(|row| {
                    let kind = Kind::parse(row.get(0)).ok()?;
                    Some(Mark { kind, key: row.get(1), generation: number(row.get(2)), at: number(row.get(3)), by: row.get(4) })
                })
                .collect();
            marks::from_before(&tx, hub, &marks).await?;
            tx.commit().await?;
        }
    }

    /// The order for one device: the one that was made, or a new one above all that were.
    async fn order(&self, hub: &HubId, following: &Following, known: &Known) -> Result<Vec<u8>, Refused> {
        let fault = |what: &dyn std::fmt::Display| Refused::fault("a move order cannot be made", what);
        let mut client = self.shards.at(self.shards.index_of_text(&known.device)).await?;
        let tx = client.transaction().await?;
        // Whoever makes one for the same device comes before or after.
        tx.execute(
            "INSERT INTO move_orders (device_id, counter, hub_id, body, at) VALUES ($1, 0, '', '', 0) ON CONFLICT DO NOTHING",
            &[&known.device],
        )
        .await?;
        let row = tx.query_one("SELECT counter, hub_id, body FROM move_orders WHERE device_id = $1 FOR UPDATE", &[&known.device]).await?;
        let (counter, to): (i64, Vec<u8>) = (row.get(0), row.get(1));
        if to == hub.as_bytes() {
            return Ok(row.get(2));
        }
        // A maker's tool counts by the time too: whoever is later is above.
        let counter = number(counter).saturating_add(1).max(self.now() / 1000).min(COUNTER_MAX);
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| fault(&error))?;
        let key = known.device_key(&self.region).map_err(|why| fault(&why))?;
        let device = DeviceId::parse(&known.device).map_err(|error| fault(&error))?;
        let mut order = following.request.order(self.now() / 1000);
        order.from.clone_from(&following.from);
        let order = seal_order(&key, &device, counter, nonce, &order).map_err(|error| fault(&error))?;
        tx.execute(
            "UPDATE move_orders SET counter = $2, hub_id = $3, body = $4, at = $5 WHERE device_id = $1",
            &[&known.device, &counter.cast_signed(), &hub.as_bytes().as_slice(), &order, &self.now().cast_signed()],
        )
        .await?;
        tx.commit().await?;
        Ok(order)
    }
}
