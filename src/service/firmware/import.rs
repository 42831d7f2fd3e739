//! Taking in a release, from a file or from the cloud: verified as it comes, head first, so that nothing is written for a file
//! that would be refused, and nothing is left of one that is cut short.

use super::images::{Images, Incoming, make_room};
use super::{FirmwareRefusal, held_images, known_devices};
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::firmware::release::{Head, HeadRead, ImageCheck, ImageHash, Release, read_head};
use crate::domain::ids::{BrandId, ModelName};
use crate::domain::mirror::wire::Notice;
use crate::service::mirror::put_own_notice;
use crate::service::rights::require_role;
use crate::service::{Actor, Change, Refusal, Service, audit, lock};
use crate::store::tables::{FirmwareFloor, FirmwareProgress, ImageRow, ReleaseRow, TrustedBrand, model_key, release_key};
use crate::store::{Read, StoreError, Tx};
use serde::Serialize;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::OwnedMutexGuard;

/// Bytes that are written at a time.
const BLOCK: usize = 256 * 1024;
/// Bytes after which live views are told how far it is.
const TOLD_EVERY: u64 = 1024 * 1024;

/// By which way a release comes.
#[derive(Clone, Debug)]
pub enum ReleaseOrigin {
    /// A person or a service brings a file.
    File(Actor),
    /// The linked cloud has it, for so many percent of all houses' devices.
    Cloud {
        /// 0 to 100.
        percent: u8,
    },
}

/// A release that is here now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImportedRelease {
    /// Its maker.
    pub brand: BrandId,
    /// Of which model.
    pub model: ModelName,
    /// Its number.
    pub rel: u64,
}

/// A release on its way in, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImportingView {
    /// Its maker.
    pub brand: BrandId,
    /// Of which model.
    pub model: ModelName,
    /// Its number.
    pub rel: u64,
    /// Its version.
    pub version: String,
    /// Bytes of the image that are here.
    pub received: u64,
    /// Of so many.
    pub size: u64,
}

/// A release on its way in. Dropped before its end it leaves nothing.
pub struct ReleaseImport {
    service: Arc<Service>,
    origin: ReleaseOrigin,
    stage: Stage,
    _place: OwnedMutexGuard<()>,
}

enum Stage {
    Head(Vec<u8>),
    Image(Box<Taken>),
}

struct Taken {
    head: Head,
    release: Release,
    check: ImageCheck,
    /// `None` when the image is here already: it is held against the release all the same.
    incoming: Option<Incoming>,
    buffer: Vec<u8>,
    told: u64,
}

impl Service {
    /// Begins to take in a release; one at a time.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for who may not take in batches either, [`FirmwareRefusal::Busy`], [`Refusal::Conflict`] for a
    /// hub that keeps no images.
    pub fn begin_release_import(self: &Arc<Self>, origin: ReleaseOrigin) -> Result<ReleaseImport, Refusal> {
        if let ReleaseOrigin::File(actor) = &origin {
            let now = self.now();
            self.store.read(|v| require_role(v, actor, HubAction::ImportIdentities, now))?;
        }
        self.images()?;
        let place = self.firmware.importing.clone().try_lock_owned().map_err(|_| FirmwareRefusal::Busy)?;
        Ok(ReleaseImport { service: self.clone(), origin, stage: Stage::Head(Vec::new()), _place: place })
    }

    /// Takes in a whole release file from a reader.
    ///
    /// # Errors
    /// As [`Service::begin_release_import`], [`ReleaseImport::take`] and [`ReleaseImport::finish`].
    pub async fn import_release(
        self: &Arc<Self>,
        origin: ReleaseOrigin,
        mut reader: impl AsyncRead + Unpin,
    ) -> Result<ImportedRelease, Refusal> {
        let mut import = self.begin_release_import(origin)?;
        let mut piece = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut piece).await.map_err(FirmwareRefusal::Disk)? {
                0 => return import.finish().await,
                read => import.take(piece.get(..read).unwrap_or_default()).await?,
            }
        }
    }
}

