//! Looking at a device: in one transaction what has happened is taken, what it is offered now is decided, and what that changes is
//! written; after the commit it is told.

use super::{floor_of, import::blocking, known_devices, model_policy, policy_for};
use crate::domain::audit::Outcome;
use crate::domain::device::Registered;
use crate::domain::firmware::policy::{DeviceFacts, Known, Policy, Verdict, Why, lacks_image, verdict};
use crate::domain::firmware::progress::{Effect, Event, Note, OfferId, Progress, step};
use crate::domain::ids::{BrandId, DeviceId, ModelName};
use crate::domain::mirror::wire::Notice;
use crate::domain::time::Moment;
use crate::service::mirror::put_own_notice;
use crate::service::{Change, Refusal, Service, audit, lock};
use crate::store::tables::{
    FirmwareFacts, FirmwareProgress, ImageRow, OfferedImage, ReleaseCounts, ReleaseRow, release_key, releases_prefix,
};
use crate::store::{Read, StoreError, Tx};
use std::collections::HashSet;

/// Releases of one model that are looked at; the newest.
const RELEASES: usize = 64;

/// Why an offer is taken back whose release its maker has withdrawn.
const RECALLED: &str = "withdrawn_by_maker";

/// What a look was for.
pub(super) struct Look {
    pub(super) device: DeviceId,
    /// What has happened, if anything.
    pub(super) event: Option<Event>,
    /// It is connected: only then something new is offered.
    pub(super) here: bool,
    /// It may have no row yet.
    pub(super) new: bool,
    /// The id of an offer, should one be made.
    pub(super) offer: OfferId,
}

/// What follows from a look, after the commit.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// The offer, or what is in it, has changed.
    pub(super) offer_changed: bool,
    /// The row has.
    pub(super) changed: bool,
    /// The counts of the model's releases have: others are to be looked at.
    pub(super) counted: Option<(BrandId, ModelName)>,
    /// When to look again, ms since 1970.
    pub(super) due: Option<u64>,
    /// It is here, and lacks nothing but an image.
    pub(super) lacks_image: bool,
}

/// Releases of the device's model, with what is known of each.
pub(super) fn releases_of<R: Read>(rows: &R, brand: &BrandId, model: &ModelName) -> Result<Vec<(ReleaseRow, Known)>, StoreError> {
    let mut all = rows.scan::<ReleaseRow>(&releases_prefix(brand, model), 10_000)?;
    let beyond = all.len().saturating_sub(RELEASES);
    all.drain(..beyond);
    let mut out = Vec::with_capacity(all.len());
    for (key, row) in all {
        let counts = rows.get::<ReleaseCounts>(&key)?.unwrap_or_default();
        let known = Known {
            release: row.release.clone(),
            cached: rows.get::<ImageRow>(row.release.sha256.as_bytes())?.is_some(),
            cloud_percent: row.cloud_percent,
            withdrawn: row.withdrawn,
            tried: counts.tried,
            failed: counts.failed,
            resumed: counts.resumed,
        };
        out.push((row, known));
    }
    Ok(out)
}

/// What is decided for a device.
pub(super) fn decided<R: Read>(rows: &R, registered: &Registered, row: &FirmwareProgress, now: &Moment) -> Result<Verdict, StoreError> {
    judged(rows, registered, row, |policy, known, facts| verdict(policy, known, facts, now))
}

/// The release whose image is all that a device waits for, if there is one.
pub(super) fn awaited<R: Read>(rows: &R, registered: &Registered, row: &FirmwareProgress, now: &Moment) -> Result<Option<u64>, StoreError> {
    judged(rows, registered, row, |policy, known, facts| lacks_image(policy, known, facts, now))
}

