//! Marks of revocation: those of what has no table of marks of its own, and those that come from the cloud. A mark from
//! there is no wish that somebody could have no right to: it only ever takes away, so it is taken as it is, within bounds.
//! It never leaves a device without somebody who administers it, nor the house without an owner; and one that lies so far
//! ahead that it would end what nobody has given yet is an alarm.

use super::news;
use super::rows::{highest, marked, parse_binding};
use crate::domain::account::{User, UserId};
use crate::domain::audit::Outcome;
use crate::domain::binding::{Binding, RevocationMark, Subject};
use crate::domain::device::Household;
use crate::domain::ids::DeviceId;
use crate::domain::mirror::merge::{Raise, raise};
use crate::domain::mirror::wire::{Kind, MARKS_MAX, Mark, Notice, RefusedMark};
use crate::domain::twin::Twin;
use crate::service::bindings::{add_apps, bindings_of, end_account_in, given_by, keep_an_administrator, revoke_all, revoke_in, with_them};
use crate::service::{Refusal, audit};
use crate::store::tables::{AwayKey, BindingIndex, MirrorMark, RefusedRow, binding_key, entity_key, subject_prefix};
use crate::store::{Read, Record, StoreError, Tx};
use std::collections::{BTreeSet, HashSet};

/// Marks of entities that this hub knows nothing of, and refused ones, that are kept at most.
const KEPT_MAX: u64 = 100_000;
/// Refused marks of one reply that are told one by one.
const TOLD_MAX: usize = 20;
/// Characters of an entity's key at most.
const KEY_MAX: usize = 200;

/// What marks have done, for what follows after the commit.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// How many were new.
    pub(super) taken: u64,
    /// Devices on which rights ended.
    pub(super) devices: BTreeSet<DeviceId>,
    /// People whose accounts ended.
    pub(super) people: Vec<UserId>,
    /// Apps that acted for them.
    pub(super) apps: Vec<String>,
}

/// Why a mark is not taken.
struct No {
    code: &'static str,
    detail: &'static str,
    /// Whether it is remembered as refused, so that it is not told again and again.
    kept: bool,
}

const TOO_FAR: No = No {
    code: "mark_too_far",
    detail: "it lies far ahead of everything that was ever given, and would end what is given next",
    kept: true,
};
const LAST_ADMINISTRATOR: No = No {
    code: "last_administrator",
    detail: "nobody would be left who administers a device: take the right away at home, or give it to somebody else first",
    kept: true,
};
const LAST_OWNER: No = No { code: "last_owner", detail: "this is the last owner of the house", kept: true };
const AT_HOME: No = No { code: "only_at_home", detail: "devices are removed by people at home only", kept: true };
const MALFORMED: No = No { code: "malformed", detail: "it names nothing that could be marked", kept: false };
const FULL: No = No { code: "too_many", detail: "too many marks of what this hub knows nothing of", kept: false };

/// A device leaves the house: whatever was told of it is over, and its next life is another generation.
pub(in crate::service) fn end_life_of(tx: &Tx<'_>, device: &DeviceId, by: &str, now: u64) -> Result<(), StoreError> {
    let generation = marked(tx, Kind::Device, device.as_str())? + 1;
    raise_to(tx, Kind::Device, device.as_str(), generation, by, now)
}

/// Raises the mark of what has no table of marks of its own. It only ever grows.
pub(in crate::service) fn raise_to(tx: &Tx<'_>, kind: Kind, key: &str, generation: u64, by: &str, now: u64) -> Result<(), StoreError> {
    let at = entity_key(kind, key);
    let known = tx.get::<MirrorMark>(&at)?;
    let (before, refused, why) = known.map_or((0, 0, String::new()), |m| (m.generation, m.refused, m.why));
    tx.put(&at, &MirrorMark { generation: before.max(generation), refused, why, at: now, by: by.to_owned() })
}

