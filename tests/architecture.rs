//! The law of the house: which room may import which, and what every file keeps to.
//!
//! Reads the sources as text, tests included, and follows every path that begins at the
//! crate's root: `crate::…` in any nesting of braces, and `super::…` that climbs as far.
//! Macros that build paths out of pieces are not seen; nothing here uses them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::{paths, tokens};

#[path = "architecture/source.rs"]
mod source;

/// Each room and the rooms it may import. `lib.rs` and `main.rs` may import all of them.
const LAW: [(&str, &[&str]); 18] = [
    ("domain", &[]),
    ("net", &[]),
    ("store", &["domain"]),
    ("service", &["domain", "store"]),
    ("broker", ADAPTER),
    ("ble", ADAPTER),
    ("web", ADAPTER),
    ("mirror", ADAPTER),
    ("mdns", ADAPTER),
    ("update", ADAPTER),
    ("backup", ADAPTER),
    ("factory", &["domain"]),
    ("sim", &["net"]),
    ("cloud", &["domain", "net"]),
    ("hub", BELOW_HUB),
    ("config", ROOMS_WITH_CONFIG),
    ("cli", &["hub", "factory", "sim", "cloud", "config"]),
    ("main", &[]),
];
const ADAPTER: &[&str] = &["domain", "service", "net"];
const BELOW_HUB: &[&str] =
    &["domain", "net", "store", "service", "broker", "ble", "web", "mirror", "mdns", "update", "backup", "factory", "sim", "cloud"];
/// Of these, `config` may name their `Config` and nothing else.
const ROOMS_WITH_CONFIG: &[&str] =
    &["domain", "net", "store", "service", "broker", "ble", "web", "mirror", "mdns", "update", "backup", "factory", "sim", "cloud", "hub"];

/// Libraries that are an affair of some rooms only.
const KEPT_IN: [(&str, &[&str]); 18] = [
    ("redb", &["store"]),
    ("rumqttd", &["broker"]),
    ("btleplug", &["ble"]),
    ("dbus", &["ble", "update"]),
    ("mdns_sd", &["mdns", "sim"]),
    ("snow", &["domain"]),
    ("warp", &["web", "cloud", "net"]),
    ("zbus", &["sim"]),
    ("bluer", &["sim"]),
    ("tokio_postgres", &["cloud"]),
    ("deadpool_postgres", &["cloud"]),
    ("refinery", &["cloud"]),
    ("sfv", &["domain"]),
    ("sse_stream", &["mirror"]),
    ("self_update", &["update"]),
    ("sd_notify", &["update"]),
    ("listenfd", &["hub"]),
    ("rusty_s3", &["backup"]),
];

/// What the domain does not name: IO, clock, randomness.
const IMPURE: [&[&str]; 9] = [
    &["tokio"],
    &["getrandom"],
    &["rand"],
    &["std", "fs"],
    &["std", "net"],
    &["std", "env"],
    &["std", "thread"],
    &["std", "time", "SystemTime"],
    &["std", "time", "Instant"],
];

/// Names that say nothing about what a module is for.
const EMPTY_NAMES: [&str; 4] = ["utils", "common", "helpers", "manager"];

const MOST_LINES: usize = 600;

