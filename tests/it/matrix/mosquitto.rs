//! The cells again, with mosquitto's clients.

use super::judge::{self, Seen};
use super::scene::{Rooms, Scene, Subject};
use super::table::Cell;
use std::collections::BTreeMap;
use std::process::Command;

/// One cell with all that a process needs to try it.
pub struct Try {
    cell: Cell,
    user: String,
    password: String,
    payload: String,
}

/// What mosquitto can try: it says goodbye before its will is due.
pub fn tries(scene: &Scene, cells: &[Cell]) -> Vec<Try> {
    let can = |c: &&Cell| matches!(c.verb.as_str(), "publish" | "subscribe") && !c.topic.contains("{cell}");
    let of = |(number, cell): (usize, &Cell)| {
        let who = &scene.subjects[cell.subject];
        let payload = who.payload(&format!("{}-mosquitto", cell.id));
        Try { cell: cell.clone(), user: who.username.clone(), password: scene.password(who, number as u64), payload }
    };
    cells.iter().filter(can).enumerate().map(of).collect()
}

/// What mosquitto prints at each, by the cell.
pub fn all(port: u16, tries: &[Try]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let last = tries.iter().map(|t| t.cell.subject).max().unwrap_or_default();
    std::thread::scope(|scope| {
        // One thread per subject: sign-ins of one subject go one after the other, as its counter does.
        let workers: Vec<_> = (0..=last)
            .map(|subject| {
                scope.spawn(move || {
                    let mine = tries.iter().filter(|t| t.cell.subject == subject);
                    mine.map(|t| (t.cell.id.clone(), run(port, t))).collect::<Vec<_>>()
                })
            })
            .collect();
        for worker in workers {
            out.extend(worker.join().unwrap());
        }
    });
    out
}

fn run(port: u16, Try { cell, user, password, payload }: &Try) -> String {
    let port = port.to_string();
    let common =
        ["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "1", "-d", "-i", "mosquitto", "-u", user, "-P", password, "-t", &cell.topic];
    let done = if cell.verb == "publish" {
        Command::new("mosquitto_pub").args(common).args(["-m", payload]).output()
    } else {
        Command::new("mosquitto_sub").args(common).args(["-E", "-W", "20"]).output()
    };
    let done = done.unwrap();
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

/// As [`judge::judge`], from what mosquitto printed.
pub fn judge(rooms: &Rooms, who: &Subject, cell: &Cell, output: &str, seen: &Seen) -> Option<String> {
    let said = |text: &str| output.contains(text);
    let word = if cell.verb == "publish" {
        if said("RC:135") {
            "refused 0x87"
        } else if said("PUBACK") && (said("RC:0)") || said("RC:16)")) {
            "ok"
        } else {
            "closed"
        }
    } else if said("): 135") {
        "refused 0x87"
    } else if said("): 1") {
        // It leaves before anything can be heard.
        &cell.expected
    } else {
        output
    };
    judge::judge(rooms, who, cell, "v5q1", word, seen).map(|w| format!("mosquitto: {w}\n    {}", output.replace('\n', "\n    ")))
}
