//! The audit: who did what to which object, through what, with which outcome and why; each entry carries the hash of
//! the one before it. Secrets are never part of an entry.
//!
//! What is personal or free text stands beside the chain ([`Beside`]), and the chain holds only its salted hash: it can
//! be erased, and the chain stays whole. Following a chain with gaps is [`chain`]'s, its text form [`export`]'s.

pub mod chain;
pub mod export;
pub mod filter;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The form in which entries are written now. In form 1 nothing stood beside the chain.
const VERSION: u8 = 2;

/// How an act ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was asked for and allowed.
    Allowed,
    /// It was asked for and refused.
    Denied,
    /// It happened.
    #[default]
    Done,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 3] = [Outcome::Allowed, Outcome::Denied, Outcome::Done];

    /// As it is shown and hashed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Allowed => "allowed",
            Outcome::Denied => "denied",
            Outcome::Done => "done",
        }
    }
}

/// An act, before it has its place in the chain. What is said beside the chain: the name that a stranger tried, and with
/// it the object; `detail`; `via`. All else stays for as long as the entry does, so it names people by their ids alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who acted: a subject's text, `hub`, or `?` with the name that was tried.
    pub actor: String,
    /// The person for whom an app acted (`user:<id>`); empty for all others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub behalf: String,
    /// What: a dotted word, such as `device.claim`.
    pub action: String,
    /// To what: a device id, a user's id, a brand.
    pub object: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, as a word of the policy or the gate.
    pub reason: String,
    /// More, for a person; no secrets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Through what: `mqtt`, `https`, `hub`, with the source address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub via: String,
}

/// What is said of an event beside the chain, so that it can be erased.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// Random: without it, nobody can find out by trying what was erased.
    #[serde(with = "octets")]
    pub salt: [u8; 16],
    /// The name that a stranger tried.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tried: String,
    /// To what a stranger tried it: it may be the name again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// [`Event::detail`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// [`Event::via`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub via: String,
}

impl Beside {
    /// Moves what belongs beside the chain out of `event`; `None` when there is nothing of the kind.
    fn split_from(event: &mut Event, salt: [u8; 16]) -> Option<Beside> {
        let mut beside =
            Beside { salt, detail: std::mem::take(&mut event.detail), via: std::mem::take(&mut event.via), ..Beside::default() };
        if let Some(tried) = event.actor.strip_prefix('?') {
            beside.tried = tried.to_owned();
            beside.object = std::mem::take(&mut event.object);
            event.actor = "?".to_owned();
        }
        let says = [&beside.tried, &beside.object, &beside.detail, &beside.via].iter().any(|s| !s.is_empty());
        says.then_some(beside)
    }

    /// What the chain holds of it: SHA-256 of the salt and all that is said, each text preceded by its length.
    #[must_use]
    pub fn commitment(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"hearthkey audit beside v1");
        hash.update(self.salt);
        for field in [&self.tried, &self.object, &self.detail, &self.via] {
            hash_text(&mut hash, field);
        }
        hash.finalize().into()
    }
}

/// An event in its place in the chain, without what stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The form it is written in.
    #[serde(default = "first_version")]
    pub version: u8,
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When, ms since 1970, by the hub's clock.
    pub at: u64,
    /// What. From form 2 on without what stands beside.
    #[serde(flatten)]
    pub event: Event,
    /// [`Beside::commitment`] of what stands beside; zeros when nothing ever did.
    #[serde(default, with = "octets")]
    pub beside: [u8; 32],
    /// Hash of the entry before it; zeros for the first.
    #[serde(with = "octets")]
    pub previous: [u8; 32],
    /// Hash over all of the above.
    #[serde(with = "octets")]
    pub hash: [u8; 32],
}

fn first_version() -> u8 {
    1
}

impl Entry {
    /// Puts `event` after the entry number `last` with that hash, and says what belongs beside it. `salt` is fresh.
    #[must_use]
    pub fn after(last: Option<(u64, [u8; 32])>, at: u64, mut event: Event, salt: [u8; 16]) -> (Entry, Option<Beside>) {
        let beside = Beside::split_from(&mut event, salt);
        let (seq, previous) = last.map_or((1, [0; 32]), |(seq, hash)| (seq + 1, hash));
        let commitment = beside.as_ref().map_or([0; 32], Beside::commitment);
        let mut entry = Entry { version: VERSION, seq, at, event, beside: commitment, previous, hash: [0; 32] };
        entry.hash = entry.computed_hash();
        (entry, beside)
    }

