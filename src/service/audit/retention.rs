//! Keeping the audit within the room it has: the oldest entries are cut, and the hub signs up to where.

use super::{BLOCK, CUT, END, HEAD, append, event, head, identity};
use crate::domain::audit::chain::{Point, PointKind};
use crate::domain::audit::{Beside, Entry, Outcome};
use crate::service::settings::{audit_max_bytes, settings_in};
use crate::service::{Refusal, Service};
use crate::store::tables::AuditCut;
use crate::store::{Read, Record, StoreError, Tx};

impl Service {
    /// Cuts the oldest entries when the audit takes more room than it may; to nine tenths of it, so that it is not done
    /// for every entry. In steps of bounded size.
    ///
    /// # Errors
    /// The store's fault; what was cut until then has its mark.
    pub async fn sweep_audit(&self) -> Result<(), Refusal> {
        let (max, taken) = self.store.read::<_, StoreError>(|v| {
            let head = v.get::<crate::domain::audit::chain::Head>(HEAD)?;
            Ok((audit_max_bytes(&settings_in(v)?), head.map_or(0, |h| h.bytes)))
        })?;
        if taken <= max {
            return Ok(());
        }
        let now = self.now();
        while self.store.write(move |tx| cut(tx, max / 10 * 9, now)).await? {}
        Ok(())
    }
}

