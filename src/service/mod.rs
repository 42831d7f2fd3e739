//! Use cases, one transaction each: load, decide, persist, then run the effects.
//!
//! Adapters (MQTT, HTTP) call these and map their refusals to their own protocol, once, at their edge. What must leave
//! the hub goes through [`Outlet`], which the composition root connects to the broker; changes for live views go
//! through [`Service::changes`]. Deciding is `domain`'s, bytes are `store`'s.

mod accounts;
mod actor;
mod app_tokens;
mod apps;
mod audit;
mod backup;
mod bindings;
mod claims;
mod clock;
mod clones;
mod commands;
mod devices;
mod explain;
mod factory_reset;
mod firmware;
mod forget;
mod gate;
mod handover;
mod held;
mod idle;
mod invitations;
mod lockout;
mod mirror;
mod mqtt_sessions;
mod oauth;
mod oauth_tokens;
mod pace;
mod pairing;
mod password_reset;
mod passwords;
mod people;
mod recovery;
mod registry;
mod remotes;
mod rights;
mod roles;
mod second_factor;
mod services;
mod sessions;
mod settings;
mod sign_out;
mod strength;
mod support;
mod system;
mod twins;
mod update;
mod vendors;
mod verified;

pub use crate::store::SCHEMA_VERSION as BACKUP_LAYOUT;
pub use crate::store::tables::{
    InFlight, KeptSubscription, LetInBy, MessageProperties, MqttSession, Proven, Rehearsal as RehearsalResult, RetainedMessage,
    SentMessage, WaitingMessage,
};
pub use accounts::{NewUser, SetupRequest, SignIn, UserView};
pub use actor::Actor;
pub use apps::{AppGrant, AppView, MadeAppToken, NewAppToken};
pub use audit::{AuditCheck, AuditExport, AuditLines, AuditPage, verify_audit};
pub use backup::{
    BackupError, BackupIndex, BackupOutcome, BackupRun, BackupView, BackupWish, Chain, EndedView, Indexed, ListedBackup, Looked,
    MadeBackup, NewBackup, Passphrase, Proof, RehearsalWish, RestoreLife, RestoreReport, Sample, Secrets, Sum, Summary, check_backup,
    fill_from_backup, look_at_backup, look_at_ends,
};
pub use bindings::{BindingView, Grant, Recipient};
pub use clock::{ClockView, Timing, Weighed};
pub use clones::{Answer, EvidenceView, Probe};
pub use commands::{CommandRequest, CommandView};
pub use devices::{DeviceChange, DeviceView};
pub use explain::{Explanation, Question};
pub use firmware::{
    DeviceFirmwareView, Download, FirmwareConfig, FirmwareRefusal, FirmwareView, ImportedRelease, ModelFirmwareView, PolicyTarget,
    PolicyView, ReleaseImport, ReleaseOrigin, ReleaseView, WantedRelease,
};
pub use gate::{SignInAttempt, SignInRefusal, SignedIn};
pub use invitations::{GiftView, InvitationLook, InvitationView, MadeInvitation, NewInvitation, PromiseView, Registration};
pub use mirror::{
    Applied, AwayKeyView, CloudLook, CloudStatus, LinkTarget, LookProblem, Looking, MadeAwayKey, MirrorFigures, MirrorPhase, MirrorProblem,
    MirrorState, NewLink, NoticeView, Pending, Prepared, RELEASE_FILE_MAX, Ticket,
};
pub use mqtt_sessions::{KeptSession, MessageToKeep, SessionChanges, SessionToKeep, kept_message_key, kept_session_key};
pub use oauth::{AuthorizationRequest, ClientView, Consent, RequestRefusal, RequestView};
pub use oauth_tokens::{CodeExchange, GrantError, IssuedTokens};
pub use pairing::{
    Confirmation, Job, JobKind, MadeStockDevice, Nearby, NearbyKind, NewPairing, PairVerdict, PairingKind, PairingProblem, PairingStep,
    PairingView, RadioState, RadioView, StockSettings, WRONG_CODE, WifiView, WifiWish,
};
pub use password_reset::{MadeCode, make_console_code};
pub use people::UserChange;
pub use recovery::{
    About as BundleAbout, BundleError, BundleView, MadeRecoveryCode, MoveView, MovingDevice, NewLife, OpenedBundle, OrdersTaken,
    QR_RECOVERY_PREFIX, RecoveryView, Replayed, RestoredView, Successor, begun_in, catch_up, fill, fill_successor, finish_review_in,
    open_bundle, replay, replay_journal, told_in,
};
pub use registry::{BrandView, ImportReport, RegistryError};
pub use roles::{RoleView, Roles};
pub use second_factor::BegunSecondFactor;
pub use services::{IssuedToken, NewSecret, ServiceChange, ServiceView};
pub use sessions::{OpenedSession, SessionToken};
pub use settings::{SettingsChange, SettingsView};
pub use sign_out::SessionView;
pub use strength::Strength;
pub use support::{SupportRequest, SupportView};
pub use system::{
    BundleImport, BundleUpload, SystemAnswer, SystemBundle, SystemEnd, SystemOrder, SystemPhase, SystemSlot, SystemTried, SystemUpdater,
    SystemView, Wish,
};
pub use update::{OfferedRelease, UpdateEnd, UpdateOutcome, UpdatePhase, UpdateView, Updater};
pub use vendors::Vendor;

