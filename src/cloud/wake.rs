//! Wake-ups: a stream for each connected hub that says how far its cursor is, and that there is something to do about releases of
//! firmware for its devices; nothing else. One poller in each process asks for all connected hubs at once; what this process
//! itself has put wakes at once.

use super::Context;
use super::call::{Answer, Call};
use super::makers::release_board::OfModel;
use super::reply::{Answered, Refused, Reply, ReplyBody};
use super::request::Request;
use super::signed::{SignedHub, number};
use crate::domain::ids::HubId;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The calls of this file.
pub(super) const CALLS: &[Call] = &[Call::hub(
    &Method::GET,
    "/v1/hubs/{hub}/wake",
    "Says when something waits for the hub (Server-Sent Events).",
    |context, request, hub| Box::pin(open(context, request, hub)),
)
.asked(&[
    ("cursor", "How far the hub is."),
    ("fw", "Which number of releases the hub was told last; without it, it is told nothing of releases."),
])
.gives(200, Answer::Events)];

/// How often something is said when there is nothing to say, so that both ends see that the other is there.
const PULSE: Duration = Duration::from_secs(20);
/// Streams of one hub: an old one may not have been missed yet.
const PER_HUB: usize = 3;
/// Hubs asked for in one statement.
const ASKED_AT_ONCE: usize = 5_000;
/// Hubs that are told of releases at once; the next so many after a pause as long as that of the poll, so that they do not all come
/// at one moment.
const TOLD_AT_ONCE: usize = 500;

/// After how long it is tried again to tell of releases, when the database does not answer.
const AGAIN: Duration = Duration::from_secs(5);

/// What a stream is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// The cursor is here, and there is something to do about releases up to this number.
    At(u64, u64),
    /// The hub is not linked any more, or another one is in its place.
    Over,
}

struct Entry {
    word: watch::Sender<Word>,
    epoch: u64,
    streams: usize,
}

/// The connected hubs of this process.
pub(super) struct Wakes {
    hubs: Mutex<HashMap<HubId, Entry>>,
    most: usize,
}

/// A stream's place; dropping it gives it back.
struct Seat {
    context: Arc<Context>,
    hub: HubId,
    word: watch::Receiver<Word>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut hubs = self.context.wakes.locked();
        if let Some(entry) = hubs.get_mut(&self.hub)
            && entry.word.subscribe().same_channel(&self.word)
        {
            entry.streams = entry.streams.saturating_sub(1);
            if entry.streams == 0 {
                hubs.remove(&self.hub);
            }
        }
    }
}

