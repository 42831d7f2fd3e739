//! Bulletins: the marks of a hub that were made here, signed by the cloud key, so that a phone can carry them to a hub that
//! is offline. The same marks come down by themselves when the hub is online again.

use super::hubs::lock;
use super::operator::Operator;
use super::pool::Shards;
use super::reply::Refused;
use super::signed::number;
use crate::domain::ids::HubId;
use crate::domain::mirror::statement::Bulletin;
use crate::domain::mirror::wire::{Kind, MARKS_MAX, Mark};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;

/// A bulletin of the newest marks that were made here and that the hub has not taken; `None` when it has taken all.
pub(super) async fn write(shards: &Shards, key: &SigningKey, hub: &HubId, now_ms: u64) -> Result<Option<Vec<u8>>, Refused> {
    let mut client = shards.of_hub(hub).await?;
    let tx = client.transaction().await?;
    lock(&tx, hub).await?.ok_or_else(Refused::not_linked)?;
    let id = hub.as_bytes().as_slice();
    let query = "SELECT m.kind, m.key, m.gen, m.at, m.by_ FROM marks m JOIN hubs h USING (hub_id) \
         WHERE m.hub_id = $1 AND m.sent_in IS NULL AND m.cursor > h.taken ORDER BY m.cursor DESC LIMIT $2";
    let mut marks = Vec::new();
    for row in tx.query(query, &[&id, &i64::try_from(MARKS_MAX).unwrap_or(i64::MAX)]).await? {
        let Ok(kind) = Kind::parse(row.try_get(0)?) else { continue };
        let (generation, at) = (number(row.try_get(2)?), number(row.try_get(3)?));
        marks.push(Mark { kind, key: row.try_get(1)?, generation, at, by: row.try_get(4)? });
    }
    if marks.is_empty() {
        return Ok(None);
    }
    let number_query = "UPDATE hubs SET bulletin = bulletin + 1 WHERE hub_id = $1 RETURNING bulletin";
    let raised = number(tx.query_one(number_query, &[&id]).await?.try_get(0)?);
    tx.commit().await?;
    Ok(Some(Bulletin { hub: *hub, number: raised, at_s: now_ms / 1000, marks }.sign(key)))
}

impl Operator {
    /// The bulletin for a hub as text (base64url), to be given to it through its page; `None` when it has taken all marks.
    ///
    /// # Errors
    /// For a person.
    pub async fn bulletin(&self, hub: &str, now_ms: u64) -> Result<Option<String>, String> {
        let hub = HubId::parse(hub).map_err(|error| error.to_string())?;
        let written = write(&self.shards, &self.keys.cloud, &hub, now_ms).await.map_err(|refused| {
            let problem = refused.problem;
            if problem.detail.is_empty() { problem.title.to_owned() } else { format!("{}: {}", problem.title, problem.detail) }
        })?;
        Ok(written.map(|bytes| BASE64URL_NOPAD.encode(&bytes)))
    }

    /// Of a hub: how often each alarm was raised, as code, subject, what was seen and the times.
    ///
    /// # Errors
    /// For a person.
    pub async fn alarms(&self, hub: &str) -> Result<Vec<(String, String, String, u64)>, String> {
        let hub = HubId::parse(hub).map_err(|error| error.to_string())?;
        let client = self.shards.of_hub(&hub).await.map_err(|error| error.to_string())?;
        let query = "SELECT code, subject, detail, times FROM alarms WHERE hub_id = $1 ORDER BY first_at";
        let rows = client.query(query, &[&hub.as_bytes().as_slice()]).await.map_err(|error| error.to_string())?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), number(row.get(3)))).collect())
    }

    /// Puts a notice for a hub's owners.
    ///
    /// # Errors
    /// For a person.
    pub async fn notify(&self, hub: &str, code: &str, text: &str, now_ms: u64) -> Result<(), String> {
        use crate::domain::mirror::wire::Notice;
        let hub = HubId::parse(hub).map_err(|error| error.to_string())?;
        let told = async {
            let mut client = self.shards.of_hub(&hub).await?;
            let tx = client.transaction().await?;
            let notice = Notice { code: code.to_owned(), device: None, text: text.to_owned(), at: now_ms };
            let id = format!("notice-{}", uuid::Uuid::now_v7().simple());
            super::items::notify(&tx, &hub, &id, notice, self.config.limits.items_per_hub).await?;
            tx.commit().await?;
            Ok::<(), Refused>(())
        };
        told.await.map_err(|refused: Refused| format!("{}: {}", refused.problem.title, refused.problem.detail))
    }

    /// Ends something of a hub from here by a mark: the present generation of an entity. Whether there was one.
    ///
    /// # Errors
    /// For a person.
    pub async fn end(&self, hub: &str, kind: &str, key: &str, now_ms: u64) -> Result<bool, String> {
        let hub = HubId::parse(hub).map_err(|error| error.to_string())?;
        let kind = Kind::parse(kind).map_err(|error| format!("{kind}: {error}"))?;
        let ended = async {
            let mut client = self.shards.of_hub(&hub).await?;
            let tx = client.transaction().await?;
            lock(&tx, &hub).await?.ok_or_else(Refused::not_linked)?;
            let query = "SELECT gen FROM rows WHERE hub_id = $1 AND kind = $2 AND key = $3";
            let Some(row) = tx.query_opt(query, &[&hub.as_bytes().as_slice(), &kind.word(), &key]).await? else { return Ok(false) };
            let generation = number(row.try_get(0)?);
            let mark = Mark { kind, key: key.to_owned(), generation, at: now_ms, by: "cloud:operator".to_owned() };
            let new = super::sync::marks::from_here(&tx, &hub, &mark).await?;
            tx.commit().await?;
            Ok::<bool, Refused>(new)
        };
        ended.await.map_err(|refused: Refused| format!("{}: {}", refused.problem.title, refused.problem.detail))
    }
}