use rights::Now;

use crate::domain::binding::Subject;
use crate::domain::ids::{DeviceId, HubId};
use crate::domain::model::Model;
use crate::domain::policy::Reason;
use crate::domain::time::{Grade, Moment};
use crate::domain::timekeeping::{Voice, Word};
use crate::domain::twin::Rejection;
use crate::store::tables::HubSecrets;
use crate::store::{Read, Store, StoreError};
use bytes::Bytes;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast};
use zeroize::Zeroizing;

/// Where time comes from. The composition root reads the real clock, tests drive their own.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970, UTC.
    fn now_ms(&self) -> u64;
    /// Milliseconds that only ever grow, from any start: for deadlines.
    fn monotonic_ms(&self) -> u64;
    /// How far [`Clock::now_ms`] can be believed.
    fn grade(&self) -> Grade;
    /// Both of one moment.
    fn timing(&self) -> Timing {
        Timing { now: self.now_ms(), grade: self.grade(), contradicted: false }
    }
    /// Looks anew at what shows that the box's clock is right; called once a second.
    fn look(&self) {}
    /// What an owner's word, or a cloud's, would change.
    fn weigh(&self, _word: Word) -> Weighed {
        Weighed { floor: 0, now: self.now_ms() }
    }
    /// Takes a word, and the floor that has been kept with it.
    fn heed(&self, _word: Word, _floor: u64) {}
    /// Forgets what one of them said.
    fn forget(&self, _by: Voice) {}
    /// The floor to keep now, ms since 1970, when vouched time has passed since the last.
    fn floor_now(&self) -> Option<u64> {
        None
    }
    /// Takes a floor that has been kept.
    fn keep_floor(&self, _floor: u64) {}
}

/// Why a connection is ended from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The hub asks the peer to come back (after a claim, a re-base, a removal).
    Administrative,
    /// The right is gone.
    NotAuthorized,
}

/// What use cases need of the broker.
pub trait Outlet: Send + Sync {
    /// Hands a message of the hub to the subscribers. One with a `life` is for now or never: it reaches who is connected,
    /// within that time, and is never kept for later.
    fn publish(&self, topic: &str, payload: Bytes, qos: u8, retain: bool, life: Option<Duration>);
    /// Hands a message of the hub to the subscribers, for now or never; whether a session of `who` has it.
    fn hand(&self, _who: &Subject, topic: &str, payload: Bytes, life: Duration) -> bool {
        self.publish(topic, payload, 1, false, Some(life));
        true
    }
    /// Ends all sessions of `who`; when it returns, nothing more reaches them.
    fn close<'a>(&'a self, who: &'a Subject, reason: CloseReason) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
    /// Ends the connections that signed in with this session of a person (its keyed hash), and no others of the account.
    fn close_session<'a>(&'a self, session: [u8; 32]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
    /// Ends those sessions of `who` that do not stand any more ([`Service::still_stands`]); when it returns, nothing more
    /// reaches them.
    fn close_fallen<'a>(&'a self, who: &'a Subject) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
    /// Applies a policy that has changed to all live sessions; when it returns, nothing more reaches who lost a right.
    fn narrow<'a>(&'a self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
    /// Ends all sessions there are; when it returns, nothing more reaches anybody.
    fn close_everyone<'a>(&'a self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(std::future::ready(()))
    }
}

