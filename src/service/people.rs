//! What becomes of an account: its role and name, everything the hub holds about its person, and erasing that.

use super::accounts::display_name;
use super::apps::{end_apps_of, forget_apps_of};
use super::invitations::end_invitations;
use super::password_reset::{forget_codes, forget_codes_by};
use super::rights::require_role;
use super::sessions::sessions_of;
use super::{Actor, BindingView, Change, Refusal, Service, SessionToken, UserView, audit};
use crate::domain::account::{Role, User, UserId, Username};
use crate::domain::app::Authorization;
use crate::domain::audit::{Entry, Event, Recorded};
use crate::domain::authority::HubAction;
use crate::domain::binding::Binding;
use crate::store::tables::{ResetKind, SecondFactor, Session};
use crate::store::{Read, StoreError, Tx};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Entries of the audit that an export holds at most: the newest that name the person.
const EXPORTED: usize = 50_000;
/// Entries of the audit that are read at a time.
const PAGE: usize = 500;

/// What an owner changes of an account. Networks of a maker's people have their own use case.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// Another role.
    pub role: Option<Role>,
    /// Another name to be called by; the user name when empty.
    pub display_name: Option<String>,
}

impl Service {
    /// Changes an account as an owner. When the role falls, live connections have lost what went with it before this
    /// returns.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::NotFound`]; [`Refusal::Conflict`] for the last owner, and for a maker's people.
    pub async fn change_user(&self, actor: &Actor, user: &UserId, change: UserChange) -> Result<UserView, Refusal> {
        let (who, id, now) = (actor.clone(), user.clone(), self.now());
        let (view, narrowed, apps) = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                require_role(tx, &who, HubAction::ManagePeople, now)?;
                let key = id.as_str().as_bytes();
                let mut user = tx.get::<User>(key)?.filter(|u| !u.ended).ok_or(Refusal::NotFound("account"))?;
                let (mut told, mut apps) = (Vec::new(), Vec::new());
                if let Some(role) = change.role.filter(|r| *r != user.role) {
                    // A support session that is open goes as far as the role did when it was opened.
                    if role.is_vendor() || user.role.is_vendor() {
                        return Err(Refusal::Conflict("the role of a maker's person stays as it is: make another account".into()));
                    }
                    if user.role == Role::Owner {
                        keep_an_owner(tx, &id)?;
                        forget_codes(tx, &id, |kind| kind == ResetKind::Recovery)?;
                        // What an owner promised as one must not serve again should they become one later.
                        forget_codes_by(tx, &id)?;
                        end_invitations(tx, &id, |i| i.role.is_some())?;
                    }
                    if !role.may(HubAction::LinkApps) {
                        // They must not act again should the person ever be more than that.
                        apps = end_apps_of(tx, &id, &who.subject.to_string(), now)?;
                    }
                    told.push(format!("role {:?} instead of {:?}", role, user.role));
                    user.role = role;
                }
                let narrowed = !told.is_empty();
                if let Some(name) = &change.display_name
                    && rename(&mut user, name)
                {
                    told.push("display name".to_owned());
                }
                if !told.is_empty() {
                    tx.put(key, &user)?;
                    audit::append(tx, now, audit::done(&who, "user.change", id.as_str(), told.join(", ")))?;
                }
                Ok((UserView::from(&user), narrowed, apps))
            })
            .await?;
        if narrowed {
            self.policy_changed().await;
            self.apps_ended(&apps).await;
            self.changed(Change::Accounts);
        }
        Ok(view)
    }

    /// Changes how one wants to be called.
    ///
    /// # Errors
    /// [`Refusal::SignedOut`].
    pub async fn rename_me(&self, actor: &Actor, name: &str) -> Result<UserView, Refusal> {
        let (who, id, now, name) = (actor.clone(), actor.user()?.clone(), self.now(), name.to_owned());
        self.store
            .write::<_, Refusal, _>(move |tx| {
                let mut user = tx.get::<User>(id.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
                if rename(&mut user, &name) {
                    tx.put(id.as_str().as_bytes(), &user)?;
                    audit::append(tx, now, audit::done(&who, "user.change", id.as_str(), "display name"))?;
                }
                Ok(UserView::from(&user))
            })
            .await
    }

    /// Everything the hub holds about who asks, except what proves who it is: hashes and secrets say nothing about a
    /// person. Takes as long as reading the whole audit: for threads that may wait.
    ///
    /// # Errors
    /// [`Refusal::SignedOut`], [`Refusal::PeopleOnly`].
    pub fn export(&self, actor: &Actor, token: &SessionToken) -> Result<Value, Refusal> {
        let id = actor.user()?;
        let sessions = self.sessions(actor, token)?;
        let (user, held, given, apps, second) = self.store.read::<_, Refusal>(|v| {
            let user = v.get::<User>(id.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
            let own = actor.subject.to_string();
            let all: Vec<Binding> = v.scan::<Binding>(b"", usize::MAX)?.into_iter().map(|(_, b)| b).collect();
            let (mut held, mut given) = (Vec::new(), Vec::new());
            for binding in all {
                if binding.subject == actor.subject {
                    held.push(super::bindings::view(v, &binding)?);
                } else if binding.granted_by == own {
                    given.push(super::bindings::view(v, &binding)?);
                }
            }
            let apps: Vec<Value> = v
                .scan::<Authorization>(b"", usize::MAX)?
                .into_iter()
                .filter(|(_, a)| a.user == *id)
                .map(|(_, a)| json!({"id": a.id, "name": a.name, "created_at": a.created_at, "expires": a.expires_at, "ended": a.ended}))
                .collect();
            Ok((user, held, given, apps, v.get::<SecondFactor>(id.as_str().as_bytes())?.is_some_and(|f| f.confirmed)))
        })?;
        let (entries, complete) = self.entries_about(&user)?;
        Ok(json!({
            "account": {
                "id": user.id, "username": user.username, "display_name": user.display_name, "role": user.role,
                "created_at": user.created_at, "created_by": user.created_by, "networks": user.networks, "brand": user.brand,
                "second_factor": second,
            },
            "sessions": sessions, "bindings_held": held, "bindings_given": given, "apps": apps,
            "audit": entries, "audit_complete": complete,
        }))
    }

    /// The newest entries of the audit that name a person, newest first, and whether that is all of them.
    fn entries_about(&self, user: &User) -> Result<(Vec<Value>, bool), Refusal> {
        let (mut found, mut before) = (Vec::new(), vec![u8::MAX; 9]);
        loop {
            let page: Vec<Recorded> = self.store.read::<_, StoreError>(|v| {
                v.scan_back::<Entry>(&before, PAGE)?.into_iter().map(|(_, entry)| audit::joined(v, entry)).collect()
            })?;
            let Some(last) = page.last() else { return Ok((found, true)) };
            before = last.seq.to_be_bytes().to_vec();
            for entry in page {
                if !names(&entry.event, user) {
                    continue;
                }
                if found.len() >= EXPORTED {
                    return Ok((found, false));
                }
                let e = &entry.event;
                // From where somebody else acted is theirs.
                let own = e.actor.starts_with('?') || e.actor.contains(user.id.as_str());
                let via = if own { e.via.as_str() } else { e.via.split(' ').next().unwrap_or_default() };
                found.push(json!({
                    "seq": entry.seq, "at": entry.at, "actor": e.actor, "behalf": e.behalf, "action": e.action, "object": e.object,
                    "outcome": e.outcome, "reason": e.reason, "detail": e.detail, "via": via, "erased": entry.erased,
                }));
            }
        }
    }

    /// Ends one's own account and erases what is personal. What it gave to others ends with it.
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`], [`Refusal::TooMany`]; [`Refusal::Conflict`] for the last owner.
    pub async fn leave(&self, actor: &Actor, token: &SessionToken, password: Zeroizing<String>) -> Result<(), Refusal> {
        let (verified, _place) = self.verified(actor, token, password, "user.end").await?;
        let id = actor.user()?.clone();
        // Where the person was when leaving is personal too.
        let quiet = Actor { via: actor.via.split(' ').next().unwrap_or_default().to_owned(), ..actor.clone() };
        self.end_account(&quiet, &id, super::bindings::Ending { with_grants: true, erase: true, leaving: Some(verified) }).await?;
        Ok(())
    }

    /// Ends an account as [`Service::end_user`] and erases what is personal; of one that has ended, what was left then.
    ///
    /// # Errors
    /// The same; [`Refusal::NotFound`] also for one that is erased.
    pub async fn erase_user(&self, actor: &Actor, user: &UserId, with_grants: bool) -> Result<Vec<BindingView>, Refusal> {
        let found = self.store.read::<_, StoreError>(|v| v.get::<User>(user.as_str().as_bytes()))?;
        if found.is_some_and(|u| u.ended) {
            self.erase_ended(actor, user).await?;
            return Ok(Vec::new());
        }
        self.end_account(actor, user, super::bindings::Ending { with_grants, erase: true, leaving: None }).await
    }

    async fn erase_ended(&self, actor: &Actor, user: &UserId) -> Result<(), Refusal> {
        let (who, id, now) = (actor.clone(), user.clone(), self.now());
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManagePeople, now)?;
                let ended = tx.get::<User>(id.as_str().as_bytes())?.filter(|u| u.ended && !is_erased(u));
                let ended = ended.ok_or(Refusal::NotFound("account"))?;
                audit::append(tx, now, audit::done(&who, "user.erase", id.as_str(), "ended before"))?;
                erase(tx, &ended, now)
            })
            .await?;
        self.changed(Change::Accounts);
        if let Err(error) = self.run_erasures().await {
            tracing::warn!(%error, "what is personal in the audit is not erased yet; the hub goes on with it");
        }
        Ok(())
    }
}

/// Whether nothing personal is left of an account: every other one has the hash of a password.
fn is_erased(user: &User) -> bool {
    user.ended && user.password_hash.is_empty()
}

/// Takes every way to sign in from an account.
pub(super) fn shut(tx: &Tx<'_>, user: &UserId) -> Result<(), StoreError> {
    for (session, _) in sessions_of(tx, user)? {
        tx.delete::<Session>(&session)?;
    }
    forget_codes(tx, user, |_| true)?;
    tx.delete::<SecondFactor>(user.as_str().as_bytes())?;
    Ok(())
}

/// Erases what tells who somebody was. The account's id stays, so that rights and the audit still hold together: it is a
/// number that leads to nobody any more.
pub(super) fn erase(tx: &Tx<'_>, ended: &User, now: u64) -> Result<(), Refusal> {
    let erased = User {
        username: Username::parse("erased")?,
        display_name: String::new(),
        password_hash: String::new(),
        networks: Vec::new(),
        ..ended.clone()
    };
    forget_apps_of(tx, &ended.id)?;
    super::clones::forget_person(tx, &ended.id)?;
    // Before the row loses the name by which others' entries are found.
    audit::erase_person(tx, &ended.id, now)?;
    tx.put(ended.id.as_str().as_bytes(), &erased)?;
    Ok(())
}

/// That another owner is there besides `leaving`.
///
/// # Errors
/// [`Refusal::Conflict`].
pub(super) fn keep_an_owner(tx: &Tx<'_>, leaving: &UserId) -> Result<(), Refusal> {
    let all = tx.scan::<User>(b"", usize::MAX)?;
    if all.iter().any(|(_, u)| u.id != *leaving && u.role == Role::Owner && !u.ended) {
        return Ok(());
    }
    Err(Refusal::Conflict("this is the last owner: make another one first".into()))
}

/// Whether that changed something.
fn rename(user: &mut User, name: &str) -> bool {
    let name = Some(display_name(name)).filter(|n| !n.is_empty()).unwrap_or_else(|| user.username.as_str().to_owned());
    if user.display_name == name {
        return false;
    }
    user.display_name = name;
    true
}

/// Whether an entry of the audit is about this person: as who acted, as who was acted on, or by the name that was tried.
fn names(event: &Event, user: &User) -> bool {
    let (id, tried) = (user.id.as_str(), event.actor.strip_prefix('?'));
    event.actor.contains(id)
        || event.behalf.contains(id)
        || event.object.contains(id)
        || event.detail.contains(id)
        || tried.is_some_and(|t| t == user.username.as_str() || t.strip_prefix("user:") == Some(user.username.as_str()))
}
