//! A maker's people: developers, product managers and support of one brand. They sign in from listed networks only, see
//! their own brand's fleet and nothing of the homes' people, and are out at once when the operator ends their account.

use std::net::IpAddr;

use serde::Serialize;
use tokio_postgres::{Client, Row};
use zeroize::Zeroizing;

use super::passwords::Passwords;
use super::services::{listed, require_brand, shown};
use super::tokens::{self, Kind, comes_from};
use crate::cloud::makers::acts::{self, Doer};
use crate::cloud::makers::region::RegionKey;
use crate::cloud::reply::Refused;
use crate::domain::account::{Role, Username, normal_password};
use crate::domain::ids::BrandId;
use crate::net::problem::Problem;

const COLUMNS: &str = "id, username, display_name, role, brand, networks, password, created_at";

/// A maker's person as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct VendorView {
    /// Its id.
    pub id: String,
    /// The name it signs in with.
    pub username: String,
    /// How it wants to be called.
    pub display_name: String,
    /// What it is at the maker.
    pub role: Role,
    /// Whose.
    pub brand: String,
    /// From where it may come.
    pub networks: Vec<String>,
    /// When it was made, ms since 1970.
    pub created_at: u64,
}

/// What a maker's person may do here: the one table that is enforced and described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VendorAct {
    /// Count the fleet by model, firmware, trust and standing.
    Summary,
    /// Search it device by device, without naming homes.
    Search,
    /// See at which hub a device is, and its serial number: to help whoever asks.
    SeeHub,
    /// See the uploads of identities.
    SeeUploads,
    /// End rights of programs on devices of the brand at one hub, and carry marks there.
    Bulletin,
    /// Read what was done here for the brand.
    ReadActs,
    /// See the releases of firmware.
    SeeReleases,
    /// Say how many houses get a release, and stop one.
    StageReleases,
    /// Withdraw a release, for good.
    WithdrawReleases,
}

/// Whether a role may do that.
#[must_use]
pub fn may(role: Role, act: VendorAct) -> bool {
    match role {
        Role::Developer => true,
        Role::Support => {
            !matches!(act, VendorAct::SeeUploads | VendorAct::ReadActs | VendorAct::StageReleases | VendorAct::WithdrawReleases)
        }
        Role::ProductManager => {
            matches!(
                act,
                VendorAct::Summary | VendorAct::Search | VendorAct::SeeReleases | VendorAct::StageReleases | VendorAct::WithdrawReleases
            )
        }
        Role::Owner | Role::Member | Role::Guest => false,
    }
}

/// A maker's person who has shown a token.
#[derive(Clone, Debug)]
pub struct Vendor {
    /// The account.
    pub view: VendorView,
    /// The brand it works for.
    pub brand: BrandId,
    /// Who does what it does.
    pub doer: Doer,
}

impl Vendor {
    /// It may do this, or is told that it may not.
    ///
    /// # Errors
    /// `not_allowed`.
    pub fn require(&self, act: VendorAct) -> Result<(), Refused> {
        if may(self.view.role, act) {
            return Ok(());
        }
        Err(Problem::not_allowed("Your role does not go that far.").next("Ask a developer of your brand.").into())
    }
}

/// Whom to make.
#[derive(Debug)]
pub struct NewVendor {
    /// The name to sign in with.
    pub username: String,
    /// How the person wants to be called; the name when empty.
    pub display_name: String,
    /// `developer`, `product_manager` or `support`.
    pub role: Role,
    /// For which brand.
    pub brand: String,
    /// From where it may come.
    pub networks: Vec<String>,
    /// The first password.
    pub password: Zeroizing<String>,
}

