//! The mirror from the hub's side, against a cloud that is a copy in memory and answers whatever a test wants.

mod asking;
mod away;
mod ending;
mod epochs;
mod linking;
mod offers;
mod sending;

use crate::den::Den;
use ed25519_dalek::SigningKey;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::domain::ids::DeviceId;
use hearthkey::domain::mirror::digest::Digest;
use hearthkey::domain::mirror::wire::{Consent, Done, Item, ItemBody, Kind, Linked, Mark, Request, Row, SyncReply, SyncRequest, Verb};
use hearthkey::service::{Actor, Applied, Grant, NewLink, Prepared, Recipient, Refusal};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

pub const URL: &str = "https://cloud.example";
const MAX: usize = 1024 * 1024;

pub fn cloud_key() -> SigningKey {
    SigningKey::from_bytes(&[21; 32])
}

/// The cloud's copy.
#[derive(Default)]
pub struct Copy {
    pub rows: BTreeMap<(Kind, String), Row>,
    pub marks: BTreeMap<(Kind, String), u64>,
    pub twins: BTreeMap<String, Row>,
    pub audit: Vec<Value>,
    pub done: Vec<Done>,
    pub cursor: u64,
    /// Kinds that were begun anew, in their order.
    pub begun: Vec<Kind>,
}

impl Copy {
    /// Takes a batch as the protocol says.
    pub fn take(&mut self, request: &SyncRequest) {
        for mark in &request.revoke {
            let known = self.marks.entry((mark.kind, mark.key.clone())).or_default();
            *known = (*known).max(mark.generation);
        }
        for row in &request.put {
            if row.key.is_empty() {
                self.begun.push(row.kind);
                self.rows.retain(|(kind, _), _| *kind != row.kind);
                if row.kind == Kind::Twin {
                    self.twins.clear();
                }
                continue;
            }
            let at = (row.kind, row.key.clone());
            if hearthkey::domain::mirror::merge::newer(self.rows.get(&at), row).takes() {
                self.rows.insert(at, row.clone());
            }
        }
        self.twins.extend(request.twin.iter().map(|row| (row.key.clone(), row.clone())));
        self.audit.extend(request.audit.iter().flat_map(|range| range.items.clone()));
        self.done.extend(request.done.iter().cloned());
    }

    /// The rows of a kind that stand.
    pub fn standing(&self, kind: Kind) -> Vec<&Row> {
        let mark = |row: &Row| self.marks.get(&(row.kind, row.key.clone())).copied().unwrap_or(0);
        self.rows.values().filter(|row| row.kind == kind && row.generation > mark(row)).collect()
    }

    /// The digest of a kind.
    pub fn digest(&self, kind: Kind) -> String {
        let marks: Vec<Mark> = self
            .marks
            .iter()
            .map(|((kind, key), generation)| Mark { kind: *kind, key: key.clone(), generation: *generation, at: 0, by: String::new() })
            .collect();
        Digest::of(kind, self.rows.values(), marks.iter()).hex()
    }
}

/// A hub and its cloud.
pub struct Pair {
    pub den: Den,
    pub copy: Copy,
}

impl Deref for Pair {
    type Target = Den;
    fn deref(&self) -> &Den {
        &self.den
    }
}

impl DerefMut for Pair {
    fn deref_mut(&mut self) -> &mut Den {
        &mut self.den
    }
}

pub fn new_link(consent: &[Consent]) -> NewLink {
    NewLink {
        url: URL.into(),
        key: data_encoding::BASE64URL_NOPAD.encode(cloud_key().verifying_key().as_bytes()),
        region: "eu".into(),
        consent: consent.iter().copied().collect(),
        brands: Vec::new(),
        code: String::new(),
    }
}

impl Pair {
    /// A hub whose owner has just linked a cloud.
    pub async fn new(consent: &[Consent]) -> Pair {
        let pair = Pair { den: Den::new(crate::den::ANSWERS).await, copy: Copy::default() };
        pair.link(consent).await;
        pair
    }

    /// The same, when the cloud has all there is, and the owner a key for use from away.
    pub async fn settled(consent: &[Consent]) -> Pair {
        let mut pair = Pair::new(consent).await;
        pair.service.make_away_key(&pair.owner, "phone", None).await.unwrap();
        pair.settle().await;
        pair
    }

