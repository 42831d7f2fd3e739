//! One accepted connection that speaks HTTP/1.1 or HTTP/2, with deadlines, until it ends or the program does. What is
//! answered is the caller's: any service of hyper.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// As many bytes as the HTTP/2 preface has (RFC 9113 §3.4); no request with a `Host` is shorter.
const FIRST_BYTES: usize = 24;
/// Longest header section, in bytes, in both versions of the protocol.
const HEADER_BYTES: u32 = 32 * 1024;

/// What a connection is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Within what time the headers of a request must be there, and how long an idle connection stays.
    pub silence: Duration,
    /// How long a peer may take to accept what is written to it before it is given up.
    pub stall: Duration,
    /// Most headers of a request.
    pub max_headers: usize,
    /// Requests at the same time on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
}

/// Serves `stream` until the peer leaves, falls silent or breaks the rules, or `shutdown` is cancelled.
pub async fn serve_http<S, V, B>(stream: S, peer: SocketAddr, service: V, bounds: Bounds, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Service<Request<Incoming>, Response = Response<B>>,
    V::Future: Send + 'static,
    V::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.silence)
        .max_headers(bounds.max_headers)
        .max_buf_size(HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.max_concurrent_streams)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(bounds.silence)
        .keep_alive_timeout(bounds.silence);
    let seen = Arc::new(AtomicUsize::new(0));
    let io = TokioIo::new(Watched { stream, seen: seen.clone(), patience: bounds.stall, stalled: None });
    let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
    // Which version it speaks, and the preface of HTTP/2, are awaited without a deadline by those below.
    let mut first = pin!(tokio::time::sleep(bounds.silence));
    let mut first_is_due = true;
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a connection broke");
                }
                break;
            }
            () = first.as_mut(), if first_is_due => {
                if seen.load(Ordering::Relaxed) < FIRST_BYTES {
                    tracing::debug!(%peer, "a connection stayed silent");
                    break;
                }
                first_is_due = false;
            }
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A stream that counts what was read from it, and gives up a peer that does not read what is written to it: neither
/// version of the protocol has a deadline for that, and TCP none either.
struct Watched<S> {
    stream: S,
    seen: Arc<AtomicUsize>,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// Passes on what a write gave, while the peer keeps accepting.
    fn written<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.seen.fetch_add(buf.filled().len().saturating_sub(before), Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, polled)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.written(cx, polled)
    }
}
