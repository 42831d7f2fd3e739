//! Orders for devices of a stolen hub to move to this one: brought by the cloud, or by an owner from their maker; kept for
//! each device to fetch, and read by it alone. How many have come over.

use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::device::{Household, Origin, Registered, Standing};
use crate::domain::ids::DeviceId;
use crate::domain::keys::{ORDER_MAX, order_counter};
use crate::domain::rehome::{MoveRequest, read_orders};
use crate::service::registry::RegistryError;
use crate::service::rights::require_role;
use crate::service::{Actor, Refusal, Service, audit};
use crate::store::tables::{Following, StoredOrder};
use crate::store::{Read, StoreError, Tx};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Devices that are listed at most.
const LISTED: usize = 1_000;

/// Of the devices of a stolen hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MoveView {
    /// The stolen hub's id.
    pub old: String,
    /// Since when this one follows it, ms since 1970.
    pub since: u64,
    /// The cloud that is linked has ended the stolen one.
    pub told: bool,
    /// What makers are given where there is no cloud of theirs: one line.
    pub request: String,
    /// How many of the devices it had are at home here.
    pub here: u64,
    /// Those that are not, with whether their order to move is here and whether there is a maker's key to make one.
    pub waiting: Vec<MovingDevice>,
}

/// A device that has not come over yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MovingDevice {
    /// Which.
    pub id: DeviceId,
    /// What people call it.
    pub name: String,
    /// Its order is here: it comes when it looks for its hub.
    pub ordered: bool,
    /// No maker's key is in it: it is set up by hand again.
    pub by_hand: bool,
}

/// What has become of a maker's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OrdersTaken {
    /// Orders that are kept.
    pub taken: u64,
    /// Those for devices that are not this home's, or older than what is here.
    pub passed_over: u64,
}

fn follows_none() -> Refusal {
    Refusal::NotFound("stolen hub")
}

impl Service {
    /// The recovery code's word that this hub follows a stolen one, as long as the cloud that is linked does not know: the
    /// stolen hub's id, and the statement.
    ///
    /// # Errors
    /// The store's fault.
    pub fn rehome_statement(&self) -> Result<Option<(String, Vec<u8>)>, Refusal> {
        let following = self.store.read::<_, StoreError>(|v| v.get::<Following>(Following::ROW))?;
        Ok(following.filter(|f| !f.told).map(|f| (f.old, f.statement)))
    }

    /// A cloud has taken it, or has never heard of the stolen hub.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn rehome_told(&self) -> Result<(), Refusal> {
        told_in(&self.store).await
    }

    /// Whether this hub follows a stolen one.
    ///
    /// # Errors
    /// The store's fault.
    pub fn follows(&self) -> Result<bool, Refusal> {
        Ok(self.store.read::<_, StoreError>(|v| v.get::<Following>(Following::ROW))?.is_some())
    }

    /// Keeps orders that the cloud has brought, by device. What they say, only the devices can tell.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn take_orders(&self, orders: BTreeMap<String, Vec<u8>>) -> Result<OrdersTaken, Refusal> {
        let orders: Arc<Vec<Vec<u8>>> = Arc::new(orders.into_values().collect());
        Ok(self.store.write::<_, StoreError, _>(move |tx| keep(tx, &orders)).await?)
    }

    /// Takes a maker's file of orders.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::NotFound`] when this hub follows none; [`Refusal::Registry`] for what is no such file.
    pub async fn import_orders(&self, actor: &Actor, file: &[u8]) -> Result<OrdersTaken, Refusal> {
        let orders = Arc::new(read_orders(file).map_err(RegistryError::from)?);
        let (who, now) = (actor.clone(), self.now());
        self.store
            .write::<_, Refusal, _>(move |tx| {
                require_role(tx, &who, HubAction::ImportIdentities, now)?;
                tx.get::<Following>(Following::ROW)?.ok_or_else(follows_none)?;
                let taken = keep(tx, &orders)?;
                let detail = format!("{} taken, {} passed over", taken.taken, taken.passed_over);
                audit::append(tx, now, audit::done(&who, "registry.moves", "hub", detail))?;
                Ok(taken)
            })
            .await
    }

    /// The order for a device, for whoever asks: nobody else can read it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn move_order(&self, device: &str) -> Result<Vec<u8>, Refusal> {
        let none = || Refusal::NotFound("move order");
        let id = DeviceId::parse(device).map_err(|_| none())?;
        let kept = self.store.read::<_, StoreError>(|v| v.get::<StoredOrder>(id.as_str().as_bytes()))?;
        kept.map(|kept| kept.order).ok_or_else(none)
    }

    /// Which devices of the stolen hub have come over.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::NotFound`] when this hub follows none.
    pub fn moves(&self, actor: &Actor) -> Result<MoveView, Refusal> {
        self.store.read(|v| {
            require_role(v, actor, HubAction::ManageAccess, self.now())?;
            let following = v.get::<Following>(Following::ROW)?.ok_or_else(follows_none)?;
            let (mut here, mut waiting) = (0, Vec::new());
            for (key, household) in v.scan::<Household>(b"", usize::MAX)? {
                let before = household.claimed_at.is_some_and(|at| at <= following.at);
                if !before || household.standing == Standing::Waiting {
                    continue;
                }
                let arrived = ![household.standing, household.before_suspension, household.before_quarantine].contains(&Standing::Claimed);
                let Some(registered) = v.get::<Registered>(&key)?.filter(|_| !arrived) else {
                    here += 1;
                    continue;
                };
                if waiting.len() < LISTED {
                    waiting.push(MovingDevice {
                        ordered: v.get::<StoredOrder>(&key)?.is_some(),
                        by_hand: registered.origin == Origin::Unattested,
                        id: registered.id,
                        name: household.name,
                    });
                }
            }
            Ok(MoveView {
                old: following.old,
                since: following.at,
                told: following.told,
                request: MoveRequest::line(&following.request),
                here,
                waiting,
            })
        })
    }
}

/// Keeps orders for devices of this home; of two for one device, the one with the higher number.
fn keep(tx: &Tx<'_>, orders: &[Vec<u8>]) -> Result<OrdersTaken, StoreError> {
    let mut done = OrdersTaken::default();
    for order in orders {
        let named = order_counter(order).ok().filter(|_| order.len() <= ORDER_MAX);
        let fits = match &named {
            Some((device, counter)) => {
                let key = device.as_str().as_bytes();
                tx.get::<Registered>(key)?.is_some() && tx.get::<StoredOrder>(key)?.is_none_or(|known| known.counter < *counter)
            }
            None => false,
        };
        match named.filter(|_| fits) {
            Some((device, counter)) => {
                tx.put(device.as_str().as_bytes(), &StoredOrder { counter, order: order.clone() })?;
                done.taken += 1;
            }
            None => done.passed_over += 1,
        }
    }
    Ok(done)
}

/// A cloud knows that the hub in `store` follows a stolen one.
///
/// # Errors
/// The store's fault.
pub async fn told_in(store: &crate::store::Store) -> Result<(), Refusal> {
    let told = |tx: &Tx<'_>| match tx.get::<Following>(Following::ROW)? {
        Some(following) if !following.told => {
            let at = following.at;
            tx.put(Following::ROW, &Following { told: true, ..following })?;
            audit::append(tx, at, audit::event("hub", "hub.rehome.told", "hub", Outcome::Done, "", "", "hub")).map(drop)
        }
        _ => Ok(()),
    };
    Ok(store.write::<_, StoreError, _>(told).await?)
}
