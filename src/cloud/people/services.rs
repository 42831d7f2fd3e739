//! Programs of makers: what each may do, for one brand, from listed networks, with a secret that is kept as a keyed hash and
//! tokens that live for a quarter of an hour. None of them is ever a person, and none reaches into a home.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio_postgres::{Client, Row};
use zeroize::Zeroizing;

use super::tokens::{self, Kind, comes_from};
use crate::cloud::makers::acts::{self, Doer};
use crate::cloud::makers::region::RegionKey;
use crate::cloud::reply::Refused;
use crate::domain::ids::BrandId;
use crate::domain::network::parse_networks;
use crate::net::problem::Problem;

/// What a secret begins with.
const SECRET_PREFIX: &str = "hkcss1.";
/// Service accounts of one brand at most.
const EACH: i64 = 100;
const COLUMNS: &str = "id, name, brand, networks, scopes, secret, created_at";

/// What a program may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Upload identities of its brand's devices.
    UploadIdentities,
    /// Say which hub is to recognise which devices of its brand.
    AssignDevices,
    /// Ask a home that has agreed to it for accounts of guests and members.
    CreateUsers,
    /// Search its brand's fleet.
    ReadFleet,
    /// Upload releases of firmware for its brand's devices, and say how many houses get one.
    UploadReleases,
}

impl Scope {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Scope; 5] =
        [Scope::UploadIdentities, Scope::AssignDevices, Scope::CreateUsers, Scope::ReadFleet, Scope::UploadReleases];

    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Scope::UploadIdentities => "upload_identities",
            Scope::AssignDevices => "assign_devices",
            Scope::CreateUsers => "create_users",
            Scope::ReadFleet => "read_fleet",
            Scope::UploadReleases => "upload_releases",
        }
    }

    /// Reads one.
    #[must_use]
    pub fn parse(word: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.word() == word)
    }
}

/// A service account as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceView {
    /// Its id: its client id.
    pub id: String,
    /// What people see.
    pub name: String,
    /// For which brand.
    pub brand: String,
    /// From where it may come.
    pub networks: Vec<String>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made, ms since 1970.
    pub created_at: u64,
}

/// A program that has shown its token.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its account.
    pub id: String,
    /// The brand it works for.
    pub brand: BrandId,
    /// Who does what it does.
    pub doer: Doer,
    scopes: Vec<Scope>,
}

impl Service {
    /// It may do this, or is told that it may not.
    ///
    /// # Errors
    /// `not_allowed`.
    pub fn require(&self, scope: Scope) -> Result<(), Refused> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let detail = format!("This account has not the scope {}.", scope.word());
        Err(Problem::not_allowed(detail).next("Ask who runs the cloud for it.").into())
    }
}

/// What to make.
#[derive(Clone, Debug)]
pub struct NewService {
    /// What people see, 1 to 64 characters.
    pub name: String,
    /// For which brand.
    pub brand: String,
    /// From where it may come.
    pub networks: Vec<String>,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// Makes a service account. The secret is shown this once.
///
/// # Errors
/// `invalid`, `conflict`.
pub async fn add(client: &mut Client, region: &RegionKey, new: &NewService, now: u64) -> Result<(ServiceView, Zeroizing<String>), Refused> {
    let name = new.name.trim();
    if !(1..=64).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(Problem::invalid("name: 1 to 64 characters, no line breaks").into());
    }
    let networks = listed(&new.networks)?;
    let mut scopes = new.scopes.clone();
    scopes.sort_unstable();
    scopes.dedup();
    let words: Vec<&str> = scopes.iter().map(|scope| scope.word()).collect();
    let id = tokens::fresh_id().map_err(|error| Refused::fault("no randomness", &error))?;
    let secret = tokens::fresh(SECRET_PREFIX).map_err(|error| Refused::fault("no randomness", &error))?;
    let tx = client.transaction().await?;
    require_brand(&tx, &new.brand).await?;
    let there: i64 =
        tx.query_one("SELECT count(*) FROM service_accounts WHERE brand = $1 AND ended_at IS NULL", &[&new.brand]).await?.get(0);
    if there >= EACH {
        return Err(Problem::conflict("A brand has at most 100 service accounts; end one first.").into());
    }
    let row = tx
        .query_one(
            &format!(
                "INSERT INTO service_accounts (id, name, brand, networks, scopes, secret, created_at, created_by) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, 'operator') RETURNING {COLUMNS}"
            ),
            &[&id, &name, &new.brand, &networks, &words, &hash(region, &id, &secret).as_slice(), &now.cast_signed()],
        )
        .await?;
    let detail = format!("{name}, from {}, may {}", shown(&networks), words.join(" "));
    acts::append(&tx, now, Doer::operator().of(&new.brand).did("service.add", format!("service:{id}"), detail)).await?;
    tx.commit().await?;
    Ok((view(&row), secret))
}

/// Ends a service account: its secret and its tokens are nothing from now on.
///
/// # Errors
/// `not_found`.
pub async fn end(client: &mut Client, id: &str, now: u64) -> Result<(), Refused> {
    let tx = client.transaction().await?;
    let ended = tx
        .query_opt(
            "UPDATE service_accounts SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL RETURNING brand",
            &[&id, &now.cast_signed()],
        )
        .await?
        .ok_or_else(Problem::not_found)?;
    tokens::close_all(&tx, Kind::Service, id).await?;
    acts::append(&tx, now, Doer::operator().of(ended.get(0)).did("service.end", format!("service:{id}"), "")).await?;
    tx.commit().await?;
    Ok(())
}

