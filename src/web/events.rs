//! What happens, as Server-Sent Events (WHATWG HTML §9.2): each stream shows what its account may see at the time of each
//! event, and ends with its session.
//!
//! Events are loaded when the connection has room for them, not when they happen: a slow reader gets fewer and fresher
//! ones, and nothing it may no longer see lies ready for it.

mod pairing;

pub(super) use pairing::pairing;

use super::caller::Session;
use super::request::Request;
use super::{Context, answer, refusal};
use crate::domain::authority::HubAction;
use crate::domain::binding::Subject;
use crate::domain::ids::DeviceId;
use crate::domain::policy::Table;
use crate::net::problem::Problem;
use crate::service::{Actor, Change, CommandView, Refusal, Service, SupportView};
use futures_util::stream;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::MissedTickBehavior;
use warp::Reply;
use warp::http::header;
use warp::reply::Response;
use warp::sse::Event;

/// How often a comment is sent when nothing happens: what stands between would end a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often session and rights are looked at when nothing happens: what was taken is gone within this time.
const CHECK: Duration = Duration::from_millis(500);

/// The streams that are open, by account.
pub(super) struct Streams {
    most: usize,
    most_per_account: usize,
    open: Mutex<HashMap<Subject, usize>>,
}

/// A stream's place; dropping it gives it back.
struct Place {
    streams: Arc<Streams>,
    user: Subject,
}

impl Streams {
    pub(super) fn new(most: usize, most_per_account: usize) -> Streams {
        Streams { most, most_per_account, open: Mutex::default() }
    }

    fn take(self: &Arc<Self>, user: &Subject) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= self.most || open.get(user).is_some_and(|n| *n >= self.most_per_account) {
            return None;
        }
        *open.entry(user.clone()).or_default() += 1;
        Some(Place { streams: self.clone(), user: user.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = open.get_mut(&self.user) {
            *n -= 1;
            if *n == 0 {
                open.remove(&self.user);
            }
        }
    }
}

/// `GET /api/v1/events`.
pub(super) async fn stream(context: Arc<Context>, request: Request, session: Session) -> Result<Response, Problem> {
    let place = taken(&context, &session)?;
    // From here on nothing is missed: what happens before the first look at the devices is an event after it.
    let changes = context.service.changes();
    let visible = context.service.devices(&session.actor).map_err(refusal::problem)?.into_iter().map(|d| d.id).collect();
    // A page that comes back after a while asks for nothing to know who is let in.
    let mut due = VecDeque::from([Due::Hello, Due::Support]);
    if request.headers.contains_key("last-event-id") {
        due.push_back(Due::Resync);
    }
    let epoch = context.service.epoch();
    let follower = Follower {
        service: context.service.clone(),
        source: request.caller.ip,
        session,
        visible,
        epoch,
        until: 0,
        support: Vec::new(),
        due,
        parts: HashMap::new(),
        hasher: RandomState::new(),
    };
    // One place: the next event is loaded when the one before it is on its way.
    let (events, ready) = mpsc::channel(1);
    let shutdown = context.hooks.shutdown.clone();
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = follower.run(changes, events) => {}
        }
    });
    Ok(sent(ready))
}

/// A place for a stream of this account.
fn taken(context: &Context, session: &Session) -> Result<Place, Problem> {
    let place = context.streams.take(&session.actor.subject);
    place.ok_or_else(|| Problem::too_many(30_000).detail("Too many event streams are open.").next("Close other windows of this hub."))
}

/// The answer that sends what is ready.
fn sent(mut ready: mpsc::Receiver<Event>) -> Response {
    let events = stream::poll_fn(move |cx| ready.poll_recv(cx).map(|e| e.map(Ok::<Event, Infallible>)));
    let response = warp::sse::reply(warp::sse::keep_alive().interval(KEEP_ALIVE).stream(events)).into_response();
    answer::with(response, header::CACHE_CONTROL, "no-store")
}

/// What is to be told next; what it says is loaded when it is told.
enum Due {
    Hello,
    Resync,
    Device(DeviceId),
    Twin(DeviceId),
    Command(Box<CommandView>),
    Support,
    Cloud,
    Firmware(Option<DeviceId>),
    Update,
    Backup,
    Pairing(String),
}

