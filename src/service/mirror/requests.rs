//! Wishes of people away from home, and of the system account, as the cloud brings them: each is decided for the person it
//! names, as if they stood at the hub's own door, and within what an owner has agreed to. The cloud can ask in nobody's name
//! who has made no key for use from away.

use super::arrive::answer;
use super::away::has_away_key;
use super::link::link_in;
use super::news::list_refused;
use crate::domain::account::{Role, User, UserId, Username};
use crate::domain::audit::Outcome;
use crate::domain::authority::Authority;
use crate::domain::binding::{self, Binding, Privilege, RevocationMark, Subject, Terms};
use crate::domain::ids::DeviceId;
use crate::domain::mirror::wire::{Consent, Done, Request, Verb};
use crate::domain::time::Grade;
use crate::service::accounts::{display_name, insert_user};
use crate::service::bindings::user_by_name;
use crate::service::passwords::is_password_hash;
use crate::service::twins::critical_names;
use crate::service::{Actor, Change, CommandRequest, Grant, Recipient, Refusal, Service, audit, random};
use crate::store::tables::{RefusedRow, binding_key};
use crate::store::{Read, StoreError};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The longest that a desire and a command may wait, in s.
const TTL_MAX_S: u64 = 24 * 3_600;
/// The same for a right and an account: they wait for a hub that was away for some days.
const TTL_MAX_GIVEN_S: u64 = 7 * 24 * 3_600;
/// How far two clocks that know the time may differ, in ms.
const TOLERANCE_MS: u64 = 120_000;
/// Accounts that came from outside, at most.
const PEOPLE_MAX: usize = 1_000;
/// What such an account says of who made it begins so.
pub(in crate::service) const MADE_BY_CLOUD: &str = "cloud:";

/// Why a wish is not done.
struct No {
    code: &'static str,
    detail: String,
}

type Answer = Result<(), Failed>;

enum Failed {
    No(No),
    Fault(StoreError),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let code = match refusal {
            Refusal::Store(fault) => return Failed::Fault(fault),
            Refusal::NotAllowed(reason) => reason.as_str(),
            Refusal::RoleTooLow | Refusal::PeopleOnly => "not_allowed",
            Refusal::SignedOut => "account_ended",
            Refusal::NotFound(_) => "not_found",
            Refusal::Offline => "offline",
            Refusal::TooMany(_) => "too_many",
            Refusal::VersionConflict(_) | Refusal::Conflict(_) => "conflict",
            _ => "invalid",
        };
        Failed::No(No { code, detail })
    }
}

impl From<StoreError> for Failed {
    fn from(fault: StoreError) -> Self {
        Failed::Fault(fault)
    }
}

fn no(code: &'static str, detail: impl Into<String>) -> Failed {
    Failed::No(No { code, detail: detail.into() })
}

fn malformed(what: &str) -> Failed {
    no("malformed", format!("{what}: not as the protocol has it"))
}

#[derive(Deserialize)]
struct CommandWish {
    name: String,
    #[serde(default)]
    params: Value,
}

#[derive(Deserialize)]
struct GrantWish {
    username: String,
    privilege: Privilege,
    #[serde(default)]
    until: Option<u64>,
}

#[derive(Deserialize)]
struct UserWish {
    username: String,
    #[serde(default)]
    display_name: String,
    role: Role,
    password_hash: String,
}

impl Service {
    /// Decides a wish, and does it when it may be done.
    pub(super) async fn decide_request(self: &Arc<Self>, id: &str, request: &Request, vouched_s: u64) -> Result<Done, Refusal> {
        let failed = match self.do_request(request, vouched_s).await {
            Ok(()) => return Ok(Done { id: id.to_owned(), ok: true, code: "done".into(), detail: String::new() }),
            Err(Failed::Fault(fault)) => return Err(fault.into()),
            Err(Failed::No(no)) => no,
        };
        let now = self.now();
        let verb = match request.verb {
            Verb::Desire => "desire",
            Verb::Command => "command",
            Verb::Grant => "grant",
            Verb::User => "user",
        };
        let device = request.device.as_deref().and_then(|d| DeviceId::parse(d).ok()).map(|d| d.to_string());
        let row = RefusedRow {
            at: now,
            by: clean(&request.by),
            verb: verb.into(),
            device: device.clone(),
            code: failed.code.into(),
            detail: failed.detail.clone(),
        };
        let object = device.unwrap_or_else(|| "hub".into());
        self.audit_refusal(audit::event(row.by.clone(), "cloud.request", &object, Outcome::Denied, failed.code, verb, &via(request)));
        self.store.write::<_, StoreError, _>(move |tx| list_refused(tx, &row)).await?;
        self.changed(Change::Cloud);
        Ok(answer(id, failed.code, &failed.detail))
    }

