//! Reading the audit: pages, exports, and checking the whole chain; each in steps that are bounded whatever is asked.

use super::gaps::gaps;
use super::{BLOCK, CUT, END, HEAD, append, done, identity};
use crate::domain::audit::chain::{Broken, Head, Point, PointKind, Verdict, Verifier, Why};
use crate::domain::audit::export::{EntryLine, Line, gap_line};
use crate::domain::audit::filter::Filter;
use crate::domain::audit::{Beside, Entry, Recorded};
use crate::domain::authority::HubAction;
use crate::domain::ids::HubId;
use crate::service::rights::require_role;
use crate::service::{Actor, Refusal, Service, lock};
use crate::store::tables::AuditCut;
use crate::store::{Read, Record, Store, StoreError, View};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most entries of a page.
const PAGE_MAX: usize = 500;
/// Entries that one page looks at, whatever is asked.
const SCAN_MAX: usize = 10_000;
/// Exports at the same time.
const EXPORTS: usize = 4;
/// For how long the answer of a check is given again, in ms.
const FRESH_MS: u64 = 10_000;

/// Entries, newest first.
#[derive(Debug)]
pub struct AuditPage {
    /// Those that are wanted.
    pub entries: Vec<Recorded>,
    /// Before which number to look for more; `None` when there are none. A page may have none of the entries that are
    /// wanted and still not be the last.
    pub next: Option<u64>,
}

/// What a check of the whole chain has shown.
#[derive(Clone, Debug)]
pub struct AuditCheck {
    /// All that holds.
    pub seen: Verdict,
    /// Where it does not.
    pub broken: Option<Broken>,
}

/// What is shared by those who read.
pub(in crate::service) struct Desk {
    exports: Arc<Semaphore>,
    check: Arc<Mutex<Checks>>,
}

#[derive(Default)]
struct Checks {
    running: bool,
    /// The newest, and when it was made, in monotonic ms.
    newest: Option<(u64, AuditCheck)>,
}

impl Default for Desk {
    fn default() -> Self {
        Desk { exports: Arc::new(Semaphore::new(EXPORTS)), check: Arc::default() }
    }
}

/// An export under way.
pub struct AuditExport {
    lines: Lines,
    _place: OwnedSemaphorePermit,
}

impl Service {
    /// Up to `limit` entries before number `before`, newest first.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for whoever may not read the audit.
    pub fn audit(&self, actor: &Actor, before: Option<u64>, limit: usize) -> Result<Vec<Recorded>, Refusal> {
        Ok(self.audit_page(actor, &Filter::default(), before, limit)?.entries)
    }

    /// Up to `limit` (1 to 500) entries that `filter` wants, before number `before`, newest first. One page looks at
    /// 10,000 entries at most.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for whoever may not read the audit.
    pub fn audit_page(&self, actor: &Actor, filter: &Filter, before: Option<u64>, limit: usize) -> Result<AuditPage, Refusal> {
        self.store.read::<_, Refusal>(|v| {
            require_role(v, actor, HubAction::ReadAudit, self.now())?;
            Ok(page(v, filter, before, limit.clamp(1, PAGE_MAX))?)
        })
    }

    /// Begins an export of the entries that `filter` wants.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for whoever may not read the audit, [`Refusal::TooMany`] while others export.
    pub async fn export_audit(&self, actor: &Actor, filter: Filter) -> Result<AuditExport, Refusal> {
        let now = self.now();
        self.store.read(|v| require_role(v, actor, HubAction::ReadAudit, now))?;
        let place = self.desk.exports.clone().try_acquire_owned().map_err(|_| Refusal::TooMany(10_000))?;
        let who = actor.clone();
        let begin = move |tx: &crate::store::Tx<'_>| {
            require_role(tx, &who, HubAction::ReadAudit, now)?;
            Ok::<_, Refusal>(append(tx, now, done(&who, "audit.export", "audit", ""))?.seq)
        };
        let to = self.store.write(begin).await?;
        Ok(AuditExport { lines: Lines::new(self.hub.id, filter, to, now), _place: place })
    }

    /// The next lines of an export; `None` after the last. They may be empty: none of the entries looked at was wanted.
    ///
    /// # Errors
    /// As [`Service::export_audit`]: who may not read the audit any more gets no more of it.
    pub fn export_lines(&self, actor: &Actor, export: &mut AuditExport) -> Result<Option<Vec<u8>>, Refusal> {
        self.store.read(|v| {
            require_role(v, actor, HubAction::ReadAudit, self.now())?;
            Ok(export.lines.next(v)?)
        })
    }

    /// Checks the whole chain, as [`verify_audit`].
    ///
    /// # Errors
    /// The same.
    pub fn verify_audit(&self) -> Result<Verdict, Refusal> {
        verify_audit(&self.store)
    }

    /// Checks the whole chain beside everything else; one check at a time, whose answer is given again for ten seconds.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for whoever may not read the audit, [`Refusal::TooMany`] while another check runs.
    pub async fn check_audit(&self, actor: &Actor) -> Result<AuditCheck, Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::ReadAudit, self.now()))?;
        let now = self.clock.monotonic_ms();
        {
            let mut checks = lock(&self.desk.check);
            if let Some((_, known)) = checks.newest.as_ref().filter(|(at, _)| now.saturating_sub(*at) < FRESH_MS) {
                return Ok(known.clone());
            }
            if checks.running {
                return Err(Refusal::TooMany(5_000));
            }
            checks.running = true;
        }
        let (store, checks, clock) = (self.store.clone(), self.desk.check.clone(), self.clock.clone());
        // It goes on when nobody waits for it any more: the next one to ask gets its answer.
        let run = tokio::task::spawn_blocking(move || {
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| follow(&store)));
            let mut checks = lock(&checks);
            checks.running = false;
            let checked = checked.unwrap_or(Err(StoreError::Stopped))?;
            checks.newest = Some((clock.monotonic_ms(), checked.clone()));
            Ok::<_, StoreError>(checked)
        });
        Ok(run.await.unwrap_or(Err(StoreError::Stopped))?)
    }
}