fn judged<R: Read, T>(
    rows: &R,
    registered: &Registered,
    row: &FirmwareProgress,
    judge: impl FnOnce(&Policy, &[Known], &DeviceFacts<'_>) -> T,
) -> Result<T, StoreError> {
    let known: Vec<Known> = releases_of(rows, &registered.brand, &registered.model)?.into_iter().map(|(_, known)| known).collect();
    let facts = DeviceFacts {
        id: &registered.id,
        hardware: &registered.hardware,
        rel: rows.get::<FirmwareFacts>(registered.id.as_str().as_bytes())?.map(|facts| facts.rel),
        floor: floor_of(rows, registered)?,
        approved: row.approved,
        progress: &row.progress,
    };
    Ok(judge(&policy_for(rows, registered)?, &known, &facts))
}

/// Looks at one device.
pub(super) fn look_in(tx: &Tx<'_>, look: &Look, now: &Moment) -> Result<Looked, StoreError> {
    let key = look.device.as_str().as_bytes();
    let Some(registered) = tx.get::<Registered>(key)? else { return Ok(Looked::default()) };
    let known = tx.get::<FirmwareProgress>(key)?;
    if known.is_none() && !look.new {
        return Ok(Looked::default());
    }
    let before = known.clone().unwrap_or_default();
    let mut row = before.clone();
    let mut looked = Looked::default();
    let mut happens = |row: &mut FirmwareProgress, event: Event, why: &str| -> Result<(), StoreError> {
        let (next, effects) = step(&row.progress, event, now.at);
        row.progress = next;
        for effect in effects {
            if take_effect(tx, &registered, &effect, why, now.at)? {
                looked.counted = Some((registered.brand.clone(), registered.model.clone()));
            }
        }
        Ok(())
    };
    if let Some(event) = &look.event {
        if matches!(event, Event::Reported(_)) {
            row.said_at = now.at;
        }
        happens(&mut row, event.clone(), "")?;
    }
    if row.progress.due_at().is_some_and(|at| at <= now.at) {
        happens(&mut row, Event::Elapsed, "")?;
    }
    let verdict = decided(tx, &registered, &row, now)?;
    let offered = tx.get::<ReleaseRow>(&release_key(&registered.brand, &registered.model, row.progress.rel))?;
    let recalled = offered.is_some_and(|release| release.withdrawn);
    match &verdict {
        Verdict::Offer { rel, install } if look.here || row.progress.offer.is_some() => {
            let at = release_key(&registered.brand, &registered.model, *rel);
            if let Some(release) = tx.get::<ReleaseRow>(&at)?.map(|found| found.release) {
                let same = row.progress.offer.is_some() && row.progress.rel == *rel;
                if !same {
                    happens(&mut row, Event::OfferMade { offer: look.offer, rel: *rel }, if recalled { RECALLED } else { "another" })?;
                }
                let since = row.offered.filter(|_| same).map_or(now.at, |offered| offered.at);
                row.offered = Some(OfferedImage { sha256: release.sha256, install: *install, at: since });
                if !same && let Some(image) = tx.get::<ImageRow>(release.sha256.as_bytes())? {
                    tx.put(release.sha256.as_bytes(), &ImageRow { offered_at: now.at, ..image })?;
                }
            }
        }
        Verdict::Offer { .. } => {}
        _ if recalled => happens(&mut row, Event::Withdrawn, RECALLED)?,
        Verdict::Waits { why, .. } => happens(&mut row, Event::Withdrawn, why.word())?,
        Verdict::UpToDate | Verdict::NotKnown => happens(&mut row, Event::Withdrawn, "")?,
    }
    if row.progress.offer.is_none() {
        row.offered = None;
    }
    looked.offer_changed =
        (before.progress.offer, before.offered.map(|o| o.install)) != (row.progress.offer, row.offered.map(|o| o.install));
    looked.changed = known.is_none() || row != before;
    looked.lacks_image = look.here && matches!(verdict, Verdict::Waits { why: Why::NotCached, .. });
    looked.due = due(&row.progress, &policy_for(tx, &registered)?, &verdict, now);
    // What it says every minute is no reason to wear a card.
    let said = FirmwareProgress { said_at: before.said_at, ..row.clone() };
    if known.is_none() || said != before {
        tx.put(key, &row)?;
    }
    Ok(looked)
}

/// When the same look may end otherwise, though nothing happens.
fn due(progress: &Progress, policy: &Policy, verdict: &Verdict, now: &Moment) -> Option<u64> {
    let edge =
        policy.window.as_ref().filter(|_| matches!(verdict, Verdict::Offer { .. })).map(|window| window.next_edge(&now.zone, now.at));
    let waits = match verdict {
        Verdict::Waits { why: Why::Backoff { until }, .. } => Some(*until),
        _ => None,
    };
    [edge, waits, progress.due_at()].into_iter().flatten().min()
}

/// What follows of an update outside of its row; whether the counts have changed. `why` is for what is taken back.
fn take_effect(tx: &Tx<'_>, registered: &Registered, effect: &Effect, why: &str, now: u64) -> Result<bool, StoreError> {
    let device = &registered.id;
    let note = match effect {
        Effect::Counted { rel, tried, failed } => {
            let key = release_key(&registered.brand, &registered.model, *rel);
            let mut counts = tx.get::<ReleaseCounts>(&key)?.unwrap_or_default();
            counts.tried = counts.tried.saturating_add(u32::from(*tried));
            counts.failed = counts.failed.saturating_add_signed(i32::from(*failed));
            let policy = model_policy(tx, &registered.brand, &registered.model)?;
            if policy.stop.holds(counts.tried, counts.failed) && !counts.resumed && !counts.told {
                counts.told = true;
                tell_stopped(tx, registered, *rel, counts, now)?;
            }
            tx.put(&key, &counts)?;
            return Ok(true);
        }
        Effect::Noted(note) => note,
    };
    let by_device = format!("device:{device}");
    let (actor, action, outcome, reason, rel) = match note {
        Note::Offered { rel } => ("hub".to_owned(), "firmware.offer", Outcome::Done, "", rel),
        Note::Withdrawn { rel } => ("hub".to_owned(), "firmware.withdraw", Outcome::Done, why, rel),
        Note::Installing { rel } => (by_device, "firmware.install", Outcome::Done, "", rel),
        Note::Confirmed { rel } => (by_device, "firmware.confirm", Outcome::Done, "", rel),
        Note::Failed { rel, code } => {
            let text = format!(
                "{device} has not become firmware release {rel} ({code}) and runs what it ran before. It is tried again later, three times at \
                 most; its page says more, and lets you hold it."
            );
            put_own_notice(tx, &Notice { code: "firmware_failed".into(), device: Some(device.to_string()), text, at: now })?;
            (by_device, "firmware.fail", Outcome::Done, code.word(), rel)
        }
    };
    audit::append(tx, now, audit::event(actor, action, device.as_str(), outcome, reason, format!("rel {rel}"), "hub"))?;
    Ok(false)
}

fn tell_stopped(tx: &Tx<'_>, registered: &Registered, rel: u64, counts: ReleaseCounts, now: u64) -> Result<(), StoreError> {
    let (brand, model) = (&registered.brand, &registered.model);
    let detail = format!("rel {rel}: {} of {} that tried it failed", counts.failed, counts.tried);
    let text = format!(
        "Firmware release {rel} of {brand}/{model} is offered to nobody else: {} of {} devices that tried it failed. Ask its maker, or let it go \
         on from the page of firmware.",
        counts.failed, counts.tried
    );
    put_own_notice(tx, &Notice { code: "firmware_stopped".into(), device: None, text, at: now })?;
    let object = format!("{brand}/{model}");
    audit::append(tx, now, audit::event("hub", "firmware.stop", &object, Outcome::Done, "too_many_failed", detail, "hub")).map(drop)
}

impl Service {
    /// Looks at a device, and does what follows. Says whether its offer was told.
    pub(super) async fn look_at(&self, device: &DeviceId, event: Option<Event>, new: bool) -> Result<bool, Refusal> {
        let look = Look { device: device.clone(), event, here: self.is_online(device), new, offer: fresh_offer() };
        let moment = self.moment();
        let looked = self.store.write::<_, StoreError, _>(move |tx| look_in(tx, &look, &moment)).await?;
        Ok(self.followed(device, looked).await)
    }

    /// What follows after the commit.
    pub(super) async fn followed(&self, device: &DeviceId, looked: Looked) -> bool {
        self.keep_in_mind(device, looked.due);
        self.ask_for_image(device, looked.lacks_image);
        if looked.offer_changed {
            lock(&self.firmware.offsets).remove(device);
            lock(&self.firmware.fetched).remove(device);
            self.tell_offer(device);
        }
        if looked.changed {
            self.changed(Change::Firmware { id: Some(device.clone()) });
        }
        if let Some((brand, model)) = looked.counted {
            self.changed(Change::Firmware { id: None });
            // Others of its kind may have been stopped by it.
            Box::pin(self.look_at_model(&brand, &model)).await;
        }
        looked.offer_changed
    }

    /// A cloud that is linked may bring the image that a device lacks.
    fn ask_for_image(&self, device: &DeviceId, lacks: bool) {
        let mut lacking = lock(&self.firmware.lacking);
        if !lacks {
            lacking.remove(device);
        } else if lacking.insert(device.clone()) {
            self.mirror_wish().notify_one();
        }
    }

    /// Remembers which offer stands for a device, and when to look again. Read under the lock: of two looks at one device, whichever
    /// ends later remembers what is so now.
    fn keep_in_mind(&self, device: &DeviceId, due: Option<u64>) {
        let mut offers = lock(&self.firmware.offers);
        let row = self.store.read::<_, StoreError>(|v| v.get::<FirmwareProgress>(device.as_str().as_bytes()));
        let Ok(row) = row else {
            lock(&self.firmware.due).insert(device.clone(), 0);
            return;
        };
        let progress = row.unwrap_or_default().progress;
        if progress.offer.is_none_or(|offer| !offers.contains_key(&offer)) {
            offers.retain(|_, known| known != device);
            offers.extend(progress.offer.map(|offer| (offer, device.clone())));
        }
        let mut all_due = lock(&self.firmware.due);
        match due.into_iter().chain(progress.due_at()).min() {
            Some(at) => drop(all_due.insert(device.clone(), at)),
            None => drop(all_due.remove(device)),
        }
    }

    /// A device has left the house, with the offer that stood for it.
    pub(in crate::service) fn forget_offer(&self, device: &DeviceId) {
        self.keep_in_mind(device, None);
        lock(&self.firmware.offsets).remove(device);
        lock(&self.firmware.fetched).remove(device);
    }

    /// The devices of a model that are known to take firmware.
    pub(super) fn devices_of_model(&self, brand: &BrandId, model: &ModelName) -> Result<Vec<DeviceId>, StoreError> {
        self.store.read(|v| {
            let mut found = Vec::new();
            for (id, _) in known_devices(v)? {
                if v.get::<Registered>(id.as_str().as_bytes())?.is_some_and(|r| r.brand == *brand && r.model == *model) {
                    found.push(id);
                }
            }
            Ok(found)
        })
    }

    /// Looks at all of them.
    pub(super) async fn look_at_model(&self, brand: &BrandId, model: &ModelName) {
        match self.devices_of_model(brand, model) {
            Ok(found) => self.look_at_all(found).await,
            Err(error) => tracing::error!(%error, "the devices of a model could not be looked at; the hub's clock tries again"),
        }
    }

    pub(super) async fn look_at_all(&self, devices: Vec<DeviceId>) {
        let mut models = HashSet::new();
        for device in devices {
            let look = Look { device: device.clone(), event: None, here: self.is_online(&device), new: false, offer: fresh_offer() };
            let moment = self.moment();
            match self.store.write::<_, StoreError, _>(move |tx| look_in(tx, &look, &moment)).await {
                Ok(mut looked) => {
                    models.extend(looked.counted.take());
                    self.followed(&device, looked).await;
                }
                Err(error) => {
                    tracing::error!(%error, %device, "a device's firmware could not be looked at; the hub's clock tries again");
                    lock(&self.firmware.due).insert(device, 0);
                }
            }
        }
        for (brand, model) in models {
            Box::pin(self.look_at_model(&brand, &model)).await;
        }
    }

    /// Looks at what is due: windows that open, pauses that are over, devices that have gone silent. Called by the hub's clock,
    /// about once a second.
    ///
    /// # Errors
    /// None now; what could not be looked at stays due.
    pub async fn sweep_firmware(&self) -> Result<(), Refusal> {
        let now = self.now();
        let due: Vec<DeviceId> = lock(&self.firmware.due).iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        self.look_at_all(due).await;
        Ok(())
    }

    /// Removes the image of a release, when nobody has another use of it.
    pub(super) async fn remove_image(&self, hash: crate::domain::firmware::release::ImageHash) -> Result<(), Refusal> {
        let images = self.images()?;
        blocking(move || images.remove(&hash)).await
    }
}

fn fresh_offer() -> OfferId {
    OfferId::from_uuid(uuid::Uuid::now_v7())
}
