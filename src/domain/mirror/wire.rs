//! What hub and cloud tell each other, as JSON (`docs/protocol/mirror.md`). Binary values are base64url without padding,
//! times ms since 1970.

use crate::domain::keys::Transcript;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The version of the protocol.
pub const VERSION: u32 = 1;
/// The header that carries the epoch of a hub's request.
pub const EPOCH_HEADER: &str = "hearthkey-epoch";
/// Marks that one request or reply carries at most.
pub const MARKS_MAX: usize = 10_000;
/// Rows or items that one request or reply carries at most.
pub const ROWS_MAX: usize = 5_000;
/// Bytes of a request or reply at most, unless the other side said less.
pub const BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a recovery bundle at most.
pub const BUNDLE_MAX: usize = 8 * 1024 * 1024;

/// What is mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A claimed device, by its id.
    Device,
    /// A right, by device id, `/` and subject.
    Binding,
    /// A person's account, by its id.
    User,
    /// What a person uses from away from home, by its id.
    Away,
    /// A twin, by device id.
    Twin,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Device, Kind::Binding, Kind::User, Kind::Away, Kind::Twin];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Device => "device",
            Kind::Binding => "binding",
            Kind::User => "user",
            Kind::Away => "away",
            Kind::Twin => "twin",
        }
    }

    /// Reads a word.
    ///
    /// # Errors
    /// What to say of another.
    pub fn parse(word: &str) -> Result<Kind, &'static str> {
        Kind::ALL.into_iter().find(|kind| kind.word() == word).ok_or("is no kind of entity")
    }
}

/// A row as its hub has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Of which kind.
    pub kind: Kind,
    /// Which; empty in the row that begins a kind anew.
    pub key: String,
    /// Rises each time it is made anew.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// Rises with each change within its generation.
    #[serde(default, rename = "ver")]
    pub version: u64,
    /// The hub that wrote it last.
    #[serde(default)]
    pub origin: String,
    /// What it says.
    #[serde(default)]
    pub body: Value,
}

/// The end of all generations of an entity up to one, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Of which kind.
    pub kind: Kind,
    /// Which.
    pub key: String,
    /// The last generation that is over.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// When it was raised, by the clock of who raised it.
    #[serde(default)]
    pub at: u64,
    /// By whom: a subject's text.
    #[serde(default)]
    pub by: String,
}

/// A mark that came from the cloud and that the hub has refused: what it names is in force, and says so in its row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedMark {
    /// Of which kind.
    pub kind: Kind,
    /// Which.
    pub key: String,
    /// Up to which generation it was refused.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// Up to which generation it is over at the hub all the same; 0 when none is.
    #[serde(default)]
    pub stands: u64,
    /// A word for programs: why.
    pub code: String,
}

/// What the hub's clock says, and how far it can be believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockReading {
    /// ms since 1970.
    pub now: u64,
    /// `none`, `ntp` or `vouched`.
    pub grade: String,
}

/// Entries of the audit, in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditRange {
    /// Number of the first entry.
    pub from: u64,
    /// Hash of the entry before it, hex; 64 zeros before the first.
    pub prev: String,
    /// The entries, without what stands beside the chain.
    pub items: Vec<Value>,
    /// The hub's signed word about where the chain ends (an audit point), base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Its signed words about what it has cut before `from`, base64url.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<String>,
}

/// How a request of a person, or another item, ended at the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The item's id.
    pub id: String,
    /// Whether it was done.
    pub ok: bool,
    /// A word for programs: `done`, or why not.
    pub code: String,
    /// For a person.
    #[serde(default)]
    pub detail: String,
}

