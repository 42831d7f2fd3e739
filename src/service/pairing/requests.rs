//! What people ask of the desk: to pair, to look, to end, to confirm. Who may claim a device may pair one; everybody sees
//! their own pairings, owners see all.

use super::desk::{Entry, QUEUED};
use super::{NearbyKind, PairingStep, PairingView};
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::claim::{ClaimCode, ScannedCode};
use crate::domain::device::Registered;
use crate::domain::ids::DeviceId;
use crate::domain::pairing::{PairingKey, Wifi};
use crate::service::{Actor, Change, Refusal, Service, audit, random};
use crate::store::tables::Settings;
use crate::store::{Read, StoreError};
use data_encoding::HEXLOWER;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Identities that are looked at for a code that names no device, at most; a hash each.
const LOOKED_THROUGH: usize = 1_000_000;
/// At a time.
const PAGE: usize = 2_000;

/// The Wi-Fi that a device shall be given.
#[derive(Clone, Default)]
pub enum WifiWish {
    /// None: it has a network of its own.
    #[default]
    None,
    /// The hub's own.
    System,
    /// This.
    Given(Wifi),
}

impl WifiWish {
    /// Wi-Fi as a person gives it.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a name or a passphrase that no Wi-Fi has.
    pub fn given(ssid: &str, passphrase: Zeroizing<String>) -> Result<WifiWish, Refusal> {
        let wifi = Wifi::new(ssid.as_bytes().to_vec(), passphrase).map_err(|_| {
            Refusal::Invalid("wifi: a name has 1 to 32 bytes, a passphrase 8 to 64 bytes; leave it empty for an open network".into())
        })?;
        Ok(WifiWish::Given(wifi))
    }

    /// For the radio's room: what was given, and whether the hub's own is wanted.
    pub(super) fn split(&self) -> (Option<Wifi>, bool) {
        match self {
            WifiWish::None => (None, false),
            WifiWish::System => (None, true),
            WifiWish::Given(wifi) => (Some(wifi.clone()), false),
        }
    }
}

impl fmt::Debug for WifiWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WifiWish::None => "None",
            WifiWish::System => "System",
            WifiWish::Given(_) => "Given(…)",
        })
    }
}

/// What shall be paired.
#[derive(Clone, Default)]
pub struct NewPairing {
    /// The code of a label: typed, or the whole text of the QR code. Without one, [`NewPairing::nearby`] names a stock
    /// device.
    pub code: Option<Zeroizing<String>>,
    /// The device, for a typed code.
    pub device: Option<String>,
    /// The thing nearby.
    pub nearby: Option<String>,
    /// What people will call it.
    pub name: String,
    /// Where it will be.
    pub room: String,
    /// The Wi-Fi it shall be given.
    pub wifi: WifiWish,
}

impl Service {
    /// Whether a device is being paired, or waits to be.
    #[must_use]
    pub fn is_pairing(&self) -> bool {
        self.pairings.lock().has_work()
    }

    /// Takes a pairing into the queue.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::PeopleOnly`]; [`Refusal::Conflict`] when the radio does not work, the queue is
    /// full, the device is being paired, or the hub's Wi-Fi is not shared; [`Refusal::Invalid`]; [`Refusal::NotFound`] for
    /// a thing that is not nearby; [`Refusal::ClaimRefused`] and [`Refusal::TooMany`] for a code that fits no device.
    pub async fn begin_pairing(self: &Arc<Self>, actor: &Actor, new: NewPairing) -> Result<PairingView, Refusal> {
        self.may_pair(actor)?;
        self.require_radio()?;
        self.check_wifi(&new.wifi)?;
        let named = match &new.code {
            Some(code) => Some(self.named_by(actor, code, new.device.as_deref()).await?),
            None => {
                if new.device.is_some() {
                    return Err(Refusal::Invalid("code: a device is paired by the code on its label".into()));
                }
                self.check_stock(new.nearby.as_deref())?;
                None
            }
        };
        let id = HEXLOWER.encode(&random::<16>()?);
        let (mut name, room) = (super::super::claims::short(&new.name), super::super::claims::short(&new.room));
        if name.is_empty() && named.is_none() {
            // A stock device is called what it calls itself.
            let thing = new.nearby.as_deref().and_then(|id| self.nearby_named(id));
            name = thing.map(|t| super::super::claims::short(&t.name)).unwrap_or_default();
        }
        {
            let mut desk = self.pairings.lock();
            if desk.queued() >= QUEUED {
                return Err(Refusal::Conflict("too many pairings wait already: end one, or wait until one is done".into()));
            }
            let same = |e: &Entry| match &named {
                Some((device, ..)) => e.device.as_ref() == Some(device),
                None => e.device.is_none() && e.nearby == new.nearby,
            };
            if desk.open.iter().any(|e| !e.step.is_last() && same(e)) {
                return Err(Refusal::Conflict("this device is being paired already: wait, or end that pairing".into()));
            }
            desk.open.push(Entry::new(id.clone(), actor.clone(), named, new.nearby, name, room, new.wifi, self.now()));
        }
        self.pairing_moved(&id);
        self.pairing(actor, &id)
    }

