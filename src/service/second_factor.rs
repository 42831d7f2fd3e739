//! The second factor: codes of an authenticator app, each step once, and ten recovery codes, each once. Which code a step
//! has is `domain::totp`'s.

use super::{Actor, Refusal, Service, SessionToken, audit, random};
use crate::domain::account::{User, UserId};
use crate::domain::audit::Outcome;
use crate::domain::code::Code;
use crate::domain::totp;
use crate::store::tables::SecondFactor;
use crate::store::{Read, StoreError, Tx};
use zeroize::Zeroizing;

/// Recovery codes that are made at a time.
const RECOVERY_CODES: usize = 10;

/// A second factor that has begun; shown this once.
pub struct BegunSecondFactor {
    /// The secret as a person types it.
    pub secret: Zeroizing<String>,
    /// The same as an authenticator app reads it from a QR code.
    pub uri: Zeroizing<String>,
}

/// What was sent as a second factor.
#[derive(Clone)]
pub(super) struct Shown {
    code: Zeroizing<String>,
    recovery: Option<[u8; 32]>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The account has none.
    NotNeeded,
    /// A code of the app; it serves no second time.
    Code,
    /// A recovery code; it is gone.
    Recovery,
    /// None was sent.
    Missing,
    /// It is wrong, or served before.
    Wrong,
}

impl Service {
    /// Whether an account signs in with a second factor.
    ///
    /// # Errors
    /// The store's fault.
    pub fn has_second_factor(&self, user: &UserId) -> Result<bool, Refusal> {
        Ok(self.store.read::<_, StoreError>(|v| v.get::<SecondFactor>(user.as_str().as_bytes()))?.is_some_and(|f| f.confirmed))
    }

    pub(super) fn shown_second_factor(&self, text: Zeroizing<String>) -> Shown {
        let recovery = Code::parse(&text).map(|c| self.recovery_hash(&c));
        let code = Zeroizing::new(text.chars().filter(|c| *c != ' ').take(16).collect());
        Shown { code, recovery }
    }

    fn recovery_hash(&self, code: &Code) -> [u8; 32] {
        self.keyed_hash(b"second factor", code.symbols().as_bytes())
    }