    async fn do_request(self: &Arc<Self>, request: &Request, vouched_s: u64) -> Answer {
        let left_ms = self.time_left(request, vouched_s)?;
        let link = self.store.read::<_, StoreError>(|v| link_in(v))?.ok_or_else(|| no("not_linked", "no cloud is linked"))?;
        let consent = link.consent;
        if request.verb == Verb::User {
            return self.wish_for_user(request, &consent).await;
        }
        let who = self.asker(request)?;
        let device = request.device.as_deref().and_then(|d| DeviceId::parse(d).ok()).ok_or_else(|| malformed("device"))?;
        match request.verb {
            Verb::Desire => self.wish_to_desire(&who, &device, request, &consent).await,
            Verb::Command => self.wish_to_command(&who, &device, request, &consent, left_ms).await,
            _ => self.wish_to_grant(&who, &device, request, &consent).await,
        }
    }

    /// For how many ms the wish is still worth doing, by the cloud's clock and, when the hub knows the time, by its own.
    fn time_left(&self, request: &Request, vouched_s: u64) -> Result<u64, Failed> {
        let there = vouched_s.saturating_mul(1_000);
        let most = match request.verb {
            Verb::Desire | Verb::Command => TTL_MAX_S,
            Verb::Grant | Verb::User => TTL_MAX_GIVEN_S,
        };
        if request.ttl_s == 0 || request.ttl_s > most || request.at > there.saturating_add(TOLERANCE_MS) {
            return Err(malformed("time"));
        }
        let until = request.at.saturating_add(request.ttl_s * 1_000);
        let timing = self.clock.timing();
        let over_here = timing.grade != Grade::None && timing.now >= until.saturating_add(TOLERANCE_MS);
        if there >= until || over_here {
            return Err(no("too_late", "it came too late to be done: wish for it again"));
        }
        Ok(until - there)
    }

    /// The person who wishes.
    fn asker(&self, request: &Request) -> Result<Actor, Failed> {
        let by = request.by.strip_prefix("user:").unwrap_or(&request.by);
        let id = UserId::parse(by).ok_or_else(|| no("unknown_person", "this hub knows nobody of that name"))?;
        let now = self.now();
        let (user, key) = self.store.read::<_, StoreError>(|v| Ok((v.get::<User>(id.as_str().as_bytes())?, has_away_key(v, &id, now)?)))?;
        let user = user.filter(|u| !u.ended && !u.role.is_vendor());
        let user = user.ok_or_else(|| no("unknown_person", "this hub knows nobody of that name"))?;
        if !key {
            return Err(no("no_away_key", "this person has made no key for use from away: make one at home first"));
        }
        let (role, subject) = (user.role, Subject::User(user.id));
        let source = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Ok(Actor { subject, behalf: None, authority: Authority::Role(role), via: via(request), source })
    }

    async fn wish_to_desire(self: &Arc<Self>, who: &Actor, device: &DeviceId, request: &Request, consent: &BTreeSet<Consent>) -> Answer {
        agreed(consent, Consent::Requests)?;
        let patch: Map<String, Value> = request.value.as_object().cloned().ok_or_else(|| malformed("value"))?;
        let critical = self.model_of(device).map(|model| critical_names(model.as_deref(), patch.keys().map(String::as_str)))?;
        if critical {
            agreed(consent, Consent::Critical)?;
        }
        self.desire(who, device, patch, None).await?;
        Ok(())
    }

    async fn wish_to_command(
        self: &Arc<Self>,
        who: &Actor,
        device: &DeviceId,
        request: &Request,
        consent: &BTreeSet<Consent>,
        left_ms: u64,
    ) -> Answer {
        agreed(consent, Consent::Requests)?;
        let wish = CommandWish::deserialize(&request.value).map_err(|_| malformed("value"))?;
        // Without a model nobody has said what is harmless.
        let critical = self.model_of(device)?.is_none_or(|model| model.is_critical_command(&wish.name));
        if critical {
            agreed(consent, Consent::Critical)?;
        }
        let command = CommandRequest { name: wish.name, args: wish.params, ttl_ms: Some(left_ms), ..CommandRequest::default() };
        self.command(who, device, command).await?;
        Ok(())
    }

