//! Entities as they go over the wire: what is told of each, by what the owner agreed to.

use crate::domain::account::User;
use crate::domain::binding::{Binding, RevocationMark, Subject};
use crate::domain::device::{Household, Origin, Registered, ResetCounter};
use crate::domain::ids::DeviceId;
use crate::domain::mirror::digest::Digest;
use crate::domain::mirror::merge::body_hash;
use crate::domain::mirror::wire::{Consent, Kind, Mark, Paired, Row};
use crate::domain::twin::Twin;
use crate::store::tables::{AwayKey, FirmwareFacts, MirrorMark, PairingTranscript, Sent, binding_key, entity_key, kind_prefix};
use crate::store::{Read, Record, StoreError, Table};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Rows that are looked at at a time.
const BLOCK: usize = 1_000;

/// Where the rows of a kind stand: marks first, so that what has ended is told before what stands.
pub(super) fn tables_of(kind: Kind) -> &'static [Table] {
    match kind {
        Kind::Device => &[MirrorMark::TABLE, Household::TABLE],
        Kind::Binding => &[RevocationMark::TABLE, MirrorMark::TABLE, Binding::TABLE],
        Kind::User => &[MirrorMark::TABLE, User::TABLE],
        Kind::Away => &[MirrorMark::TABLE, AwayKey::TABLE],
        Kind::Twin => &[Twin::TABLE],
    }
}

/// The prefix of a kind's keys in one of its tables: marks of several kinds share one.
pub(super) fn prefix_in(table: Table, kind: Kind) -> Vec<u8> {
    if table == MirrorMark::TABLE { kind_prefix(kind) } else { Vec::new() }
}

/// What a row of the store says to the cloud.
pub(super) enum Told {
    /// It is over.
    Ended(Mark),
    /// It stands.
    Stands(Row),
    /// Nothing that concerns the cloud.
    Nothing,
}

/// Who writes, and what it may tell.
pub(super) struct Teller<'a> {
    pub(super) consent: &'a BTreeSet<Consent>,
    /// This hub.
    pub(super) hub: &'a str,
    /// The epoch: versions of a later one are above those of all before.
    pub(super) epoch: u64,
    pub(super) now: u64,
}

/// The highest mark of an entity that has no table of marks of its own.
pub(in crate::service) fn marked<R: Read>(rows: &R, kind: Kind, key: &str) -> Result<u64, StoreError> {
    Ok(rows.get::<MirrorMark>(&entity_key(kind, key))?.map_or(0, |m| m.generation))
}

/// Key of a binding as it goes over the wire.
pub(super) fn wire_binding(device: &DeviceId, subject: &Subject) -> String {
    format!("{device}/{subject}")
}

/// The same, read.
pub(in crate::service) fn parse_binding(key: &str) -> Option<(DeviceId, Subject)> {
    let (device, subject) = key.split_once('/')?;
    Some((DeviceId::parse(device).ok()?, Subject::parse(subject)?))
}