/// One stream's view of the house.
struct Follower {
    service: Arc<Service>,
    source: IpAddr,
    session: Session,
    /// The devices the other side knows of: of others it is not even told that they are gone.
    visible: HashSet<DeviceId>,
    epoch: u64,
    /// When the next right of the account begins or ends by its time, ms since 1970.
    until: u64,
    /// The support sessions the other side knows of.
    support: Vec<SupportView>,
    due: VecDeque<Due>,
    /// What was last told of each twin of which only a part is shown, as a hash.
    parts: HashMap<DeviceId, u64>,
    hasher: RandomState,
}

impl Follower {
    /// Runs until the reader is gone or the session is over.
    async fn run(mut self, mut changes: broadcast::Receiver<Change>, events: mpsc::Sender<Event>) {
        let mut check = tokio::time::interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let place = tokio::select! {
                place = events.reserve() => match place {
                    Ok(place) => place,
                    Err(_) => return,
                },
                _ = check.tick() => {
                    if !self.holds() {
                        return;
                    }
                    continue;
                }
            };
            let event = loop {
                if let Some(due) = self.due.pop_front() {
                    if !self.holds() {
                        return;
                    }
                    // What cannot be recorded is not shown.
                    if let Due::Twin(id) = &due
                        && self.service.record_look(&self.session.actor, id).await.is_err()
                    {
                        return;
                    }
                    match self.told(due) {
                        Some(event) => break event,
                        None => continue,
                    }
                }
                tokio::select! {
                    () = events.closed() => return,
                    _ = check.tick() => {
                        if !self.holds() {
                            return;
                        }
                        self.look_around();
                    }
                    change = changes.recv() => match change {
                        Ok(Change::Accounts) => {
                            if !self.holds() {
                                return;
                            }
                            self.look_around();
                        }
                        Ok(change) => self.due.extend(Due::of(change)),
                        Err(RecvError::Lagged(_)) => self.due.push_back(Due::Resync),
                        Err(RecvError::Closed) => return,
                    },
                }
            };
            place.send(event);
        }
    }

    /// Whether the session still stands; the actor is brought up to date.
    fn holds(&mut self) -> bool {
        match self.service.holder_of(&self.session.token, "https", self.source) {
            Ok(actor) => {
                self.session.actor = actor;
                true
            }
            Err(_) => false,
        }
    }

    /// After a change of rights, or when one begins or ends by its time: devices that came into view or went out of it, though nothing happened to them.
    fn look_around(&mut self) {
        let epoch = self.service.epoch();
        if epoch == self.epoch && self.service.now() < self.until {
            return;
        }
        self.epoch = epoch;
        // Who sees a device from now on sees who is let in to it.
        self.due.push_back(Due::Support);
        self.until = self.service.compile(&self.session.actor.subject.clone(), &Table::nothing()).valid_until();
        match self.service.devices(&self.session.actor) {
            Ok(devices) => {
                let now: HashSet<DeviceId> = devices.into_iter().map(|d| d.id).collect();
                self.due.extend(self.visible.symmetric_difference(&now).cloned().map(Due::Device));
            }
            Err(error) => {
                tracing::error!(%error, "an event stream could not look at the devices");
                self.due.push_back(Due::Resync);
            }
        }
    }

    /// The event, if there is something to tell to this account.
    fn told(&mut self, due: Due) -> Option<Event> {
        let actor: &Actor = &self.session.actor;
        match due {
            // With an id, so that a browser that comes back says that it was here before.
            Due::Hello => event("hello", &json!({"at": self.service.now()})).map(|e| e.id(self.service.now().to_string())),
            Due::Resync => event("resync", &json!({})),
            Due::Device(id) => match self.service.device(actor, &id) {
                Ok(device) => {
                    self.visible.insert(id);
                    event("device", &device)
                }
                Err(Refusal::NotFound(_)) if self.visible.remove(&id) => event("removed", &json!({"id": id})),
                Err(refusal) => untold(&refusal),
            },
            Due::Twin(id) => match self.service.twin_or_part(actor, &id) {
                Ok((twin, part)) => {
                    let mut body = twin.view();
                    // Who sees a part is not told that something happened to the rest.
                    let content = ["desired", "reported", "metadata"].map(|section| body.get(section).map(Value::to_string));
                    let now = self.hasher.hash_one(content);
                    if !part {
                        self.parts.remove(&id);
                    } else if self.parts.insert(id.clone(), now) == Some(now) {
                        return None;
                    }
                    if let Value::Object(members) = &mut body {
                        members.remove("metadata");
                        members.insert("device_id".into(), Value::String(id.to_string()));
                    }
                    event("twin", &body)
                }
                Err(refusal) => untold(&refusal),
            },
            // What there is to see, each person asks for themselves.
            Due::Cloud => actor.user().ok().and_then(|_| event("cloud", &json!({}))),
            Due::Firmware(Some(id)) => match self.service.device_firmware(actor, &id) {
                Ok(firmware) => event("firmware", &json!({"device_id": id, "firmware": firmware})),
                Err(refusal) => untold(&refusal),
            },
            // Releases and policies have changed, or a release comes in: whoever may see them asks.
            Due::Firmware(None) => {
                if !actor.may(HubAction::ImportIdentities) {
                    return None;
                }
                event("firmware", &json!({"device_id": null}))
            }
            Due::Update => actor.may(HubAction::ManageAccess).then(|| event("update", &json!({}))).flatten(),
            Due::Backup => actor.may(HubAction::ManageAccess).then(|| event("backup", &json!({}))).flatten(),
            Due::Support => match self.service.support_sessions(actor) {
                Ok(open) if open != self.support => {
                    self.support = open;
                    event("support", &json!({"sessions": self.support}))
                }
                Ok(_) => None,
                Err(refusal) => untold(&refusal),
            },
            Due::Pairing(id) => {
                // Told is who began it; who may see all of them asks for them.
                if !self.service.is_own_pairing(actor, &id) {
                    return None;
                }
                match self.service.pairing(actor, &id) {
                    Ok(view) => event("pairing", &view),
                    Err(refusal) => untold(&refusal),
                }
            }
            // Only while it is remembered: of a device that has left nothing is told.
            Due::Command(view) => {
                match self.service.command_view(actor, &view.device_id, &view.id).and_then(|_| self.service.command_shown(actor, *view)) {
                    Ok(view) => event("command", &view),
                    Err(refusal) => untold(&refusal),
                }
            }
        }
    }
}

