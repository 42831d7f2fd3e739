//! What is done beside the calls: reports of hubs are worked on, batches are made, and what is over is forgotten. Several
//! processes may do it at once.

use std::sync::Arc;
use std::time::Duration;

use super::uploads::Uploads;
use crate::cloud::Context;
use crate::cloud::people::tokens;
use crate::cloud::reply::Refused;

/// How often one looks, when nothing wakes it.
const EVERY: Duration = Duration::from_secs(5);
/// How often what is over is swept, in ms.
const SWEPT_EVERY_MS: u64 = 10 * 60 * 1000;

/// Runs until the shutdown.
pub(in crate::cloud) async fn run(context: Arc<Context>) {
    let mut swept = 0;
    context.makers.wish.notify_one();
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = context.makers.wish.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
        let work = async {
            if let Err(refused) = context.makers.look_at_releases().await {
                tracing::warn!(code = refused.problem.code, "releases of firmware are looked at later");
            }
            if let Err(refused) = context.makers.work().await {
                tracing::warn!(code = refused.problem.code, "the makers' work is done later");
            }
            let now = context.makers.now();
            if now.saturating_sub(swept) >= SWEPT_EVERY_MS {
                swept = now;
                if let Err(refused) = sweep(&context, now).await {
                    tracing::warn!(code = refused.problem.code, "uploads and tokens are swept later");
                }
            }
        };
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = work => {}
        }
    }
}

async fn sweep(context: &Context, now: u64) -> Result<(), Refused> {
    let uploads = Uploads { shards: context.makers.shards.clone(), region: context.makers.region.clone() };
    uploads.sweep(now).await?;
    let client = context.makers.shards.first().await?;
    tokens::sweep(&client, now).await?;
    drop(client);
    context.makers.sweep_releases(now).await?;
    Ok(())
}
