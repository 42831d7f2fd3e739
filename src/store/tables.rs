//! Every table: what it holds, by which key. A key is text, with `\0` between parts, so that a prefix is a range.

mod access;
mod audit;
mod backup;
mod firmware;
mod messages;
mod mirror;
mod recovery;
pub(super) mod serde_bytes_vec;
mod updates;

pub use access::{AppLastUsed, AppToken, AuthorizationCode, ConsentedDevice, Invitation, Promise, RefreshToken};
pub use audit::{AuditCut, AuditErasure};
pub use backup::{BackupSettings, BackupState, Ended, PassphraseKey, Proven, Rehearsal};
pub use firmware::{
    FirmwareFacts, FirmwareFloor, FirmwareProgress, ImageRow, OfferedImage, PolicyRow, ReleaseCounts, ReleaseRow, device_policy_key,
    model_policy_key, release_key, releases_prefix,
};
pub use messages::{
    InFlight, KeptSubscription, LetInBy, MessageProperties, MqttSession, SentMessage, WaitingMessage, mqtt_session_key, waiting_key,
};
pub use mirror::{
    AwayKey, Doing, DoneRow, MirrorLink, MirrorMark, MirrorProgress, MirrorSwitch, NoticeRow, OfferRow, OutboxRow, PreparedBatch,
    RefusedRow, Resync, Sent, entity_key, kind_prefix, outbox_key, outbox_prefix,
};

pub use recovery::{BundleSent, ChangeCount, Following, RecoveryKeys, Restored, Retired, RunCount, StoredOrder};
pub use updates::HubUpdates;

use super::{Mirroring, Record, StoreError, Table, Tx};
use crate::domain::account::{User, UserId};
use crate::domain::app::{Authorization, Client, ServiceAccount};
use crate::domain::audit::chain::Head;
use crate::domain::audit::{Beside, Entry};
use crate::domain::binding::{Binding, RevocationMark, Subject};
use crate::domain::device::{Household, LastSeen, Registered, ResetCounter, SignInCounter};
use crate::domain::ids::{BrandId, DeviceId, ModelName};
use crate::domain::pairing::Transcript;
use crate::domain::support::SupportSession;
use crate::domain::twin::Twin;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use zeroize::Zeroize;

