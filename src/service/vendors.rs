//! A maker's people: developers, product managers and support, made by owners for one brand and for listed networks.
//! They sign in from these only, see nothing outside a support session, and their sessions end when they are not used.

use super::rights::require_role;
use super::sessions::sessions_of;
use super::{Actor, NewUser, Refusal, Service, UserView, audit};
use crate::domain::account::{User, UserId};
use crate::domain::app::is_listed;
use crate::domain::authority::HubAction;
use crate::domain::binding::Subject;
use crate::domain::ids::BrandId;
use crate::domain::network::parse_networks;
use crate::store::Read;
use crate::store::tables::{Session, TrustedBrand};

/// Whose a maker's person is, and from where they come.
#[derive(Clone, Debug)]
pub struct Vendor {
    /// The brand, as written.
    pub brand: String,
    /// The networks, as written; from nowhere when empty.
    pub networks: Vec<String>,
}

impl Service {
    /// Makes an account for one of a maker's people.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for all but owners; [`Refusal::Invalid`] for a role of the house, a brand that is not
    /// trusted here, or networks that cannot be read; [`Refusal::Conflict`] when the name is taken.
    pub async fn add_vendor_person(&self, actor: &Actor, new: NewUser, vendor: Vendor) -> Result<UserView, Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::AddPeople, self.now()))?;
        if !new.role.is_vendor() {
            return Err(Refusal::Invalid("role: people of the house have no brand and no networks; leave both out".into()));
        }
        let unknown = || Refusal::Invalid("brand: no such brand is trusted here; trust it first".into());
        let brand = BrandId::parse(&vendor.brand).map_err(|_| unknown())?;
        self.store.read(|v| v.get::<TrustedBrand>(brand.as_str().as_bytes()))?.ok_or_else(unknown)?;
        let networks = parse_networks(&vendor.networks)?;
        self.add_account(actor, new, Some((brand, networks))).await
    }

    /// Changes from where one of a maker's people may come. What came from a network that is taken off the list has ended
    /// when this returns.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::NotFound`]; [`Refusal::Invalid`]; [`Refusal::Conflict`] for somebody of the house.
    pub async fn change_networks(&self, actor: &Actor, user: &UserId, networks: &[String]) -> Result<UserView, Refusal> {
        let (who, id, now) = (actor.clone(), user.clone(), self.now());
        self.store.read(|v| require_role(v, actor, HubAction::ManagePeople, now))?;
        let networks = parse_networks(networks)?;
        let view = self
            .store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManagePeople, now)?;
                let key = id.as_str().as_bytes();
                let mut user = tx.get::<User>(key)?.filter(|u| !u.ended).ok_or(Refusal::NotFound("account"))?;
                if !user.role.is_vendor() {
                    return Err(Refusal::Conflict(
                        "people of the house come from anywhere: networks are listed for a maker's people".into(),
                    ));
                }
                user.networks.clone_from(&networks);
                tx.put(key, &user)?;
                for (session, row) in sessions_of(tx, &id)? {
                    // What cannot be read came from nowhere that is listed.
                    if !row.source.parse().is_ok_and(|source| is_listed(&networks, source)) {
                        tx.delete::<Session>(&session)?;
                    }
                }
                let listed: Vec<String> = networks.iter().map(ToString::to_string).collect();
                let detail = format!("may come from {}", if listed.is_empty() { "nowhere".to_owned() } else { listed.join(" ") });
                audit::append(tx, now, audit::done(&who, "user.networks", id.as_str(), detail))?;
                Ok::<_, Refusal>(UserView::from(&user))
            })
            .await?;
        self.close_fallen(&Subject::User(user.clone())).await;
        Ok(view)
    }
}