/// Something a live view must know. Who may see it is decided where it is shown.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Change {
    /// A device's record, standing or presence.
    Device {
        /// Which.
        id: DeviceId,
    },
    /// A device is bound to nobody any more, or to others.
    Removed {
        /// Which.
        id: DeviceId,
    },
    /// A twin.
    Twin {
        /// Whose.
        id: DeviceId,
    },
    /// A command's progress.
    Command(Box<CommandView>),
    /// A pairing.
    Pairing {
        /// Which.
        id: String,
    },
    /// The radio.
    Radio,
    /// The support sessions that are open.
    Support,
    /// Sessions ended or a role changed: whoever follows looks whether it still may.
    Accounts,
    /// The link to the cloud, how it stands, or what came from there.
    Cloud,
    /// Firmware: of one device, or the releases that are here and what holds for them.
    Firmware {
        /// Of which device.
        id: Option<DeviceId>,
    },
    /// The hub's version, or what is done about it.
    Update,
    /// Backups: their settings, one that runs, or how one ended.
    Backup,
}

/// Why a use case did not do what it was asked. An adapter maps each to its protocol.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody is signed in, or the session is over.
    #[error("sign in first")]
    SignedOut,
    /// The name or the password is wrong.
    #[error("the user name or the password is wrong")]
    WrongPassword,
    /// Name and password are right, and the account has a second factor.
    #[error("a second factor is needed: send the code that the authenticator app shows, or a recovery code")]
    SecondFactorRequired,
    /// The second factor is wrong, or served before.
    #[error("the code is wrong or was used before: wait for the next one, or use a recovery code")]
    WrongSecondFactor,
    /// The code that sets a new password is none.
    #[error("this code is wrong, was used before, or is over: ask for a new one")]
    WrongCode,
    /// The policy says no.
    #[error("{}", .0.explain())]
    NotAllowed(Reason),
    /// The role does not allow it.
    #[error("only an owner of the hub may do this")]
    RoleTooLow,
    /// An app, a service or a device asks for what only a person may do.
    #[error("only a person may do this: sign in with a user name and a password")]
    PeopleOnly,
    /// It is not there, or not for this account to know.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The claim did not succeed; one answer for every cause.
    #[error("no device waits to be claimed with this code")]
    ClaimRefused,
    /// What was sent does not fit.
    #[error("{0}")]
    Invalid(String),
    /// It exists already, or is in a state that does not allow this.
    #[error("{0}")]
    Conflict(String),
    /// The precondition names another version.
    #[error("it has changed in the meantime (now version {0})")]
    VersionConflict(u64),
    /// Too many attempts.
    #[error("too many attempts; try again in {} s", .0.div_ceil(1000))]
    TooMany(u64),
    /// The device is not connected.
    #[error("the device is not connected")]
    Offline,
    /// The recovery bundle is to be kept elsewhere, and there is no code that would open it.
    #[error("make a recovery code first: without it nobody could open the bundle")]
    RecoveryCodeFirst,
    /// A cloud cannot be looked at.
    #[error("{}", .0.detail)]
    Cloud(LookProblem),
    /// A twin request was rejected.
    #[error("{}", .0.message)]
    Twin(Rejection),
    /// A statement or file of a maker was not taken.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A release of firmware was not taken.
    #[error(transparent)]
    Firmware(#[from] FirmwareRefusal),
    /// Another hub has taken this one's place.
    #[error("another hub has taken the place of this one, and this one serves nobody any more")]
    Retired,
    /// The store failed: nothing was done.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refusal {
    /// Whether it was refused because the disk has no room for it: it is told as what it is, and nobody is cut off over it.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        matches!(self, Refusal::Store(StoreError::Full | StoreError::ReadOnly))
    }
}

/// What the hub is, fixed at start.
pub struct HubIdentity {
    /// Its id.
    pub id: HubId,
    /// Its name in the house, for people.
    pub name: String,
    /// Certificate of its CA (DER).
    pub ca_der: Vec<u8>,
    /// SHA-256 of that certificate, as shown.
    pub ca_fingerprint: String,
    /// The line a maker needs to make a registry batch for this hub.
    pub request_line: String,
    /// The age identity that opens such batches, in its text form.
    pub age_identity: Zeroizing<String>,
}