impl ReleaseImport {
    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// [`Refusal::Firmware`] as soon as it is clear that the file is refused; then it is over.
    pub async fn take(&mut self, mut piece: &[u8]) -> Result<(), Refusal> {
        while let Stage::Head(bytes) = &mut self.stage {
            match read_head(bytes).map_err(FirmwareRefusal::from)? {
                HeadRead::More(wanted) => {
                    let Some((now, later)) = piece.split_at_checked(wanted.saturating_sub(bytes.len()).max(1).min(piece.len())) else {
                        return Ok(());
                    };
                    if now.is_empty() {
                        return Ok(());
                    }
                    bytes.extend_from_slice(now);
                    piece = later;
                }
                HeadRead::Done { head, .. } => {
                    let taken = self.accept(head).await.inspect_err(|refusal| self.refused(refusal))?;
                    self.stage = Stage::Image(Box::new(taken));
                }
            }
        }
        let Stage::Image(taken) = &mut self.stage else { return Ok(()) };
        let checked = taken.check.take(piece).map_err(FirmwareRefusal::from);
        if let Err(refusal) = checked {
            let refusal = refusal.into();
            self.refused(&refusal);
            return Err(refusal);
        }
        taken.buffer.extend_from_slice(piece);
        if taken.buffer.len() >= BLOCK { self.flush().await } else { Ok(()) }
    }

    /// Ends it: when this returns, the release is here, on disk, and whatever follows from it for devices has begun.
    ///
    /// # Errors
    /// [`Refusal::Firmware`]; then nothing is left.
    pub async fn finish(mut self) -> Result<ImportedRelease, Refusal> {
        let ended = self.end().await;
        if let Err(refusal) = &ended {
            self.refused(refusal);
        }
        ended
    }

    async fn end(&mut self) -> Result<ImportedRelease, Refusal> {
        self.flush().await?;
        let Stage::Image(taken) = std::mem::replace(&mut self.stage, Stage::Head(Vec::new())) else {
            return Err(FirmwareRefusal::from(crate::domain::firmware::release::ReleaseError::CutShort).into());
        };
        let Taken { head, release, check, incoming, .. } = *taken;
        check.finish().map_err(FirmwareRefusal::from)?;
        let brought = incoming.is_some();
        if let Some(incoming) = incoming {
            let path = self.service.images()?.path(&release.sha256);
            blocking(move || incoming.keep(&path)).await?;
        }
        if let Err(refusal) = self.record(head, &release).await {
            if brought {
                self.drop_unrecorded(release.sha256).await;
            }
            return Err(refusal);
        }
        Ok(ImportedRelease { brand: release.brand, model: release.model, rel: release.rel })
    }

    /// Verifies the head, and makes room for the image.
    async fn accept(&self, head: Head) -> Result<Taken, Refusal> {
        let brands = self.service.store.read::<_, StoreError>(|v| v.scan::<TrustedBrand>(b"", 1_000))?;
        let release = head
            .verify(|brand, print| brands.iter().any(|(_, b)| b.id == *brand && b.fingerprint == print.to_string()))
            .map_err(FirmwareRefusal::from)?;
        let images = self.service.images()?;
        let (key, hash) = (release_key(&release.brand, &release.model, release.rel), release.sha256);
        let here = self.service.store.read(|v| {
            check_number(v, &key, &release)?;
            Ok::<_, Refusal>(v.get::<ImageRow>(hash.as_bytes())?.is_some())
        })?;
        let incoming = if here {
            None
        } else {
            self.service.make_room(&images, release.size).await?;
            let name = uuid::Uuid::now_v7().simple().to_string();
            Some(
                blocking({
                    let images = images.clone();
                    move || images.begin(&name)
                })
                .await?,
            )
        };
        *lock(&self.service.firmware.under_way) = Some(ImportingView {
            brand: release.brand.clone(),
            model: release.model.clone(),
            rel: release.rel,
            version: release.version.clone(),
            received: 0,
            size: release.size,
        });
        self.service.changed(Change::Firmware { id: None });
        Ok(Taken { head, check: ImageCheck::new(&release), release, incoming, buffer: Vec::new(), told: 0 })
    }

    async fn flush(&mut self) -> Result<(), Refusal> {
        let Stage::Image(taken) = &mut self.stage else { return Ok(()) };
        let buffer = std::mem::take(&mut taken.buffer);
        if let Some(mut incoming) = taken.incoming.take() {
            taken.incoming = Some(
                blocking(move || {
                    incoming.write(&buffer)?;
                    Ok(incoming)
                })
                .await?,
            );
        }
        let received = taken.release.size - taken.check.left();
        if let Some(view) = lock(&self.service.firmware.under_way).as_mut() {
            view.received = received;
        }
        if received >= taken.told + TOLD_EVERY {
            taken.told = received;
            self.service.changed(Change::Firmware { id: None });
        }
        Ok(())
    }