    /// The pairings that `actor` may see, newest first: their own, for owners all.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::PeopleOnly`].
    pub fn pairings(&self, actor: &Actor) -> Result<Vec<PairingView>, Refusal> {
        self.may_pair(actor)?;
        let all = actor.may(HubAction::SeeAllDevices);
        Ok(self.pairings.lock().views(self.clock.monotonic_ms(), |e| all || e.actor.subject == actor.subject))
    }

    /// One pairing.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], also for one of somebody else; as [`Service::pairings`].
    pub fn pairing(&self, actor: &Actor, id: &str) -> Result<PairingView, Refusal> {
        self.pairings(actor)?.into_iter().find(|p| p.id == id).ok_or(Refusal::NotFound("pairing"))
    }

    /// Whether `actor` asked for this pairing.
    #[must_use]
    pub fn is_own_pairing(&self, actor: &Actor, id: &str) -> bool {
        self.pairings.lock().owner(id).is_some_and(|owner| owner == actor.subject)
    }

    /// Ends a pairing. The device drops what it was given, and is as it was.
    ///
    /// # Errors
    /// As [`Service::pairing`]; [`Refusal::Conflict`] when it has ended, or the device is signing in.
    pub fn cancel_pairing(&self, actor: &Actor, id: &str) -> Result<PairingView, Refusal> {
        self.pairing(actor, id)?;
        {
            let mut desk = self.pairings.lock();
            let over = || Refusal::Conflict("it is over already".into());
            let entry = desk.entry(id).filter(|e| !e.step.is_last()).ok_or_else(over)?;
            if entry.admitting || entry.admitted {
                return Err(Refusal::Conflict("the device is signing in: too late. Remove the device instead".into()));
            }
            entry.cancel.cancel();
            let running = entry.running;
            desk.end(id, PairingStep::Cancelled, None, self.now());
            if !running {
                desk.put_away(id, self.clock.monotonic_ms());
            }
        }
        self.pairing_moved(id);
        self.pairing(actor, id)
    }

    /// Says that a provisional device may go on, and with which Wi-Fi; `None` leaves it as it was asked for.
    ///
    /// # Errors
    /// As [`Service::pairing`]; [`Refusal::Conflict`] when it waits for no answer, or the hub's Wi-Fi is not shared.
    pub fn confirm_pairing(&self, actor: &Actor, id: &str, wifi: Option<WifiWish>) -> Result<PairingView, Refusal> {
        self.pairing(actor, id)?;
        if let Some(wish) = &wifi {
            self.check_wifi(wish)?;
        }
        {
            let (mut desk, monotonic, now) = (self.pairings.lock(), self.clock.monotonic_ms(), self.now());
            let waits =
                |e: &&mut Entry| e.step == PairingStep::Confirming && !e.confirmed && e.confirm_until.is_some_and(|u| monotonic < u);
            let entry = desk.entry(id).filter(waits).ok_or_else(|| Refusal::Conflict("it waits for no answer".into()))?;
            if let Some(wish) = wifi {
                entry.wifi = wish;
            }
            (entry.confirmed, entry.updated) = (true, now);
        }
        self.pairing_moved(id);
        self.pairing(actor, id)
    }

    /// Tells everybody who waits or looks that a pairing has changed.
    pub(super) fn pairing_moved(&self, id: &str) {
        self.pairings.ring();
        self.weigh_scan();
        self.changed(Change::Pairing { id: id.to_owned() });
        // The places of those that wait change with others.
        let waiting: Vec<String> = {
            let desk = self.pairings.lock();
            desk.open.iter().filter(|e| e.step == PairingStep::Queued && e.id != id).map(|e| e.id.clone()).collect()
        };
        for id in waiting {
            self.changed(Change::Pairing { id });
        }
    }

