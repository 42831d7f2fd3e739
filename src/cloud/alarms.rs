//! What should not have happened, kept in the database and told to owners: once for each thing, and counted.

use super::items;
use super::reply::Refused;
use super::signed::{number, signed_number};
use crate::domain::ids::HubId;
use crate::domain::mirror::wire::Notice;
use deadpool_postgres::Transaction;

/// An alarm about a hub.
pub(super) struct Alarm {
    /// A word for programs.
    pub(super) code: &'static str,
    /// About what: an entity's kind and key, say. Together with the code, one alarm for each.
    pub(super) subject: String,
    /// What was seen, for the log and the database.
    pub(super) detail: String,
    /// For owners, with what to do; empty when they can do nothing.
    pub(super) text: &'static str,
}

/// Notes an alarm down; the first of its kind becomes a notice.
pub(super) async fn raise(tx: &Transaction<'_>, hub: &HubId, epoch: u64, alarm: &Alarm, now: u64, most: u64) -> Result<(), Refused> {
    tracing::warn!(%hub, code = alarm.code, subject = alarm.subject, detail = alarm.detail, "an alarm about a hub");
    let statement = tx
        .prepare_cached(
            "INSERT INTO alarms (hub_id, epoch, code, subject, detail, first_at, last_at) VALUES ($1, $2, $3, $4, $5, $6, $6) \
             ON CONFLICT (hub_id, epoch, code, subject) DO UPDATE SET times = alarms.times + 1, last_at = excluded.last_at \
             RETURNING times",
        )
        .await?;
    let (epoch_number, at) = (signed_number(epoch), signed_number(now));
    let id = hub.as_bytes().as_slice();
    let row = tx.query_one(&statement, &[&id, &epoch_number, &alarm.code, &alarm.subject, &alarm.detail, &at]).await?;
    if number(row.try_get(0)?) > 1 || alarm.text.is_empty() {
        return Ok(());
    }
    let notice = Notice { code: alarm.code.to_owned(), device: None, text: alarm.text.to_owned(), at: now };
    match items::notify(tx, hub, &format!("alarm-{}-{epoch}-{now}", alarm.code), notice, most).await {
        // It stands in the database all the same.
        Err(refused) if refused.problem.code == "full" => Ok(()),
        told => told.map(drop),
    }
}
