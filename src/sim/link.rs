//! A network link that can be cut: a relay on loopback in front of one TCP port, for seeing what two programs do when they
//! cannot reach each other, or lose each other in the middle of a sentence.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Connections at a time; more wait.
const CONNECTIONS: usize = 256;
/// Bytes that are carried at once.
const CHUNK: usize = 16 * 1024;
/// What [`Shared::left`] holds while nothing is counted.
const UNCOUNTED: u64 = u64::MAX;

/// The link; it ends when this is dropped.
pub struct Link {
    /// Where it is reached.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _end: DropGuard,
}

struct Shared {
    /// Whether it carries anything.
    stands: watch::Sender<bool>,
    /// Bytes that are carried before the link cuts itself; [`UNCOUNTED`] for any number.
    left: AtomicU64,
}

impl Link {
    /// Opens a link on loopback, at `port` or a free one when it is 0, to whatever listens at `target`.
    ///
    /// # Errors
    /// When the port cannot be listened on.
    pub async fn open(port: u16, target: SocketAddr) -> io::Result<Link> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { stands: watch::Sender::new(true), left: AtomicU64::new(UNCOUNTED) });
        let end = CancellationToken::new();
        tokio::spawn(end.clone().run_until_cancelled_owned(accept(listener, target, shared.clone(), end.clone())));
        Ok(Link { address, shared, _end: end.drop_guard() })
    }

    /// Cuts it: what is open ends at once, and whoever comes is turned away.
    pub fn cut(&self) {
        self.shared.stands.send_replace(false);
    }

    /// Carries `bytes` more, in both directions together, then cuts itself: in the middle of whatever is being said.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.left.store(bytes, Ordering::SeqCst);
    }

    /// Lets it carry again.
    pub fn mend(&self) {
        self.shared.left.store(UNCOUNTED, Ordering::SeqCst);
        self.shared.stands.send_replace(true);
    }

    /// Returns once it is cut.
    pub async fn is_cut(&self) {
        // The sender lives as long as this.
        let _ = self.shared.stands.subscribe().wait_for(|stands| !stands).await;
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>, end: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((near, _)) = listener.accept().await else { continue };
        if !*shared.stands.borrow() {
            continue;
        }
        let shared = shared.clone();
        let carrying = async move {
            let _permit = permit;
            let mut stands = shared.stands.subscribe();
            if let Ok(far) = TcpStream::connect(target).await {
                tokio::select! {
                    _ = carry(near, far, &shared) => {}
                    _ = stands.wait_for(|stands| !stands) => {}
                }
            }
        };
        tokio::spawn(end.clone().run_until_cancelled_owned(carrying));
    }
}

async fn carry(near: TcpStream, far: TcpStream, shared: &Shared) {
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    // An end that is said in one direction leaves the other open.
    tokio::join!(one_way(near_in, far_out, shared), one_way(far_in, near_out, shared));
}

async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, shared: &Shared) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let left = shared.left.load(Ordering::SeqCst);
        let carried = usize::try_from(left).map_or(read, |left| left.min(read));
        if to.write_all(chunk.get(..carried).unwrap_or_default()).await.is_err() {
            return;
        }
        if left != UNCOUNTED {
            shared.left.store(left.saturating_sub(carried as u64), Ordering::SeqCst);
            if carried < read || left <= carried as u64 {
                shared.stands.send_replace(false);
                return;
            }
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn says(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await?;
        Ok(back)
    }

    #[tokio::test]
    async fn what_is_cut_carries_nothing_until_it_is_mended() {
        let link = Link::open(0, echo().await).await.unwrap();
        let mut stream = TcpStream::connect(link.address).await.unwrap();
        assert_eq!(says(&mut stream, b"hello").await.unwrap(), b"hello");
        link.cut();
        link.is_cut().await;
        assert!(says(&mut stream, b"still there?").await.is_err());
        let mut refused = TcpStream::connect(link.address).await.unwrap();
        assert!(says(&mut refused, b"anybody?").await.is_err());
        link.mend();
        let mut again = TcpStream::connect(link.address).await.unwrap();
        assert_eq!(says(&mut again, b"hello").await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn it_cuts_itself_in_the_middle_of_what_is_said() {
        let link = Link::open(0, echo().await).await.unwrap();
        let mut stream = TcpStream::connect(link.address).await.unwrap();
        link.cut_after(8);
        let mut back = Vec::new();
        stream.write_all(b"hello").await.unwrap();
        // Five there, three of the five back.
        let _ = stream.read_to_end(&mut back).await;
        assert_eq!(back, b"hel");
        link.is_cut().await;
    }
}
