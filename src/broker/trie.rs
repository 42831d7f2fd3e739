//! Who subscribes to what: a trie of topic levels, and what a topic matches. One writer at a time, many readers; a
//! generation number lets a publisher keep the last matches it looked up.

use super::session::Session;
use crate::domain::topic;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The options of one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) qos: u8,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) identifier: Option<usize>,
}

#[derive(Clone)]
struct Subscriber {
    session: Arc<Session>,
    options: Options,
}

#[derive(Default)]
struct Group {
    members: Vec<Subscriber>,
    turn: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Leaf {
    direct: Vec<Subscriber>,
    shared: HashMap<Box<str>, Group>,
}

#[derive(Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    /// Subscriptions that end here.
    here: Leaf,
    /// Subscriptions that end in `#` below here.
    below: Leaf,
}

impl Leaf {
    fn is_empty(&self) -> bool {
        self.direct.is_empty() && self.shared.is_empty()
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.here.is_empty() && self.below.is_empty()
    }
}

/// One receiver of a topic.
pub(super) struct Receiver {
    pub(super) session: Arc<Session>,
    pub(super) qos: u8,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) identifiers: Vec<usize>,
}

/// A shared subscription's members that a topic reaches; one of them gets the message.
pub(super) struct Pool {
    pub(super) members: Vec<Receiver>,
    pub(super) turn: Arc<AtomicUsize>,
}

/// All that a topic reaches.
#[derive(Default)]
pub(super) struct Matches {
    pub(super) direct: Vec<Receiver>,
    pub(super) shared: Vec<Pool>,
}

/// The subscriptions of the hub.
#[derive(Default)]
pub(super) struct Trie {
    root: RwLock<Node>,
    generation: AtomicU64,
}

impl Trie {
    /// Rises with every change; equal numbers mean equal matches.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Adds a subscription or replaces its options. `filter` is valid. Says whether it is new.
    pub(super) fn subscribe(&self, filter: &str, session: &Arc<Session>, options: Options) -> bool {
        let Ok((group, filter)) = topic::split_share(filter) else { return false };
        let mut root = self.root.write().unwrap_or_else(PoisonError::into_inner);
        let leaf = leaf_mut(&mut root, filter);
        let list = match group {
            None => &mut leaf.direct,
            Some(group) => &mut leaf.shared.entry(group.into()).or_default().members,
        };
        let new = match list.iter_mut().find(|s| Arc::ptr_eq(&s.session, session)) {
            Some(known) => {
                known.options = options;
                false
            }
            None => {
                list.push(Subscriber { session: session.clone(), options });
                true
            }
        };
        self.generation.fetch_add(1, Ordering::Release);
        new
    }

    /// Removes a subscription; says whether there was one.
    pub(super) fn unsubscribe(&self, filter: &str, session: &Arc<Session>) -> bool {
        let Ok((group, inner)) = topic::split_share(filter) else { return false };
        let mut root = self.root.write().unwrap_or_else(PoisonError::into_inner);
        let levels: Vec<&str> = inner.split('/').collect();
        let found = remove(&mut root, &levels, group, session);
        self.generation.fetch_add(1, Ordering::Release);
        found
    }

    /// What `name` reaches, each session once with its highest QoS (MQTT 5.0 §3.3.4).
    pub(super) fn matches(&self, name: &str) -> Matches {
        let mut out = Matches::default();
        let levels: Vec<&str> = name.split('/').collect();
        let root = self.root.read().unwrap_or_else(PoisonError::into_inner);
        collect(&root, &levels, name.starts_with('$'), &mut out);
        out
    }
}

fn leaf_mut<'a>(root: &'a mut Node, filter: &str) -> &'a mut Leaf {
    let mut node = root;
    for level in filter.split('/') {
        if level == "#" {
            return &mut node.below;
        }
        node = node.children.entry(level.into()).or_default();
    }
    &mut node.here
}

fn remove(node: &mut Node, levels: &[&str], group: Option<&str>, session: &Arc<Session>) -> bool {
    match levels.split_first() {
        None => remove_from(&mut node.here, group, session),
        Some((&"#", _)) => remove_from(&mut node.below, group, session),
        Some((level, rest)) => {
            let Some(child) = node.children.get_mut(*level) else { return false };
            let found = remove(child, rest, group, session);
            if child.is_empty() {
                node.children.remove(*level);
            }
            found
        }
    }
}

