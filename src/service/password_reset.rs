//! New passwords for those who have lost theirs: by a code that an owner made, by an owner's own recovery code, or by one
//! that the box's console printed. A code is shown once, kept as a keyed hash, and serves once.

use super::accounts::guessed;
use super::apps::end_apps_of;
use super::passwords::Asker;
use super::rights::{Party, require_role};
use super::sessions::sessions_of;
use super::{Actor, CloseReason, Refusal, Service, SessionToken, audit, keyed_hash, pepper, random};
use crate::domain::account::{Role, User, UserId, Username};
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::binding::Subject;
use crate::domain::code::Code;
use crate::store::tables::{ResetCode, ResetKind, SecondFactor, Session, UserName};
use crate::store::{Read, Store, StoreError, Tx};
use std::net::IpAddr;
use zeroize::Zeroizing;

/// How long a code serves, in ms; a recovery code has no end.
const LIFETIME_MS: u64 = 24 * 3600 * 1000;
/// Under which name guesses at codes are counted: per source, so that nobody's guesses keep anybody else out.
const GUESSED: &str = "reset code";

/// A code just made.
#[derive(Debug)]
pub struct MadeCode {
    /// In groups of four; shown this once.
    pub code: Zeroizing<String>,
    /// Until when it serves, ms since 1970; for ever when empty.
    pub expires: Option<u64>,
}

impl Service {
    /// Makes a code by which somebody else sets a new password; an earlier one for the same account ends.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::NotFound`]; [`Refusal::Conflict`] for one's own account.
    pub async fn make_reset_code(&self, actor: &Actor, user: &UserId) -> Result<MadeCode, Refusal> {
        if actor.user()? == user {
            // A stolen session must not become a new password.
            return Err(Refusal::Conflict("for yourself, change your password, or keep a recovery code".into()));
        }
        let (code, now, who, id) = (fresh()?, self.now(), actor.clone(), user.clone());
        let (key, expires) = (code_key(&self.pepper, &code), Some(now.saturating_add(LIFETIME_MS)));
        self.store
            .write::<_, Refusal, _>(move |tx| {
                require_role(tx, &who, HubAction::ManagePeople, now)?;
                tx.get::<User>(id.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::NotFound("account"))?;
                let by = who.subject.to_string();
                put_code(tx, &key, ResetCode { user: id.clone(), kind: ResetKind::Owner, created_at: now, expires_at: expires, by })?;
                audit::append(tx, now, audit::done(&who, "password.reset_code", id.as_str(), "for a day"))?;
                Ok(())
            })
            .await?;
        Ok(MadeCode { code: code.shown(), expires })
    }

    /// Makes the code by which an owner who has lost the password, and the second factor, gets back in.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::WrongPassword`], [`Refusal::TooMany`].
    pub async fn make_recovery_code(&self, actor: &Actor, token: &SessionToken, password: Zeroizing<String>) -> Result<MadeCode, Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::ManagePeople, self.now()))?;
        let (verified, _place) = self.verified(actor, token, password, "password.recovery_code").await?;
        let (code, now, who) = (fresh()?, self.now(), actor.clone());
        let key = code_key(&self.pepper, &code);
        self.store
            .write::<_, Refusal, _>(move |tx| {
                require_role(tx, &who, HubAction::ManagePeople, now)?;
                let user = verified.still(tx)?;
                let by = who.subject.to_string();
                let row = ResetCode { user: user.id.clone(), kind: ResetKind::Recovery, created_at: now, expires_at: None, by };
                put_code(tx, &key, row)?;
                audit::append(tx, now, audit::done(&who, "password.recovery_code", user.id.as_str(), ""))?;
                Ok(())
            })
            .await?;
        Ok(MadeCode { code: code.shown(), expires: None })
    }

    /// Sets a new password by a code. All sessions of the account end, live connections too, before this returns; the
    /// second factor too when nobody else could switch it off.
    ///
    /// # Errors
    /// [`Refusal::WrongCode`] for a code that is wrong, over or used, or whose account or maker is gone;
    /// [`Refusal::Invalid`] for a password that is not taken, with which the code still serves; [`Refusal::TooMany`].
    pub async fn reset_password(&self, code: &str, password: Zeroizing<String>, source: IpAddr, via: &str) -> Result<(), Refusal> {
        let place = self.hash_place(Asker::Source(source))?;
        self.attempt(source, GUESSED)?;
        let refuse = || {
            self.audit_refusal(audit::event("?", "password.reset", "hub", Outcome::Denied, "wrong_code", "", via));
            self.check_lockout(source, GUESSED).err().unwrap_or(Refusal::WrongCode)
        };
        let Some(key) = Code::parse(code).map(|c| code_key(&self.pepper, &c)) else { return Err(refuse()) };
        let now = self.now();
        let Some((_, user)) = self.store.read::<_, StoreError>(|v| serving(v, &key, now))? else { return Err(refuse()) };
        self.succeeded_attempt(source, GUESSED);
        let password = self.new_password(&place, &password, &user.username).await?;
        let hash = self.hash_password(&place, password).await?;
        let (now, by) = (self.now(), via.to_owned());
        let changed = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                // Hashing takes its time: the code may have served, or its account ended, in the meantime.
                let Some((row, mut user)) = serving(tx, &key, now)? else { return Err(Refusal::WrongCode) };
                user.password_hash.clone_from(&hash);
                tx.put(user.id.as_str().as_bytes(), &user)?;
                forget_codes(tx, &user.id, |kind| kind == row.kind || kind != ResetKind::Recovery)?;
                for (session, _) in sessions_of(tx, &user.id)? {
                    tx.delete::<Session>(&session)?;
                }
                let apps = end_apps_of(tx, &user.id, &format!("user:{}", user.id), now)?;
                let mut detail = "all sessions ended, and apps".to_owned();
                if row.kind.ends_second_factor() && tx.delete::<SecondFactor>(user.id.as_str().as_bytes())? {
                    detail.push_str(", the second factor is off");
                }
                let reason = match row.kind {
                    ResetKind::Owner => "reset_code",
                    ResetKind::Recovery => "recovery_code",
                    ResetKind::Console => "console_code",
                };
                let actor = format!("user:{}", user.id);
                audit::append(tx, now, audit::event(actor, "password.reset", user.id.as_str(), Outcome::Done, reason, detail, &by))?;
                Ok(apps)
            })
            .await;
        let apps = match changed {
            Err(Refusal::WrongCode) => return Err(refuse()),
            other => other?,
        };
        self.succeeded_attempt(source, &guessed(&user.username.folded()));
        self.close_sessions(&Subject::User(user.id), CloseReason::NotAuthorized).await;
        self.apps_ended(&apps).await;
        self.changed(super::Change::Accounts);
        Ok(())
    }
}