impl Wakes {
    /// For so many hubs at most.
    pub(super) fn new(most: usize) -> Wakes {
        Wakes { hubs: Mutex::default(), most }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<HubId, Entry>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a hub where its cursor is, if it is connected to this process.
    pub(super) fn wake(&self, hub: &HubId, cursor: u64) {
        if let Some(entry) = self.locked().get(hub) {
            entry.word.send_if_modified(|word| match word {
                Word::At(known, _) if *known < cursor => {
                    *known = cursor;
                    true
                }
                _ => false,
            });
        }
    }

    /// Tells a hub that there is something to do about releases, if it is connected to this process.
    fn releases(&self, hub: &HubId, n: u64) {
        if let Some(entry) = self.locked().get(hub) {
            entry.word.send_if_modified(|word| match word {
                Word::At(_, known) if *known < n => {
                    *known = n;
                    true
                }
                _ => false,
            });
        }
    }

    /// Ends the streams of a hub.
    pub(super) fn end(&self, hub: &HubId) {
        if let Some(entry) = self.locked().remove(hub) {
            entry.word.send_replace(Word::Over);
        }
    }

    fn connected(&self) -> Vec<(HubId, u64)> {
        self.locked().iter().map(|(hub, entry)| (*hub, entry.epoch)).collect()
    }
}

impl Context {
    /// Tells a hub that there is something up to `cursor`; to be called after the commit.
    pub(super) fn wake(&self, hub: &HubId, cursor: u64) {
        self.wakes.wake(hub, cursor);
    }
}

fn take_seat(context: &Arc<Context>, hub: SignedHub, cursor: u64) -> Result<Seat, Refused> {
    let wakes = &context.wakes;
    let mut hubs = wakes.locked();
    let all = hubs.len();
    let full = || Refused::busy("There are too many streams.", 60);
    if let Some(entry) = hubs.get_mut(&hub.id).filter(|entry| entry.epoch == hub.epoch) {
        if entry.streams >= PER_HUB {
            return Err(full());
        }
        entry.streams += 1;
        return Ok(Seat { context: context.clone(), hub: hub.id, word: entry.word.subscribe() });
    }
    if all >= wakes.most {
        return Err(full());
    }
    let (word, seat) = watch::channel(Word::At(cursor, 0));
    if let Some(old) = hubs.insert(hub.id, Entry { word, epoch: hub.epoch, streams: 1 }) {
        old.word.send_replace(Word::Over);
    }
    Ok(Seat { context: context.clone(), hub: hub.id, word: seat })
}

async fn open(context: Arc<Context>, request: Request, hub: SignedHub) -> Answered {
    let theirs = request.number("cursor")?.unwrap_or(0);
    // The seat is taken before the cursor is read: what is put in between is heard.
    let seat = take_seat(&context, hub, 0)?;
    let client = context.shards.of_hub(&hub.id).await?;
    let statement = client.prepare_cached("SELECT cursor FROM hubs WHERE hub_id = $1").await?;
    let row = client.query_opt(&statement, &[&hub.id.as_bytes().as_slice()]).await?.ok_or_else(Refused::not_linked)?;
    drop(client);
    context.wake(&hub.id, number(row.try_get(0)?));
    let heard = request.number("fw")?;
    if let (Some(n), Some(releases)) = (heard, context.makers.board.now()) {
        let news = releases.news_since(n);
        if !news.is_empty() && !context.makers.models_at(&hub.id).await?.is_disjoint(&news) {
            context.wakes.releases(&hub.id, releases.version);
        }
    }
    let (parts, body) = mpsc::channel(4);
    tokio::spawn(tell(seat, theirs, heard.unwrap_or(u64::MAX), parts));
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))];
    Ok(Reply { status: StatusCode::OK, headers, body: ReplyBody::Parts(body) })
}

/// Tells one stream, until either end is gone.
async fn tell(mut seat: Seat, theirs: u64, heard: u64, parts: mpsc::Sender<Bytes>) {
    let shutdown = seat.context.shutdown.clone();
    let (mut told, mut heard) = (theirs, heard);
    // Something at once: proxies pass the head on with the first byte.
    let mut pulse = tokio::time::interval(PULSE);
    loop {
        let word = *seat.word.borrow_and_update();
        let said = match word {
            Word::Over => return,
            Word::At(cursor, _) if cursor > told => {
                told = cursor;
                Bytes::from(format!("event: cursor\ndata: {cursor}\n\n"))
            }
            Word::At(_, n) if n > heard => {
                heard = n;
                Bytes::from(format!("event: firmware\ndata: {n}\n\n"))
            }
            Word::At(..) => tokio::select! {
                () = shutdown.cancelled() => return,
                () = parts.closed() => return,
                changed = seat.word.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    continue;
                }
                _ = pulse.tick() => Bytes::from_static(b": \n\n"),
            },
        };
        if parts.send(said).await.is_err() {
            return;
        }
    }
}

/// Asks for the cursors of all connected hubs, until the shutdown.
pub(super) async fn poll(context: Arc<Context>) {
    let mut silent = false;
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = tokio::time::sleep(context.config.poll) => {}
        }
        match look(&context).await {
            Ok(()) => silent = false,
            Err(refused) if !silent => {
                silent = true;
                tracing::warn!(code = refused.problem.code, "hubs are not woken while the database does not answer");
            }
            Err(_) => {}
        }
    }
}

