//! Linking a cloud, changing what it may have, and unlinking it: an owner's act, each in the audit.

use super::age::Heard;
use super::{CloudStatus, LinkTarget, LookProblem};
use crate::domain::account::UserId;
use crate::domain::authority::HubAction;
use crate::domain::ids::BrandId;
use crate::domain::mirror::statement::{self, LinkStatement, UnlinkStatement};
use crate::domain::mirror::wire::{CloudView, Consent, Kind, Linked};
use crate::service::rights::require_role;
use crate::service::{Actor, Change, Refusal, Service, audit, lock};
use crate::store::tables::{
    HubSecrets, MirrorLink, MirrorProgress, MirrorSwitch, NoticeRow, OfferRow, OutboxRow, PreparedBatch, RecoveryKeys, Resync,
};
use crate::store::{Read, StoreError, Tx};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;
use std::collections::BTreeSet;

/// Characters of a URL at most.
const URL_MAX: usize = 200;
/// Characters of a region and of a link code at most.
const WORD_MAX: usize = 64;

/// A cloud to link.
#[derive(Clone, Debug)]
pub struct NewLink {
    /// Its public URL.
    pub url: String,
    /// Its Ed25519 public key, base64url, as an owner has confirmed it.
    pub key: String,
    /// Its region.
    pub region: String,
    /// What is mirrored, and what may come from outside.
    pub consent: BTreeSet<Consent>,
    /// Makers whose identities it brings, and that are believed from now on.
    pub brands: Vec<String>,
    /// What the cloud asks for, if it does.
    pub code: String,
}

/// The link that stands, or that is being ended.
pub(super) fn any_link<R: Read>(rows: &R) -> Result<Option<MirrorLink>, StoreError> {
    rows.get::<MirrorLink>(MirrorLink::ROW)
}

/// The link that stands.
pub(super) fn link_in<R: Read>(rows: &R) -> Result<Option<MirrorLink>, StoreError> {
    Ok(any_link(rows)?.filter(|link| !link.ending))
}

/// How far the mirror is.
pub(super) fn progress_in<R: Read>(rows: &R) -> Result<MirrorProgress, StoreError> {
    Ok(rows.get::<MirrorProgress>(MirrorProgress::ROW)?.unwrap_or_default())
}

/// Whether changes are noted, and the next number.
pub(super) fn switch_in<R: Read>(rows: &R) -> Result<MirrorSwitch, StoreError> {
    Ok(rows.get::<MirrorSwitch>(MirrorSwitch::ROW)?.unwrap_or_default())
}

fn secrets_in<R: Read>(rows: &R) -> Result<HubSecrets, Refusal> {
    rows.get::<HubSecrets>(HubSecrets::ROW)?.ok_or_else(|| Refusal::Conflict("the hub has no keys of its own yet: restart it".into()))
}

/// Notes that kinds are to be sent anew, each as a whole.
pub(super) fn send_anew(progress: &mut MirrorProgress, kinds: impl IntoIterator<Item = Kind>) {
    for kind in kinds {
        progress.resync.retain(|r| r.kind != kind);
        progress.resync.push(Resync { kind, begun: false, table: 0, after: Vec::new() });
    }
}

/// Gives up a batch that may have gone out. Its number is used: were it used for another content, the cloud could take the
/// one for the other.
pub(super) fn drop_prepared(tx: &Tx<'_>) -> Result<(), StoreError> {
    if tx.delete::<PreparedBatch>(PreparedBatch::ROW)? {
        let mut switch = switch_in(tx)?;
        switch.batch += 1;
        tx.put(MirrorSwitch::ROW, &switch)?;
    }
    Ok(())
}

