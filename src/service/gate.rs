//! Who is at the door: devices by counter token, operational secret or certificate, people by session token, apps and
//! service accounts by theirs; and the way back for a device that has lost its counter.

use super::accounts::shown_name;
use super::app_tokens::leave_of;
use super::devices::certificate_key;
use super::{Actor, Refusal, Service, SessionToken, audit, lock, random};
use crate::domain::account::Username;
use crate::domain::audit::{Event, Outcome};
use crate::domain::binding::Subject;
use crate::domain::clone::{self, Side};
use crate::domain::device::{Household, Registered, SignInCounter, Standing};
use crate::domain::ids::DeviceId;
use crate::domain::keys::{COUNTER_MAX, HubScopedKey, OperationalSecret, Token, verify_rebase_tag};
use crate::store::tables::{Credential, IssuedCertificate, LetInBy, StoredDeviceKey, UserName};
use crate::store::{Read, StoreError};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// How long a re-base challenge serves, in ms.
const CHALLENGE_MS: u64 = 30_000;
/// Challenges remembered at once.
const CHALLENGES: usize = 1_000;
/// How far above the floor a re-base may set the counter. Ample for a device that counts in milliseconds since 1970; one
/// faulty answer cannot use up the 2⁶³ there are.
const REBASE_STEP: u64 = 1 << 40;

/// What a client shows at CONNECT.
pub struct SignInAttempt {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Zeroizing<String>,
    /// Device id and SHA-256 of a client certificate that the TLS layer has verified.
    pub certificate: Option<(String, [u8; 32])>,
    /// SHA-256 of the server's SubjectPublicKeyInfo in this handshake; `None` without TLS.
    pub spki: Option<[u8; 32]>,
    /// From where.
    pub source: IpAddr,
}

/// Who it is.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The principal.
    pub subject: Subject,
    /// It may only re-base its counter.
    pub rebase: bool,
    /// As whom it acts on devices (a device: on others).
    pub actor: Option<Actor>,
    /// Protocol and source, for the audit.
    pub via: String,
    /// The policy's number when the sign-in began: when it has moved on, [`Service::still_stands`] asks again.
    pub epoch: u64,
    /// For people, apps and services: the key of the session or token that let them in.
    session: Option<[u8; 32]>,
    /// For devices: the claim under which it came in, as [`Household::claimed_at`] was in the same transaction.
    claimed_at: Option<u64>,
    /// For devices with a certificate: its SHA-256.
    certificate: Option<[u8; 32]>,
    /// Which sign-in it is, and what it proves when another takes its place.
    pub(super) side: Side,
    /// From where.
    pub(super) source: IpAddr,
}

/// Why it may not come in. Unknown identities and wrong proofs are one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInRefusal {
    /// Unknown, wrong, or used before.
    BadCredentials,
    /// Known, proven, and shut out.
    Banned,
    /// The hub cannot answer now.
    Unavailable,
    /// Another hub has taken this one's place.
    Retired,
}

/// A challenge to re-base, and until when it serves (monotonic ms).
pub(super) struct Challenge {
    nonce: [u8; 32],
    until: u64,
}

impl SignedIn {
    /// What let it in.
    #[must_use]
    pub fn let_in_by(&self) -> LetInBy {
        let source = self.actor.as_ref().map_or(self.source, |actor| actor.source);
        LetInBy { session: self.session, claimed_at: self.claimed_at, certificate: self.certificate, source }
    }

    /// A device that came in under this claim, with what it was handed.
    fn device(id: DeviceId, via: String, source: IpAddr, claimed_at: u64) -> SignedIn {
        SignedIn {
            subject: Subject::Device(id.clone()),
            rebase: false,
            actor: Some(Actor::device(id, via.clone(), source)),
            via,
            epoch: 0,
            session: None,
            claimed_at: Some(claimed_at),
            certificate: None,
            side: next_side(clone::Proof::Handed),
            source,
        }
    }

    /// Whether what let it in ends without use.
    #[must_use]
    pub fn ends_unused(&self) -> bool {
        self.actor.as_ref().is_some_and(Actor::ends_unused)
    }
}

enum Proof {
    Token { counter: u64, digest: [u8; 32] },
    Secret { hash: [u8; 32] },
    Certificate { fingerprint: [u8; 32] },
}