    fn check_wifi(&self, wish: &WifiWish) -> Result<(), Refusal> {
        if !matches!(wish, WifiWish::System) {
            return Ok(());
        }
        let allowed = self.store.read::<_, StoreError>(|v| v.get::<Settings>(Settings::ROW))?.is_some_and(|s| s.share_wifi);
        if !allowed {
            return Err(Refusal::Conflict("the hub's Wi-Fi is not shared with devices: an owner can allow it in the settings".into()));
        }
        if self.system_ssid().is_none() {
            return Err(Refusal::Conflict("the hub knows no Wi-Fi of its own: type its name and passphrase".into()));
        }
        Ok(())
    }

    fn check_stock(&self, nearby: Option<&str>) -> Result<(), Refusal> {
        let id = nearby.ok_or_else(|| Refusal::Invalid("code: type the code on the label, or choose a thing nearby".into()))?;
        match self.nearby_named(id).ok_or(Refusal::NotFound("thing nearby"))?.kind {
            NearbyKind::Improv => Ok(()),
            NearbyKind::Hearthkey => Err(Refusal::Invalid("code: this device pairs by the code on its label".into())),
            NearbyKind::Network => Err(Refusal::Invalid("nearby: this thing is in the network already, and is not paired by radio".into())),
        }
    }

    /// The device that a code is for. A wrong one counts, as in a claim; one for a device that the hub does not know yet
    /// may be right: the device may bring its voucher.
    async fn named_by(
        self: &Arc<Self>,
        actor: &Actor,
        code: &str,
        device: Option<&str>,
    ) -> Result<(DeviceId, ClaimCode, PairingKey), Refusal> {
        self.check_claims(actor)?;
        let scanned = ScannedCode::parse(code).map_err(|e| Refusal::Invalid(format!("code: {e}")))?;
        let named = device.map(DeviceId::parse).transpose().map_err(|e| Refusal::Invalid(format!("device_id: {e}")))?;
        if let (Some(a), Some(b)) = (&named, &scanned.device_id)
            && a != b
        {
            return Err(Refusal::Invalid("the code on the label belongs to another device id".into()));
        }
        let code = scanned.code;
        let id = match named.or(scanned.device_id) {
            Some(id) => {
                let known = self.store.read::<_, StoreError>(|v| v.get::<Registered>(id.as_str().as_bytes()))?;
                if known.is_some_and(|r| !r.claim_hash.matches(&r.id, &code)) {
                    return Err(self.claim_failed(actor, "wrong_code"));
                }
                id
            }
            None => {
                let (service, wanted) = (self.clone(), code.clone());
                let found = tokio::task::spawn_blocking(move || service.device_with(&wanted)).await;
                found.map_err(|_| Refusal::Conflict("the registry could not be looked through; try again".into()))??.ok_or_else(|| {
                    // Whether the code is wrong, or of a device whose voucher is still to come, cannot be told apart.
                    self.claim_failed(actor, "wrong_code")
                })?
            }
        };
        let key = PairingKey::derive(&code, &id);
        Ok((id, code, key))
    }

    /// Looks for the device that a code claims.
    fn device_with(&self, code: &ClaimCode) -> Result<Option<DeviceId>, StoreError> {
        let mut from = Vec::new();
        for _ in 0..LOOKED_THROUGH / PAGE {
            let page = self.store.read::<_, StoreError>(|v| {
                let rows = v.rows(<Registered as crate::store::Record>::TABLE, &from, &[0xFF], PAGE, false)?;
                v.decode_all::<Registered>(rows)
            })?;
            let Some((last, _)) = page.last() else { return Ok(None) };
            from = [last.as_slice(), &[0]].concat();
            if let Some((_, found)) = page.into_iter().find(|(_, r)| r.claim_hash.matches(&r.id, code)) {
                return Ok(Some(found.id));
            }
        }
        Ok(None)
    }

    /// Audits what the hub refused, with its true reason.
    pub(super) fn pairing_denied(&self, actor: &Actor, device: &str, reason: &str, detail: &str) {
        let event = audit::event(actor.subject.to_string(), "device.pair", device, Outcome::Denied, reason, detail, &actor.via);
        self.audit_refusal(audit::on_behalf(actor, event));
    }
}
