//! Rows of the mirror: the link to a cloud, what is to be sent to it, what was sent, and what came from there.

use super::serde_bytes_vec;
use crate::domain::account::UserId;
use crate::domain::mirror::wire::{BatchOffer, Consent, Done, Kind, Notice};
use crate::store::Table;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Whether changes are noted for a cloud. A row of its own, because every write asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorSwitch {
    /// A cloud is linked.
    pub on: bool,
    /// Twins are mirrored.
    #[serde(default)]
    pub twins: bool,
    /// The epoch in which `batch` counts.
    pub epoch: u64,
    /// The number of the next batch. It outlives the link: a number is never used for two contents.
    pub batch: u64,
}

impl MirrorSwitch {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// A row that waits to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// How often it has changed since it was sent last: what is acknowledged is forgotten only if that is still so.
    pub changes: u64,
    /// It is sent even if it is what was sent last.
    #[serde(default)]
    pub again: bool,
}

/// Key of a row in the outbox.
#[must_use]
pub fn outbox_key(table: Table, key: &[u8]) -> Vec<u8> {
    [outbox_prefix(table).as_slice(), key].concat()
}

/// Prefix of a table's rows in the outbox.
#[must_use]
pub fn outbox_prefix(table: Table) -> Vec<u8> {
    [table.name().as_bytes(), &[0]].concat()
}

/// Key of an entity: `key` is as it goes over the wire.
#[must_use]
pub fn entity_key(kind: Kind, key: &str) -> Vec<u8> {
    [kind_prefix(kind).as_slice(), key.as_bytes()].concat()
}

/// Prefix of a kind's entities.
#[must_use]
pub fn kind_prefix(kind: Kind) -> Vec<u8> {
    format!("{}\0", kind.word()).into_bytes()
}

/// The cloud that an owner has linked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MirrorLink {
    /// Its public URL.
    pub url: String,
    /// What it calls itself.
    pub name: String,
    /// Its Ed25519 public key, pinned.
    pub key: [u8; 32],
    /// Its region.
    pub region: String,
    /// What the owner agreed to.
    pub consent: BTreeSet<Consent>,
    /// A word that the cloud asked for, until it has taken the link.
    pub code: String,
    /// When it was linked, ms since 1970.
    pub linked_at: u64,
    /// By whom: a subject's text.
    pub linked_by: String,
    /// It was unlinked, and the cloud is to be told.
    pub ending: bool,
}

impl MirrorLink {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// How far the mirror is. Apart from the link, as it changes with every exchange; one row `hub`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MirrorProgress {
    /// The cloud is to be told of the link, or of a change of it.
    pub to_link: bool,
    /// How far what came down has been taken.
    pub cursor: u64,
    /// The number of the last entry of the audit that the cloud has.
    pub audit_sent: u64,
    /// The newest time of a reply that the cloud has vouched for, s since 1970; 0 before the first.
    pub last_success_s: u64,
    /// The same by the hub's clock, ms since 1970.
    pub last_success_at: u64,
    /// The number of the newest bulletin.
    pub bulletin: u64,
    /// Kinds that are to be sent anew as a whole, and how far that is.
    pub resync: Vec<Resync>,
    /// A comparison is due as soon as nothing waits.
    pub digest_due: bool,
    /// When the last comparison was sent, ms since 1970 by the hub's clock.
    pub digest_at: u64,
    /// When kinds were last sent anew because the cloud had asked, ms since 1970 by the hub's clock.
    pub resync_at: u64,
}

impl MirrorProgress {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// A kind that is sent anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resync {
    /// Which.
    pub kind: Kind,
    /// The row that begins it has been sent.
    pub begun: bool,
    /// Which of its tables is being noted.
    pub table: usize,
    /// After which key.
    #[serde(with = "serde_bytes_vec")]
    pub after: Vec<u8>,
}

/// A batch as it goes out, byte by byte, however often.
#[derive(Clone, Serialize, Deserialize)]
pub struct PreparedBatch {
    /// The epoch.
    pub epoch: u64,
    /// Its number.
    pub batch: u64,
    /// The request, as JSON.
    #[serde(with = "serde_bytes_vec")]
    pub request: Vec<u8>,
    /// Keys in the outbox, and the number of changes that the batch tells.
    pub taken: Vec<(Vec<u8>, u64)>,
    /// The last entry of the audit in it, if there is one.
    pub audit_to: Option<u64>,
    /// It holds a comparison.
    pub digest: bool,
}

impl PreparedBatch {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// As what an entity was sent last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Its generation.
    pub generation: u64,
    /// Its version.
    pub version: u64,
    /// SHA-256 of its body.
    #[serde(with = "crate::domain::audit::octets")]
    pub hash: [u8; 32],
}

/// A mark of a device, a person or a key for use from away; or one on a right that this hub has refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorMark {
    /// Generations up to this one are over; 0 when none is.
    pub generation: u64,
    /// Up to where the cloud says so, and this hub does not.
    #[serde(default)]
    pub refused: u64,
    /// Why it was refused: a word for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// When it was last raised, ms since 1970.
    pub at: u64,
    /// By whom: a subject's text.
    pub by: String,
}

/// How far something that came is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// It was begun. What is found so after a restart is not done a second time.
    Begun,
    /// It has ended.
    Ended,
}

/// How something that came from the cloud ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneRow {
    /// How far it is.
    pub doing: Doing,
    /// How it ended.
    pub done: Done,
    /// When it came, ms since 1970.
    pub at: u64,
}

/// Something that came from the cloud and was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// When, ms since 1970.
    pub at: u64,
    /// For whom, as the cloud says.
    pub by: String,
    /// What: a request's verb, or `revoke`.
    pub verb: String,
    /// On which device.
    pub device: Option<String>,
    /// Why, as a word.
    pub code: String,
    /// Why, for a person.
    pub detail: String,
}

/// Something for owners to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeRow {
    /// What the cloud says.
    pub notice: Notice,
    /// An owner has seen it.
    pub seen: bool,
}

/// A registry batch that waits at the cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferRow {
    /// The item that offered it.
    pub item: String,
    /// What is offered.
    pub offer: BatchOffer,
    /// When, ms since 1970.
    pub at: u64,
    /// How often it could not be taken.
    pub failed: u32,
}

/// What a person uses from away from home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwayKey {
    /// Its id.
    pub id: String,
    /// Whose.
    pub user: UserId,
    /// What the person calls it.
    pub name: String,
    /// SHA-256 of the token.
    #[serde(with = "crate::domain::audit::octets")]
    pub hash: [u8; 32],
    /// Since when, ms since 1970.
    pub created_at: u64,
    /// Until when it serves, ms since 1970.
    pub until: u64,
}