enum Verdict {
    In { completed: bool, claimed_at: Option<u64>, proof: clone::Proof },
    Rebase { claimed_at: Option<u64>, reason: &'static str },
    Replayed,
    Wrong,
    Banned(Standing),
}

impl Service {
    /// Lets in who proves who it is. A completed claim and an accepted counter are committed before this returns.
    ///
    /// # Errors
    /// See [`SignInRefusal`]; each is audited with its true reason.
    pub async fn sign_in(self: &Arc<Self>, attempt: SignInAttempt) -> Result<SignedIn, SignInRefusal> {
        if self.is_retired() {
            return Err(SignInRefusal::Retired);
        }
        let via = format!("mqtt {}", attempt.source);
        let epoch = self.epoch();
        self.recognise(attempt, via).await.map(|who| SignedIn { epoch, ..who })
    }

    /// Whether who signed in may still be here: the device is not shut out, and under the same claim and certificate; the
    /// person's session lives.
    #[must_use]
    pub fn still_stands(&self, who: &SignedIn) -> bool {
        self.stands(&who.subject, &who.let_in_by())
    }

    /// The same of who was let in at an earlier time, perhaps by an earlier run of the hub.
    #[must_use]
    pub fn stands(&self, subject: &Subject, by: &LetInBy) -> bool {
        if self.is_retired() {
            return false;
        }
        let stands = self.store.read::<_, StoreError>(|v| match subject {
            Subject::Device(id) => {
                let household = v.get::<Household>(id.as_str().as_bytes())?.unwrap_or_default();
                let certified = by.certificate.map_or(Ok(true), |print| certificate_stands(v, id, &print, self.now()))?;
                Ok(household.standing.admits() && household.claimed_at == by.claimed_at && certified)
            }
            subject => {
                let Some(key) = &by.session else { return Ok(false) };
                Ok(match subject {
                    Subject::User(_) => self.session_holder(v, key, by.source)?.is_some(),
                    Subject::Service(_) => self.service_of_token(v, key, by.source)?.is_some(),
                    Subject::App(id) => leave_of(v, key, self.now())?.is_some_and(|leave| leave.id == *id),
                    Subject::Device(_) => false,
                })
            }
        });
        stands.unwrap_or(false)
    }

    async fn recognise(self: &Arc<Self>, attempt: SignInAttempt, via: String) -> Result<SignedIn, SignInRefusal> {
        if let Some((device, fingerprint)) = &attempt.certificate {
            return match DeviceId::parse(device) {
                Ok(id) => self.admit(id, Proof::Certificate { fingerprint: *fingerprint }, &attempt, via).await,
                Err(_) => Err(self.refuse(device, "malformed_id", &via)),
            };
        }
        let account: String = attempt.username.chars().take(80).collect();
        // No back-off here: what is shown has at least 128 bits, and a neighbour that shows rubbish in a device's name
        // must not keep the device out. How often a source may try at all is the listener's limit.
        if let Some(name) = attempt.username.strip_prefix("user:") {
            return self.admit_person(name, &attempt, via);
        }
        if let Some(id) = attempt.username.strip_prefix("service:") {
            return self.admit_service(id, &attempt, via);
        }
        if let Some(id) = attempt.username.strip_prefix("app:") {
            return self.admit_app(id, &attempt, via);
        }
        // SDKs for AWS IoT put their own name and version behind a question mark.
        let name = attempt.username.split('?').next().unwrap_or_default();
        let Ok(id) = DeviceId::parse(name) else {
            return Err(self.refuse(&account, "malformed_id", &via));
        };
        if let Some(secret) = OperationalSecret::from_password(&attempt.password) {
            let hash = self.keyed_hash(b"operational", secret.as_bytes());
            if let Some(paired) = self.take_pending(&id, &hash) {
                let claimed_at = self.admit_paired(paired, &via).await?;
                return Ok(SignedIn::device(id, via, attempt.source, claimed_at));
            }
            return self.admit(id, Proof::Secret { hash }, &attempt, via).await;
        }
        let Ok(token) = Token::parse(&attempt.password) else {
            return Err(self.refuse(&account, "no_credential", &via));
        };
        let key = self.store.read::<_, StoreError>(|v| v.get::<StoredDeviceKey>(id.as_str().as_bytes()));
        let key = match key {
            Ok(Some(key)) => HubScopedKey::from_bytes(key.0),
            Ok(None) => return Err(self.refuse(&account, "unknown_identity", &via)),
            Err(_) => return Err(SignInRefusal::Unavailable),
        };
        // The tag before the counter: an invalid tag is evidence of nothing.
        let spki = attempt.spki.as_ref().map_or(&[][..], |s| &s[..]);
        if !token.verify(&key, &self.hub.id, &id, spki) {
            return Err(self.refuse(&account, "wrong_tag", &via));
        }
        let digest = Sha256::digest(attempt.password.as_bytes()).into();
        self.admit(id, Proof::Token { counter: token.counter(), digest }, &attempt, via).await
    }

