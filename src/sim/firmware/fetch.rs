//! The download of an image from the hub's page: HTTP/1.1 (RFC 9112), one request for the rest of it, a task of its own that ends with its
//! handle. What the pieces mean is `update`'s.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::update::{Source, Wanted};
use crate::sim::tls::{self, Address, Security, Trust};

/// The largest head of a reply, in bytes.
const HEAD_MAX: usize = 16 * 1024;
/// Bytes read at once.
const PIECE: usize = 16 * 1024;
/// Pieces under way.
const AHEAD: usize = 4;

/// A download under way.
pub(in crate::sim) struct Fetch {
    pieces: mpsc::Receiver<Result<Vec<u8>, String>>,
    _task: AbortOnDropHandle<()>,
}

impl Fetch {
    /// Begins at the byte that is wanted. `step` is the time for each wait.
    pub(in crate::sim) fn begin(host: &str, ca: Vec<u8>, source: Source, wanted: &Wanted, step: Duration) -> Self {
        let (sender, pieces) = mpsc::channel(AHEAD);
        let address = Address { host: host.to_owned(), port: source.port };
        let (offset, size) = (wanted.offset, wanted.size);
        let task = tokio::spawn(async move {
            if let Err(reason) = download(&address, ca, &source, offset, size, step, &sender).await {
                let _ = sender.send(Err(reason)).await;
            }
        });
        Self { pieces, _task: AbortOnDropHandle::new(task) }
    }

    /// The next piece, or why there is none. Cancel-safe.
    pub(in crate::sim) async fn next(&mut self) -> Result<Vec<u8>, String> {
        self.pieces.recv().await.unwrap_or_else(|| Err("the download ended early".into()))
    }
}

async fn download(
    address: &Address,
    ca: Vec<u8>,
    source: &Source,
    offset: u64,
    size: u64,
    step: Duration,
    pieces: &mpsc::Sender<Result<Vec<u8>, String>>,
) -> Result<(), String> {
    let plain = |what: &str| source.path.bytes().chain(source.ticket.bytes()).any(|b| !b.is_ascii_graphic()).then(|| what.to_owned());
    if let Some(reason) = plain("path or ticket are none") {
        return Err(reason);
    }
    let security = Security { trust: Trust::Pinned(ca), client: None };
    let mut stream = tls::dial(address, &security, step).await.map_err(|error| error.to_string())?.stream;
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}:{}\r\nAuthorization: Bearer {}\r\nRange: bytes={offset}-\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n",
        source.path, address.port, source.ticket
    );
    let late = |_| "the page does not answer".to_owned();
    let io = |error: std::io::Error| error.to_string();
    timeout(step, stream.write_all(request.as_bytes())).await.map_err(late)?.map_err(io)?;
    timeout(step, stream.flush()).await.map_err(late)?.map_err(io)?;

    let mut buffer = Vec::new();
    let mut part = vec![0; PIECE];
    let body = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.len() > HEAD_MAX {
            return Err("the head of the reply has no end".into());
        }
        let read = timeout(step, stream.read(&mut part)).await.map_err(late)?.map_err(io)?;
        if read == 0 {
            return Err("the page closed the connection".into());
        }
        buffer.extend_from_slice(part.get(..read).unwrap_or_default());
    };
    let rest = buffer.split_off(body);
    accept(&buffer, offset, size)?;
    let mut left = size - offset;
    let mut next = rest;
    loop {
        if !next.is_empty() {
            let length = u64::try_from(next.len()).unwrap_or(u64::MAX);
            left = left.checked_sub(length).ok_or("the page sent more than it said")?;
            if pieces.send(Ok(std::mem::take(&mut next))).await.is_err() {
                return Ok(());
            }
        }
        if left == 0 {
            return Ok(());
        }
        let read = timeout(step, stream.read(&mut part)).await.map_err(late)?.map_err(io)?;
        if read == 0 {
            return Err("the page closed the connection".into());
        }
        next = part.get(..read).unwrap_or_default().to_vec();
    }
}

/// Whether a reply's head promises the rest of the image.
fn accept(head: &[u8], offset: u64, size: u64) -> Result<(), String> {
    let head = std::str::from_utf8(head).map_err(|_| "the reply is not HTTP")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let header = |name: &str| {
        let mut lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let whole = status == "200" && offset == 0;
    let range = format!("bytes {offset}-{}/{size}", size - 1);
    let part = status == "206" && header("content-range") == Some(range.as_str());
    if !(whole || part) {
        return Err(format!("the page answers {status}"));
    }
    if header("content-length").and_then(|length| length.parse().ok()) != Some(size - offset) {
        return Err("the page has an image of another size".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rest_of_the_image_is_accepted() {
        let reply = |status: &str, headers: &str| format!("HTTP/1.1 {status} X\r\n{headers}\r\n\r\n").into_bytes();
        let part = "Content-Range: bytes 40-99/100\r\ncontent-length: 60";
        assert_eq!(accept(&reply("206", part), 40, 100), Ok(()));
        assert_eq!(accept(&reply("200", "Content-Length: 100"), 0, 100), Ok(()));
        assert_eq!(accept(&reply("206", "Content-Range: bytes 0-99/100\r\nContent-Length: 100"), 0, 100), Ok(()));
        for (status, headers) in [
            ("200", "Content-Length: 100"),
            ("206", "Content-Range: bytes 41-99/100\r\nContent-Length: 59"),
            ("206", "Content-Range: bytes 40-99/101\r\nContent-Length: 60"),
            ("206", "Content-Range: bytes 40-99/100"),
            ("404", part),
        ] {
            assert!(accept(&reply(status, headers), 40, 100).is_err(), "{status} {headers}");
        }
    }
}
