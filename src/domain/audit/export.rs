//! The audit as text: JSON Lines that whoever has them can check without the hub.
//!
//! The first line names the hub; then come entries, oldest first, and the hub's signed marks where it has cut; the last
//! line is the hub's signed word about where the chain ended. A selection is marked as one and cannot be followed.

use super::chain::{Broken, Point, PointKind, Verdict, Verifier, Why};
use super::{Beside, Entry, Event, Outcome, Recorded};
use crate::domain::ids::HubId;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};

/// Longest line that is read, in bytes. The longest that is written is far below it.
pub const LINE_MAX: usize = 1024 * 1024;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// The first: whose audit it is.
    Hub {
        /// The hub's id.
        hub: String,
        /// When it was written, ms since 1970.
        at: u64,
        /// Whether it is a selection.
        filtered: bool,
    },
    /// The hub has cut these.
    Gap {
        /// From this number on.
        from: u64,
        /// Up to this one.
        to: u64,
        /// The hub's signed statement, base64url.
        statement: String,
    },
    /// An entry.
    Entry(Box<EntryLine>),
    /// The last: where the chain ended.
    End {
        /// Number of the newest entry; 0 when there was none.
        seq: u64,
        /// Its hash.
        hash: String,
        /// The hub's signed statement, base64url; none when there was no entry.
        statement: Option<String>,
    },
}

/// An entry as text; hashes are lower-case hexadecimal.
#[derive(Debug, Serialize, Deserialize)]
pub struct EntryLine {
    seq: u64,
    at: u64,
    version: u8,
    actor: String,
    behalf: String,
    action: String,
    object: String,
    outcome: Outcome,
    reason: String,
    detail: String,
    via: String,
    erased: bool,
    salt: Option<String>,
    beside: String,
    previous: String,
    hash: String,
}

impl EntryLine {
    /// The line of an entry.
    #[must_use]
    pub fn new(entry: Entry, beside: Option<Beside>) -> EntryLine {
        let (version, hashes) = (entry.version, [entry.beside, entry.previous, entry.hash].map(|h| HEXLOWER.encode(&h)));
        let salt = beside.as_ref().map(|b| HEXLOWER.encode(&b.salt));
        let Recorded { seq, at, event: e, erased } = entry.joined(beside);
        let Event { actor, behalf, action, object, outcome, reason, detail, via } = e;
        let [beside, previous, hash] = hashes;
        EntryLine { seq, at, version, actor, behalf, action, object, outcome, reason, detail, via, erased, salt, beside, previous, hash }
    }

    /// The entry, and what stands beside it, as the line has them; `None` when a hash is not one.
    #[must_use]
    pub fn read(self) -> Option<(Entry, Option<Beside>)> {
        let EntryLine { actor, behalf, action, object, outcome, reason, detail, via, .. } = self;
        let mut event = Event { actor, behalf, action, object, outcome, reason, detail, via };
        let beside = match self.salt {
            Some(salt) => Beside::split_from(&mut event, fixed(&salt)?),
            None => None,
        };
        let (version, seq, at) = (self.version, self.seq, self.at);
        let entry =
            Entry { version, seq, at, event, beside: fixed(&self.beside)?, previous: fixed(&self.previous)?, hash: fixed(&self.hash)? };
        Some((entry, beside))
    }
}

fn fixed<const N: usize>(hex: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()
}

/// Why a file was not found whole; the text is for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Not a line of an export.
    #[error("line {0} is not one of an exported audit")]
    Line(u64),
    /// It cannot be followed.
    #[error("the file is a selection of entries: export the audit without a filter to check it")]
    Selection,
    /// It stops before its end.
    #[error("the file has no last line: export the audit again")]
    Unfinished,
    /// The last line is not the hub's.
    #[error("line {0} is not this hub's word about where the audit ended")]
    End(u64),
    /// The chain.
    #[error("line {line}: {broken}")]
    Broken {
        /// Where.
        line: u64,
        /// What.
        broken: Broken,
    },
}

/// What a file has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileVerdict {
    /// Whose audit it is, by its own word: compare it with the hub's id.
    pub hub: HubId,
    /// When it was written, ms since 1970.
    pub at: u64,
    /// What the chain has shown.
    pub verdict: Verdict,
}

/// Checks a file line by line, in constant memory.
#[derive(Default)]
pub struct FileVerifier {
    lines: u64,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Before,
    Within(HubId, u64, Box<Verifier>),
    After(FileVerdict),
}

impl FileVerifier {
    /// The next line.
    ///
    /// # Errors
    /// [`FileError`]; after one, the rest says nothing.
    pub fn line(&mut self, text: &str) -> Result<(), FileError> {
        self.lines += 1;
        let n = self.lines;
        let line = serde_json::from_str::<Line>(text).map_err(|_| FileError::Line(n))?;
        let wrong = |broken| FileError::Broken { line: n, broken };
        self.state = match (std::mem::take(&mut self.state), line) {
            (State::Before, Line::Hub { filtered: true, .. }) => return Err(FileError::Selection),
            (State::Before, Line::Hub { hub, at, .. }) => {
                let hub = HubId::parse(&hub).map_err(|_| FileError::Line(n))?;
                State::Within(hub, at, Box::new(Verifier::new(hub)))
            }
            (State::Within(hub, at, mut verifier), Line::Gap { statement, .. }) => {
                let statement = BASE64URL_NOPAD.decode(statement.as_bytes()).map_err(|_| FileError::Line(n))?;
                verifier.cut(&statement).map_err(wrong)?;
                State::Within(hub, at, verifier)
            }
            (State::Within(hub, at, mut verifier), Line::Entry(line)) => {
                let (entry, beside) = line.read().ok_or(FileError::Line(n))?;
                verifier.entry(&entry, beside.as_ref()).map_err(wrong)?;
                State::Within(hub, at, verifier)
            }
            (State::Within(hub, at, verifier), Line::End { statement: None, seq: 0, .. }) => {
                State::After(FileVerdict { hub, at, verdict: verifier.finish(None).map_err(wrong)? })
            }
            (State::Within(hub, at, verifier), Line::End { statement: Some(statement), .. }) => {
                let statement = BASE64URL_NOPAD.decode(statement.as_bytes()).map_err(|_| FileError::Line(n))?;
                let point = Point::read(&statement).map_err(|_| FileError::End(n))?;
                if point.hub != hub || point.kind != PointKind::End {
                    return Err(FileError::End(n));
                }
                State::After(FileVerdict { hub, at, verdict: verifier.finish(Some(point.place)).map_err(wrong)? })
            }
            _ => return Err(FileError::Line(n)),
        };
        Ok(())
    }

    /// After the last line.
    ///
    /// # Errors
    /// [`FileError::Unfinished`].
    pub fn finish(self) -> Result<FileVerdict, FileError> {
        match self.state {
            State::After(verdict) => Ok(verdict),
            _ => Err(FileError::Unfinished),
        }
    }
}

/// The line that says that a hub cut up to a place. `from` is the first entry that is missing.
///
/// # Errors
/// [`Broken`] when the statement cannot be read.
pub fn gap_line(from: u64, statement: &[u8]) -> Result<Line, Broken> {
    let point = Point::read(statement).map_err(|_| Broken { seq: from, why: Why::Mark })?;
    Ok(Line::Gap { from, to: point.place.0, statement: BASE64URL_NOPAD.encode(statement) })
}
