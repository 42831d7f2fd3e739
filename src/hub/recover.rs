//! A new box takes the place of a hub that is broken: the bundle is fetched and opened, an empty directory is filled, the
//! new epoch begun at the cloud. Until the last step nothing is there that could start.

use super::opening::{STORE_FILE, UNFINISHED, may_lie};
use super::{BoxClock, Config, KeyError, StartError, SystemClock, keys, opening};
use crate::domain::ids::{HubId, IdError};
use crate::domain::mirror::recovery::{RecoveryCode, RecoveryCodeError};
use crate::domain::mirror::statement::RecoveryRequest;
use crate::domain::time::Grade;
use crate::mirror::Rescue;
use crate::service::{
    BundleError, Clock, LookProblem, NewLife, OpenedBundle, QR_RECOVERY_PREFIX, Refusal, Replayed, begun_in, fill, open_bundle,
    replay_journal,
};
use crate::store::journal::{self, JOURNAL_FILE};
use crate::store::{OpenError, Store};
use ed25519_dalek::SigningKey;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

/// What an answer of a courier is.
pub type Fetching<'a, T> = Pin<Box<dyn Future<Output = Result<T, CourierError>> + Send + 'a>>;

/// Whoever brings what a cloud keeps of a hub.
pub trait Courier: Send + Sync {
    /// The cloud's key, and what time it says it is (s since 1970).
    fn look(&self) -> Fetching<'_, CloudFacts>;
    /// The bundle, for a signed recovery request; and the newest epoch that the cloud knows.
    fn bundle<'a>(&'a self, hub: &'a HubId, request: Vec<u8>) -> Fetching<'a, (Vec<u8>, u64)>;
    /// Begins an epoch: a statement, sent with the mirror key that it names. `now_s` is s since 1970.
    fn begin<'a>(&'a self, hub: &'a HubId, epoch: u64, statement: Vec<u8>, mirror: SigningKey, now_s: u64) -> Fetching<'a, ()>;
    /// Says that `hub` follows the stolen hub `old`: a statement, sent with the mirror key that it names.
    fn rehome<'a>(&'a self, _hub: &'a HubId, _old: &'a HubId, _statement: Vec<u8>, _mirror: SigningKey, _now_s: u64) -> Fetching<'a, ()> {
        Box::pin(async {
            Err(CourierError {
                code: "unknown".into(),
                detail: "this cloud knows nothing of stolen hubs".into(),
                next: "Restore from a file, and ask the makers of your devices".into(),
            })
        })
    }
}

/// What a cloud says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloudFacts {
    /// Its Ed25519 public key.
    pub key: [u8; 32],
    /// What time it is there, s since 1970.
    pub now_s: u64,
}

/// Why a courier brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}. {next}")]
pub struct CourierError {
    /// A word for programs, such as `unreachable`.
    pub code: String,
    /// What is so.
    pub detail: String,
    /// What to do.
    pub next: String,
}

/// The cloud at `url`, by the settings of `config`.
///
/// # Errors
/// [`CourierError`]: the URL or a setting is wrong.
pub async fn cloud_at(config: &Config, source: Arc<dyn BoxClock>, url: &str) -> Result<Arc<dyn Courier>, CourierError> {
    let clock = Arc::new(SystemClock::new(source, 0, 0));
    let knows_time = clock.grade() > Grade::None;
    let rescue = Rescue::new(&config.cloud, url, Arc::new(move || clock.now_ms() / 1000), knows_time).await?;
    Ok(Arc::new(rescue))
}

impl Courier for Rescue {
    fn look(&self) -> Fetching<'_, CloudFacts> {
        Box::pin(async move {
            let (key, now_s) = Rescue::look(self).await?;
            Ok(CloudFacts { key, now_s })
        })
    }
    fn bundle<'a>(&'a self, hub: &'a HubId, request: Vec<u8>) -> Fetching<'a, (Vec<u8>, u64)> {
        Box::pin(async move { Ok(Rescue::bundle(self, hub, &request).await?) })
    }
    fn begin<'a>(&'a self, hub: &'a HubId, epoch: u64, statement: Vec<u8>, mirror: SigningKey, now_s: u64) -> Fetching<'a, ()> {
        Box::pin(async move { Ok(Rescue::begin(self, hub, epoch, &statement, mirror, now_s).await?) })
    }
    fn rehome<'a>(&'a self, hub: &'a HubId, old: &'a HubId, statement: Vec<u8>, mirror: SigningKey, now_s: u64) -> Fetching<'a, ()> {
        Box::pin(async move { Ok(Rescue::rehome(self, hub, old, &statement, mirror, now_s).await?) })
    }
}

impl From<LookProblem> for CourierError {
    fn from(problem: LookProblem) -> Self {
        CourierError { code: problem.code.to_owned(), detail: problem.detail, next: problem.next }
    }
}

