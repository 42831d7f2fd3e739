//! Topics: what a valid name and filter are (MQTT 5.0 §4.7), whether they match, and what a place in a device's room
//! is for. Who may use it is `policy`'s.

/// Longest topic or filter, in bytes. The standard's bound is 65,535; a hub's topics are short.
pub const MAX_BYTES: usize = 512;
/// Most levels of a topic or filter.
pub const MAX_LEVELS: usize = 16;

/// A verb of the shadow protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read the twin.
    Get,
    /// Merge into it.
    Update,
    /// Empty it.
    Delete,
}

impl Verb {
    /// The topic level.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::Update => "update",
            Verb::Delete => "delete",
        }
    }
}

/// What a place in a device's room is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// A request to the twin; `shadow` is the name of a named one.
    ShadowRequest {
        /// The named shadow, if any.
        shadow: Option<&'a str>,
        /// What is asked.
        verb: Verb,
    },
    /// Anything else below `shadow/`: the hub's answers.
    ShadowAnswer,
    /// `commands/<name>`: the hub tells the device what to do.
    Command(&'a str),
    /// `commands/<name>/result`.
    CommandResult(&'a str),
    /// `claim/hello`.
    ClaimHello,
    /// `claim/credential`.
    ClaimCredential,
    /// `rebase/challenge`.
    RebaseChallenge,
    /// `rebase/response`.
    RebaseResponse,
    /// Below `bound/`: the hub tells a device what became of what it did to another one.
    Bound,
    /// `proof/challenge`.
    ProofChallenge,
    /// `proof/response`.
    ProofResponse,
    /// `presence`.
    Presence,
    /// `firmware/report`: the device says what it runs, and how far it is with another one.
    FirmwareReport,
    /// `firmware/get`: the device asks for a part of the image that it is offered.
    FirmwareGet,
    /// `firmware/offer` and `firmware/chunk`: what the hub offers a device, and hands it, is for that device alone.
    FirmwareGiven,
    /// At or below `commands`, `claim`, `rebase`, `proof`, `bound`, `firmware` or `presence`, but none of the above: reserved.
    Reserved,
    /// The maker's own.
    Telemetry,
}

/// A topic inside a device's room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located<'a> {
    /// Whose room.
    pub device: &'a str,
    /// Which place.
    pub place: Place<'a>,
    /// Whether it was spelled `$aws/things/…`.
    pub aws: bool,
}

/// The prefix of a device's room.
#[must_use]
pub fn room(device: &str) -> String {
    format!("things/{device}/")
}

/// Finds the room and the place of a topic name; `None` outside all rooms.
#[must_use]
pub fn locate(topic: &str) -> Option<Located<'_>> {
    let (aws, rest) = match topic.strip_prefix("$aws/") {
        Some(rest) => (true, rest),
        None => (false, topic),
    };
    let (device, inside) = rest.strip_prefix("things/")?.split_once('/')?;
    if device.is_empty() || inside.is_empty() {
        return None;
    }
    let (head, tail) = match inside.split_once('/') {
        Some((head, tail)) => (head, Some(tail)),
        None => (inside, None),
    };
    let place = match (head, tail) {
        ("shadow", Some(tail)) => shadow_place(tail),
        ("shadow", None) => Place::ShadowAnswer,
        _ if aws => return None,
        ("commands", Some(tail)) => match tail.split_once('/') {
            None if !tail.is_empty() => Place::Command(tail),
            Some((name, "result")) if !name.is_empty() => Place::CommandResult(name),
            _ => Place::Reserved,
        },
        ("claim", Some("hello")) => Place::ClaimHello,
        ("claim", Some("credential")) => Place::ClaimCredential,
        ("rebase", Some("challenge")) => Place::RebaseChallenge,
        ("rebase", Some("response")) => Place::RebaseResponse,
        ("bound", Some(_)) => Place::Bound,
        ("proof", Some("challenge")) => Place::ProofChallenge,
        ("proof", Some("response")) => Place::ProofResponse,
        ("presence", None) => Place::Presence,
        ("firmware", Some("report")) => Place::FirmwareReport,
        ("firmware", Some("get")) => Place::FirmwareGet,
        ("firmware", Some("offer" | "chunk")) => Place::FirmwareGiven,
        ("commands" | "claim" | "rebase" | "proof" | "bound" | "firmware" | "presence", _) => Place::Reserved,
        _ => Place::Telemetry,
    };
    Some(Located { device, place, aws })
}

fn shadow_place(tail: &str) -> Place<'_> {
    let (shadow, verb) = match tail.strip_prefix("name/").and_then(|t| t.split_once('/')) {
        Some((name, verb)) => (Some(name), verb),
        None => (None, tail),
    };
    match verb {
        "get" => Place::ShadowRequest { shadow, verb: Verb::Get },
        "update" => Place::ShadowRequest { shadow, verb: Verb::Update },
        "delete" => Place::ShadowRequest { shadow, verb: Verb::Delete },
        _ => Place::ShadowAnswer,
    }
}

/// Whether `topic` is a topic name one may publish to.
#[must_use]
pub fn is_valid_name(topic: &str) -> bool {
    is_bounded(topic) && !topic.contains(['+', '#'])
}

/// Whether `filter` is a topic filter: wildcards fill whole levels, `#` stands last.
#[must_use]
pub fn is_valid_filter(filter: &str) -> bool {
    if !is_bounded(filter) {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let ok = match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            _ => !level.contains(['+', '#']),
        };
        if !ok {
            return false;
        }
    }
    true
}

fn is_bounded(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_BYTES && !text.contains('\0') && text.split('/').count() <= MAX_LEVELS
}

