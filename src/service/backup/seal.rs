//! The sealed part of a backup: chunks of AES-256-GCM, each bound to the header and to its place, the last one marked; and
//! the check of a whole file by its footer. Both work as a stream: a file is never in memory as a whole.

use super::BackupError;
use crate::domain::backup::{FOOTER_BYTES, Footer, HEAD_MAX, Header, HeaderError, binding};
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Seek, SeekFrom, Write};
use zeroize::Zeroizing;

/// Bytes of plaintext in a chunk.
const CHUNK: usize = 64 * 1024;
/// Bytes of a tag.
const TAG: usize = 16;
/// Bytes hashed at a time.
const BLOCK: usize = 64 * 1024;

/// The nonce of chunk `number`: 11 bytes of it, and whether it is the last.
fn nonce(number: u64, last: bool) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut bytes = [0; 12];
    bytes.iter_mut().skip(3).zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    if let Some(end) = bytes.last_mut() {
        *end = u8::from(last);
    }
    Nonce::from(bytes)
}

/// Writes a file: what is written goes out in sealed chunks; [`Sealer::finish`] closes it.
pub(super) struct Sealer<W: Write> {
    out: Counted<W>,
    cipher: Aes256Gcm,
    bound: [u8; 32],
    number: u64,
    held: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealer<W> {
    /// Writes the header at once.
    pub(super) fn new(out: W, header: &Header, key: &[u8; 32]) -> io::Result<Sealer<W>> {
        let start = header.to_bytes();
        let mut out = Counted { out, hash: Sha256::new(), length: 0 };
        out.write_all(&start)?;
        let cipher = Aes256Gcm::new(&(*key).into());
        Ok(Sealer { out, cipher, bound: binding(&start), number: 0, held: Zeroizing::new(Vec::with_capacity(CHUNK)) })
    }

    /// Seals the last chunk, and signs the whole. Its length in bytes.
    pub(super) fn finish(mut self, identity: &SigningKey) -> io::Result<(W, u64)> {
        self.chunk(true)?;
        let length = self.out.length + FOOTER_BYTES as u64;
        let sha256 = self.out.hash.clone().finalize().into();
        self.out.write_all(&Footer { length, sha256 }.sign(identity))?;
        self.out.flush()?;
        Ok((self.out.out, length))
    }

    fn chunk(&mut self, last: bool) -> io::Result<()> {
        let payload = Payload { msg: &self.held, aad: &self.bound };
        let sealed = self.cipher.encrypt(&nonce(self.number, last), payload).map_err(|_| io::Error::other("sealing failed"))?;
        self.number += 1;
        self.held.clear();
        self.out.write_all(&sealed)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.held.len() == CHUNK {
            // There is more: so this one is not the last.
            self.chunk(false)?;
        }
        let taken = part.get(..part.len().min(CHUNK - self.held.len())).unwrap_or_default();
        self.held.extend_from_slice(taken);
        Ok(taken.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Counted<W> {
    out: W,
    hash: Sha256,
    length: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let written = self.out.write(part)?;
        self.hash.update(part.get(..written).unwrap_or_default());
        self.length += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads what a [`Sealer`] has written, chunk by chunk; nothing of a chunk comes out before it has been checked.
pub(super) struct Opener<R> {
    from: io::Take<R>,
    cipher: Aes256Gcm,
    bound: [u8; 32],
    number: u64,
    plain: Zeroizing<Vec<u8>>,
    at: usize,
    over: bool,
}

impl<R: Read + Seek> Opener<R> {
    /// Over the file `from` of `length` bytes, which begins with the header `start`.
    pub(super) fn new(mut from: R, length: u64, start: &[u8], key: &[u8; 32]) -> Result<Opener<R>, BackupError> {
        from.seek(SeekFrom::Start(start.len() as u64))?;
        let sealed = length.checked_sub((start.len() + FOOTER_BYTES) as u64).ok_or(BackupError::Short)?;
        let cipher = Aes256Gcm::new(&(*key).into());
        let plain = Zeroizing::new(Vec::new());
        Ok(Opener { from: from.take(sealed), cipher, bound: binding(start), number: 0, plain, at: 0, over: false })
    }

    /// Whether the end was reached, which only the marked last chunk is.
    pub(super) fn is_over(&self) -> bool {
        self.over && self.at == self.plain.len()
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let mut sealed = vec![0; CHUNK + TAG];
        let mut length = 0;
        while let Some(rest) = sealed.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match self.from.read(rest)? {
                0 => break,
                read => length += read,
            }
        }
        sealed.truncate(length);
        let last = self.from.limit() == 0;
        let payload = Payload { msg: &sealed, aad: &self.bound };
        let opened = self.cipher.decrypt(&nonce(self.number, last), payload);
        self.plain = Zeroizing::new(opened.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a chunk was changed"))?);
        (self.number, self.at, self.over) = (self.number + 1, 0, last);
        Ok(())
    }
}

impl<R: Read + Seek> Read for Opener<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() && !self.over {
            self.next_chunk()?;
        }
        let rest = self.plain.get(self.at..).unwrap_or_default();
        let length = rest.len().min(into.len());
        into.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.at += length;
        Ok(length)
    }
}

/// What is known of a file without a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// What it says of itself.
    pub header: Header,
    /// Its beginning, to which its chunks are bound.
    pub(super) start: Vec<u8>,
    /// Bytes of the whole file.
    pub length: u64,
    sha256: [u8; 32],
}

/// Looks at a file's beginning (up to [`HEAD_MAX`] bytes) and end (its last [`FOOTER_BYTES`]): by the hub's signature of its
/// length, a file that breaks off is known without reading it.
///
/// # Errors
/// [`BackupError`].
pub fn look(start: &[u8], end: &[u8], length: u64) -> Result<Looked, BackupError> {
    let (header, bytes) = Header::read(start)?;
    let footer = Footer::read(end, length, &header.identity).ok_or(BackupError::Short)?;
    Ok(Looked { header, start: start.get(..bytes).unwrap_or_default().to_vec(), length, sha256: footer.sha256 })
}

/// The same of an open file.
///
/// # Errors
/// [`BackupError`].
pub fn look_at(file: &mut (impl Read + Seek)) -> Result<Looked, BackupError> {
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut start = Vec::new();
    file.by_ref().take(HEAD_MAX as u64).read_to_end(&mut start)?;
    let header = Header::read(&start);
    let Some(from) = length.checked_sub(FOOTER_BYTES as u64) else {
        return Err(header.err().map_or(BackupError::Short, BackupError::from));
    };
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::with_capacity(FOOTER_BYTES);
    file.by_ref().take(FOOTER_BYTES as u64).read_to_end(&mut end)?;
    look(&start, &end, length)
}

/// Reads a whole file and checks that it is what its hub has signed. No secret is needed.
///
/// # Errors
/// [`BackupError`].
pub fn check(file: &mut (impl Read + Seek)) -> Result<Looked, BackupError> {
    let looked = look_at(file)?;
    file.rewind()?;
    let mut rest = looked.length - FOOTER_BYTES as u64;
    let (mut hash, mut block) = (Sha256::new(), vec![0; BLOCK]);
    while rest > 0 {
        let most = usize::try_from(rest).unwrap_or(BLOCK).min(BLOCK);
        let read = file.read(block.get_mut(..most).unwrap_or_default())?;
        if read == 0 {
            return Err(BackupError::Short);
        }
        hash.update(block.get(..read).unwrap_or_default());
        rest -= read as u64;
    }
    if <[u8; 32]>::from(hash.finalize()) != looked.sha256 {
        return Err(BackupError::Altered);
    }
    Ok(looked)
}

impl From<HeaderError> for BackupError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::NotABackup => BackupError::NotABackup,
            HeaderError::Newer(program) => BackupError::Newer(program),
            HeaderError::Short => BackupError::Short,
            HeaderError::Damaged => BackupError::Altered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::backup::BackupId;
    use crate::domain::ids::HubId;
    use std::io::Cursor;

    const KEY: [u8; 32] = [3; 32];

    fn identity() -> SigningKey {
        SigningKey::from_bytes(&[9; 32])
    }

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let identity = identity();
        let public = identity.verifying_key().to_bytes();
        let header = Header {
            id: BackupId::from_bytes([1; 16]),
            hub: HubId::from_public_key(&public),
            identity: public,
            epoch: 1,
            made_at: 5,
            follows: None,
            layout: 1,
            program: "t".into(),
            wraps: Vec::new(),
        };
        let mut sealer = Sealer::new(Vec::new(), &header, &KEY).unwrap();
        for part in plain.chunks(1_000) {
            sealer.write_all(part).unwrap();
        }
        let (file, length) = sealer.finish(&identity).unwrap();
        assert_eq!(file.len() as u64, length);
        file
    }

