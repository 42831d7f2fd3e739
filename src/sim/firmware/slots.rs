//! What of firmware lies on a device's flash: two places for an image, which of them it starts from, and how far an update is. Each change is
//! one file that is replaced, so that a power cut leaves the old state or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Program;
use crate::sim::state::FlashError;

/// Starts of a new version that does not find itself well, before the one before it is taken again.
const TRIAL_STARTS: u8 = 3;

/// One of the two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Slot {
    A,
    B,
}

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    Downloading,
    Downloaded,
    Installing,
}

/// What a device works at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Work {
    pub offer: String,
    pub rel: u64,
    pub version: String,
    pub size: u64,
    /// In hex.
    pub sha256: String,
    pub certificate: String,
    pub release: String,
    pub stage: Stage,
    /// Starts of the new version so far; 0 before the first.
    pub starts: u8,
}

/// What the hub has yet to hear of an offer that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub offer: String,
    /// Why it failed; `None` when it is confirmed.
    pub failed: Option<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    v: u32,
    /// What it runs and has found well.
    pub rel: u64,
    pub version: String,
    /// The highest release it has ever found well: it never goes to one below.
    pub highest: u64,
    /// Where that image lies.
    pub active: Slot,
    pub work: Option<Work>,
    pub ended: Option<Ended>,
}

/// The flash of one device.
#[derive(Debug)]
pub(super) struct Slots {
    directory: PathBuf,
    content: Content,
    /// How many bytes the place for the next image has.
    have: u64,
}

/// With what a device comes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// With what it runs.
    Known,
    /// With a new version, on trial.
    Trial(Program),
    /// With what it ran before, because the new version does not come up.
    RolledBack(String),
}

impl Slots {
    /// The flash in `<state>/<device>.firmware/`, which is made if need be: then the device is as it left the factory.
    pub(super) fn open(state: &Path, device: &str, rel: u64, version: &str) -> Result<Self, FlashError> {
        let directory = state.join(format!("{device}.firmware"));
        let path = directory.join("firmware.json");
        let content = match fs::create_dir_all(&directory).and_then(|()| fs::read(&path)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| FlashError::Corrupt { path: path.clone(), reason: e.to_string() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Content { v: 1, rel, version: version.to_owned(), highest: rel, active: Slot::A, work: None, ended: None }
            }
            Err(error) => return Err(FlashError::Io { path, error }),
        };
        if content.v != 1 {
            return Err(FlashError::Corrupt { path, reason: "only version 1 is known".into() });
        }
        let mut slots = Self { directory, content, have: 0 };
        slots.have = fs::metadata(slots.other()).map_or(0, |file| file.len());
        Ok(slots)
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    /// How many bytes of the next image are there.
    pub(super) fn have(&self) -> u64 {
        self.have
    }

    /// What a start finds. A new version that was started too often without finding itself well is given up.
    pub(super) fn start(&mut self) -> Result<Start, FlashError> {
        let Some(work) = self.content.work.clone() else { return Ok(Start::Known) };
        if work.starts == 0 {
            if work.stage == Stage::Installing {
                // It had said so, and nothing was written: it is where it was.
                self.change(|content| content.with_work(|work| work.stage = Stage::Downloaded))?;
            }
            return Ok(Start::Known);
        }
        let given_up = match self.program() {
            None => "the image is no program",
            Some(program) if !program.starts => "it does not come up",
            Some(_) if work.starts > TRIAL_STARTS => "it was started again and again, and never found itself well",
            Some(program) => {
                self.change(|content| content.with_work(|work| work.starts = work.starts.saturating_add(1)))?;
                return Ok(Start::Trial(program));
            }
        };
        self.end(Some(("health", given_up)))?;
        Ok(Start::RolledBack(given_up.to_owned()))
    }

    fn program(&self) -> Option<Program> {
        let mut first = vec![0; 4096];
        let mut file = File::open(self.other()).ok()?;
        let read = file.read(&mut first).ok()?;
        first.truncate(read);
        Program::of(&first)
    }

    /// Begins with an offer. What is there of the same image already stays.
    pub(super) fn begin(&mut self, work: Work) -> Result<(), FlashError> {
        let same = self.content.work.as_ref().is_some_and(|old| old.sha256 == work.sha256);
        if !same {
            self.drop_image()?;
        }
        self.change(|content| (content.work, content.ended) = (Some(work), None))
    }

    /// Writes the next piece.
    pub(super) fn append(&mut self, piece: &[u8]) -> Result<(), FlashError> {
        let path = self.other();
        let written = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).and_then(|mut file| file.write_all(piece));
        written.map_err(|error| FlashError::Io { path, error })?;
        self.have += u64::try_from(piece.len()).unwrap_or(0);
        Ok(())
    }

