//! Load for a cloud: simulated hubs, thousands in one process, that speak the protocol of `docs/protocol/mirror.md` with keys
//! of their own, each over a connection of its own. They link, send what a house has, and then, round after round, a few
//! changed rows and now and then a mark. They are made for figures: they check that each reply is the cloud's, and keep nothing.

mod figures;
mod hub;
mod identities;
mod line;
mod processes;

pub use figures::{Phase, Report};
pub use identities::write as write_identities;
pub use processes::{Process, Used};

use crate::domain::mirror::wire::CloudView;
use data_encoding::BASE64URL_NOPAD;
use figures::Tally;
use futures_util::{StreamExt, stream};
use hub::Hub;
use line::Lines;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Hubs of one run at most.
pub const HUBS_MAX: usize = 50_000;
/// Times that a hub tries a call again before its turn counts as an error.
const TRIES: u32 = 5;

/// What a load is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cloud's URL.
    pub url: String,
    /// PEM certificates of a CA of the cloud's own.
    pub ca_file: Option<PathBuf>,
    /// Whether the cloud may be on another machine.
    pub elsewhere: bool,
    /// Simulated hubs.
    pub hubs: usize,
    /// Devices of each.
    pub devices: usize,
    /// Rounds at each width; in a round, each hub syncs once.
    pub rounds: usize,
    /// Changed rows of a sync; 0 for hubs that only ask.
    pub rows: usize,
    /// Each so many syncs of a hub, a right is ended and given again; 0 for never.
    pub mark_every: usize,
    /// How many hubs are served at the same time; a phase for each.
    pub widths: Vec<usize>,
    /// Whether each hub keeps a stream of wake-ups open.
    pub wake: bool,
    /// For how many seconds, when they have sent everything, they do nothing.
    pub idle_s: u64,
    /// Whether each sync makes a connection of its own.
    pub reconnect: bool,
    /// Whose processor time and memory is looked at.
    pub processes: Vec<Process>,
}

/// Why there is no load at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Settings that do not go together.
    #[error("{0}")]
    Setting(String),
    /// The cloud does not answer as one.
    #[error("{0} does not answer as a cloud: {1}")]
    Cloud(String, String),
}

/// Runs a load to its end, or until `stop`: then the phase under way counts as far as it came. Each phase is told to `told`
/// when it is over.
///
/// # Errors
/// [`LoadError`]; what goes wrong with single hubs is counted instead.
pub async fn run(settings: &Settings, stop: &CancellationToken, mut told: impl FnMut(&Phase)) -> Result<Report, LoadError> {
    check(settings)?;
    let lines = Lines::new(settings).await?;
    let view = lines.view().await.map_err(|failure| LoadError::Cloud(settings.url.clone(), failure.to_string()))?;
    let cloud = key(&view).ok_or_else(|| LoadError::Cloud(settings.url.clone(), "its key is none".to_owned()))?;
    if view.url.trim_end_matches('/') != settings.url.trim_end_matches('/') {
        return Err(LoadError::Setting(format!("requests are signed on the cloud's public URL: use --url {}", view.url)));
    }
    let mut hubs = Vec::with_capacity(settings.hubs);
    for index in 0..settings.hubs {
        let line = lines.line(index, &cloud).map_err(|failure| LoadError::Setting(failure.to_string()))?;
        hubs.push(Hub::new(line, &view.region, cloud, settings));
    }
    let mut report = Report::default();
    let mut end = |phase: Phase| {
        told(&phase);
        report.phases.push(phase);
    };
    let widest = settings.widths.iter().copied().max().unwrap_or(1);
    hubs = phase(hubs, Step::Link, widest, "link", settings, stop, &mut end).await;
    if settings.wake {
        hubs = phase(hubs, Step::Wake, widest, "wake-up streams", settings, stop, &mut end).await;
    }
    hubs = phase(hubs, Step::Whole, widest, "first sync", settings, stop, &mut end).await;
    if settings.idle_s > 0 {
        hubs = phase(hubs, Step::Idle, settings.hubs, &format!("idle for {} s", settings.idle_s), settings, stop, &mut end).await;
    }
    for width in &settings.widths {
        hubs = phase(hubs, Step::Rounds, *width, &format!("{width} at a time"), settings, stop, &mut end).await;
    }
    drop(hubs);
    report.stopped = stop.is_cancelled();
    Ok(report)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Link,
    Wake,
    Whole,
    Idle,
    Rounds,
}