/// From where the bundle comes.
pub enum BundleSource {
    /// From the cloud that keeps it, where the new epoch begins too.
    Cloud(Arc<dyn Courier>),
    /// From a file that an owner has kept. No cloud is told: the hub does that itself, once it meets the one that is linked.
    File(Vec<u8>),
}

/// Whose place is taken.
pub struct RecoverOrder {
    /// The hub that is broken.
    pub hub: HubId,
    /// The household's recovery code.
    pub code: RecoveryCode,
    /// Where the bundle is.
    pub from: BundleSource,
}

/// Why what somebody typed is no order.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The hub's id.
    #[error("the hub id is wrong ({0}): it is printed beside the recovery code")]
    Hub(#[from] IdError),
    /// No hub was named.
    #[error("name the hub with --hub: its id is printed beside the recovery code")]
    NoHub,
    /// The code.
    #[error("{0}")]
    Code(#[from] RecoveryCodeError),
}

impl RecoverOrder {
    /// From what somebody typed, or scanned: the QR code names the hub too.
    ///
    /// # Errors
    /// [`OrderError`].
    pub fn read(hub: Option<&str>, typed: &str, from: BundleSource) -> Result<RecoverOrder, OrderError> {
        let typed = typed.trim();
        let scanned = typed.split_at_checked(QR_RECOVERY_PREFIX.len()).filter(|(p, _)| p.eq_ignore_ascii_case(QR_RECOVERY_PREFIX));
        let scanned = scanned.and_then(|(_, rest)| rest.split_once(':'));
        let code = scanned.map_or(typed, |(_, code)| code);
        let hub = hub.or(scanned.map(|(hub, _)| hub)).ok_or(OrderError::NoHub)?;
        let hub = HubId::parse(&hub.trim().to_ascii_lowercase())?;
        Ok(RecoverOrder { hub, code: RecoveryCode::parse(code)?, from })
    }
}

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The hub, as it was.
    pub hub: HubId,
    /// Its epoch from now on.
    pub epoch: u64,
    /// When the bundle was made, ms since 1970, by the clock of the hub before.
    pub bundle_at: u64,
    /// The cloud knows of the new epoch.
    pub begun: bool,
    /// What was taken from a journal that stood in the directory.
    pub replayed: Option<Replayed>,
}

/// Why no hub was made. Nothing is left that could start.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// There is a hub already, or something else.
    #[error("{0} is not empty: name a directory that is empty or not there yet with --data-dir")]
    NotEmpty(String),
    /// The cloud.
    #[error(transparent)]
    Courier(#[from] CourierError),
    /// Another cloud than the one that was linked.
    #[error(
        "this cloud is not the one that the home was linked to (its key is another): check its address; if it has a new key, ask whoever runs it, and restore from a file"
    )]
    OtherCloud,
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// An address for the devices of a stolen hub.
    #[error("--address: {0}. Give HOST:PORT, at most 8 of them")]
    Address(String),
    /// The directory.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system.
    #[error("the system gave no randomness; try again")]
    Random,
}

impl From<OpenError> for RecoverError {
    fn from(error: OpenError) -> Self {
        RecoverError::Start(error.into())
    }
}

impl From<Refusal> for RecoverError {
    fn from(error: Refusal) -> Self {
        RecoverError::Start(error.into())
    }
}

/// Makes a hub in the empty directory of `config` that takes the place of the one that is broken.
///
/// # Errors
/// [`RecoverError`]; nothing that could start is left.
pub async fn recover(config: &Config, source: Arc<dyn BoxClock>, order: RecoverOrder) -> Result<Recovered, RecoverError> {
    let dir = config.data_dir.as_path();
    refuse_if_taken(dir)?;
    let found = find(source, &order.hub, &order.code, order.from).await?;
    let Found { bundle, known, courier, now_s } = found;
    let (hub, code) = (order.hub, order.code);
    let journal = dir.join(JOURNAL_FILE);
    let unreadable = |source| StartError::DataDir { path: journal.display().to_string(), source };
    let noted = journal::read(&journal).map_err(unreadable)?.map(|found| found.known).filter(|k| k.hub == Some(*hub.as_bytes()));
    let before = known.max(bundle.about.epoch).max(noted.map_or(0, |noted| noted.epoch));
    let life = NewLife::new(&code, &hub, random()?, before, now_s.saturating_mul(1000));
    let recovered = Recovered { hub, epoch: life.epoch, bundle_at: bundle.about.at, begun: courier.is_some(), replayed: None };
    opening::make_private(dir)?;
    let made = make(config, bundle, life, courier.as_deref(), now_s).await;
    if made.is_err() {
        let _ = std::fs::remove_file(dir.join(UNFINISHED));
    }
    made.map(|replayed| Recovered { replayed, ..recovered })
}

