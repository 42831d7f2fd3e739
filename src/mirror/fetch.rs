//! Files from the cloud, registry batches and releases of firmware: in parts, each proven to be the cloud's before it is kept, into a file of the data
//! directory. A cut line or a killed hub goes on where it was. Whether what came is good is the service's to say.

use super::answer;
use super::line::{self, Ask, Failure, Line};
use crate::domain::mirror::wire::{BatchOffer, ReleaseOffer};
use crate::service::RELEASE_FILE_MAX;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

/// Bytes of one part.
const PART: u64 = 256 * 1024;
/// Parts that are fetched before there is an exchange again: no revocation waits for a long file.
pub(super) const AT_ONCE: u32 = 16;
/// Bytes of a batch at most.
const BATCH_MOST: u64 = 512 * 1024 * 1024;
/// What the name of an unfinished batch ends with.
pub(super) const BATCH: &str = ".part";
/// What the name of an unfinished release ends with.
pub(super) const RELEASE: &str = ".fw";

/// Why there is no file.
#[derive(Debug)]
pub(super) enum FetchError {
    /// The line, or the cloud, for now.
    Line(Box<Failure>),
    /// What is offered will never do; why, for people.
    Offer(&'static str),
    /// The hub's disk.
    Disk(io::Error),
    /// Nothing is wrong: there is more of it.
    More,
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> FetchError {
        FetchError::Line(Box::new(failure))
    }
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> FetchError {
        FetchError::Disk(error)
    }
}

/// A file that the cloud has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its path below that of the hub.
    path: String,
    sha256: String,
    bytes: u64,
    /// Bytes at most.
    most: u64,
    /// [`BATCH`] or [`RELEASE`].
    ending: &'static str,
}

impl Wanted {
    /// A registry batch.
    ///
    /// # Errors
    /// What is wrong with the offer, for people.
    pub(super) fn batch(offer: &BatchOffer) -> Result<Wanted, &'static str> {
        let is_word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if offer.id.is_empty() || offer.id.len() > 128 || !is_word(&offer.id) {
            return Err("its id is none");
        }
        let (path, sha256) = (format!("/batches/{}", offer.id), offer.sha256.clone());
        Ok(Wanted { path, sha256, bytes: offer.bytes, most: BATCH_MOST, ending: BATCH })
    }

    /// A release of firmware.
    pub(super) fn release(offer: &ReleaseOffer) -> Wanted {
        let (path, sha256) = (format!("/firmware/{}", offer.sha256), offer.sha256.clone());
        Wanted { path, sha256, bytes: offer.size, most: RELEASE_FILE_MAX, ending: RELEASE }
    }

    fn place(&self, dir: &Path) -> PathBuf {
        place(dir, self.ending, &self.sha256)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.sha256.len() != 64 || !self.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err("its hash is not 64 hexadecimal digits");
        }
        if !(1..=self.most).contains(&self.bytes) {
            return Err("it is empty, or longer than a hub takes at once");
        }
        Ok(())
    }
}

fn place(dir: &Path, ending: &str, sha256: &str) -> PathBuf {
    dir.join(format!("{sha256}{ending}"))
}

/// Removes what is left of files with this ending that are not wanted any more.
pub(super) async fn tidy(dir: &Path, ending: &str, wanted: &[&str]) {
    let Ok(mut entries) = fs::read_dir(dir).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let path = entry.path();
        let ours = path.to_str().is_some_and(|name| name.ends_with(ending));
        if ours && !wanted.iter().any(|sha256| place(dir, ending, sha256) == path) {
            forget(&path).await;
        }
    }
}

/// Removes a file that is not needed any more.
pub(super) async fn forget(path: &Path) {
    if let Err(error) = fs::remove_file(path).await
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file that is not needed any more could not be removed");
    }
}

