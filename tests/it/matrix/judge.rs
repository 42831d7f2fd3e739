//! What is right: who must have seen what of one try of a cell, and what nobody may see at all.

use super::scene::{Rooms, Subject};
use super::table::Cell;
use hearthkey::sim::mqtt::Publish;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the watchers make of one publish: who got it as it was, who the answer to a request to a shadow, who the news
/// that a command was sent; and which device was told in its own room what became of it.
#[derive(Default)]
pub struct Seen {
    raw: Vec<&'static str>,
    answers: Vec<&'static str>,
    pub news: Vec<&'static str>,
    told: Vec<&'static str>,
}

/// All that was seen.
#[derive(Default)]
pub struct Sorted {
    /// By the marker of the publish.
    pub of: BTreeMap<String, Seen>,
    /// What somebody heard who may not.
    pub strays: Vec<String>,
    /// Commands that devices were told.
    pub commands: usize,
}

/// The names of who may view all of a room, the device itself among them.
fn viewers(room: char) -> &'static [&'static str] {
    match room {
        'D' => &["D", "T", "app", "manager", "operator", "owner", "service", "support", "viewer", "worker"],
        'G' => &["G", "door-app", "owner"],
        'N' => &["N", "nora"],
        'T' => &["T", "owner"],
        'W' => &["W"],
        _ => &[],
    }
}

/// Who hears of a command, and what becomes of it: also who may do just this one.
fn hearers(room: char, command: &str) -> BTreeSet<&'static str> {
    let mut all: BTreeSet<_> = viewers(room).iter().copied().collect();
    if room == 'D' && command == "identify" {
        all.insert("part");
    }
    all
}

/// A topic's room and place; `None` outside all rooms.
fn place<'a>(rooms: &Rooms, topic: &'a str) -> Option<(char, &'a str)> {
    let (id, place) = topic.strip_prefix("$aws/").unwrap_or(topic).strip_prefix("things/")?.split_once('/')?;
    Some((rooms.name(id)?, place))
}

/// Whether `watcher` may hear what is said there, whatever it is.
fn may_hear(watcher: &str, room: char, place: &str) -> bool {
    let is_itself = watcher.len() == 1 && watcher.starts_with(room);
    let mut levels = place.split('/');
    match (levels.next().unwrap_or_default(), levels.next()) {
        ("claim" | "rebase" | "proof" | "bound" | "firmware", _) => is_itself,
        ("commands", _) if is_itself => !place.ends_with("/result"),
        ("commands", Some(name)) => hearers(room, name).contains(watcher),
        ("presence", None) => viewers(room).contains(&watcher) || (room == 'D' && watcher == "part"),
        _ => viewers(room).contains(&watcher),
    }
}

pub fn sort(rooms: &Rooms, watchers: Vec<(&'static str, Vec<Publish>)>) -> Sorted {
    let mut sorted = Sorted::default();
    let mut strays = BTreeSet::new();
    for (name, messages) in watchers {
        for message in messages {
            let at = place(rooms, &message.topic);
            if !at.is_some_and(|(room, place)| may_hear(name, room, place)) {
                strays.insert(format!("{name} heard {}", message.topic));
            }
            let Some((room, place)) = at else { continue };
            let Ok(body) = serde_json::from_slice::<Value>(&message.payload) else { continue };
            if let Some(marker) = body["marker"].as_str() {
                sorted.of.entry(marker.into()).or_default().raw.push(name);
                continue;
            }
            let is_command = place.starts_with("commands/") && place.matches('/').count() == 1;
            sorted.commands += usize::from(is_command && name.starts_with(room));
            let Some(marker) = body["clientToken"].as_str() else { continue };
            let is_answer = place.ends_with("/accepted") || place.ends_with("/rejected");
            let seen = sorted.of.entry(marker.to_owned()).or_default();
            if place.starts_with("bound/") {
                seen.told.push(name);
            } else if place.starts_with("shadow/") && is_answer {
                seen.answers.push(name);
            } else if place.starts_with("commands/") && body["status"] == "sent" {
                seen.news.push(name);
            }
        }
    }
    sorted.strays.extend(strays);
    sorted
}

/// Each of them, once.
fn once(seen: &[&'static str], expected: &BTreeSet<&'static str>) -> bool {
    seen.len() == expected.len() && seen.iter().copied().collect::<BTreeSet<_>>() == *expected
}

/// Says what is wrong with one try of a cell; `None` when all is as expected.
pub fn judge(rooms: &Rooms, who: &Subject, cell: &Cell, variant: &str, word: &str, seen: &Seen) -> Option<String> {
    let closed = word.starts_with("closed");
    let refused = match variant {
        // paho takes a refusing PUBREC for a good one and asks on: the hub knows nothing of the id (0x92).
        "v5q1" => word == "refused 0x87",
        "v5q2" => word == "refused 0x87" || word == "refused 0x92",
        "v5q0" => word == "closed 0x87",
        _ => closed,
    };
    let (room, inside) = place(rooms, &cell.topic).unwrap_or(('-', ""));
    let nobody = BTreeSet::new();
    let all: BTreeSet<_> = viewers(room).iter().copied().collect();
    let own = who.device.map(|c| c.to_string());
    // A device that acts on another is told so in its own room.
    let is_guest = who.device.is_some_and(|own| own != room);
    let told =
        |expected: bool| if expected { seen.told.len() == 1 && own.as_deref() == seen.told.first().copied() } else { seen.told.is_empty() };
    let silent = seen.raw.is_empty() && seen.answers.is_empty() && seen.news.is_empty() && seen.told.is_empty();
    let right = match cell.expected.as_str() {
        "delivered" => word == "ok" && once(&seen.raw, &all) && seen.answers.is_empty() && seen.news.is_empty() && told(false),
        "handled" => {
            let answered = if inside.starts_with("shadow/") { &all } else { &nobody };
            word == "ok" && seen.raw.is_empty() && once(&seen.answers, answered) && seen.news.is_empty() && told(is_guest)
        }
        "sent" => {
            let mut hearers = hearers(room, inside.strip_prefix("commands/").unwrap_or_default());
            hearers.retain(|name| *name != room.to_string());
            let sent = once(&seen.news, &hearers) && told(false);
            // A device that acts on another keeps a pace.
            let too_often = is_guest && seen.news.is_empty() && told(true);
            word == "ok" && seen.raw.is_empty() && seen.answers.is_empty() && (sent || too_often)
        }
        "refused" if cell.verb == "will" => silent,
        "refused" if cell.verb == "subscribe" => word == if variant.starts_with("v5") { "refused 0x87" } else { "refused 0x80" },
        "refused" => refused && silent,
        "closes" => closed && silent,
        heard => cell.verb == "subscribe" && word == heard,
    };
    (!right).then(|| {
        let (Cell { verb, topic, expected, .. }, Seen { raw, answers, news, told }) = (cell, seen);
        format!(
            "{} {verb} {topic} ({variant}): expected {expected}, was `{word}`; seen by {raw:?}, answer by {answers:?}, news by {news:?}, told {told:?}",
            who.name
        )
    })
}
