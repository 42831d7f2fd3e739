//! What is done now and then: nonces, old items and forgotten limits are swept, and the own certificate is renewed.
//! Several processes may sweep at once: deleting twice deletes nothing.

use super::Context;
use super::keys::OwnCa;
use super::signed::{REMEMBERED_MS, STRAY_REMEMBERED_MS, signed_number};
use crate::net::TlsReloader;
use std::sync::Arc;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(60);
/// The own certificate is renewed this often, in s: long before its end.
const RENEW_S: u64 = 30 * 24 * 3600;
/// Items that are over are kept this long, in ms: a hub may answer again.
const ITEMS_MS: u64 = 30 * 24 * 3600 * 1000;
/// So long after its time an item that the hub may have taken is waited for, in ms.
const LATE_MS: u64 = 3600 * 1000;

/// Runs until the shutdown.
pub(super) async fn run(context: Arc<Context>, own: Option<(OwnCa, Arc<TlsReloader>)>) {
    let mut renewed_s = context.now_ms() / 1000;
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        context.limits.sweep();
        if let Err(error) = sweep(&context).await {
            tracing::warn!(?error, "housekeeping is done later");
        }
        let now_s = context.now_ms() / 1000;
        if let Some((own, tls)) = &own
            && now_s.abs_diff(renewed_s) > RENEW_S
        {
            match own.renew(tls, now_s) {
                Ok(()) => renewed_s = now_s,
                Err(error) => tracing::error!(%error, "the certificate could not be renewed"),
            }
        }
    }
}

async fn sweep(context: &Context) -> Result<(), super::reply::Refused> {
    let now = context.now_ms();
    for pool in context.shards.all() {
        let client = pool.get().await?;
        let (usual, stray) = (now.saturating_sub(REMEMBERED_MS), now.saturating_sub(STRAY_REMEMBERED_MS));
        let statement = "DELETE FROM nonces WHERE at < $1 AND (NOT stray OR at < $2)";
        client.execute(statement, &[&signed_number(usual), &signed_number(stray)]).await?;
        // A wish that nobody has answered in time: whoever made it is told.
        let late = signed_number(now.saturating_sub(LATE_MS));
        let statement = "UPDATE items SET state = 'refused', code = 'expired', detail = 'the hub has not answered in time', done_at = $1 \
             WHERE state = 'waiting' AND ends_at < $2";
        client.execute(statement, &[&signed_number(now), &late]).await?;
        let old = signed_number(now.saturating_sub(ITEMS_MS));
        client.execute("DELETE FROM items WHERE state <> 'waiting' AND coalesce(done_at, at) < $1", &[&old]).await?;
    }
    Ok(())
}