/// What a hub sends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SyncRequest {
    /// [`VERSION`].
    pub v: u32,
    /// The hub's epoch.
    pub epoch: u64,
    /// Rises by one with each batch of the epoch.
    pub batch: u64,
    /// How far the hub has durably taken what came down.
    pub cursor: u64,
    /// The hub's clock.
    #[serde(default)]
    pub clock: ClockReading,
    /// Marks, applied before everything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoke: Vec<Mark>,
    /// Rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub put: Vec<Row>,
    /// Twins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub twin: Vec<Row>,
    /// Audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditRange>,
    /// Marks of the cloud that the hub does not take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedMark>,
    /// How items ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<Done>,
    /// Digests by kind, hex, when nothing else waits to be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<BTreeMap<Kind, String>>,
    /// [`ReleasesTold::n`] of what the hub was last told, 0 for nothing; absent from a hub that takes no firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fw: Option<u64>,
}

/// Move orders for devices of a stolen hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveOrders {
    /// The order, base64url, by device id.
    pub orders: BTreeMap<String, String>,
    /// There are more, after the last device.
    #[serde(default)]
    pub more: bool,
}

/// Something that comes down, in the order of cursors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Its place.
    pub cursor: u64,
    /// Its id, by which a [`Done`] answers.
    pub id: String,
    /// What it is.
    #[serde(flatten)]
    pub body: ItemBody,
}

/// What an item is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "body")]
pub enum ItemBody {
    /// A person's wish from away from home.
    Request(Request),
    /// Identities to recognise.
    Batch(BatchOffer),
    /// For owners.
    Notice(Notice),
    /// A device that is not the one its voucher speaks of.
    Forged(Forged),
    /// A signed bulletin of revocations, base64url.
    Bulletin {
        /// The statement.
        bulletin: String,
    },
}

/// What a device said when a hub paired it that could not check it, for the cloud that can: `paired` in the device's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paired {
    /// The handshake hash of the pairing, base64url.
    pub h: String,
    /// The attestation tag, base64url.
    pub tag: String,
    /// The reset counter that the device said.
    pub resets: u64,
    /// The firmware that it said.
    pub firmware: String,
}

impl Paired {
    /// As it is sent.
    #[must_use]
    pub fn of(said: &Transcript) -> Paired {
        let text = |bytes: &[u8; 32]| BASE64URL_NOPAD.encode(bytes);
        Paired { h: text(&said.h), tag: text(&said.tag), resets: said.resets, firmware: said.firmware.clone() }
    }

    /// As it is checked; `None` for what no pairing can have said.
    #[must_use]
    pub fn said(&self) -> Option<Transcript> {
        let bytes = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let firmware = Some(&self.firmware).filter(|text| text.chars().count() <= 64)?;
        Some(Transcript { h: bytes(&self.h)?, tag: bytes(&self.tag)?, resets: self.resets, firmware: firmware.clone() })
    }
}

/// A device whose attestation tag does not hold: it knows the code of its label and lacks the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forged {
    /// Which.
    pub device: String,
    /// The tag, base64url: of what the device has said since, this says nothing.
    pub tag: String,
}

/// What a person away from home, or the system account, wishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Whose wish: an account's id, or `service:<id>` for the system account.
    pub by: String,
    /// Through what, for the audit.
    #[serde(default)]
    pub via: String,
    /// What is wished.
    pub verb: Verb,
    /// On which device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The patch of desires, the command (`name`, `params`), the grant (`username`, `privilege`, `until`), or the account
    /// (`username`, `display_name`, `role`, `password_hash`).
    pub value: Value,
    /// When it was made, by the cloud's clock.
    pub at: u64,
    /// For how long it is worth doing, in s since `at`.
    pub ttl_s: u64,
}

/// What is wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Attributes to set.
    Desire,
    /// A command to run.
    Command,
    /// A right to give.
    Grant,
    /// An account to make.
    User,
}

/// A registry batch that waits for the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchOffer {
    /// The maker.
    pub brand: String,
    /// Where: `/v1/hubs/{hub}/batches/{id}`.
    pub id: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256, hex.
    pub sha256: String,
    /// How many identities.
    pub devices: u64,
}

/// Releases that one reply names at most.
pub const RELEASES_MAX: usize = 32;