impl Teller<'_> {
    /// What the row `key` of `table` says.
    pub(super) fn tell<R: Read>(&self, rows: &R, table: Table, key: &[u8]) -> Result<Told, StoreError> {
        let text = std::str::from_utf8(key).unwrap_or_default();
        if table == Household::TABLE {
            return self.device(rows, text);
        }
        if table == Binding::TABLE {
            return rows.get::<Binding>(key)?.map_or(Ok(Told::Nothing), |b| self.binding(rows, &b));
        }
        if table == RevocationMark::TABLE {
            return Ok(rows.get::<RevocationMark>(key)?.map_or(Told::Nothing, |m| revoked(text, &m)));
        }
        if table == MirrorMark::TABLE {
            return Ok(rows.get::<MirrorMark>(key)?.map_or(Told::Nothing, |m| ended(text, &m)));
        }
        if table == User::TABLE {
            return rows.get::<User>(key)?.map_or(Ok(Told::Nothing), |u| self.user(rows, &u));
        }
        if table == AwayKey::TABLE {
            return rows.get::<AwayKey>(key)?.map_or(Ok(Told::Nothing), |a| self.away(rows, &a));
        }
        self.twin(rows, key, text)
    }

    fn device<R: Read>(&self, rows: &R, id: &str) -> Result<Told, StoreError> {
        let key = id.as_bytes();
        let (Some(household), Some(registered)) = (rows.get::<Household>(key)?, rows.get::<Registered>(key)?) else {
            return Ok(Told::Nothing);
        };
        let generation = marked(rows, Kind::Device, id)? + 1;
        // What nobody has claimed does not concern the cloud, unless it was told of it.
        let told = rows.get::<Sent>(&entity_key(Kind::Device, id))?.is_some_and(|s| s.generation == generation);
        if !household.standing.is_bound() && !told {
            return Ok(Told::Nothing);
        }
        let mut body = json!({
            "brand": registered.brand, "model": registered.model, "hardware": registered.hardware, "serial": registered.serial,
            "trust": registered.origin.trust(), "resets": rows.get::<ResetCounter>(key)?.unwrap_or_default().counter,
        });
        set(&mut body, "claimed_at", household.claimed_at);
        if registered.origin == Origin::Voucher {
            // The cloud checks it, and sends the identity of a device that has its key alone.
            set(&mut body, "paired", rows.get::<PairingTranscript>(key)?.map(|kept| Paired::of(&kept.transcript)));
        }
        if let Some(runs) = rows.get::<FirmwareFacts>(key)? {
            set(&mut body, "firmware", Some(runs.version).filter(|version| !version.is_empty()));
            set(&mut body, "rel", Some(runs.rel));
        }
        if self.consent.contains(&Consent::Devices) {
            set(&mut body, "standing", Some(household.standing));
            set(&mut body, "name", Some(household.name).filter(|n| !n.is_empty()));
            set(&mut body, "room", Some(household.room).filter(|r| !r.is_empty()));
        }
        self.row(rows, Kind::Device, id, (generation, 0), self.hub, body)
    }

    fn binding<R: Read>(&self, rows: &R, binding: &Binding) -> Result<Told, StoreError> {
        let body = json!({
            "device": binding.device, "subject": binding.subject.to_string(), "terms": binding.terms,
            "granted_by": binding.granted_by, "granted_at": binding.granted_at,
        });
        let key = wire_binding(&binding.device, &binding.subject);
        self.row(rows, Kind::Binding, &key, (binding.generation, binding.version), &binding.origin, body)
    }

    fn user<R: Read>(&self, rows: &R, user: &User) -> Result<Told, StoreError> {
        let key = user.id.as_str();
        if user.ended {
            return Ok(Told::Ended(Mark { kind: Kind::User, key: key.into(), generation: 1, at: self.now, by: String::new() }));
        }
        let mut body = json!({"role": user.role});
        if self.consent.contains(&Consent::People) {
            set(&mut body, "username", Some(user.username.as_str()));
            set(&mut body, "display_name", Some(&user.display_name));
        }
        self.row(rows, Kind::User, key, (1, 0), self.hub, body)
    }

    fn away<R: Read>(&self, rows: &R, away: &AwayKey) -> Result<Told, StoreError> {
        let name = if self.consent.contains(&Consent::People) { away.name.as_str() } else { "" };
        let body = json!({
            "user": away.user, "hash": data_encoding::HEXLOWER.encode(&away.hash), "until": away.until, "name": name,
        });
        self.row(rows, Kind::Away, &away.id, (1, 0), self.hub, body)
    }

    fn twin<R: Read>(&self, rows: &R, key: &[u8], text: &str) -> Result<Told, StoreError> {
        // The classic twin; named ones are the maker's own.
        let Some(id) = text.strip_suffix('\0').filter(|_| self.consent.contains(&Consent::Twins)) else { return Ok(Told::Nothing) };
        let claimed = rows.get::<Household>(id.as_bytes())?.is_some_and(|h| h.standing.is_bound());
        let Some(twin) = rows.get::<Twin>(key)?.filter(|t| claimed && t.version() > 0) else { return Ok(Told::Nothing) };
        let at = twin.view().get("metadata").map_or(0, newest).saturating_mul(1_000);
        let body = json!({"reported": twin.reported(), "desired": twin.desired(), "version": twin.version(), "at": at});
        let generation = marked(rows, Kind::Device, id)? + 1;
        self.row(rows, Kind::Twin, id, (generation, twin.version()), self.hub, body)
    }

    /// The row, in a version above that in which it was sent last, if it has changed since.
    fn row<R: Read>(
        &self,
        rows: &R,
        kind: Kind,
        key: &str,
        (generation, version): (u64, u64),
        origin: &str,
        body: Value,
    ) -> Result<Told, StoreError> {
        let hash = body_hash(&body);
        let first = version.saturating_add(self.epoch.saturating_sub(1) << 32);
        let version = match rows.get::<Sent>(&entity_key(kind, key))?.filter(|s| s.generation == generation) {
            Some(sent) if sent.hash == hash => sent.version,
            Some(sent) => first.max(sent.version + 1),
            None => first,
        };
        Ok(Told::Stands(Row { kind, key: key.to_owned(), generation, version, origin: origin.to_owned(), body }))
    }

    /// The digest of a kind as the cloud has it, when nothing waits to be sent.
    pub(super) fn digest<R: Read>(&self, rows: &R, kind: Kind) -> Result<String, StoreError> {
        let (mut marks, mut standing) = (Vec::new(), Vec::new());
        for table in tables_of(kind) {
            for_each_key(rows, *table, &prefix_in(*table, kind), |key| {
                match self.tell(rows, *table, key)? {
                    Told::Ended(mark) => marks.push(mark),
                    Told::Stands(row) => standing.push(row),
                    Told::Nothing => {}
                }
                Ok(())
            })?;
        }
        // What was refused here is a mark there all the same.
        for_each_key(rows, MirrorMark::TABLE, &kind_prefix(kind), |key| {
            let refused = rows.get::<MirrorMark>(key)?.map_or(0, |m| m.refused);
            if refused > 0 {
                let key = std::str::from_utf8(key).unwrap_or_default().split_once('\0').map_or("", |(_, key)| key).to_owned();
                marks.push(Mark { kind, key, generation: refused, at: 0, by: String::new() });
            }
            Ok(())
        })?;
        Ok(Digest::of(kind, standing.iter(), marks.iter()).hex())
    }
}