fn remove_from(leaf: &mut Leaf, group: Option<&str>, session: &Arc<Session>) -> bool {
    let others = |s: &Subscriber| !Arc::ptr_eq(&s.session, session);
    let Some(group) = group else {
        let before = leaf.direct.len();
        leaf.direct.retain(others);
        return leaf.direct.len() < before;
    };
    let Some(members) = leaf.shared.get_mut(group).map(|g| &mut g.members) else { return false };
    let before = members.len();
    members.retain(others);
    let found = members.len() < before;
    if members.is_empty() {
        leaf.shared.remove(group);
    }
    found
}

fn collect(node: &Node, levels: &[&str], hidden: bool, out: &mut Matches) {
    // At the root, wildcards do not match a topic that begins with `$`.
    if !hidden {
        take(&node.below, out);
    }
    match levels.split_first() {
        None => take(&node.here, out),
        Some((level, rest)) => {
            if let Some(child) = node.children.get(*level) {
                collect(child, rest, false, out);
            }
            if let (false, Some(child)) = (hidden, node.children.get("+")) {
                collect(child, rest, false, out);
            }
        }
    }
}

fn take(leaf: &Leaf, out: &mut Matches) {
    for s in &leaf.direct {
        merge(&mut out.direct, s);
    }
    for group in leaf.shared.values() {
        let mut members = Vec::new();
        for s in &group.members {
            merge(&mut members, s);
        }
        out.shared.push(Pool { members, turn: group.turn.clone() });
    }
}

fn merge(list: &mut Vec<Receiver>, s: &Subscriber) {
    match list.iter_mut().find(|r| Arc::ptr_eq(&r.session, &s.session)) {
        Some(known) => {
            known.qos = known.qos.max(s.options.qos);
            known.no_local &= s.options.no_local;
            known.retain_as_published |= s.options.retain_as_published;
            known.identifiers.extend(s.options.identifier);
        }
        None => list.push(Receiver {
            session: s.session.clone(),
            qos: s.options.qos,
            no_local: s.options.no_local,
            retain_as_published: s.options.retain_as_published,
            identifiers: s.options.identifier.into_iter().collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options() -> Options {
        Options { qos: 0, no_local: false, retain_as_published: false, identifier: None }
    }

    fn reached(trie: &Trie, name: &str) -> usize {
        trie.matches(name).direct.len()
    }

    #[test]
    fn a_session_with_overlapping_subscriptions_is_reached_once_with_its_highest_qos() {
        let trie = Trie::default();
        let session = Session::for_test("a");
        trie.subscribe("a/#", &session, Options { identifier: Some(1), ..options() });
        trie.subscribe("a/+", &session, Options { qos: 2, identifier: Some(2), ..options() });
        let found = trie.matches("a/b").direct;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].qos, 2);
        let mut ids = found[0].identifiers.clone();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
    }

    #[test]
    fn an_unsubscribed_filter_is_gone_and_leaves_no_node() {
        let trie = Trie::default();
        let session = Session::for_test("a");
        assert!(trie.subscribe("a/b/+/d", &session, options()));
        assert!(!trie.subscribe("a/b/+/d", &session, options()));
        assert!(trie.unsubscribe("a/b/+/d", &session));
        assert!(!trie.unsubscribe("a/b/+/d", &session));
        assert!(trie.root.read().unwrap().is_empty());
    }

    #[test]
    fn a_shared_subscription_is_one_pool() {
        let trie = Trie::default();
        let (a, b) = (Session::for_test("a"), Session::for_test("b"));
        trie.subscribe("$share/g/x/#", &a, options());
        trie.subscribe("$share/g/x/#", &b, options());
        let found = trie.matches("x/y");
        assert_eq!((found.direct.len(), found.shared.len()), (0, 1));
        assert_eq!(found.shared[0].members.len(), 2);
        assert!(trie.unsubscribe("$share/g/x/#", &a) && trie.unsubscribe("$share/g/x/#", &b));
        assert!(trie.root.read().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn the_trie_matches_what_the_standard_matches(filters in proptest::collection::vec("(\\$a|[ab+])(/[ab+]){0,3}(/#)?", 0..12), name in "(\\$a|[ab])(/[ab]){0,4}") {
            let trie = Trie::default();
            let mut expected = std::collections::BTreeSet::new();
            let mut sessions = Vec::new();
            for filter in &filters {
                let session = Session::for_test(filter);
                trie.subscribe(filter, &session, options());
                if topic::matches(filter, &name) {
                    expected.insert(sessions.len());
                }
                sessions.push(session);
            }
            prop_assert_eq!(reached(&trie, &name), expected.len());
            for (filter, session) in filters.iter().zip(&sessions) {
                prop_assert!(trie.unsubscribe(filter, session));
            }
            prop_assert!(trie.root.read().unwrap().is_empty());
        }
    }
}