impl Service {
    /// What a cloud says of itself, for an owner who may want to link it; and whether it is the one that is linked.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::Invalid`] for no URL; [`Refusal::Cloud`] when it cannot be looked at.
    pub async fn look_at_cloud(&self, actor: &Actor, url: &str) -> Result<(CloudView, bool), Refusal> {
        let now = self.now();
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, now))?;
        let url = checked_url(url)?;
        let view = self.looked_at(&url).await?;
        let linked = self.store.read::<_, StoreError>(|v| link_in(v))?;
        let trusted = linked.is_some_and(|link| BASE64URL_NOPAD.encode(&link.key) == view.key && link.url == view.url);
        Ok((view, trusted))
    }

    async fn looked_at(&self, url: &str) -> Result<CloudView, Refusal> {
        let look = self.mirror.look.get().ok_or_else(|| {
            Refusal::Cloud(LookProblem {
                code: "off",
                detail: "this hub does not talk to clouds".into(),
                next: "Switch it on in the hub's configuration ([cloud] enabled), and restart the hub.".into(),
            })
        })?;
        let view = look.look(url).await.map_err(Refusal::Cloud)?;
        *lock(&self.mirror.looked) = Some(view.clone());
        Ok(view)
    }

    /// Links a cloud, or changes the link to the same one. From then on what is agreed to is mirrored, beginning with all
    /// there is.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::PeopleOnly`]; [`Refusal::Invalid`] for what is no cloud; [`Refusal::Conflict`]
    /// for another cloud than the one that is linked, or than the one that answers; [`Refusal::RecoveryCodeFirst`] when
    /// the bundle is agreed to and there is no recovery code.
    pub async fn link_cloud(&self, actor: &Actor, new: NewLink) -> Result<CloudStatus, Refusal> {
        actor.user()?;
        let now = self.now();
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, now))?;
        let url = checked_url(&new.url)?;
        let key = BASE64URL_NOPAD.decode(new.key.as_bytes()).ok().and_then(|k| <[u8; 32]>::try_from(k).ok());
        let key = key.ok_or_else(|| Refusal::Invalid("key: 32 bytes in base64url, as the cloud shows it".into()))?;
        for (what, text) in [("region", &new.region), ("code", &new.code)] {
            if text.chars().count() > WORD_MAX || text.chars().any(char::is_control) {
                return Err(Refusal::Invalid(format!("{what}: at most {WORD_MAX} characters on one line")));
            }
        }
        let view = self.view_of_cloud(&url, &new).await?;
        let brands = brands_of(view.as_ref(), &new.brands)?;
        self.store.read(|v| may_link(v, &url, &key, &new.consent))?;
        for (brand, fingerprint) in brands {
            self.trust_brand(actor, brand, &fingerprint).await?;
        }
        let name: String = view.map(|v| v.name).unwrap_or_default().chars().filter(|c| !c.is_control()).take(WORD_MAX).collect();
        let who = actor.clone();
        let _one = self.mirror.taking.lock().await;
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                let known = may_link(tx, &url, &key, &new.consent)?;
                let epoch = tx.get::<HubSecrets>(HubSecrets::ROW)?.map_or(1, |secrets| secrets.epoch);
                let link = MirrorLink {
                    url: url.clone(),
                    name: name.clone(),
                    key,
                    region: new.region.clone(),
                    consent: new.consent.clone(),
                    code: new.code.clone(),
                    linked_at: known.as_ref().map_or(now, |k| k.linked_at),
                    linked_by: who.subject.to_string(),
                    ending: false,
                };
                if known.is_none() {
                    forget_mirror(tx)?;
                }
                tx.put(MirrorLink::ROW, &link)?;
                begin(tx, epoch)?;
                let event = audit::done(&who, "cloud.link", "hub", format!("{} in {}: {}", link.url, link.region, words(&link.consent)));
                audit::append(tx, now, event)?;
                Ok::<_, Refusal>(())
            })
            .await?;
        self.mirror_changed().await?;
        self.cloud_status(actor)
    }

    /// Changes what the cloud may have and ask for. What it may not have any more, it is told to forget.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::Conflict`] when no cloud is linked; [`Refusal::RecoveryCodeFirst`].
    pub async fn change_consent(&self, actor: &Actor, consent: BTreeSet<Consent>) -> Result<CloudStatus, Refusal> {
        actor.user()?;
        let (who, now) = (actor.clone(), self.now());
        // What comes after this returns is decided by what is agreed to now.
        let _one = self.mirror.taking.lock().await;
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                let mut link = link_in(tx)?.ok_or_else(not_linked)?;
                bundle_needs_code(tx, &consent)?;
                if link.consent == consent {
                    return Ok(());
                }
                link.consent.clone_from(&consent);
                tx.put(MirrorLink::ROW, &link)?;
                // What is on its way may hold what is not agreed to any more.
                drop_prepared(tx)?;
                let switch = switch_in(tx)?;
                tx.put(MirrorSwitch::ROW, &MirrorSwitch { twins: consent.contains(&Consent::Twins), ..switch })?;
                let mut progress = progress_in(tx)?;
                progress.to_link = true;
                progress.digest_due = true;
                send_anew(&mut progress, [Kind::Device, Kind::User, Kind::Away, Kind::Twin]);
                tx.put(MirrorProgress::ROW, &progress)?;
                audit::append(tx, now, audit::done(&who, "cloud.consent", "hub", words(&consent)))?;
                Ok::<_, Refusal>(())
            })
            .await?;
        self.mirror_changed().await?;
        self.cloud_status(actor)
    }

    /// Unlinks the cloud: nothing is noted or asked for any more, keys for use from away end, and the cloud is told to
    /// erase what it has.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::Conflict`] when no cloud is linked.
    pub async fn unlink_cloud(&self, actor: &Actor) -> Result<(), Refusal> {
        actor.user()?;
        let (who, now) = (actor.clone(), self.now());
        let _one = self.mirror.taking.lock().await;
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                let mut link = link_in(tx)?.ok_or_else(not_linked)?;
                link.ending = true;
                tx.put(MirrorLink::ROW, &link)?;
                drop_prepared(tx)?;
                let switch = switch_in(tx)?;
                tx.put(MirrorSwitch::ROW, &MirrorSwitch { on: false, twins: false, ..switch })?;
                super::away::end_all(tx, &who.subject.to_string(), now)?;
                forget_mirror(tx)?;
                audit::append(tx, now, audit::done(&who, "cloud.unlink", "hub", link.url))?;
                Ok::<_, Refusal>(())
            })
            .await?;
        self.mirror_changed().await
    }

    /// The key that signs requests in the present epoch.
    ///
    /// # Errors
    /// The store's fault; [`Refusal::Conflict`] on a hub without keys.
    pub fn mirror_key(&self) -> Result<SigningKey, Refusal> {
        self.store.read(|v| Ok(SigningKey::from_bytes(&secrets_in(v)?.mirror_seed)))
    }

    /// The statement that links this hub, signed by its identity.
    ///
    /// # Errors
    /// The store's fault; [`Refusal::Conflict`] when no cloud is linked.
    pub fn link_statement(&self) -> Result<Vec<u8>, Refusal> {
        let (link, secrets, recovery) = self
            .store
            .read::<_, Refusal>(|v| Ok((link_in(v)?.ok_or_else(not_linked)?, secrets_in(v)?, v.get::<RecoveryKeys>(RecoveryKeys::ROW)?)))?;
        let identity = SigningKey::from_bytes(&secrets.identity_seed);
        let age = secrets.age_identity.parse::<age::x25519::Identity>();
        let age = age.map_err(|_| Refusal::Conflict("the hub's age identity cannot be read: restore a backup".into()))?;
        let named = link.consent.contains(&Consent::People);
        Ok(LinkStatement {
            identity: identity.verifying_key().to_bytes(),
            mirror: SigningKey::from_bytes(&secrets.mirror_seed).verifying_key().to_bytes(),
            epoch: secrets.epoch,
            recovery: recovery.map(|r| statement::RecoveryKeys { key: r.public, recipient: r.recipient }),
            recipient: age.to_public().to_string(),
            name: if named { self.hub.name.chars().take(WORD_MAX).collect() } else { String::new() },
            region: link.region,
            consent: link.consent,
            at_s: self.now() / 1000,
            cloud: link.key,
            code: link.code,
        }
        .sign(&identity))
    }

    /// The statement that ends the link, signed by the hub's identity.
    ///
    /// # Errors
    /// The store's fault; [`Refusal::Conflict`] when no link is to be ended.
    pub fn unlink_statement(&self) -> Result<Vec<u8>, Refusal> {
        let secrets = self.store.read::<_, Refusal>(|v| {
            any_link(v)?.filter(|link| link.ending).ok_or_else(|| Refusal::Conflict("no link is to be ended".into()))?;
            secrets_in(v)
        })?;
        let identity = SigningKey::from_bytes(&secrets.identity_seed);
        Ok(UnlinkStatement { hub: self.hub.id, at_s: self.now() / 1000 }.sign(&identity))
    }

    /// The cloud has taken the link.
    ///
    /// # Errors
    /// The store's fault; [`Refusal::Conflict`] when it speaks of another hub.
    pub async fn mirror_linked(&self, linked: Linked) -> Result<(), Refusal> {
        if linked.hub != self.hub.id.to_string() {
            return Err(Refusal::Conflict("the cloud speaks of another hub".into()));
        }
        self.store
            .write::<_, StoreError, _>(|tx| {
                let Some(mut link) = link_in(tx)? else { return Ok(()) };
                let mut progress = progress_in(tx)?;
                progress.to_link = false;
                tx.put(MirrorProgress::ROW, &progress)?;
                if !link.code.is_empty() {
                    link.code.clear();
                    tx.put(MirrorLink::ROW, &link)?;
                }
                Ok(())
            })
            .await?;
        self.mirror_changed().await
    }

    /// The cloud has erased what it had. When it is linked, and says that it knows nothing of this hub, the link is told
    /// anew, with all there is.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn mirror_unlinked(&self) -> Result<(), Refusal> {
        self.store
            .write::<_, StoreError, _>(|tx| {
                let Some(link) = any_link(tx)? else { return Ok(()) };
                if link.ending {
                    return tx.delete::<MirrorLink>(MirrorLink::ROW).map(drop);
                }
                drop_prepared(tx)?;
                let epoch = switch_in(tx)?.epoch;
                begin(tx, epoch)
            })
            .await?;
        self.mirror_changed().await
    }

    /// The recovery code has changed: the cloud is told its new public halves.
    ///
    /// # Errors
    /// The store's fault.
    pub(in crate::service) async fn recovery_code_changed(&self) -> Result<(), Refusal> {
        self.store
            .write::<_, StoreError, _>(|tx| {
                if link_in(tx)?.is_some() {
                    let mut progress = progress_in(tx)?;
                    progress.to_link = true;
                    tx.put(MirrorProgress::ROW, &progress)?;
                }
                Ok(())
            })
            .await?;
        self.mirror_changed().await
    }

    /// The cloud says that there is a newer epoch. True when the statement proves it: then this hub has been replaced, and
    /// serves nobody any more. Without proof nothing changes.
    pub async fn epoch_stale(&self, statement: &[u8]) -> bool {
        match self.step_down(statement).await {
            Ok(true) => true,
            Ok(false) => {
                tracing::warn!("the cloud says that there is a newer epoch, and does not prove it; nothing changes");
                false
            }
            Err(error) => {
                tracing::error!(%error, "a statement about a newer epoch could not be looked at");
                false
            }
        }
    }

    /// At start: what is on disk into memory; and on a hub that has taken another's place, everything anew in its epoch.
    pub(in crate::service) async fn start_mirror(&self) -> Result<(), Refusal> {
        self.store
            .write::<_, StoreError, _>(|tx| {
                let Some(link) = any_link(tx)? else { return Ok(()) };
                let Some(secrets) = tx.get::<HubSecrets>(HubSecrets::ROW)? else { return Ok(()) };
                let switch = switch_in(tx)?;
                if link.ending || (switch.on && switch.epoch == secrets.epoch) {
                    return Ok(());
                }
                if switch.epoch != secrets.epoch {
                    forget_mirror(tx)?;
                    tx.delete::<PreparedBatch>(PreparedBatch::ROW)?;
                }
                begin(tx, secrets.epoch)
            })
            .await?;
        self.mirror_changed().await
    }

    /// The link as it is on disk now, for the adapter and for the age of the policy.
    pub(super) async fn mirror_changed(&self) -> Result<(), Refusal> {
        let (link, progress, epoch) = self.store.read::<_, StoreError>(|v| Ok((any_link(v)?, progress_in(v)?, switch_in(v)?.epoch)))?;
        let linked = link.as_ref().is_some_and(|l| !l.ending);
        let before = {
            let mut heard = lock(&self.mirror.heard);
            let before = heard.linked;
            if linked != before {
                let since = link.as_ref().map_or(0, |l| l.linked_at);
                let at = if progress.last_success_at > 0 { progress.last_success_at } else { since };
                // Whoever has just linked it knows of no revocation that is older.
                let monotonic = (at.abs_diff(self.now()) < 1_000).then(|| self.clock.monotonic_ms());
                *heard = Heard { linked, at, monotonic };
            }
            before
        };
        let target = link.map(|link| LinkTarget {
            hub: self.hub.id,
            epoch,
            needs_link: progress.to_link && !link.ending,
            needs_unlink: link.ending,
            url: link.url,
            key: link.key,
            region: link.region,
            consent: link.consent,
        });
        self.mirror.target.send_if_modified(|known| {
            let changed = *known != target;
            *known = target;
            changed
        });
        if linked != before {
            if before {
                self.clock_unlinked().await?;
            }
            self.policy_changed().await;
            self.changed(Change::Cloud);
        }
        Ok(())
    }

    /// The cloud as it answers now, as far as somebody can ask it; that it is the one that is to be linked.
    async fn view_of_cloud(&self, url: &str, new: &NewLink) -> Result<Option<CloudView>, Refusal> {
        let known = lock(&self.mirror.looked).clone().filter(|view| view.url == *url);
        let view = match known {
            Some(view) => view,
            None if self.mirror.look.get().is_some() => self.looked_at(url).await?,
            None => return Ok(None),
        };
        if view.key != new.key || view.region != new.region || view.url != *url {
            *lock(&self.mirror.looked) = None;
            return Err(Refusal::Conflict("the cloud at this address is another one than the one you confirmed: look at it again".into()));
        }
        match view.linking.as_str() {
            "closed" => Err(Refusal::Conflict("this cloud takes no hubs at present: ask whoever runs it".into())),
            "code" if new.code.is_empty() => Err(Refusal::Invalid("code: this cloud asks for one; whoever runs it gives it to you".into())),
            _ => Ok(Some(view)),
        }
    }
}