fn page<R: Read>(rows: &R, filter: &Filter, before: Option<u64>, limit: usize) -> Result<AuditPage, StoreError> {
    let mut before = before.map_or_else(|| END.to_vec(), |b| b.to_be_bytes().to_vec());
    let (mut entries, mut seen) = (Vec::new(), 0);
    loop {
        let block = rows.scan_back::<Entry>(&before, BLOCK.min(limit.max(50)))?;
        if block.is_empty() {
            return Ok(AuditPage { entries, next: None });
        }
        for (key, entry) in block {
            seen += 1;
            let seq = entry.seq;
            if filter.may_want(&entry) {
                let shown = super::joined(rows, entry)?;
                if filter.wants(&shown) {
                    entries.push(shown);
                }
            }
            if entries.len() == limit || seen == SCAN_MAX {
                let more = !rows.rows(<Entry as Record>::TABLE, &[], &key, 1, true)?.is_empty();
                return Ok(AuditPage { entries, next: more.then_some(seq) });
            }
            before = key;
        }
    }
}

/// Writes an export line by line.
pub struct Lines {
    hub: HubId,
    filter: Filter,
    /// The next entry to look at, and the last one.
    next: u64,
    to: u64,
    at: u64,
    /// The last entry that was looked at, or up to which was cut.
    last: Option<(u64, [u8; 32])>,
    stage: Stage,
}

enum Stage {
    Beginning,
    Entries,
    Over,
}

impl Lines {
    /// An export of `hub`'s entries up to number `to`, made at `at`, ms since 1970.
    #[must_use]
    pub fn new(hub: HubId, filter: Filter, to: u64, at: u64) -> Lines {
        Lines { hub, filter, next: 1, to, at, last: None, stage: Stage::Beginning }
    }

    /// All of them, of a store that nobody else uses.
    ///
    /// # Errors
    /// The store's fault; [`Refusal::Conflict`] when the hub has no identity yet.
    pub fn of(store: &Store, at: u64) -> Result<Lines, Refusal> {
        store.read(|v| {
            let identity = identity(v)?.ok_or_else(|| Refusal::Conflict("this hub has never been started".into()))?;
            let newest = v.scan_back::<Entry>(END, 1)?.pop().map_or(0, |(_, e)| e.seq);
            Ok(Lines::new(HubId::from_public_key(identity.verifying_key().as_bytes()), Filter::default(), newest, at))
        })
    }

    /// The next lines; `None` after the last.
    ///
    /// # Errors
    /// The store's fault.
    pub fn next(&mut self, view: &View<'_>) -> Result<Option<Vec<u8>>, StoreError> {
        let mut out = Vec::new();
        match self.stage {
            Stage::Over => return Ok(None),
            Stage::Beginning => {
                write(&mut out, &Line::Hub { hub: self.hub.to_string(), at: self.at, filtered: !self.filter.is_empty() });
                self.stage = Stage::Entries;
            }
            Stage::Entries => {
                // Also while it is exported the oldest entries may be cut.
                if let Some(cut) = view.get::<AuditCut>(CUT)?
                    && let Ok(point) = Point::read(&cut.statement)
                    && point.place.0 >= self.next
                    && let Ok(line) = gap_line(self.next, &cut.statement)
                {
                    write(&mut out, &line);
                    self.next = point.place.0 + 1;
                    self.last = Some(point.place);
                }
                let end = self.to.saturating_add(1).to_be_bytes();
                let rows = if self.next > self.to {
                    Vec::new()
                } else {
                    view.decode_all::<Entry>(view.rows(<Entry as Record>::TABLE, &self.next.to_be_bytes(), &end, BLOCK, false)?)?
                };
                if rows.is_empty() {
                    let statement = match (self.last, identity(view)?) {
                        (Some(place), Some(key)) => Some(BASE64URL_NOPAD.encode(&Point::sign(&key, PointKind::End, place, self.at))),
                        _ => None,
                    };
                    let (seq, hash) = self.last.unwrap_or_default();
                    write(&mut out, &Line::End { seq, hash: HEXLOWER.encode(&hash), statement });
                    self.stage = Stage::Over;
                }
                let gaps = gaps(view)?;
                for (key, entry) in rows {
                    if let Some((statement, place)) = gaps.get(&self.next).filter(|_| entry.seq > self.next)
                        && let Ok(line) = gap_line(self.next, statement)
                    {
                        write(&mut out, &line);
                        self.last = Some(*place);
                    }
                    self.next = entry.seq.saturating_add(1);
                    self.last = Some((entry.seq, entry.hash));
                    if !self.filter.may_want(&entry) {
                        continue;
                    }
                    let beside = view.get::<Beside>(&key)?;
                    if self.filter.is_empty() || self.filter.wants(&entry.clone().joined(beside.clone())) {
                        write(&mut out, &Line::Entry(Box::new(EntryLine::new(entry, beside))));
                    }
                }
            }
        }
        Ok(Some(out))
    }
}