/// All use cases, and what they share in memory. One per hub.
pub struct Service {
    store: Store,
    clock: Arc<dyn Clock>,
    hub: HubIdentity,
    outlet: OnceLock<Weak<dyn Outlet>>,
    epoch: AtomicU64,
    changes: broadcast::Sender<Change>,
    models: RwLock<HashMap<Vec<u8>, Arc<Model>>>,
    presence: Mutex<HashMap<DeviceId, devices::Presence>>,
    lockout: Mutex<lockout::Lockout>,
    last_used: Mutex<sign_out::LastUsed>,
    hashing: Arc<Semaphore>,
    hash_places: Arc<passwords::Places>,
    /// There is an owner, and as the last one stays, there always will be.
    owned: AtomicBool,
    commands: Mutex<commands::Commands>,
    /// How often devices act on others.
    pace: Mutex<pace::Pace>,
    challenges: Mutex<HashMap<DeviceId, gate::Challenge>>,
    watches: Mutex<clones::Watches>,
    refusals: Mutex<audit::Refusals>,
    desk: audit::Desk,
    uses: Mutex<idle::Uses>,
    importing: tokio::sync::Mutex<()>,
    momentary: Mutex<HashMap<(DeviceId, String), u64>>,
    apps_heard: Mutex<app_tokens::Heard>,
    /// The home's time zone, for weekly windows.
    zone: RwLock<TimeZone>,
    /// The zone of the box, for a home that has set none.
    box_zone: TimeZone,
    timed: Mutex<clock::Seen>,
    pairings: pairing::Desk,
    air: pairing::Air,
    mirror: mirror::Desk,
    /// Says where the hub is reached over MQTT with TLS.
    reached_at: OnceLock<Box<dyn Fn() -> Vec<String> + Send + Sync>>,
    pepper: Zeroizing<[u8; 32]>,
    backups: backup::Desk,
    /// Bundles, and how this hub stands to the one before it and the one after it.
    recovery: recovery::Desk,
    firmware: firmware::Desk,
    /// Who brings new versions.
    updater: OnceLock<Weak<dyn Updater>>,
    /// Who updates the system of the box.
    system: OnceLock<Weak<dyn SystemUpdater>>,
}

