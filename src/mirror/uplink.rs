//! Which cloud is called, how long the hub rests after a failure, and what it tells of that. What it does at the cloud is
//! `round`'s. All of it is one future: whatever it waits for, it can be dropped there, but what the service has begun goes on.

use super::answer::{self, Problem};
use super::line::{Failure, Line, Way};
use super::meter::Meter;
use super::pace::Backoff;
use super::round::Life;
use super::wake::{self, Wake};
use super::{Config, random};
use crate::service::{LinkTarget, MirrorPhase, MirrorProblem, MirrorState, Refusal, Service};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// Failures in a row after which somebody is told that it does not go by itself.
const PERSISTENT: u32 = 5;

/// The way to the cloud.
pub(super) struct Uplink {
    pub service: Arc<Service>,
    pub config: Config,
    pub dir: PathBuf,
    pub meter: Arc<Meter>,
    told: Mutex<MirrorState>,
    /// Pauses before a cloud that does not know this hub is told of it again.
    strangers: Mutex<Backoff>,
    /// What the service has begun is finished, whatever becomes of the line meanwhile.
    begun: TaskTracker,
}

/// Why a line is put down.
pub(super) enum End {
    /// Begin again, with what is so by then.
    Anew,
    /// Another hub has taken this one's place.
    Replaced,
}

impl Uplink {
    pub(super) fn new(service: Arc<Service>, config: Config, dir: PathBuf, meter: Arc<Meter>) -> Uplink {
        Uplink { service, config, dir, meter, told: Mutex::default(), strangers: Mutex::default(), begun: TaskTracker::new() }
    }

    /// Waits until what the service has begun is finished.
    pub(super) async fn settle(&self) {
        self.begun.close();
        self.begun.wait().await;
    }

    /// Has the service do something to its end, also when nobody waits for that any more.
    pub(super) async fn finish<T, F>(&self, doing: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        match self.begun.spawn(doing).await {
            Ok(done) => done.map_err(own),
            Err(error) => Err(fault(&error.to_string())),
        }
    }

    /// Calls whatever cloud is linked, for ever.
    pub(super) async fn run(&self) {
        let mut targets = self.service.mirror_target();
        let mut backoff = Backoff::default();
        loop {
            let target = targets.borrow_and_update().clone();
            let end = async {
                match &target {
                    Some(target) if !*self.service.retired().borrow() => self.call(target, &mut backoff).await,
                    _ => self.tell(|state| *state = MirrorState::default()),
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                changed = targets.changed() => if changed.is_err() { return },
                () = end => {}
            }
        }
    }

    /// Calls one cloud until another hub has taken this one's place there.
    async fn call(&self, target: &LinkTarget, backoff: &mut Backoff) {
        loop {
            match self.live(target, backoff).await {
                Ok(End::Anew) => {}
                Ok(End::Replaced) => {
                    tracing::error!("another hub has taken this hub's place: it serves nobody any more");
                    self.tell(|state| *state = MirrorState::default());
                    return;
                }
                Err(failure) => self.rest(failure, backoff).await,
            }
        }
    }

    async fn live(&self, target: &LinkTarget, backoff: &mut Backoff) -> Result<End, Failure> {
        let key = self.service.mirror_key().map_err(own)?;
        let way = Way::new(&self.config, &self.service, self.meter.clone()).await?;
        let line = Line::new(way, target, key);
        let wake = Wake::new();
        let mut life = Life::new(self, target, &line, &wake);
        let connection = async {
            let mut stands = wake.stands.subscribe();
            while stands.changed().await.is_ok() {
                let connected = *stands.borrow_and_update();
                self.tell(|state| state.connected = connected);
            }
        };
        let end = tokio::select! {
            end = life.work(backoff) => end,
            () = wake::listen(&line, &wake) => End::Anew,
            () = connection => End::Anew,
        };
        self.tell(|state| state.connected = false);
        Ok(end)
    }

    /// Waits after a failure, and says so.
    pub(super) async fn rest(&self, failure: Failure, backoff: &mut Backoff) {
        let Failure { problem, asked, refused } = failure;
        let pause = backoff.pause(random(), asked);
        self.meter.ended(problem.code);
        // What goes by itself is no affair of a person's, until it lasts.
        let by_itself = matches!(problem.code, "unreachable" | "busy" | "budget");
        let failing = !by_itself || backoff.failures() >= PERSISTENT;
        let phase = if failing { MirrorPhase::Failing } else { MirrorPhase::Waiting };
        if backoff.failures() == 1 || backoff.failures() == PERSISTENT {
            let status = refused.as_ref().map(|r| r.status);
            tracing::warn!(code = problem.code, detail = %problem.detail, ?status, pause_s = pause.as_secs(), "the cloud was not reached; everything in the house goes on");
        } else {
            tracing::debug!(code = problem.code, detail = %problem.detail, pause_s = pause.as_secs(), "the cloud was not reached again");
        }
        self.waits(phase, Some(problem), pause);
        tokio::time::sleep(pause).await;
    }

    pub(super) fn waits(&self, phase: MirrorPhase, problem: Option<Problem>, pause: Duration) {
        let at = self.service.now().saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        self.tell(|state| {
            (state.phase, state.retry_at) = (phase, Some(at));
            state.problem = problem.map(|p| MirrorProblem { code: p.code, detail: p.detail, next: p.next.to_owned() });
        });
    }

    pub(super) fn strangers(&self) -> MutexGuard<'_, Backoff> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn phase(&self, phase: MirrorPhase) {
        self.tell(|state| (state.phase, state.retry_at) = (phase, None));
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut MirrorState)) {
        let state = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut told);
            told.clone()
        };
        self.service.mirror_reports(state);
    }
}

/// What the hub's own service refuses.
pub(super) fn own(error: Refusal) -> Failure {
    fault(&error.to_string())
}

/// A fault of the hub's own.
fn fault(detail: &str) -> Failure {
    let next = "Look at the hub's log; if its disk is full or broken, that comes first";
    Problem { code: "hub", detail: answer::plain(detail), next }.into()
}
