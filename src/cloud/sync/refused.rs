//! Marks that the hub has refused: it alone says what is in force. A mark that was made here and never taken there goes back to
//! where the hub has it, and what it named is shown as it is, with the refusal. One that the hub has had itself stays: a hub that was put
//! back to an older state brings nothing back to life here.

use super::Exchange;
use crate::cloud::items::clipped;
use crate::cloud::makers::acts::{self, Doer};
use crate::cloud::reply::Refused;
use crate::cloud::signed::signed_number;
use crate::domain::mirror::wire::{Kind, RefusedMark};
use deadpool_postgres::Transaction;

/// Characters of a code.
const CODE_MAX: usize = 64;
/// Refusals of one batch that are told one by one in the audit.
const TOLD_MAX: usize = 20;

/// Takes what the hub has refused.
pub(super) async fn take(exchange: &Exchange<'_>, tx: &Transaction<'_>, refused: &[RefusedMark]) -> Result<(), Refused> {
    // A key for use from away is ended by whoever holds it: no hub can wish to keep that.
    let refused: Vec<&RefusedMark> = refused.iter().filter(|mark| mark.kind != Kind::Away && mark.generation > mark.stands).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let id = exchange.id();
    let lower = tx
        .prepare_cached(
            "UPDATE marks SET gen = $5, made_here = false WHERE hub_id = $1 AND kind = $2 AND key = $3 AND made_here AND gen <= $4 AND gen > $5 \
             RETURNING by_",
        )
        .await?;
    let forget = tx.prepare_cached("DELETE FROM marks WHERE hub_id = $1 AND kind = $2 AND key = $3 AND gen = 0").await?;
    let note = tx
        .prepare_cached(
            "INSERT INTO refused_marks (hub_id, kind, key, gen, code, by_, at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (hub_id, kind, key) DO UPDATE SET gen = greatest(refused_marks.gen, excluded.gen), code = excluded.code, \
             by_ = CASE WHEN excluded.by_ = '' THEN refused_marks.by_ ELSE excluded.by_ END, at = excluded.at",
        )
        .await?;
    let mut told = 0;
    for mark in refused {
        let (kind, generation, stands) = (mark.kind.word(), signed_number(mark.generation), signed_number(mark.stands));
        let lowered = tx.query_opt(&lower, &[&id, &kind, &mark.key, &generation, &stands]).await?;
        let by: String = lowered.as_ref().map_or(Ok(String::new()), |row| row.try_get(0))?;
        tx.execute(&forget, &[&id, &kind, &mark.key]).await?;
        let code = clipped(&mark.code, CODE_MAX);
        tx.execute(&note, &[&id, &kind, &mark.key, &generation, &code, &by, &signed_number(exchange.now)]).await?;
        if lowered.is_some() && told < TOLD_MAX {
            told += 1;
            let doer = Doer { who: format!("hub:{}", exchange.hub.id), ..Doer::cloud("") };
            let act = doer.denied("mark.take", format!("{kind}:{}", mark.key), &code);
            acts::append(tx, exchange.now, act).await?;
        }
    }
    let statement = tx.prepare_cached("UPDATE kinds SET digest = NULL WHERE hub_id = $1").await?;
    tx.execute(&statement, &[&id]).await?;
    Ok(())
}