/// Makes an account.
///
/// # Errors
/// `invalid`; `conflict` when the name is taken.
pub async fn add(client: &mut Client, passwords: &Passwords, new: &NewVendor, now: u64) -> Result<VendorView, Refused> {
    if !new.role.is_vendor() {
        return Err(Problem::invalid("role: developer, product_manager or support").into());
    }
    let username = Username::parse(&new.username).map_err(|error| Problem::invalid(format!("username: {error}")))?;
    let display = if new.display_name.trim().is_empty() { username.as_str() } else { new.display_name.trim() };
    if display.chars().count() > 64 || display.chars().any(char::is_control) {
        return Err(Problem::invalid("display_name: at most 64 characters, no line breaks").into());
    }
    let networks = listed(&new.networks)?;
    let hash = passwords.hash(&new.password, &username).await?;
    let id = tokens::fresh_id().map_err(|error| Refused::fault("no randomness", &error))?;
    let tx = client.transaction().await?;
    require_brand(&tx, &new.brand).await?;
    let row = tx
        .query_opt(
            &format!(
                "INSERT INTO vendors (id, username, folded, display_name, role, brand, networks, password, created_at, created_by) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'operator') ON CONFLICT (folded) DO NOTHING RETURNING {COLUMNS}"
            ),
            &[&id, &username.as_str(), &username.folded(), &display, &word(new.role), &new.brand, &networks, &hash, &now.cast_signed()],
        )
        .await?
        .ok_or_else(|| Problem::conflict("username: somebody has it, or had it; take another one"))?;
    let detail = format!("{}, from {}", word(new.role), shown(&networks));
    acts::append(&tx, now, Doer::operator().of(&new.brand).did("vendor.add", format!("vendor:{id}"), detail)).await?;
    tx.commit().await?;
    view(&row)
}

/// Ends an account, by its name: its sessions are over when this returns.
///
/// # Errors
/// `not_found`.
pub async fn end(client: &mut Client, username: &str, now: u64) -> Result<VendorView, Refused> {
    let folded = Username::parse(username).map(|name| name.folded()).map_err(|_| Problem::not_found())?;
    let tx = client.transaction().await?;
    let row = tx
        .query_opt(
            &format!("UPDATE vendors SET ended_at = $2 WHERE folded = $1 AND ended_at IS NULL RETURNING {COLUMNS}"),
            &[&folded, &now.cast_signed()],
        )
        .await?
        .ok_or_else(Problem::not_found)?;
    let view = view(&row)?;
    let sessions = tokens::close_all(&tx, Kind::Vendor, &view.id).await?;
    let act = Doer::operator().of(&view.brand).did("vendor.end", format!("vendor:{}", view.id), format!("{sessions} sessions ended"));
    acts::append(&tx, now, act).await?;
    tx.commit().await?;
    Ok(view)
}

/// All that stand.
///
/// # Errors
/// The database's.
pub async fn list(client: &Client) -> Result<Vec<VendorView>, Refused> {
    let rows =
        client.query(&format!("SELECT {COLUMNS} FROM vendors WHERE ended_at IS NULL ORDER BY brand, folded LIMIT 10000"), &[]).await?;
    rows.iter().map(view).collect()
}