    /// Writes down that it is here.
    async fn record(&self, head: Head, release: &Release) -> Result<(), Refusal> {
        let (service, origin, now) = (self.service.clone(), self.origin.clone(), self.service.now());
        let (by, via, percent) = match &origin {
            ReleaseOrigin::File(actor) => (actor.subject.to_string(), actor.via.clone(), None),
            ReleaseOrigin::Cloud { percent } => ("cloud".to_owned(), "cloud".to_owned(), Some((*percent).min(100))),
        };
        let row = ReleaseRow {
            root: head.root,
            certificate: head.certificate,
            statement: head.release,
            release: release.clone(),
            from_cloud: percent.is_some(),
            cloud_percent: percent.unwrap_or(100),
            withdrawn: false,
            at: now,
            by: by.clone(),
        };
        let taken = release.clone();
        let raised = service
            .store
            .write(move |tx| {
                if let ReleaseOrigin::File(actor) = &origin {
                    require_role(tx, actor, HubAction::ImportIdentities, now)?;
                }
                let key = release_key(&taken.brand, &taken.model, taken.rel);
                let known = check_number(tx, &key, &taken)?;
                // What its maker has withdrawn stays so, unless a person brings it all the same.
                let row = ReleaseRow { withdrawn: row.from_cloud && known.as_ref().is_some_and(|k| k.withdrawn), ..row.clone() };
                let stands = |k: &ReleaseRow| (k.from_cloud, k.cloud_percent, k.withdrawn);
                let same = known.as_ref().is_some_and(|k| stands(k) == stands(&row));
                if !same {
                    // Who brings a file means this house: the cloud's stage for all houses is not asked any more.
                    let brought_here = known.as_ref().is_some_and(|k| !k.from_cloud) && row.from_cloud;
                    if !brought_here {
                        let (at, by) = known.as_ref().map_or((row.at, row.by.clone()), |k| (k.at, k.by.clone()));
                        tx.put(&key, &ReleaseRow { at, by, ..row.clone() })?;
                    }
                }
                tx.put(taken.sha256.as_bytes(), &ImageRow { size: taken.size, offered_at: now })?;
                let raised = raise_floor(tx, &taken)?;
                if known.is_none() {
                    let Release { rel, version, size, sha256, security_minimum, .. } = &taken;
                    let detail =
                        format!("rel {rel}, version {version}, {size} bytes, SHA-256 {sha256}, security minimum {security_minimum}");
                    let object = format!("{}/{}", taken.brand, taken.model);
                    let event = audit::event(by.clone(), "firmware.import", &object, Outcome::Done, "", detail, &via);
                    let event = if let ReleaseOrigin::File(actor) = &origin { audit::on_behalf(actor, event) } else { event };
                    audit::append(tx, now, event)?;
                }
                Ok::<_, Refusal>(raised)
            })
            .await?;
        *lock(&service.firmware.under_way) = None;
        if raised {
            // Devices below it are kept away from everything from now on.
            service.policy_changed().await;
            for id in service.devices_of_model(&release.brand, &release.model)? {
                service.changed(Change::Device { id });
            }
        }
        service.look_at_model(&release.brand, &release.model).await;
        service.changed(Change::Firmware { id: None });
        Ok(())
    }

    /// Takes an image away that was kept, and of which the store took no note: it would only take room, on a disk that has none.
    async fn drop_unrecorded(&self, hash: ImageHash) {
        let recorded = self.service.store.read::<_, StoreError>(|v| Ok(v.get::<ImageRow>(hash.as_bytes())?.is_some()));
        // Where that cannot be read, it is taken away at the next start.
        if !recorded.unwrap_or(true)
            && let Ok(images) = self.service.images()
            && let Err(error) = blocking(move || images.remove(&hash)).await
        {
            tracing::warn!(%error, "the image of a release that was not taken could not be removed; that is done at the next start");
        }
    }

    fn refused(&self, refusal: &Refusal) {
        let (by, via) = match &self.origin {
            ReleaseOrigin::File(actor) => (actor.subject.to_string(), actor.via.as_str()),
            ReleaseOrigin::Cloud { .. } => ("cloud".to_owned(), "cloud"),
        };
        let reason = if let Refusal::Firmware(refused) = refusal { refused.code() } else { "not_taken" };
        self.service.audit_refusal(audit::event(by, "firmware.import", "hub", Outcome::Denied, reason, refusal.to_string(), via));
    }
}

impl Drop for ReleaseImport {
    fn drop(&mut self) {
        if lock(&self.service.firmware.under_way).take().is_some() {
            self.service.changed(Change::Firmware { id: None });
        }
    }
}

