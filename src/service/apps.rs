//! What people let act for them: a leave for each app, with rights on the devices they name. A leave gives a part of the
//! person's own right, so nobody needs to administer a device for it; the person's right is asked anew at each decision.
//! How an app shows who it is, is `app_tokens`'; how a third party's app gets there, `oauth`'s.

use super::bindings::{put_binding, revoke_in};
use super::rights::require_role;
use super::{Actor, CloseReason, Refusal, Service, SessionToken, audit, random};
use crate::domain::account::{User, UserId};
use crate::domain::app::{Authorization, Client};
use crate::domain::authority::HubAction;
use crate::domain::binding::{Binding, Privilege, RevocationMark, Subject, Terms};
use crate::domain::device::Household;
use crate::domain::ids::DeviceId;
use crate::store::tables::{
    AppLastUsed, AppToken, AuthorizationCode, BindingIndex, ConsentedDevice, RefreshToken, binding_key, device_prefix, subject_prefix,
};
use crate::store::{Read, StoreError, Tx};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long a leave lasts unless the person says otherwise, in ms.
pub(super) const LEAVE_MS: u64 = 90 * DAY_MS;
/// The longest, in ms.
const LONGEST_MS: u64 = 366 * DAY_MS;
/// The shortest, in ms: one that is over before it is used helps nobody.
const SHORTEST_MS: u64 = 1_000;
const DAY_MS: u64 = 24 * 3600 * 1000;
/// Apps that act for one person at the same time.
const PER_PERSON: usize = 50;
/// Apps that one person may let act within an hour: each leaves marks behind.
const PER_HOUR: usize = 60;
/// Ended leaves of one person that are kept, so that the audit can name them.
const ENDED_PER_PERSON: usize = 200;
/// Devices of one leave.
const MAX_DEVICES: usize = 200;
/// Rights on one device, as for sharing.
const MAX_BINDINGS: usize = 1_000;
/// Characters of a name.
const MAX_NAME: usize = 64;

/// What an app may have of one device.
#[derive(Clone, Debug)]
pub struct AppGrant {
    /// Which.
    pub device: DeviceId,
    /// How far.
    pub privilege: Privilege,
    /// Only to these attributes and commands.
    pub only: Option<BTreeSet<String>>,
}

/// A token for a program of one's own.
#[derive(Clone, Debug)]
pub struct NewAppToken {
    /// What the person calls it.
    pub name: String,
    /// What it may have.
    pub devices: Vec<AppGrant>,
    /// For how long, in ms; 90 days unless given.
    pub expires_in_ms: Option<u64>,
}

/// A token just made.
#[derive(Debug)]
pub struct MadeAppToken {
    /// The app's id.
    pub id: String,
    /// Its token, shown this once.
    pub token: SessionToken,
    /// Until when, ms since 1970.
    pub expires: u64,
}

impl From<ConsentedDevice> for AppGrant {
    fn from(d: ConsentedDevice) -> Self {
        AppGrant { device: d.device, privilege: d.privilege, only: d.only }
    }
}

impl From<AppGrant> for ConsentedDevice {
    fn from(g: AppGrant) -> Self {
        ConsentedDevice { device: g.device, privilege: g.privilege, only: g.only }
    }
}

/// An app as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct AppView {
    /// Its id.
    pub id: String,
    /// What people see.
    pub name: String,
    /// `token` or `oauth`.
    pub kind: &'static str,
    /// The registered app it is, if it is one.
    pub client_id: Option<String>,
    /// What it may have; the person's own right still decides.
    pub devices: Vec<AppDevice>,
    /// Since when, ms since 1970.
    pub created_at: u64,
    /// Until when, ms since 1970.
    pub expires: u64,
    /// When it was last heard, ms since 1970; to about ten minutes.
    pub last_used: Option<u64>,
    /// For whom it acts.
    pub user: UserId,
    /// The same by name.
    pub username: String,
}