    async fn wish_to_grant(self: &Arc<Self>, who: &Actor, device: &DeviceId, request: &Request, consent: &BTreeSet<Consent>) -> Answer {
        agreed(consent, Consent::Grants)?;
        let wish = GrantWish::deserialize(&request.value).map_err(|_| malformed("value"))?;
        match wish.privilege {
            Privilege::Administer => return Err(no("only_at_home", "administration is given by people at home only")),
            Privilege::Manage => agreed(consent, Consent::Critical)?,
            Privilege::View | Privilege::Operate => {}
        }
        let grant = Grant { to: Recipient::Person(wish.username.clone()), terms: Terms { until: wish.until, ..Terms::of(wish.privilege) } };
        let (service, who, id, now) = (self.clone(), who.clone(), device.clone(), self.now());
        let stands = "this person has a right on the device that was given at home: it is changed there";
        let given = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                // First whether it may be given at all, so that nobody learns who is there.
                service.may_give(tx, &who, &id, &grant.terms, now)?;
                let meant = Subject::User(user_by_name(tx, &Username::parse(&wish.username)?.folded())?.id);
                let at = binding_key(&id, &meant);
                let marked = tx.get::<RevocationMark>(&at)?.map_or(0, |m| m.generation);
                // A right of the house would go stale with the cloud's silence, or be lowered from there.
                let at_home = |b: &Binding| b.generation > marked && b.origin != binding::FROM_CLOUD;
                if tx.get::<Binding>(&at)?.as_ref().is_some_and(at_home) {
                    return Err(Refusal::Conflict(stands.into()));
                }
                service.grant_from(tx, &who, &id, &grant, binding::FROM_CLOUD, now)
            })
            .await;
        given?;
        self.policy_changed().await;
        self.changed(Change::Device { id: device.clone() });
        Ok(())
    }

    async fn wish_for_user(self: &Arc<Self>, request: &Request, consent: &BTreeSet<Consent>) -> Answer {
        agreed(consent, Consent::PeopleRequests)?;
        let service = request.by.strip_prefix("service:").filter(|id| !id.is_empty());
        if service.is_none() {
            return Err(no("not_allowed", "only the system account makes people from outside"));
        }
        let wish = UserWish::deserialize(&request.value).map_err(|_| malformed("value"))?;
        if !matches!(wish.role, Role::Member | Role::Guest) {
            return Err(no("not_allowed", "only guests and members are made from outside"));
        }
        if !is_password_hash(&wish.password_hash) {
            return Err(no("malformed", "password_hash: an argon2id hash in PHC text, of at most 64 MiB and 10 passes"));
        }
        let username = Username::parse(&wish.username).map_err(Refusal::from)?;
        let shown = display_name(&wish.display_name);
        let (by, now) = (clean(&request.by), self.now());
        let user = User {
            id: UserId::from_uuid(uuid::Uuid::from_bytes(random()?)),
            display_name: if shown.is_empty() { username.as_str().to_owned() } else { shown },
            role: wish.role,
            password_hash: wish.password_hash,
            created_at: now,
            created_by: format!("{MADE_BY_CLOUD}{by}"),
            ended: false,
            networks: Vec::new(),
            brand: None,
            username,
        };
        let detail = format!("{} as {:?}, for {by}", user.username.as_str(), user.role);
        let event = audit::event("cloud", "user.add", user.id.as_str(), Outcome::Done, "", detail, &via(request));
        self.store
            .write::<_, Refusal, _>(move |tx| {
                let made = tx.scan::<User>(b"", 100_000)?;
                if made.iter().filter(|(_, u)| !u.ended && is_from_cloud(u)).count() >= PEOPLE_MAX {
                    return Err(Refusal::TooMany(3_600_000));
                }
                insert_user(tx, &user)?;
                audit::append(tx, now, event.clone())?;
                Ok(())
            })
            .await?;
        self.changed(Change::Accounts);
        Ok(())
    }
}

/// Whether an account was made from outside.
pub(in crate::service) fn is_from_cloud(user: &User) -> bool {
    user.created_by.starts_with(MADE_BY_CLOUD)
}

fn agreed(consent: &BTreeSet<Consent>, needed: Consent) -> Answer {
    if consent.contains(&needed) {
        return Ok(());
    }
    let what = match needed {
        Consent::Critical => "an owner has not agreed that what is critical may be done from away",
        Consent::Grants => "an owner has not agreed that rights may be given from away",
        Consent::PeopleRequests => "an owner has not agreed that people may be made from outside",
        _ => "an owner has not agreed that anything may be asked for from away",
    };
    Err(no("no_consent", what))
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn via(request: &Request) -> String {
    format!("cloud {}", clean(&request.via)).trim().to_owned()
}