macro_rules! records {
    ($($(#[$doc:meta])* $kind:ident($name:literal): $type:ty $(=> $mirrored:expr)?;)*) => {
        $($(#[$doc])* impl Record for $type {
            const TABLE: Table = Table::$kind($name);
            $(const MIRRORED: Mirroring = $mirrored;)?
        })*
        pub(super) const ALL: &[Table] = &[$(Table::$kind($name)),*];
    };
}

records! {
    /// Identities the hub recognises, by device id.
    plain("registry"): Registered => Mirroring::With(Table::plain("household"));
    /// Hub-scoped keys, by device id.
    sealed("device_keys"): StoredDeviceKey;
    /// What the house made of a device, by device id.
    plain("household"): Household => Mirroring::Own;
    /// Last accepted counters, by device id.
    plain("counters"): SignInCounter;
    /// How often devices have been reset by hand, by device id.
    plain("resets"): ResetCounter => Mirroring::With(Table::plain("household"));
    /// What speaks for a clone, by device id and a big-endian number.
    plain("evidence"): Evidence;
    /// When a device was last heard, by device id.
    plain("last_seen"): LastSeen;
    /// Rights, by device id and subject: [`binding_key`].
    plain("bindings"): Binding => Mirroring::Own;
    /// The same rights found by their subject: [`binding_index_key`].
    plain("bindings_by_subject"): BindingIndex;
    /// Revocation marks, by the binding's key.
    plain("revocations"): RevocationMark => Mirroring::Own;
    /// Operational secrets, by device id.
    sealed("credentials"): Credential;
    /// What devices said when they were paired, for whoever can check it later, by device id.
    plain("pairings"): PairingTranscript => Mirroring::With(Table::plain("household"));
    /// Certificates issued to devices, by device id and serial number.
    plain("certificates"): IssuedCertificate;
    /// Twins, by device id and shadow name: [`twin_key`].
    plain("twins"): Twin => Mirroring::IfTwins;
    /// Momentary desires of critical attributes, by device id and attribute.
    plain("momentary"): Momentary;
    /// Trusted brands, by brand id.
    plain("brands"): TrustedBrand;
    /// Models, by brand and name: [`model_key`].
    plain("models"): StoredModel;
    /// Batches taken, by batch id.
    plain("batches"): ImportedBatch;
    /// Accounts, by user id.
    plain("users"): User => Mirroring::Own;
    /// User ids, by folded user name.
    plain("usernames"): UserName;
    /// Leaves of people for apps to act for them, by app id.
    plain("authorizations"): Authorization;
    /// Access tokens of apps, by keyed hash of the token.
    plain("app_tokens"): AppToken;
    /// Refresh tokens, by app id: the one that serves now.
    plain("refresh_tokens"): RefreshToken;
    /// Authorization codes, by keyed hash of the code.
    plain("authorization_codes"): AuthorizationCode;
    /// When an app was last heard, by app id.
    plain("app_last_used"): AppLastUsed;
    /// Registered apps, by client id.
    plain("oauth_clients"): Client;
    /// Service accounts, by id.
    plain("services"): ServiceAccount;
    /// What service accounts sign in with, by their id.
    plain("service_secrets"): ServiceSecret;
    /// What service accounts have signed in to, by keyed hash of the token.
    plain("service_tokens"): ServiceToken;
    /// When tokens that end without use were last used, by the token's keyed hash.
    plain("token_uses"): LastUse;
    /// Support sessions that are open, by id.
    plain("support"): SupportSession;
    /// Sessions, by keyed hash of their token.
    plain("sessions"): Session;
    /// Invitations, by the keyed hash of their code.
    plain("invitations"): Invitation;
    /// What the home has set, one row `hub`.
    plain("settings"): Settings;
    /// The newest time that an owner has vouched for, one row `hub`.
    plain("clock_floor"): ClockFloor;
    /// Codes that set a new password, by keyed hash of the code.
    plain("reset_codes"): ResetCode;
    /// Second factors, by user id.
    sealed("second_factors"): SecondFactor;
    /// The audit, by big-endian number.
    plain("audit"): Entry;
    /// What stands beside the audit and can be erased, by the same number.
    plain("audit_beside"): Beside;
    /// Where the audit ends, one row `head`.
    sealed("audit_head"): Head;
    /// Up to where the hub has cut the audit, one row `cut`.
    plain("audit_cut"): AuditCut;
    /// Persons whose data are being erased from beside the audit, by user id.
    sealed("audit_erasures"): AuditErasure;
    /// The hub's own secrets, one row `hub`.
    sealed("hub_secrets"): HubSecrets;
    /// The one-time setup code, one row `setup`, gone once used.
    sealed("setup"): SetupCode;
    /// Retained messages, by topic.
    plain("retained"): RetainedMessage;
    /// MQTT sessions that outlive their connections: [`mqtt_session_key`].
    plain("mqtt_sessions"): MqttSession;
    /// What waits for them: [`waiting_key`].
    plain("mqtt_waiting"): WaitingMessage;
    /// Whether changes are noted for a cloud, and the number of its next batch, one row `hub`.
    plain("mirror_switch"): MirrorSwitch;
    /// The cloud, one row `hub`.
    sealed("mirror_link"): MirrorLink;
    /// How far the mirror is, one row `hub`.
    plain("mirror_progress"): MirrorProgress;
    /// What has changed and is to be sent, by table and key: [`outbox_key`].
    plain("outbox"): OutboxRow;
    /// The batch that was sent and is not acknowledged yet, one row `hub`.
    plain("mirror_batch"): PreparedBatch;
    /// As what an entity was sent last, by kind and key: [`entity_key`].
    plain("mirror_sent"): Sent;
    /// Marks of what has no table of marks of its own, and marks that were refused, by kind and key: [`entity_key`].
    plain("mirror_marks"): MirrorMark => Mirroring::Own;
    /// How what came from the cloud ended, by its id.
    plain("mirror_done"): DoneRow => Mirroring::Own;
    /// What was refused that came from the cloud, by big-endian number.
    plain("mirror_refused"): RefusedRow;
    /// What the cloud tells owners, by big-endian number.
    plain("mirror_notices"): NoticeRow;
    /// Registry batches that wait at the cloud, by their id.
    plain("mirror_offers"): OfferRow;
    /// What people use from away from home, by its id.
    plain("away_keys"): AwayKey => Mirroring::Own;
    /// The public halves of the recovery code, one row `hub`.
    plain("recovery"): RecoveryKeys;
    /// How often what a replacing hub needs has changed, one row `hub`.
    plain("carried_changes"): ChangeCount;
    /// How often the database was opened, one row `hub`.
    plain("runs"): RunCount;
    /// The newest recovery bundle that was handed over, one row `hub`.
    plain("bundle_sent"): BundleSent;
    /// By what this hub has taken another's place, one row `hub`.
    plain("restored"): Restored;
    /// Which versions of this program have served here, one row `hub`.
    plain("hub_updates"): HubUpdates;
    /// By what another hub has taken this one's place, one row `hub`.
    plain("retired"): Retired;
    /// Which stolen hub this one follows, one row `hub`.
    plain("following"): Following;
    /// Orders for devices of the stolen hub to move to this one, by device id.
    plain("move_orders"): StoredOrder;
    /// Releases of firmware, by brand, model and big-endian number: [`release_key`].
    plain("firmware_releases"): ReleaseRow;
    /// What has become of them in this house, by the same key.
    plain("firmware_counts"): ReleaseCounts;
    /// Images on disk, by SHA-256.
    plain("firmware_images"): ImageRow;
    /// What devices say they run, by device id.
    plain("firmware_facts"): FirmwareFacts => Mirroring::With(Table::plain("household"));
    /// How far devices are with another release, by device id.
    plain("firmware_progress"): FirmwareProgress;
    /// What people have chosen: [`model_policy_key`], [`device_policy_key`].
    plain("firmware_policies"): PolicyRow;
    /// Security minimums, by brand and model: [`model_key`].
    plain("firmware_floors"): FirmwareFloor;
    /// Where backups go, when, and with which ways in, one row `hub`.
    sealed("backup_settings"): BackupSettings;
    /// How the newest backups ended, one row `hub`.
    plain("backup_state"): BackupState;
}

/// A device's hub-scoped key.
#[derive(Clone, Serialize, Deserialize)]
pub struct StoredDeviceKey(pub [u8; 32]);

impl Drop for StoredDeviceKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Something that speaks for two things acting as one device, or what was done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// When, ms since 1970.
    pub at: u64,
    /// What: a word for programs.
    pub kind: String,
    /// From which address.
    pub source: String,
    /// The client id, and the number of the sign-in.
    pub session: String,
    /// What it was, for a person.
    pub detail: String,
}

/// The operational secret of a claimed device.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credential {
    /// HMAC-SHA256 of the secret under the hub's pepper.
    pub keyed_hash: [u8; 32],
    /// The secret itself, until the device has signed in with it; then it is forgotten.
    pub undelivered: Option<[u8; 32]>,
    /// When it was made, ms since 1970.
    pub made_at: u64,
}