/// A device in such a view.
#[derive(Clone, Debug, Serialize)]
pub struct AppDevice {
    /// Which.
    pub id: DeviceId,
    /// What people call it.
    pub name: String,
    /// How far.
    pub privilege: Privilege,
    /// Only to these attributes and commands.
    pub only: Option<BTreeSet<String>>,
}

impl Service {
    /// Makes a token for a program of one's own: to look at the named devices, for 90 days, unless the person says more.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`], [`Refusal::RoleTooLow`]; [`Refusal::NotFound`] for a device one has no right on;
    /// [`Refusal::Invalid`] for more than one's own right; [`Refusal::Conflict`] and [`Refusal::TooMany`] at the bounds.
    pub async fn make_app_token(self: &Arc<Self>, actor: &Actor, new: NewAppToken) -> Result<MadeAppToken, Refusal> {
        let user = actor.user()?.clone();
        let (now, token) = (self.now(), self.new_app_token()?);
        // Whoever may give none is told that, and not what else is wrong.
        self.store.read(|v| require_role(v, actor, HubAction::LinkApps, now))?;
        let expires = now + leave_length(new.expires_in_ms)?;
        let leave = Authorization {
            id: fresh_id()?,
            user,
            client: None,
            name: shown_name(&new.name)?,
            created_at: now,
            expires_at: expires,
            scope: None,
            ended: false,
        };
        let id = leave.id.clone();
        let (service, who, key) = (self.clone(), actor.clone(), self.app_token_key(&token));
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::LinkApps, now)?;
                service.give_leave(tx, &who, &leave, &new.devices, now)?;
                tx.put(&key, &AppToken { app: leave.id.clone(), created_at: now, expires_at: expires })?;
                Ok::<_, Refusal>(())
            })
            .await?;
        self.policy_changed().await;
        Ok(MadeAppToken { id, token, expires })
    }

    /// Writes a leave and the rights that go with it: each a part of the person's own right.
    pub(super) fn give_leave(
        &self,
        tx: &Tx<'_>,
        who: &Actor,
        leave: &Authorization,
        devices: &[AppGrant],
        now: u64,
    ) -> Result<(), Refusal> {
        let person = Subject::User(leave.user.clone());
        make_room(tx, &leave.user, now)?;
        let app = Subject::App(leave.id.clone());
        let mut told = String::new();
        check_devices(devices)?;
        for grant in devices {
            let terms = part_for_app(tx, &person, grant, leave.expires_at, now)?;
            terms.check(now)?;
            if tx.scan::<Binding>(&device_prefix(&grant.device), MAX_BINDINGS)?.len() >= MAX_BINDINGS {
                return Err(Refusal::Conflict("this device is shared with too many: take a right away first".into()));
            }
            put_binding(tx, &app, &grant.device, &terms, &person.to_string(), &self.origin(), now)?;
            told.push_str(&format!(" {:?} on {},", terms.privilege, grant.device));
        }
        tx.put(leave.id.as_bytes(), leave)?;
        let detail = format!("{}:{} until {}", leave.name, told.to_lowercase(), leave.expires_at);
        audit::append(tx, now, audit::done(who, "app.link", &format!("app:{}", leave.id), detail))?;
        Ok(())
    }

    /// The apps that act for the one who asks.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`], [`Refusal::SignedOut`].
    pub fn my_apps(&self, actor: &Actor) -> Result<Vec<AppView>, Refusal> {
        let user = actor.user()?;
        self.store.read(|v| {
            v.get::<User>(user.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
            Ok(views(v, |leave| leave.user == *user, self.now())?)
        })
    }

    /// The apps that act for anybody.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for all but owners.
    pub fn apps(&self, actor: &Actor) -> Result<Vec<AppView>, Refusal> {
        let now = self.now();
        self.store.read(|v| {
            require_role(v, actor, HubAction::ManageAccess, now)?;
            Ok(views(v, |_| true, now)?)
        })
    }

    /// Ends an app of one's own: its tokens, its rights, and its live connections, before this returns.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`], [`Refusal::NotFound`].
    pub async fn end_my_app(&self, actor: &Actor, id: &str) -> Result<(), Refusal> {
        let user = actor.user()?.clone();
        self.end_app_if(actor, id, move |tx, who, leave, _| {
            tx.get::<User>(user.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
            if leave.user == user && who.subject == Subject::User(leave.user.clone()) { Ok(()) } else { Err(Refusal::NotFound("app")) }
        })
        .await
    }

    /// Ends anybody's app, as an owner.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::NotFound`].
    pub async fn end_app(&self, actor: &Actor, id: &str) -> Result<(), Refusal> {
        // Asked also when there is no such app: whoever may not end one learns nothing of which there are.
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, self.now()))?;
        self.end_app_if(actor, id, |tx, who, _, now| require_role(tx, who, HubAction::ManageAccess, now)).await
    }

    async fn end_app_if(
        &self,
        actor: &Actor,
        id: &str,
        may: impl Fn(&Tx<'_>, &Actor, &Authorization, u64) -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> Result<(), Refusal> {
        let (who, app, now) = (actor.clone(), id.to_owned(), self.now());
        self.store
            .write(move |tx| {
                let leave = tx.get::<Authorization>(app.as_bytes())?.filter(|l| !l.ended).ok_or(Refusal::NotFound("app"))?;
                may(tx, &who, &leave, now)?;
                end_in(tx, &leave, &who.subject.to_string(), now)?;
                // With the person's id, by which what is personal in it is found when they are erased: people name apps.
                let detail = format!("{} of user:{}", leave.name, leave.user);
                audit::append(tx, now, audit::done(&who, "app.end", &format!("app:{app}"), detail))?;
                Ok::<_, Refusal>(())
            })
            .await?;
        self.apps_ended(&[id.to_owned()]).await;
        Ok(())
    }

    /// After leaves have ended: when this returns, nothing more reaches these apps.
    pub(super) async fn apps_ended(&self, apps: &[String]) {
        if apps.is_empty() {
            return;
        }
        self.policy_changed().await;
        for app in apps {
            self.close_sessions(&Subject::App(app.clone()), CloseReason::NotAuthorized).await;
        }
    }

    /// Ends leaves whose time is over, and forgets tokens and codes that serve no more.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn sweep_apps(&self) -> Result<(), Refusal> {
        let now = self.now();
        let ended = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                let mut ended = Vec::new();
                for (_, leave) in tx.scan::<Authorization>(b"", usize::MAX)? {
                    if !leave.ended && !leave.holds(now) {
                        end_in(tx, &leave, "time", now)?;
                        ended.push(leave.id);
                    }
                }
                for (key, _) in tx.scan::<AppToken>(b"", usize::MAX)?.into_iter().filter(|(_, t)| t.expires_at <= now) {
                    tx.delete::<AppToken>(&key)?;
                }
                // A code that a leave came of stays as long as the leave: a second use of it ends the leave.
                for (key, code) in tx.scan::<AuthorizationCode>(b"", usize::MAX)? {
                    if code.app.is_none() && code.expires_at <= now {
                        tx.delete::<AuthorizationCode>(&key)?;
                    }
                }
                Ok(ended)
            })
            .await?;
        self.apps_ended(&ended).await;
        Ok(())
    }
}

