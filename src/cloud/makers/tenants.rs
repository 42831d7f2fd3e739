//! Brands that the region serves: the root's public key, the key for batches with its certificate, and the signed models,
//! taken from the maker's workshop directory. The root's secret stays with the maker: the cloud makes batches and nothing else.

use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Client;
use zeroize::Zeroizing;

use super::acts::{self, Doer};
use super::batch_file::Signer;
use super::region::{RegionKey, SealError};
use crate::domain::brand::{Fingerprint, KeyPurpose, PurposeCertificate, StatementError};
use crate::domain::ids::{BrandId, IdError};
use crate::domain::mirror::wire::BrandOffer;
use crate::domain::model::{Model, verify_model};

/// To what a brand's key is sealed, before the brand.
const SEALED_AS: &str = "batch key";
/// Models of one brand at most.
const MODELS_MAX: usize = 1_000;
/// Bytes of one file of a workshop at most.
const FILE_MAX: u64 = 1024 * 1024;

/// Why a brand is not taken; the text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// A file cannot be read.
    #[error("{path}: {why}. Name the directory of one brand in the maker's workshop: it holds brand.json, batch.json and models/")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A statement does not hold.
    #[error("{0}")]
    Statement(#[from] StatementError),
    /// A name.
    #[error(transparent)]
    Name(#[from] IdError),
    /// Its root is another than the one it came with first.
    #[error("the brand {0} is here with another root ({1}): its hubs trust that one; nothing was changed")]
    OtherRoot(BrandId, String),
    /// There is none.
    #[error("there is no brand {0} here: add it with hearthkey cloud tenant add")]
    Unknown(String),
    /// The seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database.
    #[error("the database refuses: {0}")]
    Database(#[from] tokio_postgres::Error),
}

/// A brand as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The brand.
    pub brand: BrandId,
    /// The root, as an owner confirms it.
    pub fingerprint: String,
    /// Its models, with their versions.
    pub models: Vec<(String, i64)>,
}

#[derive(Deserialize)]
struct BrandFile {
    brand: BrandId,
    root_public_key: String,
}

#[derive(Deserialize)]
struct KeyFile {
    brand: BrandId,
    #[serde(deserialize_with = "crate::cloud::people::tokens::secret")]
    secret_key: Zeroizing<String>,
    certificate: String,
}

/// What a workshop directory holds of a brand, of which everything has been checked.
struct Workshop {
    signer: Signer,
    models: Vec<(Model, Vec<u8>)>,
}

/// Takes a brand from its workshop directory, or takes what is new there: models, another batch key.
///
/// # Errors
/// [`TenantError`]; nothing was changed then.
pub async fn add(client: &mut Client, region: &RegionKey, dir: &Path, now: u64) -> Result<Tenant, TenantError> {
    let workshop = read(dir)?;
    let Signer { brand, root, certificate, key } = &workshop.signer;
    let (name, fingerprint) = (brand.as_str(), Fingerprint::of(root).to_string());
    let sealed = region.seal(&[SEALED_AS, name], key.as_bytes())?;
    let tx = client.transaction().await?;
    let known = tx.query_opt("SELECT root, fingerprint FROM tenants WHERE brand = $1 FOR UPDATE", &[&name]).await?;
    if let Some(known) = known.filter(|known| known.get::<_, Vec<u8>>(0) != root) {
        return Err(TenantError::OtherRoot(brand.clone(), known.get(1)));
    }
    tx.execute(
        "INSERT INTO tenants (brand, root, fingerprint, batch_certificate, batch_key, added_at, changed_at) VALUES ($1, $2, $3, $4, $5, $6, $6) \
         ON CONFLICT (brand) DO UPDATE SET batch_certificate = $4, batch_key = $5, changed_at = $6",
        &[&name, &root.as_slice(), &fingerprint, certificate, &sealed, &now.cast_signed()],
    )
    .await?;
    for (model, statement) in &workshop.models {
        tx.execute(
            "INSERT INTO tenant_models (brand, model, version, title, statement) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (brand, model) DO UPDATE SET version = $3, title = $4, statement = $5 WHERE tenant_models.version <= $3",
            &[&name, &model.name.as_str(), &i64::from(model.version), &model.title, statement],
        )
        .await?;
    }
    let act = Doer::operator().of(name).did("tenant.add", name, format!("root {fingerprint}, {} models", workshop.models.len()));
    acts::append(&tx, now, act).await?;
    tx.commit().await?;
    show(client, name).await
}

/// A brand.
///
/// # Errors
/// [`TenantError::Unknown`].
pub async fn show(client: &Client, brand: &str) -> Result<Tenant, TenantError> {
    let row = client.query_opt("SELECT fingerprint FROM tenants WHERE brand = $1", &[&brand]).await?;
    let row = row.ok_or_else(|| TenantError::Unknown(brand.to_owned()))?;
    let models = client.query("SELECT model, version FROM tenant_models WHERE brand = $1 ORDER BY model", &[&brand]).await?;
    let models = models.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(Tenant { brand: BrandId::parse(brand)?, fingerprint: row.get(0), models })
}

/// All brands, as a hub's owner is shown them.
///
/// # Errors
/// The database's.
pub async fn offers(client: &Client) -> Result<Vec<BrandOffer>, tokio_postgres::Error> {
    let rows = client.query("SELECT brand, fingerprint FROM tenants ORDER BY brand LIMIT 1000", &[]).await?;
    Ok(rows.iter().map(|row| BrandOffer { id: row.get(0), fingerprint: row.get(1) }).collect())
}

/// What signs for a brand, and the statements of the models it has, by their names.
///
/// # Errors
/// [`TenantError::Unknown`], [`TenantError::Seal`].
pub async fn signer(client: &Client, region: &RegionKey, brand: &str) -> Result<Signer, TenantError> {
    let row = client.query_opt("SELECT root, batch_certificate, batch_key FROM tenants WHERE brand = $1", &[&brand]).await?;
    let row = row.ok_or_else(|| TenantError::Unknown(brand.to_owned()))?;
    let key = region.open_key(&[SEALED_AS, brand], row.get(2))?;
    let root: Vec<u8> = row.get(0);
    let root = root.as_slice().try_into().map_err(|_| SealError::Broken)?;
    Ok(Signer { brand: BrandId::parse(brand)?, root, certificate: row.get(1), key: SigningKey::from_bytes(&key) })
}

/// The statements of these models.
///
/// # Errors
/// [`TenantError::Database`].
pub async fn statements(client: &Client, brand: &str, models: &[String]) -> Result<Vec<Vec<u8>>, TenantError> {
    let rows =
        client.query("SELECT statement FROM tenant_models WHERE brand = $1 AND model = ANY($2) ORDER BY model", &[&brand, &models]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn read(dir: &Path) -> Result<Workshop, TenantError> {
    let wrong = |path: PathBuf, why: &str| TenantError::File { path, why: why.to_owned() };
    let path = dir.join("brand.json");
    let brand: BrandFile = json(&path)?;
    let root = decode32(&brand.root_public_key).ok_or_else(|| wrong(path, "root_public_key is not 32 bytes of base64url"))?;
    let path = dir.join("batch.json");
    let file: KeyFile = json(&path)?;
    let secret = decode32(&file.secret_key).ok_or_else(|| wrong(path.clone(), "secret_key is not 32 bytes of base64url"))?;
    let key = SigningKey::from_bytes(&secret);
    let certificate =
        BASE64URL_NOPAD.decode(file.certificate.as_bytes()).map_err(|_| wrong(path.clone(), "certificate is not base64url"))?;
    let certified = PurposeCertificate::verify(&root, KeyPurpose::Batch, &certificate)?;
    if certified.public_key != key.verifying_key().to_bytes() || certified.brand != brand.brand || file.brand != brand.brand {
        return Err(wrong(path, "the certificate is for another key or brand"));
    }
    let mut models = Vec::new();
    let folder = dir.join("models");
    let entries = std::fs::read_dir(&folder).map_err(|error| wrong(folder.clone(), &error.to_string()))?;
    for entry in entries {
        let path = entry.map_err(|error| wrong(folder.clone(), &error.to_string()))?.path();
        if path.extension().is_some_and(|extension| extension == "cose") {
            let statement = bytes(&path)?;
            let (of, model) = verify_model(&certified.public_key, &statement)?;
            if of != brand.brand {
                return Err(wrong(path, "the model is of another brand"));
            }
            models.push((model, statement.to_vec()));
        }
    }
    if models.is_empty() || models.len() > MODELS_MAX {
        return Err(wrong(folder, "a brand has 1 to 1000 signed models (*.cose)"));
    }
    Ok(Workshop { signer: Signer { brand: brand.brand, root: *root, certificate, key }, models })
}

fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, TenantError> {
    let wrong = |why: String| TenantError::File { path: path.to_owned(), why };
    let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > FILE_MAX {
        return Err(wrong("it is larger than 1 MiB".to_owned()));
    }
    std::fs::read(path).map(Zeroizing::new).map_err(|error| wrong(error.to_string()))
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, TenantError> {
    // What the parser says may quote what it read, and what it read may be a key.
    let wrong = |error: serde_json::Error| TenantError::File {
        path: path.to_owned(),
        why: format!("not as a workshop writes it (line {})", error.line()),
    };
    serde_json::from_slice(&bytes(path)?).map_err(wrong)
}

fn decode32(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?);
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}