/// The group and the filter of `$share/<group>/<filter>`; `Err` when it begins so and is malformed.
///
/// # Errors
/// `()` for a shared subscription without group or filter, or with a wildcard in the group (MQTT 5.0 §4.8.2).
#[expect(clippy::result_unit_err, reason = "there is one way to be malformed")]
pub fn split_share(filter: &str) -> Result<(Option<&str>, &str), ()> {
    let Some(rest) = filter.strip_prefix("$share/") else { return Ok((None, filter)) };
    match rest.split_once('/') {
        Some((group, inner)) if !group.is_empty() && !group.contains(['+', '#']) && !inner.is_empty() => Ok((Some(group), inner)),
        _ => Err(()),
    }
}

/// Whether `filter` matches `topic`. A leading wildcard does not match a topic that begins with `$` (§4.7.2).
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#')) {
        return false;
    }
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (l, Some(t)) if l == t => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

/// Whether all that `filter` can match lies in the room of `device`.
#[must_use]
pub fn lies_in_room(filter: &str, device: &str) -> bool {
    let inside = |prefix: &str| filter.strip_prefix(prefix).and_then(|r| r.strip_prefix(device)).and_then(|r| r.strip_prefix('/'));
    match (inside("things/"), inside("$aws/things/")) {
        (Some(rest), _) => !rest.is_empty(),
        (None, Some(rest)) => rest.starts_with("shadow/"),
        (None, None) => false,
    }
}

/// The device that `filter` names literally, if it names one.
#[must_use]
pub fn named_device(filter: &str) -> Option<&str> {
    let rest = filter.strip_prefix("$aws/").unwrap_or(filter).strip_prefix("things/")?;
    let device = rest.split('/').next()?;
    (!device.is_empty() && device != "+" && device != "#").then_some(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        let yes = [("a/#", "a"), ("a/#", "a/b/c"), ("a/+/c", "a/b/c"), ("#", "a/b"), ("+/+", "/a"), ("+", "a"), ("$aws/#", "$aws/x")];
        let no = [("a/+", "a"), ("a/+", "a/b/c"), ("#", "$aws/x"), ("+/x", "$aws/x"), ("a", "a/"), ("a/b", "a")];
        for (f, t) in yes {
            assert!(matches(f, t), "{f} should match {t}");
        }
        for (f, t) in no {
            assert!(!matches(f, t), "{f} should not match {t}");
        }
    }

    #[test]
    fn malformed_names_and_filters_are_refused() {
        for name in ["", "a/+", "#", "a\0b"] {
            assert!(!is_valid_name(name), "{name:?}");
        }
        for filter in ["", "a/#/b", "a#", "a/b+", "+a/b", "##"] {
            assert!(!is_valid_filter(filter), "{filter:?}");
        }
        for filter in ["#", "+", "a/+/#", "/", "a//b", "écluse/#"] {
            assert!(is_valid_filter(filter), "{filter:?}");
        }
        assert!(!is_valid_name(&"a/".repeat(MAX_LEVELS)));
        assert!(split_share("$share/g").is_err() && split_share("$share//a").is_err() && split_share("$share/+/a").is_err());
        assert_eq!(split_share("$share/g/a/#"), Ok((Some("g"), "a/#")));
    }

    #[test]
    fn only_filters_inside_the_room_lie_in_it() {
        for filter in ["things/a/#", "things/a/+/b", "$aws/things/a/shadow/#", "things/a/x"] {
            assert!(lies_in_room(filter, "a"), "{filter}");
        }
        for filter in ["#", "things/#", "things/+/x", "things/ab/x", "things/a", "things/a/", "$aws/things/a/#", "$aws/#", "+/a/#"] {
            assert!(!lies_in_room(filter, "a"), "{filter}");
        }
    }

    #[test]
    fn places_are_found_in_both_spellings() {
        let at = |t| locate(t).map(|l| l.place);
        assert_eq!(at("things/a/shadow/update"), Some(Place::ShadowRequest { shadow: None, verb: Verb::Update }));
        assert_eq!(at("$aws/things/a/shadow/name/n/get"), Some(Place::ShadowRequest { shadow: Some("n"), verb: Verb::Get }));
        assert_eq!(at("things/a/shadow/update/accepted"), Some(Place::ShadowAnswer));
        assert_eq!(at("things/a/commands/open/result"), Some(Place::CommandResult("open")));
        assert_eq!(at("things/a/commands/open/result/x"), Some(Place::Reserved));
        assert_eq!(at("things/a/temperature"), Some(Place::Telemetry));
        assert_eq!(at("things/a/firmware/report"), Some(Place::FirmwareReport));
        assert_eq!(at("things/a/firmware/offer"), Some(Place::FirmwareGiven));
        assert_eq!(at("things/a/firmware/version"), Some(Place::Reserved));
        assert_eq!(at("$aws/things/a/firmware/get"), None);
        assert_eq!(at("$aws/things/a/temperature"), None);
        assert_eq!(at("things//x"), None);
        assert_eq!(at("other/a/x"), None);
    }

    proptest! {
        #[test]
        fn what_lies_in_a_room_matches_nothing_outside_it(filter in "(\\$aws/)?(things|[+#])/(a|b|[+#])(/(shadow|x|[+#])){0,3}", topic in "(\\$aws/)?things/(a|b)/(shadow/)?[xy]") {
            if is_valid_filter(&filter) && lies_in_room(&filter, "a") && matches(&filter, &topic) {
                prop_assert_eq!(topic.trim_start_matches("$aws/").split('/').nth(1), Some("a"));
            }
        }
    }
}