/// How long a leave is to last, in ms.
pub(super) fn leave_length(asked: Option<u64>) -> Result<u64, Refusal> {
    let length = asked.unwrap_or(LEAVE_MS);
    if !(SHORTEST_MS..=LONGEST_MS).contains(&length) {
        return Err(Refusal::Invalid("expires_in_ms: from one second to 366 days".into()));
    }
    Ok(length)
}

pub(super) fn fresh_id() -> Result<String, Refusal> {
    Ok(uuid::Uuid::from_bytes(random()?).simple().to_string())
}

/// A name as it is kept: of one line, not empty.
pub(super) fn shown_name(name: &str) -> Result<String, Refusal> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(Refusal::Invalid("name: 1 to 64 characters on one line".into()));
    }
    Ok(name.to_owned())
}

/// That the devices of a leave can be given at all.
pub(super) fn check_devices(devices: &[AppGrant]) -> Result<(), Refusal> {
    let distinct: BTreeSet<_> = devices.iter().map(|d| &d.device).collect();
    if devices.is_empty() || devices.len() > MAX_DEVICES || distinct.len() != devices.len() {
        return Err(Refusal::Invalid("devices: name 1 to 200, each once".into()));
    }
    Ok(())
}

/// What of the person's right on a device goes to the app.
pub(super) fn part_for_app<R: Read>(rows: &R, person: &Subject, grant: &AppGrant, until: u64, now: u64) -> Result<Terms, Refusal> {
    let own = right_of(rows, person, &grant.device, now)?.ok_or(Refusal::NotFound("device"))?;
    own.terms.part(grant.privilege, grant.only.as_ref(), until).ok_or_else(|| {
        let id = &grant.device;
        Refusal::Invalid(format!("devices: your own right on {id} does not go that far, and no app administers; choose less"))
    })
}

