//! What lies at a place: which files are whole, which go on from which, and what it takes to restore one.

use crate::domain::backup::BackupId;
use crate::domain::backup::keep::Kept;
use crate::domain::ids::HubId;
use crate::service::{ListedBackup, Looked};
use std::collections::HashMap;

/// A file, and what was seen of its beginning and its end.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// What it says of itself, signed by its hub; or what is wrong with it.
    pub looked: Result<Looked, String>,
}

/// The files that it takes to restore `id`, the full one first.
///
/// # Errors
/// What is missing, for a person.
pub fn chain_to(items: &[Item], id: BackupId) -> Result<Vec<&Item>, String> {
    let known: HashMap<BackupId, (&Item, &Looked)> =
        items.iter().filter_map(|item| item.looked.as_ref().ok().map(|looked| (looked.header.id, (item, looked)))).collect();
    let mut chain = Vec::new();
    let mut next = Some(id);
    while let Some(id) = next {
        let Some((item, looked)) = known.get(&id) else {
            return Err(if chain.is_empty() {
                format!("there is no whole backup {id}")
            } else {
                format!("the backup {id}, from which it goes on, is missing")
            });
        };
        // The place falls by one each time, so this ends.
        let place = chain.last().map(|(_, place): &(&Item, u64)| place.saturating_sub(1));
        if place.is_some_and(|place| place != looked.header.place()) {
            return Err(format!("the backup {id} has another place in the chain than the one after it says"));
        }
        chain.push((*item, looked.header.place()));
        next = looked.header.follows.map(|f| f.parent);
    }
    Ok(chain.into_iter().rev().map(|(item, _)| item).collect())
}

/// The files as they are shown, newest first; those of `hub` alone, when it is given, and what cannot be read.
#[must_use]
pub fn listed(items: &[Item], hub: Option<HubId>) -> Vec<ListedBackup> {
    let mut all: Vec<ListedBackup> = items.iter().filter(|item| is_of(item, hub)).map(|item| shown(items, item)).collect();
    all.sort_by(|a, b| (b.made_at, &b.name).cmp(&(a.made_at, &a.name)));
    all
}

fn is_of(item: &Item, hub: Option<HubId>) -> bool {
    match (&item.looked, hub) {
        (Ok(looked), Some(hub)) => looked.header.hub == hub,
        _ => true,
    }
}

fn shown(items: &[Item], item: &Item) -> ListedBackup {
    let base = ListedBackup {
        name: item.name.clone(),
        id: None,
        parent: None,
        kind: None,
        made_at: None,
        bytes: item.bytes,
        good: false,
        problem: None,
    };
    match &item.looked {
        Err(problem) => ListedBackup { problem: Some(problem.clone()), ..base },
        Ok(looked) => {
            let header = &looked.header;
            let chain = chain_to(items, header.id);
            ListedBackup {
                id: Some(header.id.to_string()),
                parent: header.follows.map(|f| f.parent.to_string()),
                kind: Some(if header.follows.is_some() { "increment" } else { "full" }),
                made_at: Some(header.made_at),
                good: chain.is_ok(),
                problem: chain.err(),
                ..base
            }
        }
    }
}

/// The files of `hub` as retention sees them, each with its name.
pub(super) fn kept(items: &[Item], hub: HubId) -> Vec<(String, Kept)> {
    items
        .iter()
        .filter_map(|item| {
            let header = &item.looked.as_ref().ok().filter(|looked| looked.header.hub == hub)?.header;
            let good = chain_to(items, header.id).is_ok();
            let parent = header.follows.map(|f| f.parent);
            Some((item.name.clone(), Kept { id: header.id, parent, made_at: header.made_at, good }))
        })
        .collect()
}