/// Cuts a block of the oldest entries, or fewer until no more than `target` bytes are taken; the newest entry stays.
/// True when there is more to cut.
fn cut(tx: &Tx<'_>, target: u64, now: u64) -> Result<bool, Refusal> {
    let mut head = head(tx)?;
    if head.bytes <= target {
        return Ok(false);
    }
    let identity = identity(tx)?.ok_or_else(|| Refusal::Conflict("the hub has no key to sign what it cuts off the audit".into()))?;
    let table = <Entry as Record>::TABLE;
    let (mut last, mut full) = (None, false);
    let rows = tx.rows(table, &[], END, BLOCK, false)?;
    for (key, value) in &rows {
        if head.bytes <= target {
            break;
        }
        let beside = tx.bytes(<Beside as Record>::TABLE, key)?.map_or(0, |b| key.len() + b.len());
        let entry = tx.decode_all::<Entry>(vec![(key.clone(), value.clone())])?.pop().map(|(_, e)| e);
        let Some(entry) = entry.filter(|e| e.seq < head.seq) else {
            full = true;
            break;
        };
        tx.delete::<Entry>(key)?;
        tx.delete::<Beside>(key)?;
        head.bytes = head.bytes.saturating_sub((key.len() + value.len() + beside) as u64);
        last = Some((entry.seq, entry.hash));
    }
    let Some(place) = last else { return Ok(false) };
    tx.put(CUT, &AuditCut { statement: Point::sign(&identity, PointKind::Cut, place, now) })?;
    super::gaps::forget_before(tx, place.0)?;
    tx.put(HEAD, &head)?;
    let more = head.bytes > target && !full;
    if !more {
        append(tx, now, event("hub", "audit.cut", &place.0.to_string(), Outcome::Done, "no_room", "", ""))?;
    }
    Ok(more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::chain::{Head, Verdict};
    use crate::service::audit::verify_audit;
    use crate::store::tables::HubSecrets;
    use crate::store::{MasterKey, Store};

    fn secrets(seed: u8) -> HubSecrets {
        HubSecrets {
            identity_seed: [seed; 32],
            age_identity: String::new(),
            mirror_seed: [0; 32],
            epoch: 1,
            ca_key_pem: String::new(),
            ca_pem: String::new(),
            server_key_pem: String::new(),
            pepper: None,
        }
    }

    /// A store whose audit has `n` entries.
    async fn filled(n: usize) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new([7; 32])).unwrap();
        let fill = move |tx: &Tx<'_>| {
            tx.put(b"hub", &secrets(9))?;
            for n in 0..n {
                append(tx, 1, event(format!("user:{n}"), "a.b", "door", Outcome::Done, "", "a detail", "https 10.0.0.7"))?;
            }
            Ok(())
        };
        store.write::<_, StoreError, _>(fill).await.unwrap();
        (dir, store)
    }

    fn counted(store: &Store) -> u64 {
        let rows = |v: &crate::store::View<'_>, table| v.rows(table, &[], END, usize::MAX, false);
        let sizes = |rows: Vec<crate::store::Row>| rows.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum::<u64>();
        store.read::<_, StoreError>(|v| Ok(sizes(rows(v, <Entry as Record>::TABLE)?) + sizes(rows(v, <Beside as Record>::TABLE)?))).unwrap()
    }

    fn noted(store: &Store) -> Head {
        store.read::<_, StoreError>(|v| v.get::<Head>(HEAD)).unwrap().unwrap()
    }

    async fn sweep(store: &Store, target: u64) {
        while store.write(move |tx| cut(tx, target, 5)).await.unwrap() {}
    }

    fn whole(store: &Store) -> Result<Verdict, String> {
        verify_audit(store).map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn the_oldest_entries_go_when_there_is_no_room_and_what_is_left_still_holds() {
        let (_dir, store) = filled(2_000).await;
        let full = counted(&store);
        assert_eq!(noted(&store).bytes, full);
        sweep(&store, full / 4).await;
        let verdict = whole(&store).unwrap();
        assert!(noted(&store).bytes <= full / 4 + 400 && noted(&store).bytes == counted(&store), "{:?}", noted(&store));
        let (newest, first) = (verdict.newest.unwrap().0, verdict.first.unwrap());
        assert_eq!(newest, 2_001, "one entry tells of the cut");
        assert!((1_400..1_600).contains(&first), "{first}");
        assert_eq!(verdict.gaps, [(1, first - 1)]);
        // Once more: one mark for all of it.
        sweep(&store, full / 8).await;
        assert!(whole(&store).unwrap().gaps[0].1 > first);
    }

    #[tokio::test]
    async fn the_newest_entry_stays_whatever_the_room() {
        let (_dir, store) = filled(3).await;
        sweep(&store, 0).await;
        assert_eq!(whole(&store).unwrap().newest.unwrap().0, 4);
    }

    #[tokio::test]
    async fn a_cut_that_the_hub_did_not_make_is_found() {
        let (_dir, store) = filled(2_000).await;
        sweep(&store, counted(&store) / 2).await;
        let first = whole(&store).unwrap().first.unwrap();
        // One more of the oldest, without a mark.
        store.write::<_, StoreError, _>(move |tx| tx.delete::<Entry>(&first.to_be_bytes())).await.unwrap();
        assert!(whole(&store).unwrap_err().contains(&format!("entry {first}: it is missing")));
        // With the mark of a key of one's own.
        let next = store.read::<_, StoreError>(|v| v.get::<Entry>(&(first + 1).to_be_bytes())).unwrap().unwrap();
        let forged = Point::sign(&ed25519_dalek::SigningKey::from_bytes(&[8; 32]), PointKind::Cut, (first, next.previous), 5);
        let mark = AuditCut { statement: forged };
        store.write::<_, StoreError, _>(move |tx| tx.put(CUT, &mark)).await.unwrap();
        assert!(whole(&store).unwrap_err().contains("not this hub's"));
    }

    #[tokio::test]
    async fn an_end_that_was_cut_off_is_found_also_after_the_hub_has_gone_on() {
        let (_dir, store) = filled(10).await;
        let remove = |tx: &Tx<'_>| tx.delete::<Entry>(&10u64.to_be_bytes());
        store.write::<_, StoreError, _>(remove).await.unwrap();
        assert!(whole(&store).unwrap_err().contains("entry 10"));
        let go_on = |tx: &Tx<'_>| append(tx, 6, event("hub", "x.y", "", Outcome::Done, "", "", ""));
        store.write::<_, StoreError, _>(go_on).await.unwrap();
        assert!(whole(&store).unwrap_err().contains("entry 10: it is missing"));
    }

    #[tokio::test]
    async fn an_end_that_was_cut_off_with_its_note_is_found() {
        let (_dir, store) = filled(10).await;
        let remove = |tx: &Tx<'_>| {
            tx.delete::<Entry>(&10u64.to_be_bytes())?;
            tx.delete::<Head>(HEAD)
        };
        store.write::<_, StoreError, _>(remove).await.unwrap();
        assert!(whole(&store).unwrap_err().contains("the end is not the one"));
    }

    #[tokio::test]
    async fn what_was_changed_beside_the_chain_is_found() {
        let (_dir, store) = filled(10).await;
        let change = |tx: &Tx<'_>| {
            let key = 4u64.to_be_bytes();
            let mut beside = tx.get::<Beside>(&key)?.unwrap_or_default();
            beside.detail = "another".into();
            tx.put(&key, &beside)
        };
        store.write::<_, StoreError, _>(change).await.unwrap();
        assert!(whole(&store).unwrap_err().contains("entry 4: what it says of a person was changed"));
    }
}