/// A bundle that the code opens, and where it came from.
pub(super) struct Found {
    pub(super) bundle: OpenedBundle,
    /// The newest epoch that the cloud knows; 0 without one.
    pub(super) known: u64,
    pub(super) courier: Option<Arc<dyn Courier>>,
    /// s since 1970, as far as it is known.
    pub(super) now_s: u64,
}

/// Fetches the bundle of `hub` and opens it.
pub(super) async fn find(source: Arc<dyn BoxClock>, hub: &HubId, code: &RecoveryCode, from: BundleSource) -> Result<Found, RecoverError> {
    let clock = SystemClock::new(source, 0, 0);
    match from {
        BundleSource::File(bundle) => {
            Ok(Found { bundle: open_bundle(code, hub, &bundle)?, known: 0, courier: None, now_s: clock.now_ms() / 1000 })
        }
        BundleSource::Cloud(courier) => {
            let facts = courier.look().await?;
            // A box that has just been unpacked may not know the time; the cloud knows what it will take.
            let now_s = if clock.grade() == Grade::None { facts.now_s } else { clock.now_ms() / 1000 };
            let request = RecoveryRequest { hub: *hub, nonce: random()?, at_s: now_s, cloud: facts.key }.sign(&code.epoch_key(hub));
            let (bundle, known) = courier.bundle(hub, request).await?;
            let bundle = open_bundle(code, hub, &bundle)?;
            if bundle.cloud_key().is_some_and(|key| key != facts.key) {
                return Err(RecoverError::OtherCloud);
            }
            Ok(Found { bundle, known, courier: Some(courier), now_s })
        }
    }
}

async fn make(
    config: &Config,
    bundle: OpenedBundle,
    life: NewLife,
    courier: Option<&dyn Courier>,
    now_s: u64,
) -> Result<Option<Replayed>, RecoverError> {
    let journal = config.data_dir.join(JOURNAL_FILE);
    build(config, async |store: &Store| fill_and_begin(store, &journal, bundle, life, courier, now_s).await).await
}

/// Makes a store that `filling` fills, under another name until it is whole.
pub(super) async fn build<F, T>(config: &Config, filling: F) -> Result<T, RecoverError>
where
    F: AsyncFnOnce(&Store) -> Result<T, RecoverError>,
{
    let dir = config.data_dir.as_path();
    let unfinished = dir.join(UNFINISHED);
    let file_error = |source| StartError::DataDir { path: unfinished.display().to_string(), source };
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(file_error(error).into()),
        _ => {}
    }
    let master = keys::master_key(dir, config.credentials_dir.as_deref(), true).map_err(StartError::from)?;
    let path = unfinished.clone();
    let opened = tokio::task::spawn_blocking(move || Store::open_apart(&path, master)).await;
    let store = opened.map_err(|_| StartError::Setting("opening the database met a fault of this program: please report it"))??;
    let filled = filling(&store).await;
    store.close().await;
    let made = filled?;
    // From here on there is a hub.
    std::fs::rename(&unfinished, dir.join(STORE_FILE)).map_err(file_error)?;
    std::fs::File::open(dir).and_then(|d| d.sync_all()).map_err(file_error)?;
    // What was remembered of backups is of the database before.
    let _ = std::fs::remove_file(dir.join("backup").join("index"));
    Ok(made)
}

pub(super) async fn fill_and_begin(
    store: &Store,
    journal: &Path,
    bundle: OpenedBundle,
    life: NewLife,
    courier: Option<&dyn Courier>,
    now_s: u64,
) -> Result<Option<Replayed>, RecoverError> {
    let hub = bundle.about.hub;
    let (epoch, statement, mirror) = (life.epoch, life.statement.clone(), life.mirror_key());
    let now = life.now;
    fill(store, bundle, life).await?;
    let replayed = replay_journal(store, journal, now).await?;
    if let Some(courier) = courier {
        // The last that can fail for a reason: from here on the hub before is told that it has been replaced.
        courier.begin(&hub, epoch, statement, mirror, now_s).await?;
        begun_in(store).await?;
    }
    Ok(replayed)
}

/// A directory that holds nothing, or is not there.
pub(super) fn refuse_if_taken(dir: &Path) -> Result<(), RecoverError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(StartError::DataDir { path: dir.display().to_string(), source }.into()),
    };
    for entry in entries.flatten() {
        if !may_lie(&entry.file_name().to_string_lossy()) {
            return Err(RecoverError::NotEmpty(dir.display().to_string()));
        }
    }
    Ok(())
}

fn random<const N: usize>() -> Result<[u8; N], RecoverError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| RecoverError::Random)?;
    Ok(bytes)
}

impl From<KeyError> for RecoverError {
    fn from(error: KeyError) -> Self {
        RecoverError::Start(error.into())
    }
}