/// Calls `f` with every key of `table` that begins with `prefix`, in bounded steps.
fn for_each_key<R: Read>(
    rows: &R,
    table: Table,
    prefix: &[u8],
    mut f: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after = Vec::new();
    loop {
        let keys = rows.keys_after(table, prefix, &after, BLOCK)?;
        for key in &keys {
            f(key)?;
        }
        match keys.into_iter().next_back() {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// A mark on a right.
fn revoked(key: &str, mark: &RevocationMark) -> Told {
    let Some((device, subject)) = key.split_once('\0') else { return Told::Nothing };
    let key = format!("{device}/{subject}");
    Told::Ended(Mark { kind: Kind::Binding, key, generation: mark.generation, at: mark.at, by: mark.by.clone() })
}

/// Another mark; nothing for one that this hub has only refused.
fn ended(key: &str, mark: &MirrorMark) -> Told {
    let Some((kind, key)) = key.split_once('\0') else { return Told::Nothing };
    let kind = Kind::ALL.into_iter().find(|k| k.word() == kind);
    match kind {
        Some(kind) if mark.generation > 0 => {
            Told::Ended(Mark { kind, key: key.to_owned(), generation: mark.generation, at: mark.at, by: mark.by.clone() })
        }
        _ => Told::Nothing,
    }
}

/// What was last sent of an entity is forgotten with it.
pub(super) fn sent_key(row: &Row) -> Vec<u8> {
    entity_key(row.kind, &row.key)
}

/// The row of the store behind a key on the wire, for the highest generation that is known of an entity.
pub(super) fn highest<R: Read>(rows: &R, kind: Kind, key: &str) -> Result<u64, StoreError> {
    let own = marked(rows, kind, key)?;
    Ok(match kind {
        Kind::Device | Kind::Twin => own + 1,
        Kind::User | Kind::Away => own.max(1),
        Kind::Binding => {
            let Some((device, subject)) = parse_binding(key) else { return Ok(own) };
            let at = binding_key(&device, &subject);
            let row = rows.get::<Binding>(&at)?.map_or(0, |b| b.generation);
            rows.get::<RevocationMark>(&at)?.map_or(row, |m| row.max(m.generation))
        }
    })
}

fn set(body: &mut Value, name: &str, value: Option<impl serde::Serialize>) {
    if let (Some(value), Value::Object(members)) = (value, body) {
        members.insert(name.into(), json!(value));
    }
}

/// The newest time in a tree of metadata, s since 1970.
fn newest(metadata: &Value) -> u64 {
    let of = |members: &Map<String, Value>| members.values().map(newest).max().unwrap_or(0);
    match metadata {
        Value::Object(members) => members.get("timestamp").and_then(Value::as_u64).unwrap_or(0).max(of(members)),
        Value::Array(items) => items.iter().map(newest).max().unwrap_or(0),
        _ => 0,
    }
}
