//! Claiming: a person shows the code, the device becomes theirs, and gets the secret it will sign in with.

use super::bindings::put_binding;
use super::forget::end_rights;
use super::rights::require_role;
use super::{Actor, CloseReason, DeviceView, Refusal, Service, audit, lock, random};
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::binding::{Privilege, Subject, Terms};
use crate::domain::claim::ScannedCode;
use crate::domain::device::{Household, Registered, Standing};
use crate::domain::ids::DeviceId;
use crate::domain::keys::{Credential as SealedCredential, HubScopedKey, OperationalSecret, seal_credential};
use crate::store::tables::{Credential, StoredDeviceKey};
use crate::store::{Read, StoreError, Tx};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use std::sync::Arc;

/// What one account is limited by, whatever it tries to claim.
const ACCOUNT: &str = "claim";

impl Service {
    /// Binds the device with this code to `actor`. The binding, the secret and the audit entry are one transaction;
    /// the device's sessions are closed, so that it comes back and fetches its secret.
    ///
    /// # Errors
    /// [`Refusal::ClaimRefused`] for every cause that is not the caller's typing: a wrong code, an unknown device, one
    /// bound to somebody else. [`Refusal::Invalid`] for a code that cannot be one, [`Refusal::TooMany`].
    pub async fn claim(
        self: &Arc<Self>,
        actor: &Actor,
        code: &str,
        device: Option<&str>,
        name: &str,
        room: &str,
    ) -> Result<DeviceView, Refusal> {
        if !actor.may(HubAction::ClaimDevice) {
            return Err(Refusal::RoleTooLow);
        }
        actor.user()?;
        self.check_claims(actor)?;
        let scanned = ScannedCode::parse(code).map_err(|e| Refusal::Invalid(e.to_string()))?;
        let named = device.map(DeviceId::parse).transpose().map_err(|e| Refusal::Invalid(e.to_string()))?;
        if let (Some(a), Some(b)) = (&named, &scanned.device_id)
            && a != b
        {
            return Err(Refusal::Invalid("the code on the label belongs to another device id".into()));
        }
        let found = match named.or(scanned.device_id) {
            Some(id) => self.candidate(&id)?.filter(|r| r.claim_hash.matches(&r.id, &scanned.code)),
            // Without an id: only devices that are here and waiting come into question.
            None => self.waiting_here()?.into_iter().find(|r| r.claim_hash.matches(&r.id, &scanned.code)),
        };
        let Some(registered) = found else { return Err(self.claim_failed(actor, "wrong_code")) };
        let credential = self.new_credential()?;
        let (id, now, who) = (registered.id.clone(), self.now(), actor.clone());
        let (name, room) = (label(name, &registered), short(room));
        let (service, device) = (self.clone(), id.clone());
        let done = self
            .store
            .write::<bool, Refusal, _>(move |tx| {
                require_role(tx, &who, HubAction::ClaimDevice, now)?;
                service.claim_in(tx, &who, &device, &credential, &name, &room, now)
            })
            .await?;
        if !done {
            return Err(self.claim_failed(actor, "bound_elsewhere"));
        }
        self.claim_succeeded(actor);
        self.policy_changed().await;
        self.close_sessions(&Subject::Device(id.clone()), CloseReason::Administrative).await;
        self.changed(super::Change::Device { id: id.clone() });
        self.device(actor, &id)
    }

    /// A secret for a device that is being claimed.
    pub(super) fn new_credential(&self) -> Result<Credential, Refusal> {
        let secret = OperationalSecret::from_bytes(random()?);
        Ok(Credential {
            keyed_hash: self.keyed_hash(b"operational", secret.as_bytes()),
            undelivered: Some(*secret.as_bytes()),
            made_at: self.now(),
        })
    }

    /// Claims a device that waits, inside a transaction; false when it does not. Whatever right an earlier household left
    /// on it, or with it, ends.
    #[expect(clippy::too_many_arguments, reason = "who, what, and what to call it")]
    pub(super) fn claim_in(
        &self,
        tx: &Tx<'_>,
        who: &Actor,
        device: &DeviceId,
        credential: &Credential,
        name: &str,
        room: &str,
        now: u64,
    ) -> Result<bool, Refusal> {
        let key = device.as_str().as_bytes();
        let mut household = tx.get::<Household>(key)?.unwrap_or_default();
        if household.standing != Standing::Waiting {
            return Ok(false);
        }
        end_rights(tx, device, &who.subject.to_string(), now)?;
        household.standing = Standing::Claimed;
        household.claimed_at = Some(now);
        name.clone_into(&mut household.name);
        room.clone_into(&mut household.room);
        household.version += 1;
        tx.put(key, &household)?;
        tx.put(key, credential)?;
        put_binding(tx, &who.subject, device, &Terms::of(Privilege::Administer), "claim", &self.origin(), now)?;
        audit::append(tx, now, audit::done(who, "device.claim", device.as_str(), "administer"))?;
        Ok(true)
    }