    /// Whether the entry is whole and follows the one with this number and hash.
    #[must_use]
    pub fn follows(&self, last: Option<(u64, [u8; 32])>) -> bool {
        let (seq, previous) = last.map_or((1, [0; 32]), |(seq, hash)| (seq + 1, hash));
        self.hash == self.computed_hash() && self.seq == seq && self.previous == previous
    }

    /// Whether `beside` is what stood beside this entry when it was written, or was erased since.
    #[must_use]
    pub fn fits(&self, beside: Option<&Beside>) -> bool {
        beside.is_none_or(|b| b.commitment() == self.beside)
    }

    /// The entry as it is shown, with what stands beside it.
    #[must_use]
    pub fn joined(self, beside: Option<Beside>) -> Recorded {
        let Entry { seq, at, mut event, beside: commitment, .. } = self;
        let erased = beside.is_none() && commitment != [0; 32];
        if let Some(beside) = beside {
            event.detail = beside.detail;
            event.via = beside.via;
            if event.actor == "?" {
                event.actor.push_str(&beside.tried);
                event.object = beside.object;
            }
        }
        Recorded { seq, at, event, erased }
    }

    fn computed_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(if self.version == 1 { &b"hearthkey audit v1"[..] } else { b"hearthkey audit v2" });
        hash.update(self.seq.to_be_bytes());
        hash.update(self.at.to_be_bytes());
        hash.update(self.previous);
        let e = &self.event;
        if self.version == 1 {
            for field in [&e.actor, &e.action, &e.object, e.outcome.as_str(), &e.reason, &e.detail, &e.via] {
                hash_text(&mut hash, field);
            }
        } else {
            hash.update([self.version]);
            hash.update(self.beside);
            // Detail and via are empty here; were they not, somebody has added them.
            for field in [&e.actor, &e.behalf, &e.action, &e.object, e.outcome.as_str(), &e.reason, &e.detail, &e.via] {
                hash_text(&mut hash, field);
            }
        }
        hash.finalize().into()
    }
}

/// Each text is preceded by its length, so that no two sequences of texts have the same bytes.
fn hash_text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}

/// An entry as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its number.
    pub seq: u64,
    /// When, ms since 1970, by the hub's clock.
    pub at: u64,
    /// What, whole unless `erased`.
    pub event: Event,
    /// What stood beside the chain is gone.
    pub erased: bool,
}

pub(crate) mod octets {
    //! Bytes as a byte string; read also from an array of numbers, as form 1 has them.
    use serde::{Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(d: D) -> Result<[u8; N], D::Error> {
        struct Octets<const N: usize>;
        impl<'de, const N: usize> de::Visitor<'de> for Octets<N> {
            type Value = [u8; N];
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{N} bytes")
            }
            fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<[u8; N], E> {
                v.try_into().map_err(|_| E::invalid_length(v.len(), &self))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; N], A::Error> {
                let mut out = [0; N];
                for (i, place) in out.iter_mut().enumerate() {
                    *place = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(i, &self))?;
                }
                Ok(out)
            }
        }
        d.deserialize_any(Octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str) -> Event {
        Event {
            actor: "app:7".into(),
            behalf: "user:1".into(),
            action: action.into(),
            object: "door".into(),
            reason: "bound".into(),
            detail: "lock=open".into(),
            via: "https 10.0.0.7".into(),
            ..Event::default()
        }
    }

    fn place(e: &Entry) -> Option<(u64, [u8; 32])> {
        Some((e.seq, e.hash))
    }

    #[test]
    fn a_chain_holds_and_any_change_breaks_it() {
        let (first, _) = Entry::after(None, 1, event("a"), [1; 16]);
        let (second, _) = Entry::after(place(&first), 2, event("b"), [2; 16]);
        assert!(first.follows(None) && second.follows(place(&first)));
        let changes: [fn(&mut Entry); 9] = [
            |e| e.event.object = "window".into(),
            |e| e.event.behalf = "user:2".into(),
            |e| e.event.outcome = Outcome::Denied,
            |e| e.event.detail = "added later".into(),
            |e| e.event.via = "added later".into(),
            |e| e.beside = [0; 32],
            |e| e.version = 1,
            |e| e.at += 1,
            |e| {
                e.event.actor = "app:7b".into();
                e.event.action = String::new();
            },
        ];
        for (n, change) in changes.iter().enumerate() {
            let mut forged = second.clone();
            change(&mut forged);
            assert!(!forged.follows(place(&first)), "{n}");
        }
        assert!(!second.follows(None));
    }