/// Has all hubs do a step, `width` of them at a time.
async fn phase(
    hubs: Vec<Hub>,
    step: Step,
    width: usize,
    name: &str,
    settings: &Settings,
    stop: &CancellationToken,
    end: &mut impl FnMut(Phase),
) -> Vec<Hub> {
    let before = processes::look(&settings.processes);
    let (mut tally, began) = (Tally::default(), Instant::now());
    let rounds = if step == Step::Rounds { settings.rounds } else { 1 };
    let mut hubs = hubs;
    for _ in 0..rounds {
        if stop.is_cancelled() {
            break;
        }
        let turns = stream::iter(hubs).map(|mut hub| async move {
            let done = if stop.is_cancelled() { None } else { turn(&mut hub, step, settings, stop).await };
            (hub, done)
        });
        let turns: Vec<_> = turns.buffer_unordered(width.max(1)).collect().await;
        hubs = turns
            .into_iter()
            .map(|(hub, done)| {
                if let Some(done) = done {
                    tally.add(done);
                }
                hub
            })
            .collect();
    }
    let took = began.elapsed();
    let after = processes::look(&settings.processes);
    end(tally.phase(name, width, took, processes::used(&settings.processes, &before, &after)));
    hubs
}

/// What one hub's turn came to.
struct Turn {
    /// From its beginning to the last reply.
    took: Duration,
    rows: usize,
    marks: usize,
    up: line::Bytes,
    down: line::Bytes,
    /// Calls that were made again.
    again: u32,
    /// How the last try failed, if it did.
    failed: Option<String>,
}

/// `None` when the load was ended meanwhile.
async fn turn(hub: &mut Hub, step: Step, settings: &Settings, stop: &CancellationToken) -> Option<Turn> {
    let began = Instant::now();
    let mut turn =
        Turn { took: Duration::ZERO, rows: 0, marks: 0, up: line::Bytes::default(), down: line::Bytes::default(), again: 0, failed: None };
    loop {
        let tried = async {
            match step {
                Step::Link => hub.link().await,
                Step::Wake => hub.wake().await,
                Step::Whole => hub.sync(true).await,
                Step::Rounds => hub.sync(false).await,
                Step::Idle => {
                    tokio::time::sleep(Duration::from_secs(settings.idle_s)).await;
                    Ok(hub::Done::default())
                }
            }
        };
        let tried = tokio::select! {
            () = stop.cancelled() => return None,
            tried = tried => tried,
        };
        match tried {
            Ok(done) => {
                turn.rows = done.rows;
                turn.marks = done.marks;
                turn.up += done.up;
                turn.down += done.down;
                break;
            }
            Err(failure) if turn.again < TRIES && failure.is_passing() => {
                turn.again += 1;
                tokio::time::sleep(failure.pause(turn.again)).await;
            }
            Err(failure) => {
                turn.failed = Some(failure.to_string());
                break;
            }
        }
    }
    turn.took = began.elapsed();
    Some(turn)
}

fn check(settings: &Settings) -> Result<(), LoadError> {
    let wrong = |text: &str| Err(LoadError::Setting(text.to_owned()));
    if settings.hubs == 0 || settings.hubs > HUBS_MAX {
        return wrong("--hubs: from 1 to 50000");
    }
    if settings.devices == 0 || settings.devices > 1_000 {
        return wrong("--devices: from 1 to 1000");
    }
    if settings.rows > 1_000 {
        return wrong("--rows: at most 1000");
    }
    if settings.rounds == 0 || settings.rounds > 10_000 {
        return wrong("--rounds: from 1 to 10000");
    }
    if settings.idle_s > 3_600 {
        return wrong("--idle: at most 3600");
    }
    if settings.widths.is_empty() || settings.widths.iter().any(|width| *width == 0 || *width > HUBS_MAX) {
        return wrong("--at-a-time: numbers from 1 to 50000");
    }
    Ok(())
}

fn key(view: &CloudView) -> Option<[u8; 32]> {
    BASE64URL_NOPAD.decode(view.key.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests;