/// Takes the marks of a reply or of a bulletin, in one transaction and before everything else.
pub(super) fn take_marks(tx: &Tx<'_>, marks: &[Mark], now: u64) -> Result<Marked, StoreError> {
    let (mut out, mut refused) = (Marked::default(), 0);
    for mark in marks.iter().take(MARKS_MAX) {
        if let Err(no) = take_mark(tx, mark, now, &mut out)? {
            let new = !known_as_refused(tx, mark)?;
            refused += usize::from(new);
            refuse(tx, mark, &no, new && refused <= TOLD_MAX, now)?;
        }
    }
    if refused > TOLD_MAX {
        let more = format!("{} marks more than are listed", refused - TOLD_MAX);
        audit::append(tx, now, audit::event("cloud", "cloud.mark", "hub", Outcome::Denied, "too_many", more, "cloud"))?;
    }
    Ok(out)
}

fn take_mark(tx: &Tx<'_>, mark: &Mark, now: u64, out: &mut Marked) -> Result<Result<(), No>, StoreError> {
    if mark.key.is_empty() || mark.key.len() > KEY_MAX || mark.key.chars().any(char::is_control) {
        return Ok(Err(MALFORMED));
    }
    let stands = Mark { generation: standing_mark(tx, mark)?, ..mark.clone() };
    match raise(Some(&stands), highest(tx, mark.kind, &mark.key)?, mark) {
        Raise::Known => return Ok(Ok(())),
        Raise::TooFar => return Ok(Err(TOO_FAR)),
        Raise::Take => {}
    }
    let taken = match mark.kind {
        Kind::Binding => take_right(tx, mark, now, out)?,
        Kind::User => take_person(tx, mark, now, out)?,
        Kind::Away => take_away_key(tx, mark, now)?,
        Kind::Device => Err(AT_HOME),
        Kind::Twin => Err(MALFORMED),
    };
    if taken.is_ok() {
        out.taken += 1;
    }
    Ok(taken)
}

/// Whether such a mark was refused before, and owners have been told.
fn known_as_refused(tx: &Tx<'_>, mark: &Mark) -> Result<bool, StoreError> {
    Ok(tx.get::<MirrorMark>(&entity_key(mark.kind, &mark.key))?.is_some_and(|m| m.refused >= mark.generation))
}

/// The mark that stands here.
fn standing_mark(tx: &Tx<'_>, mark: &Mark) -> Result<u64, StoreError> {
    standing_on(tx, mark.kind, &mark.key)
}

/// Up to which generation an entity is over here.
pub(super) fn standing_on<R: Read>(rows: &R, kind: Kind, key: &str) -> Result<u64, StoreError> {
    match (kind, parse_binding(key)) {
        (Kind::Binding, Some((device, subject))) => {
            Ok(rows.get::<RevocationMark>(&binding_key(&device, &subject))?.map_or(0, |m| m.generation))
        }
        (kind, _) => marked(rows, kind, key),
    }
}

/// What the hub tells the cloud of a refused mark, unless that has been taken since.
pub(super) fn refusal<R: Read>(rows: &R, key: &[u8]) -> Result<Option<RefusedMark>, StoreError> {
    let Some(row) = rows.get::<MirrorMark>(key)? else { return Ok(None) };
    let text = std::str::from_utf8(key).unwrap_or_default();
    let Some((word, entity)) = text.split_once('\0') else { return Ok(None) };
    let Ok(kind) = Kind::parse(word) else { return Ok(None) };
    let stands = standing_on(rows, kind, entity)?;
    let mark = || RefusedMark { kind, key: entity.to_owned(), generation: row.refused, stands, code: row.why.clone() };
    Ok((row.refused > stands).then(mark))
}

/// The cloud has forgotten the row that its mark was to end: it is sent again, behind the refusal.
fn send_row_again(tx: &Tx<'_>, mark: &Mark) -> Result<(), StoreError> {
    match mark.kind {
        Kind::Binding => match parse_binding(&mark.key) {
            Some((device, subject)) => tx.send_again(Binding::TABLE, &binding_key(&device, &subject)),
            None => Ok(()),
        },
        Kind::Device => {
            tx.send_again(Household::TABLE, mark.key.as_bytes())?;
            tx.send_again(Twin::TABLE, &[mark.key.as_bytes(), b"\0"].concat())
        }
        Kind::User => tx.send_again(User::TABLE, mark.key.as_bytes()),
        Kind::Away | Kind::Twin => Ok(()),
    }
}