    #[test]
    fn what_is_personal_stands_beside_the_chain_and_can_be_erased() {
        let (entry, beside) = Entry::after(None, 1, event("a"), [1; 16]);
        assert!(!format!("{entry:?}").contains("10.0.0.7"));
        let beside = beside.unwrap();
        assert!(entry.fits(Some(&beside)) && entry.fits(None));
        assert!(!entry.fits(Some(&Beside { via: "https 10.0.0.8".into(), ..beside.clone() })));
        assert!(!entry.fits(Some(&Beside { salt: [2; 16], ..beside.clone() })));
        assert_eq!(entry.clone().joined(Some(beside)), Recorded { seq: 1, at: 1, event: event("a"), erased: false });
        let erased = entry.joined(None);
        assert!(erased.erased);
        assert_eq!((erased.event.actor.as_str(), erased.event.detail.as_str(), erased.event.via.as_str()), ("app:7", "", ""));
    }

    #[test]
    fn the_name_that_a_stranger_tried_stands_beside_also_where_it_is_the_object() {
        let tried = Event { actor: "?olivia".into(), object: "olivia".into(), action: "device.sign_in".into(), ..Event::default() };
        let (entry, beside) = Entry::after(None, 1, tried.clone(), [1; 16]);
        assert!(!format!("{entry:?}").contains("olivia"));
        assert_eq!(entry.joined(beside).event, tried);
    }

    #[test]
    fn of_an_event_that_says_nothing_personal_nothing_is_erased() {
        let plain = Event { actor: "hub".into(), action: "audit.erase".into(), ..Event::default() };
        let (entry, beside) = Entry::after(None, 1, plain, [1; 16]);
        assert_eq!((beside, entry.beside), (None, [0; 32]));
        // Nothing can be put beside it later.
        assert!(!entry.fits(Some(&Beside::default())));
        assert!(!entry.joined(None).erased);
    }

    /// Two entries as the form before this one wrote them.
    const OLD: [&str; 2] = [
        "bf63736571016261741b0000018bcfe56800656163746f7266757365723a3166616374696f6e63612e62666f626a65637464646f6f72676f7574636f6d656464\
         6f6e6566726561736f6e637768796664657461696c68612064657461696c637669616e68747470732031302e302e302e376870726576696f7573982000000000\
         000000000000000000000000000000000000000000000000000000006468617368982018a4189a1833061830188e18a3181a18be18500f18e6189518c7189100\
         188418840c08183a1823130b18e1187918e818731859189614183aff",
        "bf63736571026261741b0000018bcfe56801656163746f7266757365723a3166616374696f6e63632e64666f626a65637464646f6f72676f7574636f6d656464\
         6f6e6566726561736f6e637768796664657461696c68612064657461696c637669616e68747470732031302e302e302e376870726576696f7573982018a4189a\
         1833061830188e18a3181a18be18500f18e6189518c7189100188418840c08183a1823130b18e1187918e818731859189614183a6468617368982018e7183318\
         ad18c718ea182f184b18ac18c5185718681839185e0818a91840186918bd18a418eb1718381894184a1871186518ab184718f10918a81884ff",
    ];

    #[test]
    fn entries_of_the_first_form_are_read_and_still_hold() {
        let [first, second] = OLD.map(|hex| {
            let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
            ciborium::from_reader::<Entry, _>(bytes.as_slice()).unwrap()
        });
        assert_eq!((first.version, first.seq), (1, 1));
        assert!(first.follows(None) && second.follows(place(&first)));
        let (third, beside) = Entry::after(place(&second), 3, event("e"), [3; 16]);
        assert!(third.follows(place(&second)) && third.fits(beside.as_ref()));
        let mut forged = second.clone();
        forged.event.detail = "another".into();
        assert!(!forged.follows(place(&first)));
        let shown = first.joined(None);
        assert_eq!((shown.event.via.as_str(), shown.event.detail.as_str(), shown.erased), ("https 10.0.0.7", "a detail", false));
    }

    #[test]
    fn an_entry_is_read_back_as_it_was_written_and_takes_little_room() {
        let (entry, beside) = Entry::after(None, 1_700_000_000_000, event("a"), [1; 16]);
        let (mut bytes, mut side) = (Vec::new(), Vec::new());
        ciborium::into_writer(&entry, &mut bytes).unwrap();
        ciborium::into_writer(&beside, &mut side).unwrap();
        assert_eq!(ciborium::from_reader::<Entry, _>(bytes.as_slice()).unwrap(), entry);
        assert_eq!(ciborium::from_reader::<Option<Beside>, _>(side.as_slice()).unwrap(), beside);
        assert!(bytes.len() < 300, "{}", bytes.len());
    }
}
