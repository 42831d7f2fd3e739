//! The test vectors of the mirror (`docs/protocol/mirror-vectors.json`): keys of the recovery code, statements, a signed request and its
//! reply, and digests. As `vectors.rs`, it is written anew with `HEARTHKEY_WRITE_VECTORS=1 cargo test vectors`.

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::vectors::{TIME, counting, hex};
use crate::domain::ids::HubId;
use crate::domain::mirror::digest::Digest;
use crate::domain::mirror::journal::{Entry, MAGIC};
use crate::domain::mirror::merge::{body_hash, canonical};
use crate::domain::mirror::recovery::RecoveryCode;
use crate::domain::mirror::signature::{RequestParts, SignedHeaders, fingerprint, sign_reply, sign_request, verify_reply, verify_request};
use crate::domain::mirror::statement::{
    Bulletin, BundleSeal, EpochStatement, LinkStatement, RecoveryKeys, RecoveryRequest, UnlinkStatement,
};
use crate::domain::mirror::wire::{Consent, Kind, Mark, Row};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol/mirror-vectors.json");
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

struct Parties {
    identity: SigningKey,
    hub: HubId,
    mirror: SigningKey,
    cloud: SigningKey,
    code: RecoveryCode,
}

fn public(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

fn headers(headers: &SignedHeaders) -> Value {
    json!({
        "content-digest": headers.content_digest, "signature-input": headers.signature_input, "signature": headers.signature,
    })
}

impl Parties {
    fn new() -> Self {
        let identity = SigningKey::from_bytes(&counting(0x40));
        let hub = HubId::from_public_key(&public(&identity));
        let (mirror, cloud) = (SigningKey::from_bytes(&counting(0x60)), SigningKey::from_bytes(&counting(0x80)));
        Self { identity, hub, mirror, cloud, code: RecoveryCode::from_bytes(counting(0xa0)) }
    }

    fn recovery(&self) -> Value {
        let printed = self.code.to_string();
        assert_eq!(RecoveryCode::parse(&printed).as_ref(), Ok(&self.code));
        let epoch = self.code.epoch_key(&self.hub);
        json!({
            "code": hex(counting::<20>(0xa0)), "printed": printed,
            "epoch_seed": hex(epoch.as_bytes()), "epoch_public_key": hex(public(&epoch)),
            "bundle_secret": hex(*self.code.bundle_secret(&self.hub)),
            "age_identity": *self.code.age_identity(&self.hub), "age_recipient": self.code.age_recipient(&self.hub),
        })
    }

    fn statements(&self) -> Value {
        let recovery = self.code.epoch_key(&self.hub);
        let link = LinkStatement {
            identity: public(&self.identity),
            mirror: public(&self.mirror),
            epoch: 1,
            recovery: Some(RecoveryKeys { key: public(&recovery), recipient: self.code.age_recipient(&self.hub) }),
            recipient: RECIPIENT.into(),
            name: "Home".into(),
            region: "eu".into(),
            consent: [Consent::Devices, Consent::Bundle, Consent::PeopleRequests].into_iter().collect(),
            at_s: TIME,
            cloud: public(&self.cloud),
            code: String::new(),
        };
        assert_eq!(LinkStatement::read(&link.sign(&self.identity)).as_ref(), Ok(&link));
        assert_eq!(link.hub(), self.hub);
        let marks =
            vec![Mark { kind: Kind::Binding, key: "lamp-7k3m9q2x4t8w/user:7".into(), generation: 3, at: TIME * 1000, by: "user:1".into() }];
        let epoch = EpochStatement { hub: self.hub, epoch: 2, mirror: public(&self.mirror), at_s: TIME };
        let request = RecoveryRequest { hub: self.hub, nonce: counting(0xd0), at_s: TIME, cloud: public(&self.cloud) };
        let seal = BundleSeal::of(self.hub, 1, TIME, b"content").sign(&self.identity);
        json!({
            "recipient": RECIPIENT, "link": hex(link.sign(&self.identity)),
            "link_without_recovery": hex(LinkStatement { recovery: None, ..link }.sign(&self.identity)),
            "unlink": hex(UnlinkStatement { hub: self.hub, at_s: TIME }.sign(&self.identity)),
            "epoch": hex(epoch.sign(&recovery)),
            "recover": hex(request.sign(&recovery)),
            "bulletin": hex(Bulletin { hub: self.hub, number: 1, at_s: TIME, marks }.sign(&self.cloud)),
            "bundle_seal": hex(&seal), "bundle": hex(&*BundleSeal::join(&seal, b"content")),
        })
    }

    fn signatures(&self) -> Value {
        let url = format!("https://cloud.example/v1/hubs/{}/sync", self.hub);
        let parts = RequestParts { method: "POST", target_uri: &url, body: b"{\"v\":1}", epoch: 1 };
        let request = sign_request(&self.mirror, &self.hub, &parts, TIME, counting(0xe0));
        assert!(verify_request(&public(&self.mirror), &parts, &request.as_headers()).is_ok());
        let reply = sign_reply(&self.cloud, 200, b"{\"ack\":1}", &request.signature, TIME + 1);
        assert_eq!(verify_reply(&public(&self.cloud), 200, b"{\"ack\":1}", &request.signature, &reply.as_headers()), Ok(TIME + 1));
        let unsigned = sign_reply(&self.cloud, 404, b"", "", TIME + 1);
        json!({
            "request": {"method": "POST", "url": url, "body": "{\"v\":1}", "hearthkey-epoch": 1, "headers": headers(&request)},
            "reply": {"status": 200, "body": "{\"ack\":1}", "headers": headers(&reply)},
            "reply_to_an_unsigned_request": {"status": 404, "body": "", "headers": headers(&unsigned)},
        })
    }
}

/// A row and a mark with their digest, and a journal of that mark and a counter.
fn copy() -> Value {
    let body = json!({"subject": "user:7", "device": "lamp-7k3m9q2x4t8w", "granted_at": 1, "terms": {"until": null, "privilege": "view"}});
    let row = Row { kind: Kind::Binding, key: "lamp-7k3m9q2x4t8w/user:7".into(), generation: 4, version: 2, origin: "hub".into(), body };
    let mark = Mark { kind: Kind::Binding, key: row.key.clone(), generation: 3, at: TIME * 1000, by: "user:1".into() };
    let (mut of_row, mut of_mark) = (Digest::default(), Digest::default());
    of_row.row(&row);
    of_mark.mark(mark.kind, &mark.key, mark.generation);
    let counter = Entry::Counter { device: "lamp-7k3m9q2x4t8w".into(), counter: 9 };
    let records = [Entry::Mark(mark.clone()), counter].map(|entry| entry.frame().unwrap()).concat();
    json!({
        "row": row, "mark": mark, "body": canonical(&row.body), "body_hash": hex(body_hash(&row.body)),
        "digest_of_row": of_row.hex(), "digest_of_mark": of_mark.hex(),
        "digest": Digest::of(Kind::Binding, std::iter::once(&row), std::iter::once(&mark)).hex(),
        "journal": hex([&MAGIC[..], &records].concat()),
    })
}

#[test]
fn the_checked_in_vectors_of_the_mirror_are_what_the_code_derives() {
    let parties = Parties::new();
    let derived = json!({
        "keys": {
            "identity_seed": hex(parties.identity.as_bytes()), "identity_public_key": hex(public(&parties.identity)),
            "hub_id": parties.hub, "hub_id_raw": hex(parties.hub.as_bytes()),
            "mirror_seed": hex(parties.mirror.as_bytes()), "mirror_public_key": hex(public(&parties.mirror)),
            "cloud_seed": hex(parties.cloud.as_bytes()), "cloud_public_key": hex(public(&parties.cloud)),
            "cloud_fingerprint": fingerprint(&public(&parties.cloud)),
        },
        "recovery": parties.recovery(),
        "statements": parties.statements(),
        "signatures": parties.signatures(),
        "copy": copy(),
    });
    let text = serde_json::to_string_pretty(&derived).unwrap() + "\n";
    if std::env::var_os("HEARTHKEY_WRITE_VECTORS").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(PATH).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&checked_in).unwrap(), derived);
}