impl Drop for Credential {
    fn drop(&mut self) {
        self.undelivered.zeroize();
    }
}

/// What a device said when it was paired without proving its key: with the key it can be checked later.
#[derive(Clone, Serialize, Deserialize)]
pub struct PairingTranscript {
    /// What it said, and in which session.
    pub transcript: Transcript,
    /// When, ms since 1970.
    pub at: u64,
}

/// A client certificate the hub's CA issued.
#[derive(Clone, Serialize, Deserialize)]
pub struct IssuedCertificate {
    /// SHA-256 of the certificate (DER).
    pub fingerprint: [u8; 32],
    /// By whom it was asked for.
    pub by: String,
    /// Until when, ms since 1970.
    pub expires_at: u64,
}

/// A critical attribute's desire, which must not outlive the moment.
#[derive(Clone, Serialize, Deserialize)]
pub struct Momentary {
    /// The attribute.
    pub attribute: String,
    /// When it was desired, ms since 1970.
    pub since: u64,
}

/// A maker whose statements are believed.
#[derive(Clone, Serialize, Deserialize)]
pub struct TrustedBrand {
    /// Its name.
    pub id: BrandId,
    /// The confirmed fingerprint of its root key, as shown.
    pub fingerprint: String,
    /// The root key, once a file has shown it.
    pub root: Option<[u8; 32]>,
    /// When, ms since 1970.
    pub trusted_at: u64,
    /// By whom.
    pub trusted_by: String,
}