async fn look(context: &Context) -> Result<(), Refused> {
    let connected = context.wakes.connected();
    if connected.is_empty() {
        return Ok(());
    }
    let epochs: HashMap<HubId, u64> = connected.iter().copied().collect();
    for (index, pool) in context.shards.all().enumerate() {
        let here: Vec<&[u8]> =
            connected.iter().filter(|(hub, _)| context.shards.index_of(hub) == index).map(|(hub, _)| hub.as_bytes().as_slice()).collect();
        for some in here.chunks(ASKED_AT_ONCE) {
            let client = pool.get().await?;
            let statement =
                client.prepare_cached("SELECT hub_id, cursor, epoch, unlinked_at IS NOT NULL FROM hubs WHERE hub_id = ANY($1)").await?;
            for row in client.query(&statement, &[&some]).await? {
                let Ok(id) = <[u8; 16]>::try_from(row.try_get::<_, &[u8]>(0)?) else { continue };
                let (hub, epoch, over) = (HubId::from_bytes(id), number(row.try_get(2)?), row.try_get::<_, bool>(3)?);
                if over || epochs.get(&hub).is_some_and(|known| *known < epoch) {
                    context.wakes.end(&hub);
                } else {
                    context.wakes.wake(&hub, number(row.try_get(1)?));
                }
            }
        }
    }
    Ok(())
}

/// Tells connected hubs when there is something to do about releases for their devices, until the shutdown.
pub(super) async fn tell_of_releases(context: Arc<Context>) {
    let mut versions = context.makers.board.versions();
    let mut told = 0;
    loop {
        let releases = context.makers.board.now();
        if let Some(releases) = releases {
            match concerned(&context, &releases.news_since(told)).await {
                Ok(hubs) => {
                    for some in hubs.chunks(TOLD_AT_ONCE) {
                        some.iter().for_each(|hub| context.wakes.releases(hub, releases.version));
                        if hubs.len() > TOLD_AT_ONCE {
                            tokio::time::sleep(context.config.poll).await;
                        }
                    }
                    told = releases.version;
                }
                Err(refused) => {
                    tracing::warn!(code = refused.problem.code, "hubs are told of releases later");
                    tokio::select! {
                        () = context.shutdown.cancelled() => return,
                        () = tokio::time::sleep(AGAIN) => continue,
                    }
                }
            }
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            changed = versions.changed() => if changed.is_err() { return },
        }
    }
}

/// The connected hubs that mirror devices of these models.
async fn concerned(context: &Context, models: &BTreeSet<OfModel>) -> Result<Vec<HubId>, Refused> {
    let connected = context.wakes.connected();
    let mut hubs = Vec::new();
    if models.is_empty() || connected.is_empty() {
        return Ok(hubs);
    }
    let (brands, names): (Vec<&str>, Vec<&str>) = models.iter().map(|(brand, model)| (brand.as_str(), model.as_str())).unzip();
    for (index, pool) in context.shards.all().enumerate() {
        let here: Vec<&[u8]> =
            connected.iter().filter(|(hub, _)| context.shards.index_of(hub) == index).map(|(hub, _)| hub.as_bytes().as_slice()).collect();
        for some in here.chunks(ASKED_AT_ONCE) {
            let client = pool.get().await?;
            let statement = client
                .prepare_cached(
                    "SELECT DISTINCT hub_id FROM fleet JOIN unnest($2::text[], $3::text[]) AS these(brand, model) USING (brand, model) \
                     WHERE hub_id = ANY($1)",
                )
                .await?;
            for row in client.query(&statement, &[&some, &brands, &names]).await? {
                hubs.extend(<[u8; 16]>::try_from(row.try_get::<_, &[u8]>(0)?).map(HubId::from_bytes));
            }
        }
    }
    Ok(hubs)
}