impl Service {
    /// Use cases over `store`. Critical desires of an earlier run are dropped: a restart ends every moment.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn new(store: Store, clock: Arc<dyn Clock>, hub: HubIdentity) -> Result<Arc<Service>, Refusal> {
        Service::in_zone(store, clock, hub, None).await
    }

    /// The same for a box in a time zone, which is the home's until an owner sets another one; UTC without.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn in_zone(
        store: Store,
        clock: Arc<dyn Clock>,
        hub: HubIdentity,
        box_zone: Option<TimeZone>,
    ) -> Result<Arc<Service>, Refusal> {
        let pepper = pepper(&store)?;
        let service = Arc::new(Service {
            store,
            hub,
            outlet: OnceLock::new(),
            epoch: AtomicU64::new(1),
            changes: broadcast::channel(1024).0,
            models: RwLock::default(),
            presence: Mutex::default(),
            lockout: Mutex::new(lockout::Lockout::new(10_000)),
            last_used: Mutex::default(),
            hashing: Arc::new(Semaphore::new(2)),
            hash_places: Arc::default(),
            owned: AtomicBool::new(false),
            commands: Mutex::default(),
            pace: Mutex::default(),
            challenges: Mutex::default(),
            watches: Mutex::default(),
            refusals: Mutex::default(),
            desk: audit::Desk::default(),
            uses: Mutex::default(),
            importing: tokio::sync::Mutex::new(()),
            momentary: Mutex::default(),
            apps_heard: Mutex::default(),
            zone: RwLock::new(TimeZone::UTC),
            // A zone without a name could not be shown.
            box_zone: box_zone.filter(|z| !z.is_unknown() && z.iana_name().is_some()).unwrap_or(TimeZone::UTC),
            timed: Mutex::new(clock::Seen::of(clock.as_ref())),
            clock,
            pairings: pairing::Desk::default(),
            air: pairing::Air::default(),
            mirror: mirror::Desk::default(),
            reached_at: OnceLock::new(),
            pepper,
            backups: backup::Desk::default(),
            recovery: recovery::Desk::default(),
            firmware: firmware::Desk::default(),
            updater: OnceLock::new(),
            system: OnceLock::new(),
        });
        service.load_standing()?;
        service.load_zone()?;
        service.drop_all_momentary().await?;
        service.start_mirror().await?;
        Ok(service)
    }

    /// Connects the broker; once, before the listeners open. It is the caller's to keep: the broker holds the service.
    pub fn connect(&self, outlet: &Arc<impl Outlet + 'static>) {
        let outlet = Arc::downgrade(outlet);
        let _ = self.outlet.set(outlet);
    }

    fn outlet(&self) -> Option<Arc<dyn Outlet>> {
        self.outlet.get().and_then(Weak::upgrade)
    }

    /// What the hub is.
    #[must_use]
    pub fn hub(&self) -> &HubIdentity {
        &self.hub
    }

    /// Milliseconds since 1970 by the hub's clock.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    /// What decisions know of the time now, and of revocations from outside.
    fn moment(&self) -> Now {
        let zone = self.zone.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let Timing { now, grade, .. } = self.clock.timing();
        Now { moment: Moment { at: now, grade, zone }, policy_age_ms: self.policy_age() }
    }

    /// The hub as it stands in rows that it writes.
    fn origin(&self) -> String {
        self.hub.id.to_string()
    }

    /// The number of the present policy: it rises after every commit that changes a right.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Changes from now on. A receiver that lags is told so, and loads again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// How many durable writes were asked for, and how many synced commits they took.
    #[must_use]
    pub fn write_counts(&self) -> (u64, u64) {
        self.store.write_counts()
    }

    /// Waits for what is being written, and closes the store.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// A right has changed: connections compile their tables anew, and lose what they lost before this returns.
    async fn policy_changed(&self) {
        // A support session lives no longer than the say of the owner who opened it, whatever has ended that.
        self.end_fallen_support().await;
        self.epoch.fetch_add(1, Ordering::AcqRel);
        if let Some(outlet) = self.outlet() {
            outlet.narrow().await;
        }
    }

    fn publish(&self, topic: &str, payload: impl Into<Bytes>, qos: u8, retain: bool) {
        if let Some(outlet) = self.outlet() {
            outlet.publish(topic, payload.into(), qos, retain, None);
        }
    }

    fn publish_now_or_never(&self, topic: &str, payload: impl Into<Bytes>, life: Duration) {
        if let Some(outlet) = self.outlet() {
            outlet.publish(topic, payload.into(), 1, false, Some(life));
        }
    }

    async fn close_sessions(&self, who: &Subject, reason: CloseReason) {
        if let Some(outlet) = self.outlet() {
            outlet.close(who, reason).await;
        }
    }

    async fn close_session(&self, session: [u8; 32]) {
        if let Some(outlet) = self.outlet() {
            outlet.close_session(session).await;
        }
    }

    async fn close_fallen(&self, who: &Subject) {
        if let Some(outlet) = self.outlet() {
            outlet.close_fallen(who).await;
        }
    }

    fn changed(&self, change: Change) {
        // Nobody listening is no fault.
        let _ = self.changes.send(change);
    }

    /// The keyed hash under which tokens and operational secrets are kept: the file alone lets nobody in.
    fn keyed_hash(&self, label: &[u8], secret: &[u8]) -> [u8; 32] {
        keyed_hash(&self.pepper, label, secret)
    }
}

/// What the hashes of this hub's secrets are keyed with; derived, so that the file alone does not have it. A hub that took
/// another's place has that one's.
fn pepper(store: &Store) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    store.read(|v| pepper_in(v))
}

fn pepper_in<R: Read>(rows: &R) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let carried = rows.get::<HubSecrets>(HubSecrets::ROW)?.and_then(|secrets| secrets.pepper);
    Ok(carried.map_or_else(|| rows.vault().derive(b"hearthkey pepper v1"), Zeroizing::new))
}

fn keyed_hash(pepper: &[u8; 32], label: &[u8], secret: &[u8]) -> [u8; 32] {
    use hmac::{Hmac, KeyInit, Mac};
    // HMAC takes a key of any length (RFC 2104 §3), so this cannot fail; an all-zero hash would match nothing.
    let Ok(mut mac) = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(pepper) else { return [0; 32] };
    mac.update(&(label.len() as u64).to_be_bytes());
    mac.update(label);
    mac.update(secret);
    mac.finalize().into_bytes().into()
}

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::Conflict("the system gave no randomness; try again".into()))?;
    Ok(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
