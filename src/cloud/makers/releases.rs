//! Releases of firmware that makers upload: verified under the brand's root as they come, kept in parts, and there for hubs
//! once they are whole. The cloud signs none of it: a hub believes the maker's key alone.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;

use super::Makers;
use super::acts::{self, Doer};
use super::release_board::{Listed, OfModel};
use crate::cloud::reply::Refused;
use crate::domain::brand::{Fingerprint, StatementError};
use crate::domain::firmware::release::{HeadRead, ImageCheck, ImageHash, Release, ReleaseError, read_head};
use crate::domain::ids::{BrandId, HubId};
use crate::net::problem::Problem;

/// Bytes of a part, all but the last.
const PART: usize = 256 * 1024;
/// Releases of one brand at most.
const EACH: i64 = 1_000;
/// Uploads of one brand at the same time.
const OPEN: i64 = 4;
/// After how long an upload that has not ended has died with its process, in ms.
const ABANDONED_MS: u64 = 3_600_000;
/// The columns of [`ReleaseView`].
const COLUMNS: &str = "brand, model, rel, version, hardware, image_sha256, image_size, notes, least_before, security_minimum, made_at, \
     sha256, size, percent, stopped, withdrawn, by_, at, changed_at";

/// A release as its maker sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReleaseView {
    /// The maker.
    pub brand: String,
    /// Of which model.
    pub model: String,
    /// Its number.
    pub rel: u64,
    /// Its version, for people.
    pub version: String,
    /// On which hardware it runs.
    pub hardware: Vec<String>,
    /// SHA-256 of the image.
    pub image_sha256: String,
    /// Bytes of the image.
    pub image_size: u64,
    /// What is new.
    pub notes: String,
    /// The oldest release that goes to it in one step.
    pub least_before: u64,
    /// The oldest release that it says is safe.
    pub security_minimum: u64,
    /// When it was made, ms since 1970.
    pub made_at: u64,
    /// SHA-256 of the release file.
    pub sha256: String,
    /// Bytes of the release file.
    pub size: u64,
    /// Of all houses' devices so many percent get it.
    pub percent: u8,
    /// Nobody else gets it.
    pub stopped: bool,
    /// It was withdrawn, for good: its file is gone, and its number stays taken.
    pub withdrawn: bool,
    /// Who uploaded it.
    pub by: String,
    /// When it came, ms since 1970.
    pub at: u64,
    /// When something about it was changed last, ms since 1970.
    pub changed_at: u64,
}

impl ReleaseView {
    fn read(row: &Row) -> ReleaseView {
        let number = |name: &str| row.get::<_, i64>(name).unsigned_abs();
        let hex = |name: &str| data_encoding::HEXLOWER.encode(row.get(name));
        ReleaseView {
            brand: row.get("brand"),
            model: row.get("model"),
            rel: number("rel"),
            version: row.get("version"),
            hardware: row.get("hardware"),
            image_sha256: hex("image_sha256"),
            image_size: number("image_size"),
            notes: row.get("notes"),
            least_before: number("least_before"),
            security_minimum: number("security_minimum"),
            made_at: number("made_at").saturating_mul(1_000),
            sha256: hex("sha256"),
            size: number("size"),
            percent: u8::try_from(row.get::<_, i64>("percent")).unwrap_or(0),
            stopped: row.get("stopped"),
            withdrawn: row.get("withdrawn"),
            by: row.get("by_"),
            at: number("at"),
            changed_at: number("changed_at"),
        }
    }
}

/// What is to be changed about a release.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cloud) struct Staging {
    /// Of all houses' devices so many percent get it.
    pub(in crate::cloud) percent: Option<u8>,
    /// Whether nobody else gets it.
    pub(in crate::cloud) stopped: Option<bool>,
}

/// A release that comes in.
struct Taking {
    release: Release,
    check: ImageCheck,
    /// The row whose parts are written; `None` when it is here already: then it is only checked.
    number: Option<i64>,
    parts: i64,
}