/// Whether this cloud can be linked; the link to it that there is.
fn may_link<R: Read>(rows: &R, url: &str, key: &[u8; 32], consent: &BTreeSet<Consent>) -> Result<Option<MirrorLink>, Refusal> {
    let known = link_in(rows)?;
    if known.as_ref().is_some_and(|link| link.url != url || link.key != *key) {
        return Err(Refusal::Conflict("another cloud is linked: unlink it first".into()));
    }
    bundle_needs_code(rows, consent)?;
    Ok(known)
}

fn bundle_needs_code<R: Read>(rows: &R, consent: &BTreeSet<Consent>) -> Result<(), Refusal> {
    if consent.contains(&Consent::Bundle) && rows.get::<RecoveryKeys>(RecoveryKeys::ROW)?.is_none() {
        return Err(Refusal::RecoveryCodeFirst);
    }
    Ok(())
}

pub(super) fn not_linked() -> Refusal {
    Refusal::Conflict("no cloud is linked".into())
}

/// From here on changes are noted, and everything is to be sent.
fn begin(tx: &Tx<'_>, epoch: u64) -> Result<(), StoreError> {
    let switch = switch_in(tx)?;
    let batch = if switch.epoch == epoch { switch.batch.max(1) } else { 1 };
    let twins = link_in(tx)?.is_some_and(|link| link.consent.contains(&Consent::Twins));
    tx.put(MirrorSwitch::ROW, &MirrorSwitch { on: true, twins, epoch, batch })?;
    let mut progress = progress_in(tx)?;
    progress.to_link = true;
    progress.digest_due = true;
    progress.audit_sent = 0;
    send_anew(&mut progress, Kind::ALL);
    tx.put(MirrorProgress::ROW, &progress)
}