/// The person's right on a device, unless it is over. One that begins later, or holds in windows, is one.
pub(super) fn right_of<R: Read>(rows: &R, person: &Subject, device: &DeviceId, now: u64) -> Result<Option<Binding>, StoreError> {
    let key = binding_key(device, person);
    let marked = rows.get::<RevocationMark>(&key)?.map_or(0, |m| m.generation);
    let bound = rows.get::<Household>(device.as_str().as_bytes())?.is_some_and(|h| h.standing.is_bound());
    let own = rows.get::<Binding>(&key)?.filter(|b| bound && b.generation > marked);
    Ok(own.filter(|b| b.terms.until.is_none_or(|until| now < until)))
}

/// Counts the leaves of a person, and forgets the oldest of those that have ended.
pub(super) fn make_room(tx: &Tx<'_>, user: &UserId, now: u64) -> Result<(), Refusal> {
    let mut all: Vec<Authorization> = leaves_of(tx, user)?;
    if all.iter().filter(|l| l.holds(now)).count() >= PER_PERSON {
        return Err(Refusal::Conflict("too many apps act for you: end one that you do not need first".into()));
    }
    // A clock that was set back does not lift the limit: what seems to come from the future counts too.
    let lately = all.iter().filter(|l| l.created_at + 3_600_000 > now).count();
    if lately >= PER_HOUR {
        return Err(Refusal::TooMany(3_600_000));
    }
    all.retain(|l| !l.holds(now));
    all.sort_by_key(|l| l.created_at);
    for old in all.iter().take(all.len().saturating_sub(ENDED_PER_PERSON)) {
        end_in(tx, old, "time", now)?;
        tx.delete::<Authorization>(old.id.as_bytes())?;
    }
    Ok(())
}

fn leaves_of<R: Read>(rows: &R, user: &UserId) -> Result<Vec<Authorization>, StoreError> {
    let all = rows.scan::<Authorization>(b"", usize::MAX)?;
    Ok(all.into_iter().map(|(_, leave)| leave).filter(|l| l.user == *user).collect())
}

/// Ends a leave inside a transaction: its tokens, its code and its rights. [`Service::apps_ended`] follows the commit.
pub(super) fn end_in(tx: &Tx<'_>, leave: &Authorization, by: &str, now: u64) -> Result<(), StoreError> {
    let app = Subject::App(leave.id.clone());
    for (key, _) in tx.scan::<AppToken>(b"", usize::MAX)?.into_iter().filter(|(_, t)| t.app == leave.id) {
        tx.delete::<AppToken>(&key)?;
    }
    tx.delete::<RefreshToken>(leave.id.as_bytes())?;
    tx.delete::<AppLastUsed>(leave.id.as_bytes())?;
    for (key, _) in tx.scan::<AuthorizationCode>(b"", usize::MAX)?.into_iter().filter(|(_, c)| c.app.as_ref() == Some(&leave.id)) {
        tx.delete::<AuthorizationCode>(&key)?;
    }
    for (_, index) in tx.scan::<BindingIndex>(&subject_prefix(&app), usize::MAX)? {
        revoke_in(tx, &index.device, &app, by, now)?;
    }
    tx.put(leave.id.as_bytes(), &Authorization { ended: true, ..leave.clone() })
}

