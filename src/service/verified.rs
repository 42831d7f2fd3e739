//! Asking for one's own password again before something that a stolen session must not do.

use super::accounts::guessed;
use super::passwords::{Asker, Place};
use super::{Actor, Refusal, Service, SessionToken, audit};
use crate::domain::account::{User, normal_password};
use crate::domain::audit::Outcome;
use crate::store::tables::Session;
use crate::store::{Read, StoreError};
use zeroize::Zeroizing;

/// Who has just shown the password again, and in which session.
#[derive(Clone)]
pub(super) struct Verified {
    user: User,
    session: [u8; 32],
}

impl Verified {
    /// The account as it is now, unless the session has ended or the password has changed since it was shown: who was
    /// quicker has the last word.
    ///
    /// # Errors
    /// [`Refusal::SignedOut`], [`Refusal::WrongPassword`].
    pub(super) fn still<R: Read>(&self, rows: &R) -> Result<User, Refusal> {
        let user = still_verified(rows, &self.user)?.ok_or(Refusal::WrongPassword)?;
        if rows.get::<Session>(&self.session)?.is_none_or(|s| s.user != user.id) {
            return Err(Refusal::SignedOut);
        }
        Ok(user)
    }
}

impl Service {
    /// Checks the password of who acts; `action` is what for, as the audit shows it. Wrong ones count as guesses.
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`], [`Refusal::TooMany`], [`Refusal::SignedOut`], [`Refusal::PeopleOnly`].
    pub(super) async fn verified(
        &self,
        actor: &Actor,
        token: &SessionToken,
        password: Zeroizing<String>,
        action: &str,
    ) -> Result<(Verified, Place), Refusal> {
        let id = actor.user()?;
        let user = self.store.read::<_, StoreError>(|v| v.get::<User>(id.as_str().as_bytes()))?.ok_or(Refusal::SignedOut)?;
        let account = guessed(&user.username.folded());
        let place = self.hash_place(Asker::Account(actor.subject.clone()))?;
        self.attempt(actor.source, &account)?;
        let password = normal_password(&password, &user.username).unwrap_or(password);
        if !self.password_fits(&place, password, Some(user.password_hash.clone())).await? {
            let who = actor.subject.to_string();
            self.audit_refusal(audit::event(who, action, id.as_str(), Outcome::Denied, "wrong_password", "", &actor.via));
            return Err(self.wrong_password(actor.source, &account));
        }
        self.succeeded_attempt(actor.source, &account);
        Ok((Verified { user, session: self.session_key(token) }, place))
    }
}

/// The account as it is now, unless it has ended or has another password than the one that was verified.
pub(super) fn still_verified<R: Read>(rows: &R, verified: &User) -> Result<Option<User>, StoreError> {
    let now = rows.get::<User>(verified.id.as_str().as_bytes())?;
    Ok(now.filter(|u| !u.ended && u.password_hash == verified.password_hash))
}