    async fn admit(&self, id: DeviceId, proof: Proof, attempt: &SignInAttempt, via: String) -> Result<SignedIn, SignInRefusal> {
        let (device, now, through) = (id.clone(), self.now(), via.clone());
        let certificate = if let Proof::Certificate { fingerprint } = &proof { Some(*fingerprint) } else { None };
        let verdict = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                let key = device.as_str().as_bytes();
                if tx.get::<Registered>(key)?.is_none() {
                    return Ok(Verdict::Wrong);
                }
                let mut household = tx.get::<Household>(key)?.unwrap_or_default();
                let banned = !household.standing.admits();
                let (mut completed, mut proved) = (false, clone::Proof::Handed);
                match &proof {
                    Proof::Certificate { fingerprint } => {
                        if !certificate_stands(tx, &device, fingerprint, now)? {
                            return Ok(Verdict::Wrong);
                        }
                    }
                    Proof::Secret { hash } => {
                        let Some(mut credential) = tx.get::<Credential>(key)? else { return Ok(Verdict::Wrong) };
                        if !bool::from(credential.keyed_hash.ct_eq(hash)) {
                            return Ok(Verdict::Wrong);
                        }
                        if !banned && household.standing == Standing::Claimed {
                            household.standing = Standing::Ready;
                            household.version += 1;
                            tx.put(key, &household)?;
                            credential.undelivered = None;
                            tx.put(key, &credential)?;
                            let actor = format!("device:{device}");
                            let e =
                                audit::event(actor, "claim.complete", device.as_str(), Outcome::Done, "operational_secret", "", &through);
                            audit::append(tx, now, e)?;
                            completed = true;
                        }
                    }
                    Proof::Token { counter, digest } => {
                        let last = tx.get::<SignInCounter>(key)?.unwrap_or_default();
                        if bool::from(last.last_token.ct_eq(digest)) {
                            return Ok(Verdict::Replayed);
                        }
                        if banned {
                            return Ok(Verdict::Banned(household.standing));
                        }
                        // A token that was used at the hub before this one must not serve again here.
                        if last.restored || *counter <= last.counter {
                            let reason = if last.restored { "restored_counter" } else { "stale_counter" };
                            return Ok(Verdict::Rebase { claimed_at: household.claimed_at, reason });
                        }
                        tx.put(key, &SignInCounter { counter: *counter, last_token: digest.to_vec(), ..SignInCounter::default() })?;
                        proved = clone::Proof::Token { rebased: last.rebased };
                    }
                }
                Ok(if banned {
                    Verdict::Banned(household.standing)
                } else {
                    Verdict::In { completed, claimed_at: household.claimed_at, proof: proved }
                })
            })
            .await
            .map_err(|error| {
                tracing::error!(%error, "a sign-in could not be recorded");
                SignInRefusal::Unavailable
            })?;
        let subject = Subject::Device(id.clone());
        let actor = Some(Actor::device(id.clone(), via.clone(), attempt.source));
        let account = attempt.username.clone();
        match verdict {
            Verdict::In { completed, claimed_at, proof } => {
                if completed {
                    // What it may do to others begins with the completed claim.
                    self.policy_changed().await;
                    self.changed(super::Change::Device { id });
                }
                let (side, source) = (next_side(proof), attempt.source);
                Ok(SignedIn { subject, rebase: false, actor, via, epoch: 0, session: None, claimed_at, certificate, side, source })
            }
            Verdict::Rebase { claimed_at, reason } => {
                let e = audit::event(subject.to_string(), "device.rebase", id.as_str(), Outcome::Allowed, reason, "", &via);
                self.audit_refusal(e);
                let (side, source) = (next_side(clone::Proof::Handed), attempt.source);
                Ok(SignedIn { subject, rebase: true, actor: None, via, epoch: 0, session: None, claimed_at, certificate, side, source })
            }
            Verdict::Replayed => Err(self.refuse(&account, "replayed_token", &via)),
            Verdict::Wrong => Err(self.refuse(&account, "wrong_credential", &via)),
            Verdict::Banned(standing) => {
                let reason = if standing == Standing::Quarantined { "quarantined" } else { "suspended" };
                self.audit_refusal(audit::event(subject.to_string(), "device.sign_in", id.as_str(), Outcome::Denied, reason, "", &via));
                Err(SignInRefusal::Banned)
            }
        }
    }

    fn admit_person(&self, name: &str, attempt: &SignInAttempt, via: String) -> Result<SignedIn, SignInRefusal> {
        let folded = |n: &str| Username::parse(n).map(|u| u.folded()).ok();
        let is_named = |actor: &Actor| self.me(actor).is_ok_and(|me| folded(&me.username) == folded(name));
        self.admit_token(attempt, via, is_named)
    }

    fn admit_service(&self, id: &str, attempt: &SignInAttempt, via: String) -> Result<SignedIn, SignInRefusal> {
        let named = Subject::Service(id.to_owned());
        self.admit_token(attempt, via, |actor| actor.subject == named)
    }

    fn admit_app(&self, id: &str, attempt: &SignInAttempt, via: String) -> Result<SignedIn, SignInRefusal> {
        let named = Subject::App(id.to_owned());
        self.admit_token(attempt, via, |actor| actor.subject == named)
    }

    /// Lets in whoever holds a token of the one that `is_named`.
    fn admit_token(&self, attempt: &SignInAttempt, via: String, is_named: impl Fn(&Actor) -> bool) -> Result<SignedIn, SignInRefusal> {
        let token = SessionToken::new(&attempt.password);
        let Some(actor) = self.actor(&token, "mqtt", attempt.source).ok().filter(is_named) else {
            return Err(self.refuse(&attempt.username, "no_session", &via));
        };
        Ok(SignedIn {
            subject: actor.subject.clone(),
            rebase: false,
            actor: Some(actor),
            via,
            epoch: 0,
            session: Some(self.token_key(&token)),
            claimed_at: None,
            certificate: None,
            side: next_side(clone::Proof::Handed),
            source: attempt.source,
        })
    }

    /// Notes that who signed in has sent something: so a token that ends without use goes on. One that is over stays so.
    pub fn heard_from(&self, who: &SignedIn) {
        if let Some(key) = who.session.filter(|_| who.ends_unused() && self.still_stands(who)) {
            self.note_use(key);
        }
    }

    fn refuse(&self, account: &str, reason: &str, via: &str) -> SignInRefusal {
        let known = DeviceId::parse(account.split('?').next().unwrap_or_default()).ok().filter(|id| {
            let known = self.store.read::<_, StoreError>(|v| v.get::<Registered>(id.as_str().as_bytes()));
            known.is_ok_and(|row| row.is_some())
        });
        let (tried, object) = match known {
            Some(id) => (id.to_string(), id.to_string()),
            None => (self.shown_account(account), "hub".to_owned()),
        };
        self.audit_refusal(audit::event(format!("?{tried}"), "device.sign_in", &object, Outcome::Denied, reason, "", via));
        SignInRefusal::BadCredentials
    }

    /// An account that was tried and is no device's, as the audit shows it: whole if it is the name of an account, else only
    /// the beginning, as clients put tokens and passwords there, too.
    fn shown_account(&self, account: &str) -> String {
        let Some(name) = account.strip_prefix("user:") else { return shown_name(account, false) };
        let folded = Username::parse(name).map(|n| n.folded()).unwrap_or_default();
        let known = self.store.read::<_, StoreError>(|v| v.get::<UserName>(folded.as_bytes())).is_ok_and(|n| n.is_some());
        format!("user:{}", shown_name(name, known))
    }

    /// Audits a publish that the policy refused.
    pub fn publish_denied(&self, who: &SignedIn, topic: &str) {
        self.audit_topic(who, self.refused_publish(who, topic));
    }

    /// Audits a will that would have been a command.
    pub fn will_refused(&self, who: &SignedIn, topic: &str) {
        let subject = who.subject.to_string();
        self.audit_topic(who, audit::event(subject, "topic.publish", topic, Outcome::Denied, "command_in_a_will", "", &who.via));
    }

    /// Audits a subscription that the policy refused.
    pub fn subscribe_denied(&self, who: &SignedIn, filter: &str) {
        let who_text = who.subject.to_string();
        self.audit_topic(who, audit::event(who_text, "topic.subscribe", filter, Outcome::Denied, "not_its_topic", "", &who.via));
    }

    fn audit_topic(&self, who: &SignedIn, event: Event) {
        self.audit_refusal(who.actor.as_ref().map_or(event.clone(), |actor| audit::on_behalf(actor, event)));
    }

    /// A fresh challenge for a device in a re-base session, as the message to publish to it.
    ///
    /// # Errors
    /// The store's fault, or no randomness.
    pub fn rebase_challenge(&self, id: &DeviceId) -> Result<Vec<u8>, Refusal> {
        let floor = self.store.read::<_, StoreError>(|v| v.get::<SignInCounter>(id.as_str().as_bytes()))?.unwrap_or_default().counter;
        let (nonce, now) = (random::<32>()?, self.clock.monotonic_ms());
        let mut challenges = lock(&self.challenges);
        challenges.retain(|_, c| c.until > now);
        if challenges.len() >= CHALLENGES {
            return Err(Refusal::TooMany(CHALLENGE_MS));
        }
        challenges.insert(id.clone(), Challenge { nonce, until: now + CHALLENGE_MS });
        let body = serde_json::json!({"challenge": BASE64URL_NOPAD.encode(&nonce), "floor": floor});
        Ok(body.to_string().into_bytes())
    }

    /// Takes the answer to a challenge; the new counter is committed when this returns.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for anything but the right answer in time; the challenge is spent either way.
    pub async fn rebase(&self, id: &DeviceId, payload: &[u8], via: &str) -> Result<(), Refusal> {
        #[derive(Deserialize)]
        struct Answer {
            counter: u64,
            tag: String,
        }
        let wrong = || Refusal::Invalid("the answer to the challenge is wrong".into());
        let challenge = lock(&self.challenges).remove(id).filter(|c| c.until > self.clock.monotonic_ms()).ok_or_else(wrong)?;
        let answer: Answer = serde_json::from_slice(payload).map_err(|_| wrong())?;
        let tag = BASE64URL_NOPAD.decode(answer.tag.as_bytes()).map_err(|_| wrong())?;
        let key = self.store.read::<_, StoreError>(|v| v.get::<StoredDeviceKey>(id.as_str().as_bytes()))?.ok_or_else(wrong)?;
        let key = HubScopedKey::from_bytes(key.0);
        if answer.counter > COUNTER_MAX || !verify_rebase_tag(&key, &self.hub.id, id, &challenge.nonce, answer.counter, &tag) {
            self.audit_refusal(audit::event(format!("device:{id}"), "device.rebase", id.as_str(), Outcome::Denied, "wrong_tag", "", via));
            return Err(wrong());
        }
        let (device, now, via) = (id.clone(), self.now(), via.to_owned());
        self.store
            .write(move |tx| {
                let key = device.as_str().as_bytes();
                let last = tx.get::<SignInCounter>(key)?.unwrap_or_default();
                // Of a device that never signed in before the hub took another's place, no floor is known.
                let step = if last.restored && last.counter == 0 { COUNTER_MAX } else { REBASE_STEP };
                if answer.counter < last.counter || answer.counter - last.counter > step {
                    return Err(Refusal::Invalid("the counter is below the floor, or too far above it".into()));
                }
                // It is the hub that has lost the counter then, and not the device.
                let rebased = !last.restored;
                tx.put(key, &SignInCounter { counter: answer.counter, last_token: last.last_token, rebased, restored: false })?;
                let detail = format!("counter {}", answer.counter);
                if rebased {
                    super::clones::counter_lost(tx, &device, now, &via)?;
                }
                audit::append(
                    tx,
                    now,
                    audit::event(format!("device:{device}"), "device.rebase", device.as_str(), Outcome::Done, "challenge", detail, &via),
                )?;
                Ok(())
            })
            .await
    }
}

/// A number that no other sign-in of this run has.
fn next_side(proof: clone::Proof) -> Side {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Side { number: NEXT.fetch_add(1, Ordering::Relaxed), proof }
}

/// Whether the certificate was issued to this device, not taken back since, and is not over.
fn certificate_stands<R: Read>(rows: &R, id: &DeviceId, fingerprint: &[u8; 32], now: u64) -> Result<bool, StoreError> {
    Ok(rows.get::<IssuedCertificate>(&certificate_key(id, fingerprint))?.is_some_and(|c| now < c.expires_at))
}