/// A device type as its brand signed it.
#[derive(Clone, Serialize, Deserialize)]
pub struct StoredModel {
    /// The JSON text.
    pub json: String,
    /// When the brand issued it, seconds since 1970: an older statement never replaces a newer one.
    pub issued: u64,
}

/// A batch that was taken whole.
#[derive(Clone, Serialize, Deserialize)]
pub struct ImportedBatch {
    /// Whose.
    pub brand: BrandId,
    /// How many identities.
    pub devices: u64,
    /// When, ms since 1970.
    pub at: u64,
    /// By whom.
    pub by: String,
}

/// Points a user name to its account.
#[derive(Clone, Serialize, Deserialize)]
pub struct UserName {
    /// The account.
    pub id: UserId,
}

/// Points a subject to a device it is bound to.
#[derive(Clone, Serialize, Deserialize)]
pub struct BindingIndex {
    /// The device.
    pub device: DeviceId,
}

/// Somebody signed in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Which account.
    pub user: UserId,
    /// Since when, ms since 1970.
    pub created_at: u64,
    /// Until when, ms since 1970.
    pub expires_at: u64,
    /// From where.
    pub source: String,
    /// What was signed in with, as it called itself.
    #[serde(default)]
    pub agent: String,
    /// When it was last used, ms since 1970: written seldom; 0 until it was.
    #[serde(default)]
    pub last_seen: u64,
}

/// Where a code that sets a new password comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResetKind {
    /// An owner made it for somebody else.
    Owner,
    /// An owner made it for the day on which its own password is lost; it has no end.
    Recovery,
    /// Whoever holds the box made it.
    Console,
}

impl ResetKind {
    /// Whether a second factor ends with it: nobody else could help who has lost that too.
    #[must_use]
    pub fn ends_second_factor(self) -> bool {
        matches!(self, ResetKind::Recovery | ResetKind::Console)
    }
}

/// A code that sets a new password, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResetCode {
    /// Of which account.
    pub user: UserId,
    /// Where it comes from.
    pub kind: ResetKind,
    /// When it was made, ms since 1970.
    pub created_at: u64,
    /// Until when it serves, ms since 1970.
    pub expires_at: Option<u64>,
    /// Who made it: a subject's text.
    pub by: String,
}

/// What an account signs in with besides its password.
#[derive(Clone, Serialize, Deserialize)]
pub struct SecondFactor {
    /// What the authenticator app knows too.
    pub secret: [u8; 20],
    /// Whether a code of the app has been shown: only then it is asked for.
    pub confirmed: bool,
    /// The last step whose code was taken.
    pub last_step: Option<u64>,
    /// Keyed hashes of the recovery codes that are left.
    pub recovery: Vec<[u8; 32]>,
    /// When it began, ms since 1970.
    pub created_at: u64,
}

impl Drop for SecondFactor {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// The secret of a service account.
#[derive(Clone, Serialize, Deserialize)]
pub struct ServiceSecret {
    /// HMAC-SHA256 of the secret under the hub's pepper.
    pub keyed_hash: [u8; 32],
    /// When it was made, ms since 1970.
    pub made_at: u64,
}

/// A service account that has signed in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceToken {
    /// Which service account, by its id.
    pub service: String,
    /// Since when, ms since 1970.
    pub created_at: u64,
    /// When it ends in any case, ms since 1970.
    pub expires_at: u64,
    /// From where it was asked for.
    pub source: IpAddr,
}

/// When a token was last used.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LastUse {
    /// ms since 1970.
    pub at: u64,
}

/// What the home has set; what is absent is as the box has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Whether anybody may make an account, as a guest.
    pub open_registration: bool,
    /// The home's time zone, by its IANA name.
    pub time_zone: Option<String>,
    /// How many bytes of audit are kept.
    pub audit_max_bytes: Option<u64>,
    /// Whether the hub may hand its own Wi-Fi to devices.
    pub share_wifi: bool,
}

impl Settings {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// The newest time that an owner has vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockFloor {
    /// ms since 1970.
    pub at: u64,
}