/// Ends all that acts for a person, codes on their way and keys for use from away included: when the account ends, or its password changes, because
/// whoever knew the old one may have made them. The ids are for [`Service::apps_ended`] after the commit.
pub(super) fn end_apps_of(tx: &Tx<'_>, user: &UserId, by: &str, now: u64) -> Result<Vec<String>, StoreError> {
    super::mirror::end_away_keys_of(tx, user, by, now)?;
    let mut ended = Vec::new();
    for leave in leaves_of(tx, user)?.into_iter().filter(|l| !l.ended) {
        end_in(tx, &leave, by, now)?;
        ended.push(leave.id);
    }
    for (key, _) in tx.scan::<AuthorizationCode>(b"", usize::MAX)?.into_iter().filter(|(_, c)| c.user == *user) {
        tx.delete::<AuthorizationCode>(&key)?;
    }
    Ok(ended)
}

/// Forgets the leaves of a person, all of which have ended: people name them after themselves.
pub(super) fn forget_apps_of(tx: &Tx<'_>, user: &UserId) -> Result<(), StoreError> {
    for leave in leaves_of(tx, user)?.into_iter().filter(|l| l.ended) {
        tx.delete::<Authorization>(leave.id.as_bytes())?;
    }
    Ok(())
}

/// Ends all leaves that were given to a registered app.
pub(super) fn end_apps_of_client(tx: &Tx<'_>, client: &Client, by: &str, now: u64) -> Result<Vec<String>, StoreError> {
    let mut ended = Vec::new();
    for (_, leave) in tx.scan::<Authorization>(b"", usize::MAX)? {
        if !leave.ended && leave.client.as_ref() == Some(&client.id) {
            end_in(tx, &leave, by, now)?;
            ended.push(leave.id);
        }
    }
    for (key, _) in tx.scan::<AuthorizationCode>(b"", usize::MAX)?.into_iter().filter(|(_, c)| c.client == client.id) {
        tx.delete::<AuthorizationCode>(&key)?;
    }
    Ok(ended)
}

fn views<R: Read>(rows: &R, shown: impl Fn(&Authorization) -> bool, now: u64) -> Result<Vec<AppView>, StoreError> {
    let mut out = Vec::new();
    for (_, leave) in rows.scan::<Authorization>(b"", usize::MAX)? {
        if !leave.holds(now) || !shown(&leave) {
            continue;
        }
        let app = Subject::App(leave.id.clone());
        let mut devices = Vec::new();
        for (_, index) in rows.scan::<BindingIndex>(&subject_prefix(&app), MAX_DEVICES)? {
            let Some(binding) = rows.get::<Binding>(&binding_key(&index.device, &app))? else { continue };
            let name = rows.get::<Household>(index.device.as_str().as_bytes())?.map(|h| h.name).unwrap_or_default();
            devices.push(AppDevice { id: index.device, name, privilege: binding.terms.privilege, only: binding.terms.only });
        }
        let user = rows.get::<User>(leave.user.as_str().as_bytes())?;
        out.push(AppView {
            kind: if leave.client.is_some() { "oauth" } else { "token" },
            client_id: leave.client,
            name: leave.name,
            devices,
            created_at: leave.created_at,
            expires: leave.expires_at,
            last_used: rows.get::<AppLastUsed>(leave.id.as_bytes())?.map(|u| u.at),
            username: user.map(|u| u.username.as_str().to_owned()).unwrap_or_default(),
            user: leave.user,
            id: leave.id,
        });
    }
    out.sort_by_key(|a| std::cmp::Reverse(a.created_at));
    Ok(out)
}