fn take_right(tx: &Tx<'_>, mark: &Mark, now: u64, out: &mut Marked) -> Result<Result<(), No>, StoreError> {
    let Some((device, subject)) = parse_binding(&mark.key) else { return Ok(Err(MALFORMED)) };
    let (at, by) = (binding_key(&device, &subject), giver(mark));
    let mut lost = Vec::new();
    if tx.get::<Binding>(&at)?.is_some_and(|b| b.generation <= mark.generation) {
        let all = bindings_of(tx, &device)?;
        // Who has left by themselves takes nobody along, and nobody takes away their own right with that of their giver.
        let spared = Subject::parse(&mark.by).unwrap_or_else(|| subject.clone());
        let given = if spared == subject && mark.by == subject.to_string() { Vec::new() } else { given_by(&all, &subject, &spared) };
        let Some(with_it) = without_orphans(tx, &all, &subject, given, now)? else { return Ok(Err(LAST_ADMINISTRATOR)) };
        revoke_in(tx, &device, &subject, &by, now)?;
        lost = revoke_all(tx, &with_it, &by, now)?;
        out.devices.insert(device.clone());
    } else if tx.count(RevocationMark::TABLE)? >= KEPT_MAX {
        return Ok(Err(FULL));
    }
    let known = tx.get::<RevocationMark>(&at)?.map_or(0, |m| m.generation);
    if known < mark.generation {
        tx.put(&at, &RevocationMark { generation: mark.generation, at: now, by: by.clone() })?;
    }
    let detail = format!("{subject}, for {by}{}", with_them(&lost));
    audit::append(tx, now, audit::event("cloud", "binding.revoke", device.as_str(), Outcome::Done, "mark", detail, "cloud"))?;
    Ok(Ok(()))
}

/// What goes along with a right: what was given with it, and its apps; only the apps when otherwise nobody would be left to
/// administer the device. `None` when nobody would be left in any case.
fn without_orphans(
    tx: &Tx<'_>,
    all: &[Binding],
    subject: &Subject,
    given: Vec<Binding>,
    now: u64,
) -> Result<Option<Vec<Binding>>, StoreError> {
    for mut with_it in [given, Vec::new()] {
        add_apps(tx, all, subject, &mut with_it)?;
        let leaving: HashSet<Subject> = with_it.iter().map(|b| &b.subject).chain([subject]).cloned().collect();
        match keep_an_administrator(tx, all, &leaving, now) {
            Ok(()) => return Ok(Some(with_it)),
            Err(Refusal::Store(fault)) => return Err(fault),
            Err(_) => {}
        }
    }
    Ok(None)
}

fn take_person(tx: &Tx<'_>, mark: &Mark, now: u64, out: &mut Marked) -> Result<Result<(), No>, StoreError> {
    let Some(id) = UserId::parse(&mark.key) else { return Ok(Err(MALFORMED)) };
    let by = giver(mark);
    if tx.get::<User>(id.as_str().as_bytes())?.is_none_or(|u| u.ended) {
        if tx.count(MirrorMark::TABLE)? >= KEPT_MAX {
            return Ok(Err(FULL));
        }
        raise_to(tx, Kind::User, &mark.key, mark.generation, &by, now)?;
        return Ok(Ok(()));
    }
    let subject = Subject::User(id.clone());
    let spared = Subject::parse(&mark.by).unwrap_or_else(|| subject.clone());
    let mut with_grants = true;
    for (_, index) in tx.scan::<BindingIndex>(&subject_prefix(&subject), usize::MAX)? {
        let all = bindings_of(tx, &index.device)?;
        let given = given_by(&all, &subject, &spared);
        let wanted = given.len();
        let Some(with_it) = without_orphans(tx, &all, &subject, given, now)? else { return Ok(Err(LAST_ADMINISTRATOR)) };
        with_grants &= with_it.len() >= wanted;
    }
    match end_account_in(tx, &id, &spared, &by, with_grants, now) {
        Ok(ended) => {
            raise_to(tx, Kind::User, &mark.key, mark.generation, &by, now)?;
            let detail = format!("{}, for {by}{}", ended.user.username.as_str(), with_them(&ended.lost));
            audit::append(tx, now, audit::event("cloud", "user.end", id.as_str(), Outcome::Done, "mark", detail, "cloud"))?;
            out.people.push(id);
            out.apps.extend(ended.apps);
            Ok(Ok(()))
        }
        Err(Refusal::Store(fault)) => Err(fault),
        Err(_) => Ok(Err(LAST_OWNER)),
    }
}

