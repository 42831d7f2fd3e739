//! What answered, when it was not the cloud, or when the cloud would not: from what is seen to a word for programs and
//! two sentences for people, the second of which says what to do. Pure.

/// What stands between the hub and its cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// `unreachable`, `portal`, `intercepted`, `proxy`, `signature`, `wrong_region`, `refused`, `clock`, `busy`, `budget`
    /// or `stale`.
    pub code: &'static str,
    /// What was seen.
    pub detail: String,
    /// What to do.
    pub next: &'static str,
}

/// Why there was no answer at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// The name in the URL is not found.
    Name,
    /// The connection is refused, or ends.
    Connection,
    /// Nothing came in time.
    Deadline,
    /// The certificate is of no known authority.
    Authority,
    /// The certificate is for another name.
    OtherName,
    /// The certificate is of another time than the hub's clock says.
    Dates,
    /// What answers speaks no TLS, or none that the hub speaks.
    NotTls,
    /// The proxy wants to know who asks.
    ProxyAuthentication,
    /// The proxy does not connect.
    ProxyRefuses,
    /// The proxy itself is not reached.
    ProxyAway,
    /// The answer is longer than what was agreed.
    TooLong,
}

/// An answer without a good signature of the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stranger<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The media type, as sent; empty for none.
    pub content_type: &'a str,
    /// Whether it carries a signature, which is not the cloud's over this answer to this request.
    pub claims: bool,
}

/// An error that the cloud itself has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The problem's `code`.
    pub code: &'a str,
    /// The problem's `detail`.
    pub detail: &'a str,
    /// The problem's `url`, of another region.
    pub url: &'a str,
}

const WAIT: &str = "Nothing needs to be done at the hub: it tries again by itself. If this lasts, check the home's internet connection";
const NETWORK: &str =
    "Check the router and whoever provides the network: something there answers in the cloud's place. The hub takes nothing from it";

/// No answer, in words.
pub(super) fn silence(why: Silence) -> Problem {
    let (code, detail, next) = match why {
        Silence::Name => ("unreachable", "the cloud's name is not found", "Check the home's internet connection and its name server (DNS)"),
        Silence::Connection => ("unreachable", "the connection to the cloud is refused or ends before the answer", WAIT),
        Silence::Deadline => ("unreachable", "the cloud does not answer in time", WAIT),
        Silence::TooLong => ("unreachable", "the answer is longer than what hub and cloud have agreed on", WAIT),
        Silence::Authority => (
            "intercepted",
            "what answers has a certificate of no known authority: a portal that wants a sign-in, a filter, or somebody in between",
            "If this network has a sign-in page, sign in there. If the cloud is your own, name its authority with cloud.ca_file. Otherwise ask whoever provides the network",
        ),
        Silence::OtherName => ("intercepted", "what answers has a certificate for another name than the cloud's", NETWORK),
        Silence::NotTls => ("intercepted", "what answers does not speak TLS as the cloud does", NETWORK),
        Silence::Dates => (
            "clock",
            "the cloud's certificate is not valid at the time that this hub believes",
            "Check the hub's time under Settings. If it is right, tell whoever runs the cloud that its certificate has ended",
        ),
        Silence::ProxyAuthentication => (
            "proxy",
            "the proxy wants a name and a password (407)",
            "Set cloud.proxy in the hub's configuration with both: http://name:password@proxy:port",
        ),
        Silence::ProxyRefuses => {
            ("proxy", "the proxy does not connect to the cloud", "Ask whoever runs the proxy to allow the cloud's name and port")
        }
        Silence::ProxyAway => {
            ("proxy", "the proxy is not reached", "Check cloud.proxy in the hub's configuration (or HTTPS_PROXY), and that the proxy runs")
        }
    };
    Problem { code, detail: detail.to_owned(), next }
}

/// Somebody else's answer, in words.
pub(super) fn stranger(seen: Stranger<'_>) -> Problem {
    let Stranger { status, content_type, claims } = seen;
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let html = media == "text/html" || media == "application/xhtml+xml";
    let (code, detail, next) = match status {
        407 => return silence(Silence::ProxyAuthentication),
        _ if claims => ("intercepted", "the answer is signed, but not by this cloud's key as an answer to this request", NETWORK),
        300..=399 | 511 => (
            "portal",
            "the network sends the hub to another page, as portals do that want a sign-in",
            "Sign in at the network's own page from any device behind the same connection, or ask whoever provides the network to let the hub through",
        ),
        // What stands in front of a cloud that is away: its pages are HTML too.
        500 | 502..=504 => ("unreachable", "something in front of the cloud says that the cloud is away", WAIT),
        _ if html => (
            "portal",
            "a web page answers in the cloud's place, as portals do that want a sign-in",
            "Sign in at the network's own page from any device behind the same connection, or ask whoever provides the network to let the hub through",
        ),
        _ => (
            "signature",
            "the answer is not signed by the cloud",
            "Check that the URL is the cloud's and that nothing in between changes its answers. The hub takes nothing from it",
        ),
    };
    Problem { code, detail: format!("{detail} (status {status})"), next }
}

