//! The accept loop: every accepted connection becomes a task of its own, under limits.
//!
//! The loop itself waits for nothing a client could withhold: the TLS handshake runs in the
//! connection's task, with a deadline. What is spoken on a connection, and deadlines within
//! it, are left to the handler, which must end by itself when the shutdown token is
//! cancelled; after the drain deadline it is dropped where it stands.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::tls::TlsReloader;

#[cfg(test)]
mod tests;

/// What a listener admits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at the same time, handshakes included.
    pub max_connections: usize,
    /// Of these, from one address (an IPv6 address counts in full: the devices of one house
    /// share their network of 64 bits).
    pub max_per_ip: usize,
    /// Within what time the TLS handshake must be complete.
    pub handshake_timeout: Duration,
    /// How long handlers have to end by themselves after a shutdown.
    pub drain: Duration,
}

/// Whether a listener speaks TLS.
#[derive(Clone, Debug)]
pub enum Security {
    /// No TLS: for loopback, and for the page that hands out the CA.
    Plain,
    /// TLS under the configuration of the moment.
    Tls(Arc<TlsReloader>),
}

/// One accepted connection.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS, after the handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address; an IPv4-mapped IPv6 address is given as IPv4.
    pub addr: SocketAddr,
    /// SHA-256 of the SubjectPublicKeyInfo of the certificate this client was shown; `None` without TLS.
    pub spki: Option<[u8; 32]>,
    /// The client's certificate (DER), verified under the hub's CA, if it showed one.
    pub client_certificate: Option<Vec<u8>>,
}

/// What a listener has seen since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that became a task.
    pub accepted: AtomicU64,
    /// Connections closed at once because a limit was reached.
    pub refused: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub handshake_failed: AtomicU64,
    /// Connections open now, handshakes included.
    pub active: AtomicU64,
}

/// The first pause after an error of the listening socket; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts connections and runs `handler` for each, until `shutdown` is cancelled; returns
/// when every handler has ended, or after `limits.drain`. A handler that panics takes down
/// its own connection only.
pub async fn serve<H, F>(
    listener: TcpListener,
    security: Security,
    limits: Limits,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
    handler: H,
) where
    H: Fn(Stream, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Places::new(limits, counters.clone()));
    let mut tasks = JoinSet::new();
    let mut pause = Duration::ZERO;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                report(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, addr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause = pause_after(&error, pause);
                if !pause.is_zero() {
                    tracing::warn!(%error, ?pause, "cannot accept connections");
                    tokio::select! {
                        () = shutdown.cancelled() => break,
                        () = sleep(pause) => {}
                    }
                }
                continue;
            }
        };
        pause = Duration::ZERO;
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let Some(place) = places.take(addr.ip()) else {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        let (security, counters, handler) = (security.clone(), counters.clone(), handler.clone());
        let stopping = shutdown.clone();
        tasks.spawn(async move {
            let _place = place;
            let opened = tokio::select! {
                () = stopping.cancelled() => return,
                opened = timeout(limits.handshake_timeout, open(stream, addr, &security)) => opened,
            };
            match opened {
                Ok(Ok((stream, peer))) => handler(stream, peer).await,
                Ok(Err(error)) => {
                    counters.handshake_failed.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%addr, %error, "handshake failed");
                }
                Err(_) => {
                    counters.handshake_failed.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%addr, "handshake took too long");
                }
            }
        });
    }
    // From here on, newcomers are refused by the system.
    drop(listener);
    let all_ended = async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    };
    if timeout(limits.drain, all_ended).await.is_err() {
        tracing::warn!(connections = tasks.len(), "closing connections that did not end in time");
        tasks.shutdown().await;
    }
}

async fn open(stream: TcpStream, addr: SocketAddr, security: &Security) -> io::Result<(Stream, Peer)> {
    stream.set_nodelay(true)?;
    match security {
        Security::Plain => Ok((Stream::Plain(stream), Peer { addr, spki: None, client_certificate: None })),
        Security::Tls(reloader) => {
            let state = reloader.current();
            let stream = TlsAcceptor::from(state.config.clone()).accept(stream).await?;
            let chain = stream.get_ref().1.peer_certificates();
            let client_certificate = chain.and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
            let peer = Peer { addr, spki: Some(state.spki), client_certificate };
            Ok((Stream::Tls(Box::new(stream)), peer))
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's handler panicked");
    }
}

/// How long to pause after an error of `accept`. An error of one connection that died in the
/// queue needs none; one of the process (no file descriptors left, say) would otherwise turn
/// the loop into a busy one, as the connection stays in the queue.
fn pause_after(error: &io::Error, last: Duration) -> Duration {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    match error.kind() {
        ConnectionAborted | ConnectionReset | Interrupted => Duration::ZERO,
        _ => (last * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE),
    }
}

/// The places that connections take, in all and per address.
#[derive(Debug)]
struct Places {
    limits: Limits,
    counters: Arc<Counters>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
}

/// A taken place; dropping it gives it back, also when its task panics or is aborted.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    ip: IpAddr,
}

impl Places {
    fn new(limits: Limits, counters: Arc<Counters>) -> Self {
        Self { limits, counters, taken: Mutex::default() }
    }

    fn take(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let from_ip = taken.per_ip.get(&ip).copied().unwrap_or(0);
        if taken.total >= self.limits.max_connections || from_ip >= self.limits.max_per_ip {
            return None;
        }
        taken.total += 1;
        taken.per_ip.insert(ip, from_ip + 1);
        self.counters.active.fetch_add(1, Ordering::Relaxed);
        Some(Place { places: self.clone(), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(from_ip) = taken.per_ip.get_mut(&self.ip) {
            *from_ip = from_ip.saturating_sub(1);
            if *from_ip == 0 {
                taken.per_ip.remove(&self.ip);
            }
        }
        self.places.counters.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