    /// The hash of the next image, in hex; it is on the disk when this returns.
    pub(super) fn hash(&self) -> Result<String, FlashError> {
        let path = self.other();
        let image = File::open(&path).and_then(|file| file.sync_all()).and_then(|()| fs::read(&path));
        let image = image.map_err(|error| FlashError::Io { path, error })?;
        Ok(data_encoding::HEXLOWER.encode(&Sha256::digest(image)))
    }

    /// A bit falls over.
    pub(super) fn spoil(&self) -> Result<(), FlashError> {
        let path = self.other();
        let spoilt = fs::read(&path).and_then(|mut image| {
            if let Some(byte) = image.last_mut() {
                *byte ^= 1;
            }
            fs::write(&path, image)
        });
        spoilt.map_err(|error| FlashError::Io { path, error })
    }

    /// The next start is with the new image.
    pub(super) fn switch(&mut self) -> Result<(), FlashError> {
        self.change(|content| content.with_work(|work| work.starts = 1))
    }

    pub(super) fn stage(&mut self, stage: Stage) -> Result<(), FlashError> {
        self.change(|content| content.with_work(|work| work.stage = stage))
    }

    /// The new version is well: it stays, and there is no way back.
    pub(super) fn confirm(&mut self) -> Result<(), FlashError> {
        self.change(|content| {
            if let Some(work) = content.work.take() {
                content.highest = content.highest.max(work.rel);
                (content.rel, content.version) = (work.rel, work.version);
                content.active = content.active.other();
                content.ended = Some(Ended { offer: work.offer, failed: None });
            }
        })?;
        self.have = fs::metadata(self.other()).map_or(0, |file| file.len());
        self.drop_image()
    }

    /// What it worked at is over; `failed` is told to the hub.
    pub(super) fn end(&mut self, failed: Option<(&str, &str)>) -> Result<(), FlashError> {
        self.change(|content| {
            if let Some(work) = content.work.take() {
                content.ended =
                    failed.map(|(code, detail)| Ended { offer: work.offer, failed: Some((code.to_owned(), detail.to_owned())) });
            }
        })?;
        self.drop_image()
    }

    /// An offer that never became work is refused.
    pub(super) fn refuse(&mut self, offer: &str, code: &str, detail: &str) -> Result<(), FlashError> {
        let failed = Some((code.to_owned(), detail.to_owned()));
        self.change(|content| content.ended = Some(Ended { offer: offer.to_owned(), failed }))
    }

    /// The hub has heard how it ended.
    pub(super) fn told(&mut self) -> Result<(), FlashError> {
        self.change(|content| content.ended = None)
    }

    fn drop_image(&mut self) -> Result<(), FlashError> {
        let path = self.other();
        self.have = 0;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FlashError::Io { path, error }),
            _ => Ok(()),
        }
    }

    /// The place for the next image.
    fn other(&self) -> PathBuf {
        self.directory.join(if self.content.active == Slot::A { "b.img" } else { "a.img" })
    }

    fn change(&mut self, change: impl FnOnce(&mut Content)) -> Result<(), FlashError> {
        let mut next = self.content.clone();
        change(&mut next);
        if next == self.content {
            return Ok(());
        }
        let path = self.directory.join("firmware.json");
        let beside = self.directory.join("firmware.json.part");
        let bytes = serde_json::to_vec(&next).unwrap_or_default();
        let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
        let written =
            open().and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all())).and_then(|()| fs::rename(&beside, &path));
        written.map_err(|error| FlashError::Io { path, error })?;
        self.content = next;
        Ok(())
    }
}

impl Slot {
    fn other(self) -> Self {
        if self == Self::A { Self::B } else { Self::A }
    }
}

impl Content {
    fn with_work(&mut self, change: impl FnOnce(&mut Work)) {
        if let Some(work) = &mut self.work {
            change(work);
        }
    }
}