    pub async fn link(&self, consent: &[Consent]) {
        self.service.link_cloud(&self.owner, new_link(consent)).await.unwrap();
        let linked = Linked { hub: self.service.hub().id.to_string(), epoch: 1, wait_s: 60, max_bytes: MAX as u64 };
        self.service.mirror_linked(linked).await.unwrap();
    }

    pub async fn prepared(&self) -> Prepared {
        self.service.next_batch(MAX).await.unwrap().expect("a cloud is linked")
    }

    /// The cloud answers a batch with what `more` adds.
    pub async fn answer(&mut self, prepared: &Prepared, more: impl FnOnce(&mut SyncReply)) -> Result<Applied, Refusal> {
        let mut reply = SyncReply { ack: prepared.ticket.batch, cursor: self.copy.cursor, wait_s: 60, ..SyncReply::default() };
        more(&mut reply);
        self.copy.cursor = reply.cursor;
        let vouched = self.den.now() / 1_000;
        self.den.service.batch_acked(prepared.ticket, &reply, vouched, 5).await
    }

    /// One exchange, in which the cloud brings what `more` adds.
    pub async fn exchange(&mut self, more: impl FnOnce(&mut SyncReply)) -> (SyncRequest, Applied) {
        let prepared = self.prepared().await;
        self.copy.take(&prepared.request);
        let applied = self.answer(&prepared, more).await.unwrap();
        (prepared.request, applied)
    }

    /// Exchanges until nothing waits.
    pub async fn settle(&mut self) {
        for _ in 0..200 {
            if !self.exchange(|_| {}).await.1.again {
                return;
            }
        }
        panic!("it never comes to an end");
    }

    /// The cloud brings an item; how it ended.
    pub async fn bring(&mut self, item: Item) -> Done {
        let id = item.id.clone();
        self.exchange(|reply| reply.items.push(item)).await;
        self.settle().await;
        self.copy.done.iter().rev().find(|done| done.id == id).cloned().expect("it is answered")
    }

    /// The cloud brings a wish of somebody.
    pub async fn wish(&mut self, id: &str, request: Request) -> Done {
        self.bring(item(id, ItemBody::Request(request))).await
    }

    /// The cloud brings marks.
    pub async fn mark(&mut self, marks: Vec<Mark>) -> Applied {
        for mark in &marks {
            let known = self.copy.marks.entry((mark.kind, mark.key.clone())).or_default();
            *known = (*known).max(mark.generation);
        }
        self.exchange(|reply| reply.revoke = marks).await.1
    }

    /// A wish of `who`, made now.
    pub fn request(&self, who: &Actor, verb: Verb, device: Option<&DeviceId>, value: Value) -> Request {
        Request {
            by: who.user().unwrap().to_string(),
            via: "phone".into(),
            verb,
            device: device.map(ToString::to_string),
            value,
            at: self.now(),
            ttl_s: 60,
        }
    }

    pub async fn give(&self, device: &DeviceId, name: &str, privilege: Privilege) {
        let grant = Grant { to: Recipient::Person(name.into()), terms: Terms::of(privilege) };
        self.service.grant(&self.owner, device, grant).await.unwrap();
    }

    /// A person of the house with a key for use from away.
    pub async fn resident(&self, name: &str, role: Role) -> Actor {
        let who = self.person(name, role).await;
        self.service.make_away_key(&who, "phone", None).await.unwrap();
        who
    }

    /// Whether `who` sees the device.
    pub fn sees(&self, who: &Actor, device: &DeviceId) -> bool {
        self.service.twin(who, device).is_ok()
    }

    /// Why what came was refused, newest first.
    pub fn refused(&self) -> Vec<String> {
        self.service.cloud_status(&self.owner).unwrap().refused.into_iter().map(|row| row.code).collect()
    }
}

pub fn item(id: &str, body: ItemBody) -> Item {
    Item { cursor: 1, id: id.into(), body }
}

/// The mark that ends a person's right.
pub fn mark_on(device: &DeviceId, who: &Actor, generation: u64) -> Mark {
    Mark { kind: Kind::Binding, key: format!("{device}/{}", who.subject), generation, at: 1, by: String::new() }
}