/// Signs a person in, from a listed network. One answer for every reason, after the same work.
///
/// # Errors
/// `sign_in_refused`, `too_many`.
pub async fn sign_in(
    client: &mut Client,
    region: &RegionKey,
    passwords: &Passwords,
    (username, password): (&str, &str),
    source: IpAddr,
    now: u64,
) -> Result<(Zeroizing<String>, VendorView), Refused> {
    let name = Username::parse(username).ok();
    let folded = name.as_ref().map(Username::folded).unwrap_or_default();
    let row = client.query_opt(&format!("SELECT {COLUMNS} FROM vendors WHERE folded = $1 AND ended_at IS NULL"), &[&folded]).await?;
    let normal = name.as_ref().and_then(|name| normal_password(password, name).ok());
    let normal = normal.unwrap_or_else(|| Zeroizing::new(password.chars().take(256).collect()));
    let fits = passwords.fits(normal, row.as_ref().map(|row| row.get("password"))).await?;
    let via = format!("https {}", source.to_canonical());
    let known = row.as_ref().map(view).transpose()?;
    let from = known.as_ref().is_some_and(|view| comes_from(&view.networks, source));
    match known {
        Some(view) if fits && from => {
            let token = tokens::fresh(Kind::Vendor.prefix()).map_err(|error| Refused::fault("no randomness", &error))?;
            tokens::open(client, region, Kind::Vendor, &view.id, &token, source, now).await?;
            let doer = Doer { who: format!("vendor:{}", view.id), brand: view.brand.clone(), via };
            let tx = client.transaction().await?;
            acts::append(&tx, now, doer.did("vendor.sign_in", format!("vendor:{}", view.id), "")).await?;
            tx.commit().await?;
            Ok((token, view))
        }
        Some(view) => {
            let doer = Doer { who: format!("?{}", view.username), brand: view.brand.clone(), via };
            let tx = client.transaction().await?;
            let why = if fits { "network" } else { "password" };
            acts::append(&tx, now, doer.denied("vendor.sign_in", format!("vendor:{}", view.id), why)).await?;
            tx.commit().await?;
            Err(Problem::sign_in_refused().into())
        }
        None => Err(Problem::sign_in_refused().into()),
    }
}

/// The person who holds a token, if the account stands and comes from a listed network. The token is used by this.
///
/// # Errors
/// `signed_out`: one answer for every reason.
pub async fn of_token(client: &Client, region: &RegionKey, token: &str, source: IpAddr, now: u64) -> Result<Vendor, Refused> {
    let id = tokens::holder(client, region, Kind::Vendor, token, now).await?.ok_or_else(Problem::signed_out)?;
    let row = client.query_opt(&format!("SELECT {COLUMNS} FROM vendors WHERE id = $1 AND ended_at IS NULL"), &[&id]).await?;
    let view = view(&row.ok_or_else(Problem::signed_out)?)?;
    if !comes_from(&view.networks, source) {
        return Err(Problem::signed_out().into());
    }
    let brand = BrandId::parse(&view.brand).map_err(|error| Refused::fault("a brand's name", &error))?;
    let doer = Doer { who: format!("vendor:{id}"), brand: view.brand.clone(), via: format!("https {}", source.to_canonical()) };
    Ok(Vendor { view, brand, doer })
}

/// A role as it is written.
#[must_use]
pub fn word(role: Role) -> String {
    serde_json::to_value(role).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Reads a role of a maker's people.
#[must_use]
pub fn role(word: &str) -> Option<Role> {
    serde_json::from_value(word.into()).ok().filter(|role: &Role| role.is_vendor())
}

fn view(row: &Row) -> Result<VendorView, Refused> {
    let role = role(row.get("role")).ok_or_else(|| Refused::fault("a vendor's account", &"an unknown role"))?;
    Ok(VendorView {
        id: row.get("id"),
        username: row.get("username"),
        display_name: row.get("display_name"),
        role,
        brand: row.get("brand"),
        networks: row.get("networks"),
        created_at: row.get::<_, i64>("created_at").unsigned_abs(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_sees_what_its_work_needs() {
        use VendorAct::*;
        for act in [Summary, Search, SeeHub, SeeUploads, Bulletin, ReadActs, SeeReleases, StageReleases] {
            assert!(may(Role::Developer, act));
            assert!(!may(Role::Owner, act) && !may(Role::Member, act) && !may(Role::Guest, act), "people of a home are nobody here");
        }
        assert!(may(Role::Support, SeeHub) && !may(Role::Support, ReadActs));
        assert!(may(Role::ProductManager, Summary) && !may(Role::ProductManager, SeeHub) && !may(Role::ProductManager, Bulletin));
        assert!(may(Role::ProductManager, StageReleases) && may(Role::Support, SeeReleases) && !may(Role::Support, StageReleases));
        assert_eq!(role("product_manager"), Some(Role::ProductManager));
        assert_eq!(role("owner"), None);
    }
}