impl ClockFloor {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// Keys made at first boot; the names say what they are. PEM texts and raw seeds.
#[derive(Clone, Serialize, Deserialize)]
pub struct HubSecrets {
    /// Ed25519 seed of the identity.
    pub identity_seed: [u8; 32],
    /// The age X25519 identity, in its text form.
    pub age_identity: String,
    /// Ed25519 seed that signs for the mirror in the present epoch.
    pub mirror_seed: [u8; 32],
    /// The epoch; a restored hub raises it.
    pub epoch: u64,
    /// Private key of the local CA, PKCS#8 PEM.
    pub ca_key_pem: String,
    /// Certificate of the local CA, PEM.
    pub ca_pem: String,
    /// Private key of the server's certificates, PKCS#8 PEM.
    pub server_key_pem: String,
    /// What the hashes of secrets are keyed with, on a hub that took another's place: what was handed out goes on serving.
    /// Others derive it from their master key.
    #[serde(default)]
    pub pepper: Option<[u8; 32]>,
}

impl HubSecrets {
    /// Their row.
    pub const ROW: &[u8] = b"hub";
}

impl Drop for HubSecrets {
    fn drop(&mut self) {
        self.identity_seed.zeroize();
        self.mirror_seed.zeroize();
        self.age_identity.zeroize();
        self.pepper.zeroize();
        self.ca_key_pem.zeroize();
        self.server_key_pem.zeroize();
    }
}

/// What lets the first owner in, once.
#[derive(Clone, Serialize, Deserialize)]
pub struct SetupCode {
    /// Crockford symbols without hyphens.
    pub code: String,
}

/// A message kept for those who subscribe later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetainedMessage {
    /// Its body.
    #[serde(with = "serde_bytes_vec")]
    pub payload: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Which principal sent it: quotas are by principal.
    pub by: String,
    /// Until when it is worth telling, ms since 1970.
    #[serde(default)]
    pub expires_at: Option<u64>,
}

/// Key of a binding.
#[must_use]
pub fn binding_key(device: &DeviceId, subject: &Subject) -> Vec<u8> {
    format!("{device}\0{subject}").into_bytes()
}

/// Key of a piece of evidence.
#[must_use]
pub fn evidence_key(device: &DeviceId, number: u64) -> Vec<u8> {
    [device_prefix(device), number.to_be_bytes().to_vec()].concat()
}

/// Prefix of a device's bindings, certificates, evidence and momentary desires.
#[must_use]
pub fn device_prefix(device: &DeviceId) -> Vec<u8> {
    format!("{device}\0").into_bytes()
}

/// Key of the index row that finds a binding by its subject.
#[must_use]
pub fn binding_index_key(subject: &Subject, device: &DeviceId) -> Vec<u8> {
    format!("{subject}\0{device}").into_bytes()
}

/// Prefix of a subject's index rows.
#[must_use]
pub fn subject_prefix(subject: &Subject) -> Vec<u8> {
    format!("{subject}\0").into_bytes()
}

/// Key of a twin; the classic one has the empty name.
#[must_use]
pub fn twin_key(device: &DeviceId, shadow: Option<&str>) -> Vec<u8> {
    format!("{device}\0{}", shadow.unwrap_or_default()).into_bytes()
}

/// Key of a model.
#[must_use]
pub fn model_key(brand: &BrandId, model: &ModelName) -> Vec<u8> {
    format!("{brand}\0{model}").into_bytes()
}

/// The table with this name.
pub(super) fn named(name: &str) -> Option<Table> {
    ALL.iter().copied().find(|table| table.name == name)
}

/// Every table exists from the first opening on, so that a look never meets a missing one.
pub(super) fn create_all(tx: &Tx<'_>) -> Result<(), StoreError> {
    for table in ALL.iter().chain(&[Table::plain("layout"), Table::sealed("key_check")]) {
        tx.create(*table)?;
    }
    Ok(())
}

/// Brings the layout from `version` to the next one, inside one transaction.
pub(super) fn migrate(_tx: &Tx<'_>, _version: u32) -> Result<(), StoreError> {
    // A migration reads rows in their old form and puts them in the new one. From 1 to 2 no row changes: an earlier program is to refuse
    // the file, as it knows nothing of the log beside it.
    Ok(())
}