#[test]
fn every_import_keeps_to_the_law() {
    let mut broken = Vec::new();
    let mut files = 0;
    for (path, text) in repository() {
        if path.starts_with("src") && is_rust(&path) {
            files += 1;
            broken.extend(imports_against_the_law(&path, &text));
        }
    }
    assert!(files > 0, "no source was found: nothing was checked");
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_file_keeps_to_the_form() {
    let mut broken = Vec::new();
    for (path, text) in repository() {
        broken.extend(form_broken_by(&path, &text));
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn the_law_is_free_of_circles() {
    assert_eq!(circle_in(&law()), None);
    let circular = BTreeMap::from([("a", &["b"][..]), ("b", &["c"]), ("c", &["a"]), ("d", &["a"])]);
    assert!(circle_in(&circular).is_some());
}

#[test]
fn the_law_names_only_rooms_it_knows() {
    let law = law();
    for (room, may) in &law {
        for other in *may {
            assert!(law.contains_key(other), "{room} may import {other}, which has no line");
        }
    }
}

#[test]
fn imports_against_the_law_are_found_in_every_spelling() {
    for (path, text) in [
        ("src/domain/policy.rs", "use crate::store::Db;"),
        ("src/domain/mod.rs", "use super::net;"),
        ("src/domain/policy.rs", "fn f() { super::super::store::open() }"),
        ("src/domain/policy.rs", "mod tests { use super::super::super::store::Db; }"),
        ("src/domain/policy.rs", "#[cfg(test)] mod tests { use crate::service::X; }"),
        ("src/store/db.rs", "use crate::{domain::{Id, Name}, service::{a, b}};"),
        ("src/store/db.rs", "use {std::fmt, crate::{domain, web::Api}};"),
        ("src/broker/gate.rs", "fn f() -> crate::store::Db { todo() }"),
        ("src/broker/gate.rs", "type T = Vec<crate::web::Api>;"),
        ("src/broker/gate.rs", "use super::{super::store};"),
        ("src/web/api.rs", "pub(crate) use crate :: /* why not */ broker :: Gate;"),
        ("src/web/api.rs", "let quote = '\"'; use crate::store::Db; let other = '\"';"),
        ("src/web/api.rs", "fn f<'a>(x: &'a str) -> &'a crate::store::Db { r#\"\"#; x }"),
        ("src/sim/device.rs", "use crate::domain::token;"),
        ("src/net/tls.rs", "use crate::domain::DeviceId;"),
        ("src/factory/mod.rs", "use r#crate_; use crate::r#store::Db;"),
        ("src/cli/demo.rs", "use crate::service::Claims;"),
        ("src/hub/mod.rs", "use crate::config::Config;"),
        ("src/hub/mod.rs", "use crate::cli::run;"),
        ("src/config.rs", "use crate::broker::Gate;"),
        ("src/config.rs", "use crate::broker::{Config, Gate};"),
        ("src/hub/mod.rs", "use crate::*;"),
        ("src/hub/mod.rs", "use crate as house;"),
        ("src/hub/mod.rs", "use crate::{self as house};"),
        ("src/hub/mod.rs", "use crate::cellar::Wine;"),
        ("src/cellar/wine.rs", "use std::fmt;"),
        ("src/hub/mod.rs", "#[path = \"../web/api.rs\"] mod api;"),
        ("src/service/claim.rs", "use redb::Database;"),
        ("src/service/claim.rs", "use {redb as r};"),
        ("src/service/claim.rs", "extern crate redb;"),
        ("src/web/ws.rs", "fn f(x: rumqttd::Packet) {}"),
        ("src/hub/mod.rs", "use btleplug::api::Central;"),
        ("src/broker/ws.rs", "use warp::Filter;"),
        ("src/domain/x.rs", "use tokio::sync::mpsc;"),
        ("src/domain/x.rs", "use std::{fmt, fs::File};"),
        ("src/domain/x.rs", "use std::time::{Duration, Instant};"),
        ("src/domain/x.rs", "let now = std::time::SystemTime::now();"),
        ("src/domain/x.rs", "use std::time::*;"),
        ("src/domain/x.rs", "use std::net::IpAddr;"),
        ("src/domain/x.rs", "getrandom::fill(&mut bytes);"),
    ] {
        assert!(!imports_against_the_law(Path::new(path), text).is_empty(), "{path}: {text}");
    }
}

#[test]
fn lawful_imports_are_left_alone() {
    for (path, text) in [
        ("src/lib.rs", "pub mod domain; use crate::store::Db;"),
        ("src/main.rs", "use hearthkey::cli; fn f() { crate::cli::run() }"),
        ("src/domain/a.rs", "use crate::domain::b; use super::b::C; use core::net::IpAddr;"),
        ("src/domain/a/b.rs", "mod tests { use super::super::super::c::D; }"),
        ("src/domain/a.rs", "use std::time::Duration; pub(crate) fn instant() {}"),
        ("src/domain/a.rs", "// use crate::store;\n/* /* crate::store */ crate::web::X */"),
        ("src/domain/a.rs", "const A: &str = \"crate::store \\\" crate::web::X\";"),
        ("src/domain/a.rs", "const A: &str = r##\"crate::store \"# crate::web::X\"##;"),
        ("src/store/db.rs", "use crate::{domain::{Id, policy::{self, Decision}}, store::codec};"),
        ("src/web/api.rs", "use crate::{domain, net, service}; use warp::Filter; use super::b;"),
        ("src/web/api.rs", "fn f(redb: u8, warp: u8) -> u8 { redb + warp }"),
        ("src/hub/mod.rs", "use crate::{broker, web, store, sim, cloud, factory, hub};"),
        ("src/cli/hub.rs", "use crate::config::Config; use super::Exit; use crate::hub;"),
        ("src/config.rs", "use crate::broker::Config as Broker; use crate::hub::HubConfig;"),
        ("src/config.rs", "struct C { web: crate::web::Config }"),
    ] {
        assert_eq!(imports_against_the_law(Path::new(path), text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn files_against_the_form_are_found() {
    let place = concat!("see ..", "/shared/plan");
    let long = format!("//! Long.\n{}", "\n".repeat(MOST_LINES));
    for (path, text) in [
        ("src/web/api.rs", "use std::fmt;"),
        ("src/web/api.rs", ""),
        ("src/web/api.rs", long.as_str()),
        ("src/web/utils.rs", "//! Odds and ends."),
        ("src/common/mod.rs", "//! What is common."),
        ("src/web/api.rs", "//! X.\nmod helpers { }"),
        ("src/web/api.rs", "//! X.\npub mod manager;"),
        ("docs/plan.md", place),
    ] {
        let found = form_broken_by(Path::new(path), text.as_bytes());
        assert_eq!(found.len(), 1, "{path}: {text:.40}: {found:?}");
    }
    let good = "//! X.\nfn helpers() {}\n// mod utils;\n";
    assert_eq!(form_broken_by(Path::new("src/web/api.rs"), good.as_bytes()), Vec::<String>::new());
}

fn law() -> BTreeMap<&'static str, &'static [&'static str]> {
    LAW.into_iter().collect()
}

/// The rooms of a circle, if the table has one.
fn circle_in<'a>(law: &BTreeMap<&'a str, &'a [&'a str]>) -> Option<Vec<&'a str>> {
    let mut left: BTreeMap<&str, BTreeSet<&str>> = law.iter().map(|(room, may)| (*room, may.iter().copied().collect())).collect();
    // A room none of whose imports are left stands on firm ground and can be taken away.
    loop {
        let firm: Vec<&str> = left.iter().filter(|(_, may)| may.is_empty()).map(|(room, _)| *room).collect();
        if firm.is_empty() {
            return (!left.is_empty()).then(|| left.into_keys().collect());
        }
        for room in firm {
            left.remove(room);
            for may in left.values_mut() {
                may.remove(room);
            }
        }
    }
}

/// What in a file under `src/` breaks the law of imports.
fn imports_against_the_law(path: &Path, text: impl AsRef<[u8]>) -> Vec<String> {
    let (room, depth) = place_of(path);
    let law = law();
    let Some(may) = law.get(room.as_str()).copied() else {
        return vec![format!("{}: {room} is no room of the house", path.display())];
    };
    let is_root = room == "main";
    let tokens = tokens(&String::from_utf8_lossy(text.as_ref()));
    let mut broken = Vec::new();
    let mut complain = |path_found: &[String], why: &str| {
        broken.push(format!("{}: {}: {why}", path.display(), path_found.join("::")));
    };
    for found in paths(&tokens, depth) {
        let segments: Vec<&str> = found.segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["crate"] if found.renames => complain(&found.segments, "name the room"),
            // Visibility, as in pub(crate).
            ["crate"] => {}
            ["crate", ..] if is_root => {}
            ["crate", other, ..] if *other == room => {}
            ["crate", other, rest @ ..] => {
                if !law.contains_key(other) || *other == "main" {
                    complain(&found.segments, "this is no room of the house");
                } else if !may.contains(other) {
                    complain(&found.segments, &format!("{room} may not import {other}"));
                } else if room == "config" && !rest.iter().any(|name| name.ends_with("Config")) {
                    complain(&found.segments, "of a room, config names its Config only");
                }
            }
            _ => {}
        }
        for (library, rooms) in KEPT_IN {
            let named = segments.first() == Some(&library) && (segments.len() > 1 || found.renames);
            if named && !rooms.contains(&room.as_str()) {
                complain(&found.segments, &format!("{library} is used in {rooms:?} only"));
            }
        }
        if room == "domain" && IMPURE.iter().any(|impure| reaches(&segments, impure)) {
            complain(&found.segments, "the domain is pure (for addresses there is core::net)");
        }
    }
    if tokens.windows(4).any(|four| four == ["#", "[", "path", "="]) {
        complain(&["#[path]".to_owned()], "a module lies where its name says");
    }
    broken
}

/// Whether a path names `target` or something in it, or everything on the way to it.
fn reaches(path: &[&str], target: &[&str]) -> bool {
    path.starts_with(target) || matches!(path, [head @ .., "*"] if !head.is_empty() && target.starts_with(head))
}

/// The room of a source file (`main` for the two roots) and how deep its module lies.
fn place_of(path: &Path) -> (String, usize) {
    let mut names: Vec<String> =
        path.with_extension("").components().skip(1).map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    match names.as_slice() {
        [root] if root == "lib" || root == "main" => ("main".to_owned(), 0),
        [room, ..] => (room.clone(), names.len()),
        [] => (String::new(), 0),
    }
}

/// What in a file breaks the form that every file has.
fn form_broken_by(path: &Path, bytes: impl AsRef<[u8]>) -> Vec<String> {
    let bytes = bytes.as_ref();
    let mut broken = Vec::new();
    let workplace = concat!("..", "/shared").as_bytes();
    if bytes.windows(workplace.len()).any(|window| window == workplace) {
        broken.push(format!("{}: mentions a place outside the repository", path.display()));
    }
    if !is_rust(path) {
        return broken;
    }
    let text = String::from_utf8_lossy(bytes);
    if !text.starts_with("//!") {
        broken.push(format!("{}: does not open with //! and its purpose", path.display()));
    }
    let lines = text.lines().count();
    if lines > MOST_LINES {
        broken.push(format!("{}: {lines} lines: split it", path.display()));
    }
    let tokens = tokens(&text);
    let declared = tokens.windows(2).filter(|two| two.first().is_some_and(|word| word == "mod"));
    let mut names: BTreeSet<String> = declared.filter_map(|two| two.last().cloned()).collect();
    names.extend(path.with_extension("").components().map(|part| part.as_os_str().to_string_lossy().into_owned()));
    for name in EMPTY_NAMES {
        if names.contains(name) {
            broken.push(format!("{}: {name} says nothing: name what it is for", path.display()));
        }
    }
    broken
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Every file of the repository that is not built or fetched, by its path from the top.
fn repository() -> Vec<(PathBuf, Vec<u8>)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = ["target", ".git", "node_modules", "dist", "hearthkey-data", ".venv"];
    let mut files = Vec::new();
    let mut folders = vec![top.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            // Symbolic links are not followed: they may lead out or around.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && made.iter().all(|made| name != *made) => {
                    folders.push(path);
                }
                Ok(kind) if kind.is_file() => {
                    if let (Ok(bytes), Ok(short)) = (fs::read(&path), path.strip_prefix(top)) {
                        files.push((short.to_path_buf(), bytes));
                    }
                }
                _ => {}
            }
        }
    }
    files
}
