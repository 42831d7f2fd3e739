//! The stream over which the cloud wakes the hub (Server-Sent Events), and its reconnection. What it says is believed no
//! further than this: that a sync may be worth while, for what waits or for releases of firmware.

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
/// How often the hub comes again for releases that it was woken for and not told.
const AGAIN: u32 = 3;
/// A stream that stood for so long was a good one.
const GOOD: Duration = Duration::from_secs(60);

/// What sync and wake-up stream tell each other.
pub(super) struct Wake {
    /// How far the hub has taken what comes down; `None` before the first sync.
    cursor: watch::Sender<Option<u64>>,
    /// Which number of releases the hub was told last; `None` when it takes none.
    releases: watch::Sender<Option<u64>>,
    /// Which one it was woken for, and how often it has come again for that.
    wanted: watch::Sender<(u64, u32)>,
    /// There is more.
    pub news: Notify,
    /// Whether the stream stands.
    pub stands: watch::Sender<bool>,
}

impl Wake {
    pub(super) fn new() -> Wake {
        Wake {
            cursor: watch::Sender::new(None),
            releases: watch::Sender::new(None),
            wanted: watch::Sender::new((0, 0)),
            news: Notify::new(),
            stands: watch::Sender::new(false),
        }
    }

    /// The hub has taken everything up to here.
    pub(super) fn taken(&self, cursor: u64) {
        self.cursor.send_replace(Some(cursor));
    }

    /// The hub was told the releases of this number; `None` when it takes none.
    pub(super) fn told_of_releases(&self, n: Option<u64>) {
        self.releases.send_replace(n);
    }

    /// The cloud says that there is something to do about releases up to `n`; whether that is worth an exchange.
    fn heard_of_releases(&self, n: u64) -> bool {
        let newer = self.releases.borrow().is_some_and(|known| n > known) && n > self.wanted.borrow().0;
        if newer {
            self.wanted.send_replace((n, 0));
            self.news.notify_one();
        }
        newer
    }

    /// Whether to come again soon: the hub was woken for releases that it has not been told. Another process of the cloud may not
    /// have heard of them yet.
    pub(super) fn comes_again(&self) -> bool {
        let known = *self.releases.borrow();
        self.wanted.send_if_modified(|(n, times)| {
            let again = known.is_some_and(|known| known < *n) && *times < AGAIN;
            *times += u32::from(again);
            again
        })
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
    let releases = wake.releases.borrow().map_or_else(String::new, |n| format!("&fw={n}"));
    let response = match line.stream(&line.own(&format!("/wake?cursor={from}{releases}"))).await {
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
            Ok(event) => {
                let number = event.data.and_then(|data| data.trim().parse().ok());
                match (event.event.as_deref(), number) {
                    (Some("cursor"), Some(cursor)) => wake.heard(line, cursor),
                    (Some("firmware"), Some(n)) if wake.heard_of_releases(n) => line.meter().woken(),
                    _ => {}
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the cloud's wake-up stream ends");
                break;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_is_woken_for_releases_comes_at_once_and_some_times_more_until_it_is_told_them() {
        let wake = Wake::new();
        assert!(!wake.heard_of_releases(5), "it takes none");
        wake.told_of_releases(Some(4));
        assert!(!wake.heard_of_releases(4) && !wake.comes_again());
        assert!(wake.heard_of_releases(5) && !wake.heard_of_releases(5), "once for each");
        // It meets a process of the cloud that has not heard of them.
        wake.told_of_releases(Some(4));
        assert_eq!((0..10).filter(|_| wake.comes_again()).count(), 3, "not for ever");
        assert!(wake.heard_of_releases(7) && wake.comes_again());
        wake.told_of_releases(Some(7));
        assert!(!wake.comes_again() && !wake.heard_of_releases(6));
    }
}