/// The cloud's own error, in words.
pub(super) fn refusal(seen: Refusal<'_>) -> Problem {
    let Refusal { status, code, detail, url } = seen;
    let said = plain(detail);
    let (word, detail, next) = match (status, code) {
        (421, _) => (
            "wrong_region",
            format!("this cloud serves another region than this hub's: {}", plain(url)),
            "Unlink under Cloud, and link with the cloud of the right region. The hub never goes there by itself",
        ),
        (429 | 503, _) => ("busy", format!("the cloud asks to come later: {said}"), WAIT),
        (500..=599, _) => ("unreachable", format!("the cloud has a fault: {said}"), WAIT),
        (404 | 410, "not_linked") => (
            "refused",
            "the cloud does not know this hub (any more)".to_owned(),
            "Nothing needs to be done: the hub links again by itself. If you do not want this cloud any more, unlink under Cloud",
        ),
        (_, "clock") => ("clock", format!("the cloud does not accept the hub's time: {said}"), "Set the hub's time under Settings"),
        (_, "signature") => (
            "refused",
            format!("the cloud does not accept this hub's signature: {said}"),
            "Unlink under Cloud, and link again; if it stays so, ask whoever runs the cloud",
        ),
        (_, "epoch_stale") => (
            "stale",
            "the cloud says that another hub has taken this one's place, and does not prove it".to_owned(),
            "If you have replaced this hub, switch it off. If not, ask whoever runs the cloud",
        ),
        _ => (
            "refused",
            format!("the cloud refuses ({status} {}): {said}", plain(code)),
            "Ask whoever runs the cloud, or unlink under Cloud",
        ),
    };
    Problem { code: word, detail, next }
}

/// The day's bytes are used up.
pub(super) fn budget() -> Problem {
    Problem {
        code: "budget",
        detail: "today's share of the internet connection is used up: only what is small and urgent still goes".to_owned(),
        next: "Nothing needs to be done: the hub goes on tomorrow. cloud.max_bytes_per_day sets the share",
    }
}

/// A text of another, as it may be shown: one line, bounded.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_answers_in_the_clouds_place_is_told_apart() {
        let html = "text/html; charset=utf-8";
        for (status, content_type, claims, code) in [
            (302, "", false, "portal"),
            (307, "text/plain", false, "portal"),
            (511, "application/json", false, "portal"),
            (200, html, false, "portal"),
            (200, "TEXT/HTML", false, "portal"),
            (403, html, false, "portal"),
            (200, "application/xhtml+xml", false, "portal"),
            (200, "application/json", false, "signature"),
            (404, "application/problem+json", false, "signature"),
            (200, "", false, "signature"),
            (200, "application/json", true, "intercepted"),
            (302, html, true, "intercepted"),
            (502, html, false, "unreachable"),
            (503, "text/plain", false, "unreachable"),
            (504, "", false, "unreachable"),
            (500, "", false, "unreachable"),
            (501, "", false, "signature"),
            (407, html, false, "proxy"),
        ] {
            assert_eq!(stranger(Stranger { status, content_type, claims }).code, code, "{status} {content_type} {claims}");
        }
    }

    #[test]
    fn silence_is_told_apart() {
        for (why, code) in [
            (Silence::Name, "unreachable"),
            (Silence::Connection, "unreachable"),
            (Silence::Deadline, "unreachable"),
            (Silence::TooLong, "unreachable"),
            (Silence::Authority, "intercepted"),
            (Silence::OtherName, "intercepted"),
            (Silence::NotTls, "intercepted"),
            (Silence::Dates, "clock"),
            (Silence::ProxyAuthentication, "proxy"),
            (Silence::ProxyRefuses, "proxy"),
            (Silence::ProxyAway, "proxy"),
        ] {
            assert_eq!(silence(why).code, code, "{why:?}");
        }
    }

    #[test]
    fn the_clouds_own_refusals_are_told_apart() {
        for (status, code, word) in [
            (421, "wrong_region", "wrong_region"),
            (429, "too_many", "busy"),
            (503, "unavailable", "busy"),
            (500, "internal", "unreachable"),
            (404, "not_linked", "refused"),
            (401, "signature", "refused"),
            (401, "clock", "clock"),
            (409, "epoch_stale", "stale"),
            (403, "closed", "refused"),
            (400, "", "refused"),
        ] {
            assert_eq!(refusal(Refusal { status, code, detail: "d", url: "https://eu.example" }).code, word, "{status} {code}");
        }
        let elsewhere = refusal(Refusal { status: 421, code: "wrong_region", detail: "", url: "https://eu.example" });
        assert!(elsewhere.detail.contains("https://eu.example"));
    }

    proptest! {
        #[test]
        fn whatever_is_seen_there_is_a_bounded_line_for_people(status: u16, text in "\\PC{0,400}|[\\x00-\\x20]{0,40}", claims: bool) {
            let all = [
                stranger(Stranger { status, content_type: &text, claims }),
                refusal(Refusal { status, code: &text, detail: &text, url: &text }),
            ];
            for problem in all {
                prop_assert!(!problem.code.is_empty() && !problem.next.is_empty());
                prop_assert!(problem.detail.chars().count() < 600 && !problem.detail.chars().any(char::is_control));
            }
        }
    }
}