    /// Whether this account may try a code now.
    pub(super) fn check_claims(&self, actor: &Actor) -> Result<(), Refusal> {
        self.check_lockout(actor.source, &account(actor))
    }

    pub(super) fn claim_succeeded(&self, actor: &Actor) {
        self.succeeded_attempt(actor.source, &account(actor));
    }

    fn candidate(&self, id: &DeviceId) -> Result<Option<Registered>, StoreError> {
        self.store.read(|v| v.get::<Registered>(id.as_str().as_bytes()))
    }

    fn waiting_here(&self) -> Result<Vec<Registered>, StoreError> {
        let online: Vec<DeviceId> = lock(&self.presence).iter().filter(|(_, p)| p.is_online()).map(|(id, _)| id.clone()).collect();
        self.store.read(|v| {
            let mut out = Vec::new();
            for id in online {
                let household = v.get::<Household>(id.as_str().as_bytes())?.unwrap_or_default();
                if household.standing == Standing::Waiting {
                    out.extend(v.get::<Registered>(id.as_str().as_bytes())?);
                }
            }
            Ok(out)
        })
    }

    /// Counts a code that did not fit.
    pub(super) fn claim_failed(&self, actor: &Actor, reason: &str) -> Refusal {
        let wait = self.failed_attempt(actor.source, &account(actor));
        // The object is left out: a guess must not fill the audit with ids.
        self.audit_refusal(audit::event(actor.subject.to_string(), "device.claim", "?", Outcome::Denied, reason, "", &actor.via));
        if wait > 0 { Refusal::TooMany(wait) } else { Refusal::ClaimRefused }
    }

    /// A device says that it waits: when it has been claimed and has not yet signed in with its secret, the secret is
    /// sealed for the nonce it sent. True when it was reset by hand since it was last here: it is forgotten, and its
    /// connection is to end.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a malformed hello; the store's fault.
    pub async fn claim_hello(self: &std::sync::Arc<Self>, id: &DeviceId, payload: &[u8], via: &str) -> Result<bool, Refusal> {
        #[derive(Deserialize)]
        struct Hello {
            nonce: String,
            #[serde(default)]
            reset: Option<super::factory_reset::ResetClaim>,
        }
        let bad = || Refusal::Invalid("a hello carries a nonce of 16 to 32 bytes in base64url".into());
        let hello: Hello = serde_json::from_slice(payload).map_err(|_| bad())?;
        let nonce = BASE64URL_NOPAD.decode(hello.nonce.as_bytes()).ok().filter(|n| (16..=32).contains(&n.len())).ok_or_else(bad)?;
        if let Some(said) = hello.reset
            && self.heard_reset(id, &nonce, said, via).await?
        {
            return Ok(true);
        }
        let key = id.as_str().as_bytes();
        let (household, credential, hub_key) = self.store.read::<_, StoreError>(|v| {
            Ok((v.get::<Household>(key)?.unwrap_or_default(), v.get::<Credential>(key)?, v.get::<StoredDeviceKey>(key)?))
        })?;
        let (Standing::Claimed, Some(credential), Some(hub_key)) = (household.standing, credential, hub_key) else { return Ok(false) };
        let Some(secret) = credential.undelivered else { return Ok(false) };
        let iv = random::<12>()?;
        let sealed = SealedCredential {
            hub: self.hub.id,
            ca: self.hub.ca_der.clone(),
            secret: OperationalSecret::from_bytes(secret),
            claimed_at: household.claimed_at.unwrap_or(credential.made_at) / 1000,
        };
        let sealed = seal_credential(&HubScopedKey::from_bytes(hub_key.0), id, &nonce, iv, &sealed)
            .map_err(|_| Refusal::Conflict("the credential could not be sealed".into()))?;
        let body = serde_json::json!({
            "v": 1, "nonce": hello.nonce, "iv": BASE64URL_NOPAD.encode(&iv), "box": BASE64URL_NOPAD.encode(&sealed),
        });
        self.publish(&format!("things/{id}/claim/credential"), body.to_string(), 1, false);
        Ok(false)
    }
}

fn account(actor: &Actor) -> String {
    format!("{ACCOUNT} {}", actor.subject)
}

pub(super) fn short(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(64).collect()
}

pub(super) fn label(name: &str, registered: &Registered) -> String {
    let name = short(name);
    if name.is_empty() { registered.model.as_str().replace('-', " ") } else { name }
}