/// Makes a code for a hub that is stopped, at the word of whoever holds the box: the last way back in, past the second
/// factor too.
///
/// # Errors
/// [`Refusal::NotFound`] when nobody has this user name.
pub async fn make_console_code(store: &Store, username: &str, now: u64) -> Result<MadeCode, Refusal> {
    let folded = Username::parse(username)?.folded();
    let code = fresh()?;
    let key = code_key(&*pepper(store)?, &code);
    let expires = Some(now.saturating_add(LIFETIME_MS));
    store
        .write::<_, Refusal, _>(move |tx| {
            let name = tx.get::<UserName>(folded.as_bytes())?.ok_or(Refusal::NotFound("account"))?;
            let user = tx.get::<User>(name.id.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::NotFound("account"))?;
            let console = Actor::console();
            let by = console.subject.to_string();
            let row = ResetCode { user: user.id.clone(), kind: ResetKind::Console, created_at: now, expires_at: expires, by };
            put_code(tx, &key, row)?;
            audit::append(tx, now, audit::done(&console, "password.reset_code", user.id.as_str(), "for a day"))?;
            Ok(())
        })
        .await?;
    Ok(MadeCode { code: code.shown(), expires })
}

/// Ends codes of an account, of the kinds that are `meant`.
pub(super) fn forget_codes(tx: &Tx<'_>, user: &UserId, meant: impl Fn(ResetKind) -> bool) -> Result<(), StoreError> {
    for (key, row) in tx.scan::<ResetCode>(b"", usize::MAX)? {
        if row.user == *user && meant(row.kind) {
            tx.delete::<ResetCode>(&key)?;
        }
    }
    Ok(())
}

/// Ends the codes that this account made for others.
pub(super) fn forget_codes_by(tx: &Tx<'_>, maker: &UserId) -> Result<(), StoreError> {
    let by = Subject::User(maker.clone()).to_string();
    for (key, _) in tx.scan::<ResetCode>(b"", usize::MAX)?.into_iter().filter(|(_, row)| row.kind == ResetKind::Owner && row.by == by) {
        tx.delete::<ResetCode>(&key)?;
    }
    Ok(())
}

/// Ends codes that are over.
pub(super) fn sweep_codes(tx: &Tx<'_>, now: u64) -> Result<(), StoreError> {
    for (key, row) in tx.scan::<ResetCode>(b"", usize::MAX)? {
        if row.expires_at.is_some_and(|end| end <= now) {
            tx.delete::<ResetCode>(&key)?;
        }
    }
    Ok(())
}

/// The code and its account, when it serves now: who made it must still be one who may, as else an owner who is sent away
/// would keep a way in.
fn serving<R: Read>(rows: &R, key: &[u8; 32], now: u64) -> Result<Option<(ResetCode, User)>, StoreError> {
    let Some(row) = rows.get::<ResetCode>(key)?.filter(|r| r.expires_at.is_none_or(|end| now < end)) else { return Ok(None) };
    let Some(user) = rows.get::<User>(row.user.as_str().as_bytes())?.filter(|u| !u.ended) else { return Ok(None) };
    let stands = match row.kind {
        ResetKind::Console => true,
        ResetKind::Recovery => user.role == Role::Owner,
        ResetKind::Owner => match Subject::parse(&row.by) {
            Some(by) => Party::load(rows, &by, now)?.authority.may(HubAction::ManagePeople),
            None => false,
        },
    };
    Ok(stands.then_some((row, user)))
}

/// One code of a kind for each account.
fn put_code(tx: &Tx<'_>, key: &[u8; 32], row: ResetCode) -> Result<(), StoreError> {
    forget_codes(tx, &row.user, |kind| kind == row.kind)?;
    tx.put(key, &row)
}

fn fresh() -> Result<Code, Refusal> {
    Ok(Code::from_random(&Zeroizing::new(random()?)))
}

fn code_key(pepper: &[u8; 32], code: &Code) -> [u8; 32] {
    keyed_hash(pepper, b"reset code", code.symbols().as_bytes())
}