fn write(out: &mut Vec<u8>, line: &Line) {
    // Texts and numbers always have a form in JSON.
    if serde_json::to_writer(&mut *out, line).is_ok() {
        out.push(b'\n');
    }
}

/// Checks the whole chain. Takes as long as reading all entries.
///
/// # Errors
/// [`Refusal::Conflict`] naming the first entry that does not hold.
pub fn verify_audit(store: &Store) -> Result<Verdict, Refusal> {
    let AuditCheck { seen, broken } = follow(store)?;
    broken.map_or(Ok(seen), |broken| Err(Refusal::Conflict(broken.to_string())))
}

fn follow(store: &Store) -> Result<AuditCheck, StoreError> {
    let hub = store.read::<_, StoreError>(|v| identity(v))?.map(|key| HubId::from_public_key(key.verifying_key().as_bytes()));
    // Without an identity, no mark of a cut is the hub's.
    let mut verifier = Verifier::new(hub.unwrap_or(HubId::from_bytes([0; 16])));
    let mut form = 1;
    loop {
        let from = if verifier.seen().entries == 0 { 0 } else { verifier.next() };
        let (cut, rows, head, gaps) = store.read::<_, StoreError>(|v| {
            let rows = v.decode_all::<Entry>(v.rows(<Entry as Record>::TABLE, &from.to_be_bytes(), END, BLOCK, false)?)?;
            let rows = rows.into_iter().map(|(key, e)| Ok((v.get::<Beside>(&key)?, key, e))).collect::<Result<Vec<_>, StoreError>>()?;
            Ok((v.get::<AuditCut>(CUT)?, rows, v.get::<Head>(HEAD)?, gaps(v)?))
        })?;
        let done = rows.is_empty();
        let held = cut.map_or(Ok(()), |cut| verifier.cut(&cut.statement)).and_then(|()| {
            rows.iter().try_for_each(|(beside, key, entry)| {
                form = entry.version;
                if key != &entry.seq.to_be_bytes() {
                    return Err(Broken { seq: verifier.next(), why: Why::Changed });
                }
                if let Some((statement, _)) = gaps.get(&verifier.next()).filter(|_| entry.seq > verifier.next()) {
                    verifier.cut(statement)?;
                }
                verifier.entry(entry, beside.as_ref())
            })
        });
        let seen = verifier.seen().clone();
        if let Err(broken) = held {
            return Ok(AuditCheck { seen, broken: Some(broken) });
        }
        if done {
            // A hub that has written nothing since the form before this one has not noted its end down.
            let noted = head.map_or(if form == 1 { seen.newest } else { None }, |h| h.newest());
            return Ok(AuditCheck { seen, broken: verifier.finish(noted).err() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::Outcome;
    use crate::service::audit::event;
    use crate::store::MasterKey;

    #[tokio::test]
    async fn a_filter_that_fits_nothing_looks_at_so_many_entries_and_says_where_to_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new([7; 32])).unwrap();
        let fill = |tx: &crate::store::Tx<'_>| {
            for n in 1..=SCAN_MAX + 10 {
                let actor = if n <= 3 { "user:mia" } else { "hub" };
                append(tx, n as u64, event(actor, "a.b", "door", Outcome::Done, "", "", ""))?;
            }
            Ok(())
        };
        store.write::<_, StoreError, _>(fill).await.unwrap();
        let ask = |filter: &Filter, before, limit| store.read::<_, StoreError>(|v| page(v, filter, before, limit)).unwrap();
        let mia = Filter { actor: Some("user:mia".into()), ..Filter::default() };
        let first = ask(&mia, None, 50);
        assert_eq!((first.entries.len(), first.next), (0, Some(11)));
        let second = ask(&mia, first.next, 50);
        assert_eq!((second.entries.iter().map(|e| e.seq).collect::<Vec<_>>(), second.next), (vec![3, 2, 1], None));
        // The last page says that it is the last one also when it is full.
        let two = ask(&mia, Some(11), 2);
        assert_eq!((two.entries.len(), two.next), (2, Some(2)));
        assert_eq!(ask(&mia, two.next, 1).next, None);
        let until = Filter { since: Some(100), until: Some(102), ..Filter::default() };
        assert_eq!(ask(&until, Some(200), 50).entries.iter().map(|e| e.at).collect::<Vec<_>>(), [101, 100]);
    }
}