/// Fetches what is offered into a file in `dir`, at most so many `parts` of it, and checks it against its hash.
///
/// # Errors
/// [`FetchError`]. What has come is kept, unless it is not what was offered.
pub(super) async fn fetch(line: &Line, dir: &Path, offer: &Wanted, parts: &mut u32) -> Result<PathBuf, FetchError> {
    offer.check().map_err(FetchError::Offer)?;
    fs::create_dir_all(dir).await?;
    let path = offer.place(dir);
    let mut had = fs::metadata(&path).await.map_or(0, |m| m.len());
    if had > offer.bytes {
        forget(&path).await;
        had = 0;
    }
    let mut anew = had == 0;
    loop {
        complete(line, &path, offer, had, parts).await?;
        if hash(path.clone()).await? == offer.sha256 {
            return Ok(path);
        }
        forget(&path).await;
        if anew {
            return Err(FetchError::Offer("what came is not what was announced: its hash is another"));
        }
        // What a power cut left of the file may have been wrong.
        (had, anew) = (0, true);
    }
}

async fn complete(line: &Line, path: &Path, offer: &Wanted, mut had: u64, parts: &mut u32) -> Result<(), FetchError> {
    let mut file: File = OpenOptions::new().create(true).append(true).open(path).await?;
    while had < offer.bytes {
        if line.meter().left() == 0 {
            return Err(Failure::from(answer::budget()).into());
        }
        *parts = parts.checked_sub(1).ok_or(FetchError::More)?;
        let range = had..offer.bytes.min(had + PART);
        let part = part(line, offer, range).await?;
        file.write_all(&part).await?;
        file.flush().await?;
        had += part.len() as u64;
    }
    file.sync_data().await?;
    Ok(())
}

async fn part(way: &Line, offer: &Wanted, range: Range<u64>) -> Result<Vec<u8>, FetchError> {
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let path = way.own(&offer.path);
    let ask = Ask {
        method: "GET",
        path: &path,
        body: Vec::new(),
        content_type: "",
        range: Some(range.clone()),
        // A problem's details may be longer than the last part.
        most: length.max(64 * 1024),
        deadline: line::deadline(length),
    };
    let reply = match way.ask(ask).await {
        Err(Failure { refused: Some(refused), .. }) if matches!(refused.status, 404 | 410 | 416) => {
            return Err(FetchError::Offer("the cloud does not have it any more"));
        }
        reply => reply?,
    };
    let expected = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), offer.bytes);
    let whole = reply.status == 200 && range == (0..offer.bytes);
    if reply.body.len() != length || !(whole || (reply.status == 206 && reply.content_range == expected)) {
        return Err(FetchError::Offer("the cloud does not send the parts that it is asked for"));
    }
    Ok(reply.body)
}

async fn hash(path: PathBuf) -> io::Result<String> {
    let hashing = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(path)?;
        let mut hasher = Sha256::new();
        let mut piece = vec![0; 64 * 1024];
        loop {
            let n = io::Read::read(&mut file, &mut piece)?;
            if n == 0 {
                return Ok(HEXLOWER.encode(&hasher.finalize()));
            }
            hasher.update(piece.get(..n).unwrap_or_default());
        }
    });
    hashing.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_names_no_other_file_and_no_other_path() {
        let good = BatchOffer { brand: "acme".into(), id: "b-1_A".into(), bytes: 1, sha256: "0a".repeat(32), devices: 1 };
        let check = |offer: &BatchOffer| Wanted::batch(offer).and_then(|wanted| wanted.check());
        assert_eq!(check(&good), Ok(()));
        for id in ["", "../x", "a/b", "a?b", "a%2f", "a b", "ä", &"a".repeat(129)] {
            assert!(check(&BatchOffer { id: id.to_owned(), ..good.clone() }).is_err(), "{id}");
        }
        for sha256 in ["", "../../../etc/passwd", &"0A".repeat(32), &"0a".repeat(33), &"zz".repeat(32)] {
            assert!(check(&BatchOffer { sha256: sha256.to_owned(), ..good.clone() }).is_err(), "{sha256}");
        }
        for bytes in [0, BATCH_MOST + 1, u64::MAX] {
            assert!(check(&BatchOffer { bytes, ..good.clone() }).is_err(), "{bytes}");
        }
    }
}