fn take_away_key(tx: &Tx<'_>, mark: &Mark, now: u64) -> Result<Result<(), No>, StoreError> {
    let known = tx.get::<AwayKey>(mark.key.as_bytes())?;
    if known.is_none() && tx.count(MirrorMark::TABLE)? >= KEPT_MAX {
        return Ok(Err(FULL));
    }
    tx.delete::<AwayKey>(mark.key.as_bytes())?;
    raise_to(tx, Kind::Away, &mark.key, mark.generation, &giver(mark), now)?;
    if let Some(key) = known {
        let event = audit::event("cloud", "away.end", key.user.as_str(), Outcome::Done, "mark", key.name, "cloud");
        audit::append(tx, now, event)?;
    }
    Ok(Ok(()))
}

/// Notes a refused mark: for the cloud, for owners, in the audit, and so that people are not told again and again.
fn refuse(tx: &Tx<'_>, mark: &Mark, no: &No, told: bool, now: u64) -> Result<(), StoreError> {
    if no.kept && tx.count(MirrorMark::TABLE)? < KEPT_MAX {
        let at = entity_key(mark.kind, &mark.key);
        let known = tx.get::<MirrorMark>(&at)?;
        let known = known.unwrap_or(MirrorMark { generation: 0, refused: 0, why: String::new(), at: now, by: String::new() });
        // Put again also when nothing changes: the cloud has not heard it, or has forgotten it.
        tx.put(&at, &MirrorMark { refused: known.refused.max(mark.generation), why: no.code.to_owned(), ..known })?;
        send_row_again(tx, mark)?;
    }
    if !told {
        return Ok(());
    }
    let device = parse_binding(&mark.key).map(|(device, _)| device.to_string()).filter(|_| mark.kind == Kind::Binding);
    let what: String = mark.key.chars().filter(|c| !c.is_control()).take(KEY_MAX).collect();
    let detail = format!("{} {what}, up to {}: {}", mark.kind.word(), mark.generation, no.detail);
    let object = device.clone().unwrap_or_else(|| "hub".into());
    audit::append(tx, now, audit::event("cloud", "cloud.mark", &object, Outcome::Denied, no.code, detail.clone(), "cloud"))?;
    let row = RefusedRow { at: now, by: giver(mark), verb: "revoke".into(), device: device.clone(), code: no.code.into(), detail };
    news::list_refused(tx, &row)?;
    if no.code == TOO_FAR.code {
        tracing::error!(
            kind = mark.kind.word(),
            generation = mark.generation,
            "the cloud sent a mark far ahead of everything known; refused"
        );
        let text = "The cloud tried to end rights that nobody has given yet. That was refused. If it happens again, ask whoever runs \
                    the cloud, or unlink it.";
        news::put_notice(tx, &Notice { code: no.code.into(), device, text: text.into(), at: now })?;
    }
    Ok(())
}

/// By whom a mark says it is, as it is kept.
fn giver(mark: &Mark) -> String {
    let by: String = mark.by.chars().filter(|c| !c.is_control()).take(100).collect();
    if by.is_empty() { "cloud".into() } else { by }
}
