//! From an archive to a program that may be tried: the archive is what the vendor signed, to the byte; so is the program in it; and it says of
//! itself the version that was signed. It appears among the versions whole, and on disk, or not at all.

use super::places::{PROGRAM, PlaceError, Places, RELEASE, sync_dir, write_whole};
use super::snapshot::free_bytes;
use crate::domain::release::HubRelease;
use data_encoding::HEXLOWER;
use self_update::{ArchiveKind, Compression, Extract};
use sha2::{Digest, Sha256};
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program is at most so many times as long as its archive, for the room that is asked for.
const GROWS: u64 = 5;
/// How long a program may take to say its version.
const SAY: Duration = Duration::from_secs(20);
/// `ETXTBSY`: another thread has just started a process, which holds the file for a moment.
const BUSY: i32 = 26;

/// Why an archive became no version.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is not what was signed.
    #[error("the archive is not the one that was signed (SHA-256 {found} instead of {expected}): get it again")]
    Archive {
        /// What was signed.
        expected: String,
        /// What is there.
        found: String,
    },
    /// There is no program in it.
    #[error("the archive cannot be unpacked: {0}")]
    Form(String),
    /// The program is not the one that was signed.
    #[error("the program in the archive is not the one that was signed")]
    Program,
    /// It does not run here.
    #[error("the program does not run here: {0}")]
    Start(String),
    /// No room.
    #[error("unpacking needs {needed} MB free, and there are {free} MB: make room, then try again")]
    Room {
        /// MB that are needed.
        needed: u64,
        /// MB that are free.
        free: u64,
    },
    /// The disk's.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// Makes a version of an archive and what was signed of it. `release` holds already. A version that lies there and holds is left alone. Blocks;
/// of several at once, in one process or in several, one works and the others wait for it.
///
/// # Errors
/// [`UnpackError`]; nothing is left of it among the versions.
pub fn unpack(places: &Places, archive: &Path, release: &HubRelease, statement: &[u8]) -> Result<(), UnpackError> {
    places.make()?;
    let _alone = places.alone()?;
    places.tidy()?;
    let target = places.version(&release.version);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| UnpackError::Place(PlaceError { path, source })
    };
    let found = hash_of(archive).map_err(failed(archive))?;
    if found != release.sha256 {
        return Err(UnpackError::Archive { expected: HEXLOWER.encode(&release.sha256), found: HEXLOWER.encode(&found) });
    }
    if check_program(&places.program(&release.version), release).is_ok() {
        // Its release may have been signed anew, with another share or other notes.
        write_whole(&target.join(RELEASE), statement)?;
        return Ok(());
    }
    let needed = release.size.saturating_mul(GROWS);
    let free = free_bytes(places.dir()).map_err(failed(places.dir()))?;
    if free < needed {
        return Err(UnpackError::Room { needed: needed.div_ceil(1_000_000), free: free / 1_000_000 });
    }
    let unfinished = places.unfinished(&release.version);
    let made = fill(&unfinished, archive, release, statement).and_then(|()| {
        if target.exists() {
            fs::remove_dir_all(&target).map_err(failed(&target))?;
        }
        fs::rename(&unfinished, &target).map_err(failed(&target))?;
        Ok(sync_dir(&places.versions())?)
    });
    if made.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    made
}

fn fill(dir: &Path, archive: &Path, release: &HubRelease, statement: &[u8]) -> Result<(), UnpackError> {
    let failed = |source| UnpackError::Place(PlaceError { path: dir.to_owned(), source });
    fs::create_dir(dir).map_err(failed)?;
    let mut extract = Extract::from_source(archive);
    extract.archive(ArchiveKind::Tar(Some(Compression::Gz)));
    extract.extract_file(dir, PROGRAM).map_err(|e| UnpackError::Form(e.to_string()))?;
    let program = dir.join(PROGRAM);
    if !program.symlink_metadata().map_err(failed)?.is_file() {
        return Err(UnpackError::Form("the program in it is no file".into()));
    }
    if hash_of(&program).map_err(failed)? != release.program {
        return Err(UnpackError::Program);
    }
    fs::set_permissions(&program, Permissions::from_mode(0o755)).map_err(failed)?;
    File::open(&program).and_then(|file| file.sync_all()).map_err(failed)?;
    says(&program, release)?;
    write_whole(&dir.join(RELEASE), statement)?;
    Ok(())
}

/// Whether the program is the one that was signed. Reads all of it.
///
/// # Errors
/// For a person.
pub fn check_program(program: &Path, release: &HubRelease) -> Result<(), String> {
    let found = hash_of(program).map_err(|e| format!("{}: {e}", program.display()))?;
    if found == release.program { Ok(()) } else { Err(format!("{} is not the program that was signed", program.display())) }
}

/// The program starts here, and is of the version that was signed.
fn says(program: &Path, release: &HubRelease) -> Result<(), UnpackError> {
    let refused = |why: String| UnpackError::Start(why);
    let began = Instant::now();
    let mut child = loop {
        let started = Command::new(program).arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        match started {
            Err(e) if e.raw_os_error() == Some(BUSY) && began.elapsed() < SAY => std::thread::sleep(Duration::from_millis(50)),
            started => break started.map_err(|e| refused(e.to_string()))?,
        }
    };
    let status = loop {
        match child.try_wait().map_err(|e| refused(e.to_string()))? {
            Some(status) => break status,
            None if began.elapsed() < SAY => std::thread::sleep(Duration::from_millis(20)),
            None => {
                let _ = child.kill().and_then(|()| child.wait().map(|_| ()));
                return Err(refused(format!("it did not say its version within {} s", SAY.as_secs())));
            }
        }
    };
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        let _ = out.take(200).read_to_string(&mut said);
    }
    if !status.success() {
        return Err(refused(format!("asked for its version, it ended with {status}")));
    }
    if said.split_whitespace().any(|word| word == release.version.as_str()) {
        return Ok(());
    }
    Err(refused(format!("it was signed as version {}, and says: {}", release.version, said.trim())))
}

/// SHA-256 of a file.
pub(super) fn hash_of(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}