impl Makers {
    /// Takes a release file as it comes; whether it is new. Refused, or cut, it leaves nothing; the same again is the same.
    ///
    /// # Errors
    /// What is wrong with it; `conflict` for another image under a number that is taken.
    pub(in crate::cloud) async fn take_release<E>(
        &self,
        doer: &Doer,
        brand: &BrandId,
        percent: u8,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<(ReleaseView, bool), Refused> {
        let mut number = None;
        let taken = self.take_release_in(doer, brand, percent, body, &mut number).await;
        if let (Err(_), Some(number)) = (&taken, number) {
            let client = self.shards.first().await?;
            client.execute("DELETE FROM releases WHERE number = $1 AND state = 'receiving'", &[&number]).await?;
        }
        let taken = taken?;
        self.look_at_releases().await?;
        Ok(taken)
    }

    async fn take_release_in<E>(
        &self,
        doer: &Doer,
        brand: &BrandId,
        percent: u8,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
        begun: &mut Option<i64>,
    ) -> Result<(ReleaseView, bool), Refused> {
        let root = self.root_of(brand).await?;
        let mut body = std::pin::pin!(body);
        let (mut waiting, mut file, mut size) = (Vec::with_capacity(2 * PART), Sha256::new(), 0u64);
        let mut taking: Option<Taking> = None;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|_| Problem::malformed("The body breaks off.").next("Send the whole file again."))?;
            file.update(&piece);
            size += piece.len() as u64;
            waiting.extend_from_slice(&piece);
            match &mut taking {
                Some(taking) => taking.check.take(&piece).map_err(refusal)?,
                None => {
                    if let HeadRead::Done { head, length } = read_head(&waiting).map_err(refusal)? {
                        let print = Fingerprint::of(&root);
                        let release = head.verify(|of, its| of == brand && *its == print).map_err(refusal)?;
                        let mut check = ImageCheck::new(&release);
                        check.take(waiting.get(length..).unwrap_or_default()).map_err(refusal)?;
                        let number = self.begin_release(doer, &release, percent).await?;
                        *begun = number;
                        taking = Some(Taking { release, check, number, parts: 0 });
                    }
                }
            }
            while let Some(taking) = taking.as_mut().filter(|_| waiting.len() >= PART) {
                let rest = waiting.split_off(PART);
                let part = std::mem::replace(&mut waiting, rest);
                self.put_part(taking, &part).await?;
            }
        }
        let mut taking = taking.ok_or_else(|| refusal(ReleaseError::CutShort))?;
        taking.check.clone().finish().map_err(refusal)?;
        if !waiting.is_empty() {
            self.put_part(&mut taking, &waiting).await?;
        }
        self.finish_release(doer, &taking, file.finalize().as_slice(), size).await
    }

    async fn root_of(&self, brand: &BrandId) -> Result<[u8; 32], Refused> {
        let client = self.shards.first().await?;
        let row = client.query_opt("SELECT root FROM tenants WHERE brand = $1", &[&brand.as_str()]).await?;
        let root = row.and_then(|row| <[u8; 32]>::try_from(row.get::<_, &[u8]>(0)).ok());
        root.ok_or_else(|| Refused::fault("a brand's root", &"it is not here"))
    }

    /// Makes the row of a release that comes in; `None` when the same is here.
    async fn begin_release(&self, doer: &Doer, release: &Release, percent: u8) -> Result<Option<i64>, Refused> {
        let (client, now) = (self.shards.first().await?, self.now());
        let brand = release.brand.as_str();
        let known = client
            .query_opt(
                "SELECT image_sha256, withdrawn FROM releases WHERE brand = $1 AND model = $2 AND rel = $3 AND state = 'complete'",
                &[&brand, &release.model.as_str(), &release.rel.cast_signed()],
            )
            .await?;
        if let Some(known) = known {
            same(known.get(0), release)?;
            if known.get(1) {
                return Err(withdrawn());
            }
            return Ok(None);
        }
        let since = now.saturating_sub(ABANDONED_MS).cast_signed();
        let counts = client
            .query_one(
                "SELECT count(*) FILTER (WHERE state = 'complete'), count(*) FILTER (WHERE state = 'receiving' AND at > $2) \
                 FROM releases WHERE brand = $1",
                &[&brand, &since],
            )
            .await?;
        if counts.get::<_, i64>(0) >= EACH {
            return Err(Problem::conflict("A brand has at most 1000 releases here; ask who runs the cloud.").into());
        }
        if counts.get::<_, i64>(1) >= OPEN {
            return Err(Problem::conflict("4 uploads of this brand go on already; wait until one is done.").into());
        }
        let row = client
            .query_one(
                "INSERT INTO releases (brand, model, rel, state, version, hardware, image_sha256, image_size, notes, least_before, \
                 security_minimum, made_at, percent, by_, at, changed_at) \
                 VALUES ($1, $2, $3, 'receiving', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14) RETURNING number",
                &[
                    &brand,
                    &release.model.as_str(),
                    &release.rel.cast_signed(),
                    &release.version,
                    &release.hardware,
                    &release.sha256.as_bytes().as_slice(),
                    &release.size.cast_signed(),
                    // PostgreSQL has no NUL in texts.
                    &release.notes.replace('\0', " "),
                    &release.least_before.cast_signed(),
                    &release.security_minimum.cast_signed(),
                    &release.made_at.min(i64::MAX.unsigned_abs()).cast_signed(),
                    &i64::from(percent.min(100)),
                    &doer.who,
                    &now.cast_signed(),
                ],
            )
            .await?;
        Ok(Some(row.get(0)))
    }

    async fn put_part(&self, taking: &mut Taking, part: &[u8]) -> Result<(), Refused> {
        let Some(number) = taking.number else { return Ok(()) };
        let client = self.shards.first().await?;
        let statement = client.prepare_cached("INSERT INTO release_parts (number, part, body) VALUES ($1, $2, $3)").await?;
        client.execute(&statement, &[&number, &taking.parts, &part]).await?;
        taking.parts += 1;
        Ok(())
    }

    /// It is whole: from now on hubs are told.
    async fn finish_release(&self, doer: &Doer, taking: &Taking, sha256: &[u8], size: u64) -> Result<(ReleaseView, bool), Refused> {
        let (now, release) = (self.now(), &taking.release);
        let mut client = self.shards.first().await?;
        let tx = client.transaction().await?;
        // Whoever finishes does it alone.
        tx.query_one("SELECT version FROM release_board FOR UPDATE", &[]).await?;
        let (brand, model, rel) = (release.brand.as_str(), release.model.as_str(), release.rel.cast_signed());
        let known = tx
            .query_opt(
                &format!("SELECT {COLUMNS} FROM releases WHERE brand = $1 AND model = $2 AND rel = $3 AND state = 'complete'"),
                &[&brand, &model, &rel],
            )
            .await?;
        if let Some(known) = known {
            same(known.get("image_sha256"), release)?;
            if known.get("withdrawn") {
                return Err(withdrawn());
            }
            if let Some(number) = taking.number {
                tx.execute("DELETE FROM releases WHERE number = $1", &[&number]).await?;
                tx.commit().await?;
            }
            return Ok((ReleaseView::read(&known), false));
        }
        let row = tx
            .query_opt(
                &format!(
                    "UPDATE releases SET state = 'complete', sha256 = $2, size = $3, at = $4, changed_at = $4 \
                     WHERE number = $1 AND state = 'receiving' RETURNING {COLUMNS}"
                ),
                &[&taking.number, &sha256, &size.cast_signed(), &now.cast_signed()],
            )
            .await?;
        let row = row.ok_or_else(|| Problem::conflict("The upload took too long, and was ended; send the file again."))?;
        tx.execute("UPDATE release_board SET version = version + 1", &[]).await?;
        let view = ReleaseView::read(&row);
        let detail = format!(
            "version {}, {} bytes, SHA-256 {}, security minimum {}, {} percent",
            release.version, release.size, release.sha256, release.security_minimum, view.percent
        );
        acts::append(&tx, now, doer.did("release.upload", named(brand, model, release.rel), detail)).await?;
        tx.commit().await?;
        Ok((view, true))
    }

    /// All releases of a brand, the newest of each model first.
    pub(in crate::cloud) async fn releases_of(&self, brand: &str) -> Result<Vec<ReleaseView>, Refused> {
        let client = self.shards.first().await?;
        let statement =
            format!("SELECT {COLUMNS} FROM releases WHERE brand = $1 AND state = 'complete' ORDER BY model, rel DESC LIMIT {EACH}");
        Ok(client.query(&statement, &[&brand]).await?.iter().map(ReleaseView::read).collect())
    }

    /// Says how many houses get a release, or that nobody else does.
    ///
    /// # Errors
    /// `not_found`.
    pub(in crate::cloud) async fn stage_release(
        &self,
        doer: &Doer,
        (brand, model, rel): (&str, &str, u64),
        staging: Staging,
    ) -> Result<ReleaseView, Refused> {
        let now = self.now();
        let mut client = self.shards.first().await?;
        let tx = client.transaction().await?;
        tx.execute("UPDATE release_board SET version = version + 1", &[]).await?;
        let percent = staging.percent.map(|percent| i64::from(percent.min(100)));
        let row = tx
            .query_opt(
                &format!(
                    "UPDATE releases SET percent = coalesce($4, percent), stopped = coalesce($5, stopped), changed_at = $6 \
                     WHERE brand = $1 AND model = $2 AND rel = $3 AND state = 'complete' RETURNING {COLUMNS}"
                ),
                &[&brand, &model, &i64::try_from(rel).unwrap_or(-1), &percent, &staging.stopped, &now.cast_signed()],
            )
            .await?;
        let row = row.ok_or_else(|| Problem::not_found().detail("No such release of your brand is here."))?;
        let view = ReleaseView::read(&row);
        if view.withdrawn {
            return Err(withdrawn());
        }
        let detail = format!("{} percent{}", view.percent, if view.stopped { ", stopped" } else { "" });
        acts::append(&tx, now, doer.did("release.stage", named(brand, model, rel), detail)).await?;
        tx.commit().await?;
        drop(client);
        self.look_at_releases().await?;
        Ok(view)
    }

    /// Takes a release back for good: hubs offer it to nobody any more, and its file is gone. Devices that have become it keep it. The same
    /// again is the same.
    ///
    /// # Errors
    /// `not_found`.
    pub(in crate::cloud) async fn withdraw_release(
        &self,
        doer: &Doer,
        (brand, model, rel): (&str, &str, u64),
    ) -> Result<ReleaseView, Refused> {
        let now = self.now();
        let mut client = self.shards.first().await?;
        let tx = client.transaction().await?;
        // Whoever changes what hubs are told does it alone.
        tx.query_one("SELECT version FROM release_board FOR UPDATE", &[]).await?;
        let known = tx
            .query_opt(
                &format!("SELECT number, {COLUMNS} FROM releases WHERE brand = $1 AND model = $2 AND rel = $3 AND state = 'complete'"),
                &[&brand, &model, &i64::try_from(rel).unwrap_or(-1)],
            )
            .await?
            .ok_or_else(|| Problem::not_found().detail("No such release of your brand is here."))?;
        let before = ReleaseView::read(&known);
        if before.withdrawn {
            return Ok(before);
        }
        let number: i64 = known.get("number");
        tx.execute("UPDATE release_board SET version = version + 1", &[]).await?;
        let row = tx
            .query_one(
                &format!("UPDATE releases SET withdrawn = true, changed_at = $2 WHERE number = $1 RETURNING {COLUMNS}"),
                &[&number, &now.cast_signed()],
            )
            .await?;
        tx.execute("DELETE FROM release_parts WHERE number = $1", &[&number]).await?;
        let detail = format!("version {}, SHA-256 {}, {} percent had it", before.version, before.image_sha256, before.percent);
        acts::append(&tx, now, doer.did("release.withdraw", named(brand, model, rel), detail)).await?;
        tx.commit().await?;
        drop(client);
        self.look_at_releases().await?;
        Ok(ReleaseView::read(&row))
    }

    /// The models of which a hub mirrors devices.
    pub(in crate::cloud) async fn models_at(&self, hub: &HubId) -> Result<BTreeSet<OfModel>, Refused> {
        let client = self.shards.of_hub(hub).await?;
        let rows = client.query("SELECT DISTINCT brand, model FROM fleet WHERE hub_id = $1", &[&hub.as_bytes().as_slice()]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The file of a release that a hub may have, by its hash (hex): where it is, and its length.
    ///
    /// # Errors
    /// `not_found`, also when the hub mirrors no device of its model.
    pub(in crate::cloud) async fn release_file(&self, hub: &HubId, sha256: &str) -> Result<(i64, u64), Refused> {
        let not_here = || Refused::from(Problem::not_found().detail("This release is not here."));
        if self.board.now().is_none() {
            self.look_at_releases().await?;
        }
        let releases = self.board.now().ok_or_else(not_here)?;
        let Listed { number, offer } = releases.by_file(sha256).ok_or_else(not_here)?;
        if !self.models_at(hub).await?.contains(&(offer.brand.clone(), offer.model.clone())) {
            return Err(not_here());
        }
        Ok((*number, offer.size))
    }

    /// The bytes of a release file from `from`, `count` of them, which must be there.
    pub(in crate::cloud) async fn release_bytes(&self, number: i64, from: u64, count: u64) -> Result<Vec<u8>, Refused> {
        let (size, count) = (PART as u64, usize::try_from(count).unwrap_or(0));
        let (first, until) = (from / size, (from + count as u64).div_ceil(size));
        let client = self.shards.first().await?;
        let statement =
            client.prepare_cached("SELECT body FROM release_parts WHERE number = $1 AND part >= $2 AND part < $3 ORDER BY part").await?;
        let rows = client.query(&statement, &[&number, &first.cast_signed(), &until.cast_signed()]).await?;
        let mut bytes = Vec::with_capacity(count);
        let mut skip = usize::try_from(from % size).unwrap_or(0);
        for row in rows {
            let body: &[u8] = row.get(0);
            bytes.extend(body.get(skip..).unwrap_or_default().iter().take(count - bytes.len()));
            skip = 0;
        }
        if bytes.len() == count { Ok(bytes) } else { Err(Refused::fault("a release has lost a part", &number)) }
    }

    /// Removes what is left of uploads that died with their process.
    pub(in crate::cloud) async fn sweep_releases(&self, now: u64) -> Result<(), Refused> {
        let client = self.shards.first().await?;
        let before = now.saturating_sub(ABANDONED_MS).cast_signed();
        client.execute("DELETE FROM releases WHERE state = 'receiving' AND at < $1", &[&before]).await?;
        Ok(())
    }
}

fn named(brand: &str, model: &str, rel: u64) -> String {
    format!("release:{brand}/{model}/{rel}")
}

/// It was withdrawn, and stays so.
fn withdrawn() -> Refused {
    let problem = Problem::conflict("This release was withdrawn, and nobody is offered it any more.");
    problem.next("Give what comes instead a number of its own.").into()
}

/// That the image under this number is this one.
fn same(known: &[u8], release: &Release) -> Result<(), Refused> {
    if known == release.sha256.as_bytes() {
        return Ok(());
    }
    let known = <[u8; 32]>::try_from(known).map(ImageHash::from_bytes).map_or(String::new(), |hash| hash.to_string());
    let detail = format!("Release {} of {} is here with the image {known}.", release.rel, release.model);
    Err(Problem::conflict(detail).next("Give the new image a number of its own.").into())
}

/// Why a release file is not taken, for the program that brought it.
fn refusal(error: ReleaseError) -> Refused {
    let detail = error.to_string();
    let (code, title) = match error {
        ReleaseError::Statement(StatementError::Untrusted { .. } | StatementError::OtherBrand { .. }) => {
            let problem = Problem::new(403, "brand_not_trusted", "The release is not of this account's brand").detail(detail);
            return problem.next("Sign it in the workshop of the brand that this cloud serves.").into();
        }
        ReleaseError::Statement(_) | ReleaseError::Bound { .. } => ("signature", "The release does not hold"),
        ReleaseError::CutShort | ReleaseError::TooLong => ("size", "The file has another length than its release says"),
        ReleaseError::Hash => ("hash", "The image is not the one that was signed"),
        ReleaseError::NotAReleaseFile => ("not_a_release", "This is no release file"),
    };
    Problem::new(422, code, title).detail(detail).into()
}