/// All that stand.
///
/// # Errors
/// The database's.
pub async fn list(client: &Client) -> Result<Vec<ServiceView>, Refused> {
    let rows = client
        .query(&format!("SELECT {COLUMNS} FROM service_accounts WHERE ended_at IS NULL ORDER BY brand, name LIMIT 10000"), &[])
        .await?;
    Ok(rows.iter().map(view).collect())
}

/// Signs a program in with its id and secret, from a listed network. One answer for every reason.
///
/// # Errors
/// `sign_in_refused`.
pub async fn sign_in(
    client: &mut Client,
    region: &RegionKey,
    id: &str,
    secret: &str,
    source: IpAddr,
    now: u64,
) -> Result<(Zeroizing<String>, Vec<Scope>), Refused> {
    let row = client.query_opt(&format!("SELECT {COLUMNS} FROM service_accounts WHERE id = $1 AND ended_at IS NULL"), &[&id]).await?;
    let fits = row.as_ref().is_some_and(|row| bool::from(hash(region, id, secret).ct_eq(row.get::<_, &[u8]>("secret"))));
    let from = row.as_ref().is_some_and(|row| comes_from(&row.get::<_, Vec<String>>("networks"), source));
    let doer =
        |brand: &str| Doer { who: format!("service:{id}"), brand: brand.to_owned(), via: format!("https {}", source.to_canonical()) };
    match row {
        Some(row) if fits && from => {
            let token = tokens::fresh(Kind::Service.prefix()).map_err(|error| Refused::fault("no randomness", &error))?;
            tokens::open(client, region, Kind::Service, id, &token, source, now).await?;
            Ok((token, view(&row).scopes))
        }
        // A good secret from elsewhere has leaked, or somebody moved: both are worth an entry.
        Some(row) if fits => {
            let tx = client.transaction().await?;
            acts::append(&tx, now, doer(row.get("brand")).denied("service.sign_in", format!("service:{id}"), "network")).await?;
            tx.commit().await?;
            Err(Problem::sign_in_refused().into())
        }
        _ => Err(Problem::sign_in_refused().into()),
    }
}

/// The program that holds a token, if it still stands and comes from a listed network. The token is used by this.
///
/// # Errors
/// `signed_out`: one answer for every reason.
pub async fn of_token(client: &Client, region: &RegionKey, token: &str, source: IpAddr, now: u64) -> Result<Service, Refused> {
    let id = tokens::holder(client, region, Kind::Service, token, now).await?.ok_or_else(Problem::signed_out)?;
    let row = client.query_opt(&format!("SELECT {COLUMNS} FROM service_accounts WHERE id = $1 AND ended_at IS NULL"), &[&id]).await?;
    let row = row.filter(|row| comes_from(&row.get::<_, Vec<String>>("networks"), source)).ok_or_else(Problem::signed_out)?;
    let view = view(&row);
    let brand = BrandId::parse(&view.brand).map_err(|error| Refused::fault("a brand's name", &error))?;
    let doer = Doer { who: format!("service:{id}"), brand: view.brand.clone(), via: format!("https {}", source.to_canonical()) };
    Ok(Service { id, brand, doer, scopes: view.scopes })
}

fn hash(region: &RegionKey, id: &str, secret: &str) -> [u8; 32] {
    region.keyed_hash(&format!("secret of {id}"), secret)
}

fn view(row: &Row) -> ServiceView {
    let scopes: Vec<String> = row.get("scopes");
    ServiceView {
        id: row.get("id"),
        name: row.get("name"),
        brand: row.get("brand"),
        networks: row.get("networks"),
        scopes: scopes.iter().filter_map(|word| Scope::parse(word)).collect(),
        created_at: row.get::<_, i64>("created_at").unsigned_abs(),
    }
}

/// A list of networks as it is kept: at least one, each in its one form.
///
/// # Errors
/// `invalid`.
pub fn listed(networks: &[String]) -> Result<Vec<String>, Refused> {
    let networks = parse_networks(networks).map_err(|error| Problem::invalid(error.to_string()))?;
    if networks.is_empty() {
        return Err(Problem::invalid("networks: name at least one; from nowhere nobody comes").into());
    }
    Ok(networks.iter().map(ToString::to_string).collect())
}

/// For the audit.
#[must_use]
pub fn shown(networks: &[String]) -> String {
    if networks.is_empty() { "nowhere".to_owned() } else { networks.join(" ") }
}

/// The brand is served here.
///
/// # Errors
/// `invalid`.
pub async fn require_brand(tx: &tokio_postgres::Transaction<'_>, brand: &str) -> Result<(), Refused> {
    match tx.query_opt("SELECT 1 FROM tenants WHERE brand = $1", &[&brand]).await? {
        Some(_) => Ok(()),
        None => Err(Problem::invalid(format!("brand: {brand} is not served here")).next("Add it: hearthkey cloud tenant add.").into()),
    }
}