/// Releases of firmware that the cloud has for a hub's devices: all of them, in place of what it told before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasesTold {
    /// Another number with each change of what the cloud has; the hub repeats it.
    pub n: u64,
    /// At most [`RELEASES_MAX`], of each model the newest.
    pub releases: Vec<ReleaseOffer>,
}

/// A release file that the hub may fetch. Only what its maker has signed in it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseOffer {
    /// The maker.
    pub brand: String,
    /// Of which model.
    pub model: String,
    /// Its number.
    pub rel: u64,
    /// SHA-256 of the release file, hex: `/v1/hubs/{hub}/firmware/{sha256}`.
    pub sha256: String,
    /// The length of the release file.
    pub size: u64,
    /// Of all houses' devices so many percent get it, 0 to 100.
    pub percent: u8,
    /// Its maker has withdrawn it: nobody is offered it any more, for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

/// Something for owners to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// A word for programs, such as `claimed_elsewhere`.
    pub code: String,
    /// About which device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// For people, with what to do.
    pub text: String,
    /// When.
    pub at: u64,
}

/// What the cloud answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SyncReply {
    /// The batch that it answers.
    pub ack: u64,
    /// The cursor after what is in this reply.
    pub cursor: u64,
    /// Whether there is more: ask again at once.
    #[serde(default)]
    pub more: bool,
    /// Marks, applied before everything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoke: Vec<Mark>,
    /// Everything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
    /// Kinds whose digest is another: the hub sends all of them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resync: Vec<Kind>,
    /// In how many seconds to come again when nothing wakes the hub.
    pub wait_s: u64,
    /// Bytes of the next request at most.
    pub max_bytes: u64,
    /// Releases for the models of the hub's devices, when it may not know them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fw: Option<ReleasesTold>,
}

/// What a cloud says of itself to anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudView {
    /// [`VERSION`].
    pub v: u32,
    /// What people call it.
    pub name: String,
    /// Which region it serves.
    pub region: String,
    /// Its Ed25519 public key, base64url.
    pub key: String,
    /// The first 16 hex digits of that key's SHA-256.
    pub fingerprint: String,
    /// Its public URL, on which requests are signed.
    pub url: String,
    /// Other regions and their URLs.
    #[serde(default)]
    pub regions: BTreeMap<String, String>,
    /// The makers it brings identities of.
    #[serde(default)]
    pub brands: Vec<BrandOffer>,
    /// `open`, `code` or `closed`.
    pub linking: String,
}

/// A maker, and the fingerprint of its root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrandOffer {
    /// Its name.
    pub id: String,
    /// As an owner confirms it.
    pub fingerprint: String,
}

/// What a cloud answers to a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// The hub.
    pub hub: String,
    /// Its epoch.
    pub epoch: u64,
    /// In how many seconds to come again when nothing wakes the hub.
    pub wait_s: u64,
    /// Bytes of a request at most.
    pub max_bytes: u64,
}

/// What an owner agrees to: what is mirrored, and what may come from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// Names, rooms and standing of devices.
    Devices,
    /// Twins.
    Twins,
    /// Names and roles of people; their ids go always, as rights name them.
    People,
    /// The audit, without what is personal.
    Audit,
    /// The sealed recovery bundle.
    Bundle,
    /// Desires and commands of people away from home.
    Requests,
    /// Rights given from away, below `manage`.
    Grants,
    /// Also critical attributes and commands, and `manage`.
    Critical,
    /// Guests and members made by the system account.
    PeopleRequests,
}

impl Consent {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Consent; 9] = [
        Consent::Devices,
        Consent::Twins,
        Consent::People,
        Consent::Audit,
        Consent::Bundle,
        Consent::Requests,
        Consent::Grants,
        Consent::Critical,
        Consent::PeopleRequests,
    ];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Consent::Devices => "devices",
            Consent::Twins => "twins",
            Consent::People => "people",
            Consent::Audit => "audit",
            Consent::Bundle => "bundle",
            Consent::Requests => "requests",
            Consent::Grants => "grants",
            Consent::Critical => "critical",
            Consent::PeopleRequests => "people_requests",
        }
    }
}