    /// Makes the secret of a second factor. It is not asked for before [`Service::confirm_second_factor`].
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`], [`Refusal::TooMany`]; [`Refusal::Conflict`] when there is one already.
    pub async fn begin_second_factor(
        &self,
        actor: &Actor,
        token: &SessionToken,
        password: Zeroizing<String>,
    ) -> Result<BegunSecondFactor, Refusal> {
        let (verified, _place) = self.verified(actor, token, password, "second_factor.begin").await?;
        let (secret, now, who) = (Zeroizing::new(random::<{ totp::SECRET_BYTES }>()?), self.now(), actor.clone());
        let kept = secret.clone();
        let user = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                let user = verified.still(tx)?;
                if is_on(tx, &user.id)? {
                    return Err(Refusal::Conflict("there is a second factor already: remove it first".into()));
                }
                let begun = SecondFactor { secret: *kept, confirmed: false, last_step: None, recovery: Vec::new(), created_at: now };
                tx.put(user.id.as_str().as_bytes(), &begun)?;
                audit::append(tx, now, audit::done(&who, "second_factor.begin", user.id.as_str(), ""))?;
                Ok(user)
            })
            .await?;
        Ok(BegunSecondFactor { secret: totp::shown(&secret), uri: totp::uri(&secret, user.username.as_str()) })
    }

    /// Puts the second factor in force with a first code of the app; the recovery codes, shown this once.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a wrong code, [`Refusal::TooMany`]; [`Refusal::Conflict`] when none has begun.
    pub async fn confirm_second_factor(&self, actor: &Actor, code: Zeroizing<String>) -> Result<Vec<Zeroizing<String>>, Refusal> {
        let id = actor.user()?.clone();
        let counted = format!("second factor {id}");
        self.attempt(actor.source, &counted)?;
        let codes = (0..RECOVERY_CODES).map(|_| Ok(Code::from_random(&Zeroizing::new(random()?)))).collect::<Result<Vec<_>, Refusal>>()?;
        let hashes: Vec<[u8; 32]> = codes.iter().map(|c| self.recovery_hash(c)).collect();
        let (shown, now, who) = (self.shown_second_factor(code), self.now(), actor.clone());
        self.store
            .write::<_, Refusal, _>(move |tx| {
                let key = id.as_str().as_bytes();
                tx.get::<User>(key)?.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
                let begun = tx.get::<SecondFactor>(key)?.filter(|f| !f.confirmed);
                let mut factor =
                    begun.ok_or_else(|| Refusal::Conflict("no second factor waits to be confirmed: begin one first".into()))?;
                let step = totp::step_of(&factor.secret, &shown.code, None, now);
                factor.last_step = Some(step.ok_or_else(|| {
                    Refusal::Invalid("code: it is not the app's present code; check the clock of the phone, then try the next one".into())
                })?);
                factor.confirmed = true;
                factor.recovery.clone_from(&hashes);
                tx.put(key, &factor)?;
                audit::append(tx, now, audit::done(&who, "second_factor.set", id.as_str(), ""))?;
                Ok(())
            })
            .await?;
        self.succeeded_attempt(actor.source, &counted);
        Ok(codes.iter().map(Code::shown).collect())
    }

    /// Switches the second factor off, or drops one that has only begun.
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`], [`Refusal::TooMany`]; [`Refusal::Conflict`] when there is none.
    pub async fn remove_second_factor(&self, actor: &Actor, token: &SessionToken, password: Zeroizing<String>) -> Result<(), Refusal> {
        let (verified, _place) = self.verified(actor, token, password, "second_factor.remove").await?;
        let (now, who) = (self.now(), actor.clone());
        self.store
            .write::<_, Refusal, _>(move |tx| {
                let user = verified.still(tx)?;
                if !tx.delete::<SecondFactor>(user.id.as_str().as_bytes())? {
                    return Err(Refusal::Conflict("there is no second factor".into()));
                }
                audit::append(tx, now, audit::done(&who, "second_factor.remove", user.id.as_str(), ""))?;
                Ok(())
            })
            .await
    }

    /// Audits a second factor that was refused.
    pub(super) fn second_factor_refused(&self, user: &UserId, via: &str) {
        let who = format!("?user:{user}");
        self.audit_refusal(audit::event(who, "session.open", user.as_str(), Outcome::Denied, "wrong_second_factor", "", via));
    }
}

/// Whether an account signs in with a second factor.
pub(super) fn is_on<R: Read>(rows: &R, user: &UserId) -> Result<bool, StoreError> {
    Ok(rows.get::<SecondFactor>(user.as_str().as_bytes())?.is_some_and(|f| f.confirmed))
}

/// Takes what was sent, in the transaction that lets its sender in: so that of two with the same code one is let in.
pub(super) fn take(tx: &Tx<'_>, user: &UserId, shown: Option<&Shown>, now: u64) -> Result<Taken, StoreError> {
    let key = user.as_str().as_bytes();
    let Some(mut factor) = tx.get::<SecondFactor>(key)?.filter(|f| f.confirmed) else { return Ok(Taken::NotNeeded) };
    let Some(shown) = shown else { return Ok(Taken::Missing) };
    let taken = if let Some(step) = totp::step_of(&factor.secret, &shown.code, factor.last_step, now) {
        factor.last_step = Some(step);
        Taken::Code
    } else {
        let left = factor.recovery.len();
        factor.recovery.retain(|known| shown.recovery.is_none_or(|hash| !bool::from(subtle::ConstantTimeEq::ct_eq(&hash[..], &known[..]))));
        if factor.recovery.len() == left {
            return Ok(Taken::Wrong);
        }
        Taken::Recovery
    };
    tx.put(key, &factor)?;
    Ok(taken)
}