impl Due {
    fn of(change: Change) -> Option<Due> {
        match change {
            // Whether it is gone depends on who looks: an owner still sees it, waiting.
            Change::Device { id } | Change::Removed { id } => Some(Due::Device(id)),
            Change::Twin { id } => Some(Due::Twin(id)),
            Change::Command(view) => Some(Due::Command(view)),
            Change::Support => Some(Due::Support),
            Change::Pairing { id } => Some(Due::Pairing(id)),
            Change::Cloud => Some(Due::Cloud),
            Change::Firmware { id } => Some(Due::Firmware(id)),
            Change::Update => Some(Due::Update),
            Change::Backup => Some(Due::Backup),
            Change::Radio | Change::Accounts => None,
        }
    }
}

fn event(name: &str, body: &impl Serialize) -> Option<Event> {
    Event::default().event(name).json_data(body).ok()
}

/// What this account may not see it is not told; a fault of the hub makes it load again.
fn untold(refusal: &Refusal) -> Option<Event> {
    match refusal {
        Refusal::Store(error) => {
            tracing::error!(%error, "an event could not be loaded");
            event("resync", &json!({}))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::UserId;

    #[test]
    fn an_account_has_so_many_streams_and_gets_each_place_back() {
        let streams = Arc::new(Streams::new(3, 2));
        let user = |n: u128| Subject::User(UserId::from_uuid(uuid::Uuid::from_u128(n)));
        let first = streams.take(&user(1));
        let _second = streams.take(&user(1));
        assert!(first.is_some() && streams.take(&user(1)).is_none());
        let _third = streams.take(&user(2));
        assert!(streams.take(&user(3)).is_none(), "three in all");
        drop(first);
        assert!(streams.take(&user(1)).is_some());
    }
}