    fn opened(file: &[u8]) -> Result<Vec<u8>, String> {
        let looked = check(&mut Cursor::new(file)).map_err(|e| e.to_string())?;
        read(file, &looked)
    }

    fn read(file: &[u8], looked: &Looked) -> Result<Vec<u8>, String> {
        let mut opener = Opener::new(Cursor::new(file), looked.length, &looked.start, &KEY).map_err(|e| e.to_string())?;
        let mut plain = Vec::new();
        opener.read_to_end(&mut plain).map_err(|e| e.to_string())?;
        assert!(opener.is_over());
        Ok(plain)
    }

    #[test]
    fn what_was_sealed_comes_out_at_every_length() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17] {
            let plain: Vec<u8> = (0..length).map(|n| n as u8).collect();
            assert_eq!(opened(&sealed(&plain)).unwrap(), plain, "{length}");
        }
    }

    #[test]
    fn a_file_that_was_cut_or_changed_anywhere_is_refused_without_a_secret() {
        let file = sealed(&vec![7; CHUNK + 500]);
        let every = file.len() / 200;
        for at in (0..file.len()).step_by(every).chain(file.len() - 200..file.len()).chain(0..400) {
            let cut = check(&mut Cursor::new(&file[..at])).unwrap_err();
            assert!(matches!(cut, BackupError::Short | BackupError::NotABackup), "{at}: {cut}");
            let mut changed = file.clone();
            changed[at] ^= 0x40;
            assert!(check(&mut Cursor::new(&changed)).is_err(), "{at}");
        }
        assert!(check(&mut Cursor::new(&[file.as_slice(), b"more"].concat())).is_err());
    }

    #[test]
    fn chunks_hold_by_themselves_against_change_exchange_and_a_cut() {
        let file = sealed(&vec![7; 3 * CHUNK]);
        let looked = check(&mut Cursor::new(&file)).unwrap();
        let start = looked.start.len();
        let (one, two) = (start, start + CHUNK + TAG);
        let mut changed = file.clone();
        changed[two + 5] ^= 1;
        assert!(read(&changed, &looked).is_err());
        let mut exchanged = file.clone();
        let (a, b) = exchanged.split_at_mut(two);
        a[one..].swap_with_slice(&mut b[..CHUNK + TAG]);
        assert!(read(&exchanged, &looked).is_err());
        // Without the last chunk, the one before would have to be the last.
        let cut = Looked { length: looked.length - (CHUNK + TAG) as u64, ..looked.clone() };
        assert!(read(&file, &cut).is_err());
    }
}