/// Forgets what was to be sent. What the cloud has asked for is remembered all the same, so that nothing is done a second
/// time; so is what was refused, and as what everything was sent, so that no version is used for two contents.
fn forget_mirror(tx: &Tx<'_>) -> Result<(), StoreError> {
    tx.delete_prefix::<OutboxRow>(b"")?;
    tx.delete_prefix::<OfferRow>(b"")?;
    tx.delete_prefix::<NoticeRow>(b"")?;
    tx.delete::<MirrorProgress>(MirrorProgress::ROW)?;
    Ok(())
}

/// The makers that are to be believed, with the fingerprints that the cloud showed.
fn brands_of(view: Option<&CloudView>, wanted: &[String]) -> Result<Vec<(BrandId, String)>, Refusal> {
    let mut found = Vec::new();
    for id in wanted {
        let offer = view.and_then(|v| v.brands.iter().find(|b| b.id == *id));
        let offer = offer.ok_or_else(|| Refusal::Invalid(format!("brands: this cloud does not bring {id}; look at it again")))?;
        let brand = BrandId::parse(id).map_err(|e| Refusal::Invalid(format!("brands: {e}")))?;
        found.push((brand, offer.fingerprint.clone()));
    }
    Ok(found)
}

/// A URL as it is kept: without a slash at its end.
fn checked_url(text: &str) -> Result<String, Refusal> {
    let url = text.trim().trim_end_matches('/');
    let host = url.strip_prefix("https://").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]".contains(c);
    if host.is_empty() || host.starts_with('/') || url.len() > URL_MAX || !host.chars().all(plain) {
        return Err(Refusal::Invalid("url: the cloud's address, such as https://cloud.example".into()));
    }
    Ok(url.to_owned())
}

fn words(consent: &BTreeSet<Consent>) -> String {
    if consent.is_empty() {
        return "nothing beyond ids".into();
    }
    consent.iter().map(|c| c.word()).collect::<Vec<_>>().join(" ")
}

/// Who links, in the view: a subject's text is not for people.
pub(super) fn person_of(subject: &str) -> Option<UserId> {
    subject.strip_prefix("user:").and_then(UserId::parse)
}

#[cfg(test)]
mod tests {
    use super::checked_url;

    #[test]
    fn a_clouds_address_is_https_and_nothing_but_an_address() {
        assert_eq!(checked_url(" https://cloud.example:8443/eu/ ").unwrap(), "https://cloud.example:8443/eu");
        assert_eq!(checked_url("https://[::1]:8443").unwrap(), "https://[::1]:8443");
        for wrong in [
            "",
            "cloud.example",
            "http://cloud.example",
            "https://",
            "https:///x",
            "https://a@b",
            "https://a?b",
            "https://a#b",
            "https://a b",
        ] {
            assert!(checked_url(wrong).is_err(), "{wrong}");
        }
        assert!(checked_url(&format!("https://{}", "a".repeat(300))).is_err());
    }
}
