//! The stream over which the cloud wakes the hub (Server-Sent Events), and its reconnection. What it says is believed no
//! further than this: that a sync may be worth while.

use super::line::Line;
use super::pace::Backoff;
use super::random;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sse_stream::SseByteStream;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Bytes of one stream at most; then it is opened anew. So much is at most held of an event that does not end.
const STREAM_MOST: usize = 256 * 1024;
/// Longest silence: the cloud sends something every 20 s.
const SILENCE: Duration = Duration::from_secs(65);
/// A stream that stood for so long was a good one.
const GOOD: Duration = Duration::from_secs(60);

/// What sync and wake-up stream tell each other.
pub(super) struct Wake {
    /// How far the hub has taken what comes down; `None` before the first sync.
    cursor: watch::Sender<Option<u64>>,
    /// There is more.
    pub news: Notify,
    /// Whether the stream stands.
    pub stands: watch::Sender<bool>,
}

impl Wake {
    pub(super) fn new() -> Wake {
        Wake { cursor: watch::Sender::new(None), news: Notify::new(), stands: watch::Sender::new(false) }
    }

    /// The hub has taken everything up to here.
    pub(super) fn taken(&self, cursor: u64) {
        self.cursor.send_replace(Some(cursor));
    }

    fn heard(&self, line: &Line, cursor: u64) {
        if self.cursor.borrow().is_some_and(|taken| cursor > taken) {
            line.meter().woken();
            self.news.notify_one();
        }
    }
}

/// Listens, from the first sync on, until it is dropped.
pub(super) async fn listen(line: &Line, wake: &Wake) {
    let mut backoff = Backoff::default();
    loop {
        // Fails only when there is nobody left to tell anything.
        let Ok(from) = wake.cursor.subscribe().wait_for(Option::is_some).await.map(|cursor| cursor.unwrap_or(0)) else { return };
        let opened = Instant::now();
        let asked = once(line, wake, from).await;
        wake.stands.send_replace(false);
        if opened.elapsed() >= GOOD {
            backoff.reset();
        }
        tokio::time::sleep(backoff.pause(random(), asked)).await;
    }
}

/// One stream, to its end; how long the cloud asked to stay away.
async fn once(line: &Line, wake: &Wake, from: u64) -> Option<Duration> {
    let response = match line.stream(&line.own(&format!("/wake?cursor={from}"))).await {
        Ok(response) => response,
        Err(failure) => {
            tracing::debug!(code = failure.problem.code, detail = %failure.problem.detail, "the cloud's wake-up stream does not open");
            return failure.asked;
        }
    };
    wake.stands.send_replace(true);
    let mut left = STREAM_MOST;
    let heard = stream::try_unfold(response, |mut response| async move {
        let chunk = tokio::time::timeout(SILENCE, response.chunk()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        Ok::<_, io::Error>(chunk.map_err(io::Error::other)?.map(|chunk| (chunk, response)))
    });
    let bytes = heard.map(|chunk| {
        let chunk: Bytes = chunk?;
        line.meter().received(chunk.len());
        left = left.checked_sub(chunk.len()).ok_or_else(|| io::Error::other("it is long enough"))?;
        Ok::<_, io::Error>(chunk)
    });
    let mut events = pin!(SseByteStream::new(bytes));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) if event.event.as_deref() == Some("cursor") => {
                if let Some(cursor) = event.data.and_then(|data| data.trim().parse().ok()) {
                    wake.heard(line, cursor);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "the cloud's wake-up stream ends");
                break;
            }
        }
    }
    None
}
