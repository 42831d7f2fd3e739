//! How an app shows who it is: access tokens `hka1.…`, at REST and at the gate. They are kept as keyed hashes, and hold no
//! longer than the leave they belong to; the leave holds no longer than its person may give one.

use super::rights::Party;
use super::{Actor, Refusal, Service, SessionToken, lock, random};
use crate::domain::app::Authorization;
use crate::domain::authority::Authority;
use crate::domain::binding::Subject;
use crate::store::tables::{AppLastUsed, AppToken};
use crate::store::{Read, StoreError, Tx};
use data_encoding::BASE64URL_NOPAD;
use std::collections::HashMap;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// What such a token begins with, so that leaked ones can be searched for.
pub(super) const PREFIX: &str = "hka1.";
/// Access tokens of one leave: the oldest gives way to a further one.
const PER_APP: usize = 20;
/// When an app was last heard is written at most so often, in ms.
const LAST_USED_EVERY_MS: u64 = 10 * 60 * 1000;
/// Apps remembered as heard lately.
const HEARD: usize = 10_000;

/// When apps were last written down as heard; by monotonic ms.
pub(super) type Heard = HashMap<String, u64>;

impl Service {
    pub(super) fn new_app_token(&self) -> Result<SessionToken, Refusal> {
        let raw = Zeroizing::new(random::<32>()?);
        Ok(SessionToken::new(&Zeroizing::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(raw.as_slice())))))
    }

    pub(super) fn app_token_key(&self, token: &SessionToken) -> [u8; 32] {
        self.keyed_hash(b"app token", token.reveal().as_bytes())
    }

    /// The app that holds `token`: it does nothing to the hub, and to devices what its bindings and its person's allow.
    pub(super) fn app_of(&self, token: &SessionToken, via: String, source: IpAddr) -> Result<Actor, Refusal> {
        let (key, now) = (self.app_token_key(token), self.now());
        let found = self.store.read::<_, StoreError>(|v| leave_of(v, &key, now))?.ok_or(Refusal::SignedOut)?;
        self.heard(&found.id);
        Ok(Actor { subject: Subject::App(found.id), behalf: Some(found.user), authority: Authority::Nothing, via, source })
    }

    /// Notes that an app was heard; now and then it is written down.
    fn heard(&self, app: &str) {
        let (now, at) = (self.clock.monotonic_ms(), self.now());
        {
            let mut heard = lock(&self.apps_heard);
            if heard.get(app).is_some_and(|last| now.saturating_sub(*last) < LAST_USED_EVERY_MS) {
                return;
            }
            if heard.len() >= HEARD {
                heard.retain(|_, last| now.saturating_sub(*last) < LAST_USED_EVERY_MS);
            }
            if heard.len() >= HEARD {
                return;
            }
            heard.insert(app.to_owned(), now);
        }
        let (store, app) = (self.store.clone(), app.to_owned());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let written = store
                .write::<_, StoreError, _>(move |tx| {
                    // It may have ended meanwhile.
                    if tx.get::<Authorization>(app.as_bytes())?.is_some_and(|l| !l.ended) {
                        tx.put(app.as_bytes(), &AppLastUsed { at })?;
                    }
                    Ok(())
                })
                .await;
            if let Err(error) = written {
                tracing::warn!(%error, "when an app was last heard could not be written");
            }
        });
    }
}

/// The leave that the token with this key acts under, if it holds.
pub(super) fn leave_of<R: Read>(rows: &R, key: &[u8; 32], now: u64) -> Result<Option<Authorization>, StoreError> {
    let Some(token) = rows.get::<AppToken>(key)?.filter(|t| now < t.expires_at) else { return Ok(None) };
    let active = Party::load(rows, &Subject::App(token.app.clone()), now)?.active;
    if active { rows.get::<Authorization>(token.app.as_bytes()) } else { Ok(None) }
}

/// Writes an access token. Beyond [`PER_APP`] of its leave the oldest end: their keys, whose connections end too.
pub(super) fn put_app_token(tx: &Tx<'_>, key: &[u8; 32], token: &AppToken) -> Result<Vec<[u8; 32]>, StoreError> {
    let mut known = tx.scan::<AppToken>(b"", usize::MAX)?;
    known.retain(|(_, t)| t.app == token.app);
    known.sort_by_key(|(_, t)| t.created_at);
    let mut ended = Vec::new();
    for (old, _) in known.iter().take((known.len() + 1).saturating_sub(PER_APP)) {
        tx.delete::<AppToken>(old)?;
        ended.extend(<[u8; 32]>::try_from(old.as_slice()));
    }
    tx.put(key, token)?;
    Ok(ended)
}