impl Service {
    /// The cloud names another stage for a release that came from there; one that a person has brought is this house's own. Says whether
    /// that changed anything.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn stage_release(&self, brand: &BrandId, model: &ModelName, rel: u64, percent: u8) -> Result<bool, Refusal> {
        let key = release_key(brand, model, rel);
        let changed = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                let row = tx.get::<ReleaseRow>(&key)?.filter(|row| row.from_cloud && row.cloud_percent != percent.min(100));
                let Some(row) = row else { return Ok(false) };
                tx.put(&key, &ReleaseRow { cloud_percent: percent.min(100), ..row })?;
                Ok(true)
            })
            .await?;
        if changed {
            self.look_at_model(brand, model).await;
            self.changed(Change::Firmware { id: None });
        }
        Ok(changed)
    }

    /// The cloud says that a release which came from there was withdrawn by its maker: nobody is offered it any more, for good. Who runs it
    /// keeps it. One that a person has brought is this house's own. Says whether that changed anything.
    ///
    /// # Errors
    /// The store's fault.
    pub(in crate::service) async fn recall_release(&self, brand: &BrandId, model: &ModelName, rel: u64) -> Result<bool, Refusal> {
        let (key, object, now) = (release_key(brand, model, rel), format!("{brand}/{model}"), self.now());
        let changed = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                let row = tx.get::<ReleaseRow>(&key)?.filter(|row| row.from_cloud && !row.withdrawn);
                let Some(row) = row else { return Ok(false) };
                tx.put(&key, &ReleaseRow { withdrawn: true, ..row })?;
                let text = format!(
                    "The maker of {object} has withdrawn firmware release {rel}: it is offered to nobody any more. Devices that run it keep it; ask \
                     the maker whether they should."
                );
                put_own_notice(tx, &Notice { code: "firmware_withdrawn".into(), device: None, text, at: now })?;
                let detail = format!("rel {rel}");
                audit::append(tx, now, audit::event("cloud", "firmware.recall", &object, Outcome::Done, "", detail, "cloud"))?;
                Ok(true)
            })
            .await?;
        if changed {
            self.look_at_model(brand, model).await;
            self.changed(Change::Firmware { id: None });
            self.changed(Change::Cloud);
        }
        Ok(changed)
    }

    /// Of how many percent of all houses' devices the cloud says that they get a release; `None` for one that is not here, or that a
    /// person has brought.
    pub(in crate::service) fn release_stage(&self, brand: &BrandId, model: &ModelName, rel: u64) -> Result<Option<u8>, StoreError> {
        let row = self.store.read::<_, StoreError>(|v| v.get::<ReleaseRow>(&release_key(brand, model, rel)))?;
        Ok(row.filter(|row| row.from_cloud).map(|row| row.cloud_percent))
    }

    /// Makes room for `size` more bytes of images. Devices that stayed away and are offered one that goes are offered it no more.
    async fn make_room(&self, images: &Arc<Images>, size: u64) -> Result<(), Refusal> {
        let (limit, now, fetched) = (images.limit, self.now(), lock(&self.firmware.fetched).clone());
        let (gone, lost) = self
            .store
            .write(move |tx| {
                let held = held_images(tx, &fetched, now)?;
                let all = super::images_in(tx)?;
                let gone = make_room(&all, |hash| held.contains(hash), size, limit)?;
                for hash in &gone {
                    tx.delete::<ImageRow>(hash.as_bytes())?;
                }
                let offered = |row: &FirmwareProgress| row.offered.is_some_and(|offered| gone.contains(&offered.sha256));
                let lost = known_devices(tx)?.into_iter().filter(|(_, row)| offered(row)).map(|(device, _)| device).collect();
                Ok::<_, Refusal>((gone, lost))
            })
            .await?;
        self.look_at_all(lost).await;
        let images = images.clone();
        blocking(move || gone.iter().try_for_each(|hash| images.remove(hash))).await
    }
}

/// The row of this number, if there is one; another release under it is refused.
fn check_number<R: Read>(rows: &R, key: &[u8], release: &Release) -> Result<Option<ReleaseRow>, Refusal> {
    let known = rows.get::<ReleaseRow>(key)?;
    match known {
        Some(known) if known.release.sha256 != release.sha256 => Err(FirmwareRefusal::RelTaken(release.rel).into()),
        known => Ok(known),
    }
}

/// Raises the security minimum of the release's model, if it says a higher one.
fn raise_floor(tx: &Tx<'_>, release: &Release) -> Result<bool, StoreError> {
    let key = model_key(&release.brand, &release.model);
    let floor = tx.get::<FirmwareFloor>(&key)?.unwrap_or_default();
    let raised = release.security_minimum > floor.rel;
    if raised {
        tx.put(&key, &FirmwareFloor { rel: release.security_minimum })?;
    }
    Ok(raised)
}

/// Work on the disk, away from everything else.
pub(super) async fn blocking<R: Send + 'static>(work: impl FnOnce() -> std::io::Result<R> + Send + 'static) -> Result<R, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.unwrap_or_else(|_| Err(std::io::Error::other("the work on the disk broke"))).map_err(FirmwareRefusal::Disk)?)
}
