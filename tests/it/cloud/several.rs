//! Two processes of one cloud over one database: whatever is said to the one counts at the other.

use super::rig::{Dir, Rig, Signed, TestHub, config, mark, new_dir, now_s, row};
use super::wakes::{next, stream};
use hearthkey::cloud::{Cloud, Config, Database, NewService, Scope};
use hearthkey::domain::ids::BrandId;
use hearthkey::domain::mirror::wire::{Kind, SyncRequest};
use hearthkey::factory::Workshop;
use serde_json::{Value, json};

/// A cloud, and another process of it.
struct Two {
    first: Rig,
    second: Cloud,
    _dir: Dir,
}

/// What a second process over the first one's database is told; with the first one's keys, or with its own.
fn beside(first: &Rig, same_keys: bool) -> (Config, Dir) {
    let dir = Dir(new_dir("hks"));
    if same_keys {
        for file in ["cloud.key", "region.key", "ca.pem", "ca.key"] {
            std::fs::copy(first.dir.0.join(file), dir.0.join(file)).unwrap();
        }
    }
    let socket = first.dir.0.join("postgres/socket");
    let database = Database::Urls(vec![format!("postgresql://hearthkey@/hearthkey?host={}", socket.display())]);
    (Config { database, public_url: Some(first.cloud.url().to_owned()), ..config(&dir.0) }, dir)
}

impl Two {
    async fn start() -> Two {
        let first = Rig::start().await;
        let (config, dir) = beside(&first, true);
        let second = Cloud::start(config).await.unwrap();
        Two { first, second, _dir: dir }
    }

    /// A call of a hub, as the balancer has sent it to the second process: signed on the one public URL.
    async fn second(&self, hub: &TestHub, method: &str, path: &str, body: Vec<u8>) -> Signed {
        let (request, signature) = self.there(hub, method, path, body);
        hub.line.send(request, &signature).await
    }

    fn there(&self, hub: &TestHub, method: &str, path: &str, body: Vec<u8>) -> (reqwest::RequestBuilder, String) {
        let (request, signature) = hub.signed(method, path, body, now_s());
        (self.moved(&hub.line.http, request), signature)
    }

    fn moved(&self, http: &reqwest::Client, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let mut request = request.build().unwrap();
        request.url_mut().set_port(Some(self.second.address.port())).unwrap();
        reqwest::RequestBuilder::from_parts(http.clone(), request)
    }

    async fn sync(&self, hub: &mut TestHub, fill: impl FnOnce(&mut SyncRequest)) {
        let request = hub.batch(fill);
        let reply = self.second(hub, "POST", &hub.own("/sync"), serde_json::to_vec(&request).unwrap()).await.sync();
        (hub.batch, hub.cursor) = (reply.ack, reply.cursor);
    }

    async fn end(self) {
        self.second.shut_down().await;
        self.first.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_linked_at_one_process_syncs_at_the_other_and_is_woken_by_what_happens_there() {
    let two = Two::start().await;
    let mut hub = two.first.linked(1).await;
    two.sync(&mut hub, |b| b.put = vec![row(Kind::Binding, "lamp/user:2", 1, 1, json!({"n": 1}))]).await;
    // A batch that was taken there gets its kept reply here; and sent to both at once it is taken once.
    let again = hub.clone();
    let (sync, batch) = (hub.own("/sync"), hub.batch(|b| b.put = vec![row(Kind::Device, "lamp", 1, 1, json!({}))]));
    let body = serde_json::to_vec(&batch).unwrap();
    let (here, there) = tokio::join!(hub.try_sync(&batch), two.second(&again, "POST", &sync, body.clone()));
    assert_eq!((here.status, there.status, &here.body), (200, 200, &there.body));
    assert_eq!(two.second(&hub, "POST", &sync, body.clone()).await.body, here.body);
    hub.batch += 1;
    let skipped = SyncRequest { batch: 9, ..batch.clone() };
    let skipped = two.second(&hub, "POST", &sync, serde_json::to_vec(&skipped).unwrap()).await;
    assert_eq!((skipped.code().as_str(), &skipped.json()["batch"]), ("resync", &json!(3)));
    // What was signed once counts once, wherever it is shown.
    let (request, signature) = hub.signed("POST", &sync, body, now_s());
    let copy = two.moved(&hub.line.http, request.try_clone().unwrap());
    assert_eq!(hub.line.send(request, &signature).await.status, 200);
    assert_eq!(hub.line.send(copy, &signature).await.code(), "signature");
    // What the other process puts wakes the stream that hangs here: a notice, as a mark was too far.
    let mut events = stream(&hub, hub.cursor).await;
    two.sync(&mut hub.clone(), |b| b.revoke = vec![mark(Kind::Binding, "lamp/user:2", 9_999)]).await;
    let told = next(&mut events).await.unwrap();
    assert!(told > hub.cursor);
    hub.batch += 1;
    assert_eq!(hub.sync(|_| {}).await.items.len(), 1);
    // Unlinked there, the stream here ends, and so does the hub's word.
    let statement = hub.unlink_body();
    assert_eq!(two.second(&hub, "DELETE", &hub.own(""), statement).await.status, 204);
    while next(&mut events).await.is_some() {}
    assert_eq!(hub.try_sync(&hub.batch(|_| {})).await.code(), "not_linked");
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programs_token_and_upload_go_on_at_the_other_process() {
    let two = Two::start().await;
    let shop = two.first.dir.0.join("workshop");
    let (workshop, brand) = (Workshop::open(&shop).unwrap(), BrandId::parse("acme").unwrap());
    workshop.new_brand(&brand).unwrap();
    let lamp =
        r#"{"model": "lamp", "title": "Lamp", "version": 1, "kind": "lamp", "attributes": {"on": {"type": "boolean", "access": "write"}}}"#;
    workshop.add_model(&brand, lamp).unwrap();
    let operator = two.first.operator().await;
    operator.add_tenant(&shop.join("acme")).await.unwrap();
    let (networks, scopes) = (vec!["127.0.0.0/8".into(), "::1".into()], vec![Scope::UploadIdentities]);
    let (view, secret) = operator.add_service(&NewService { name: "x".into(), brand: "acme".into(), networks, scopes }).await.unwrap();
    operator.close().await;
    let (http, url) = (two.first.line().http, two.first.cloud.url().to_owned());
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", view.id, secret.as_str());
    let request = http.post(format!("{url}/v1/token")).header("content-type", "application/x-www-form-urlencoded").body(form);
    let token: Value = request.send().await.unwrap().json().await.unwrap();
    let token = token["access_token"].as_str().unwrap();
    let line = |n: u8| {
        let key = data_encoding::BASE64URL_NOPAD.encode(&[n; 32]);
        let file = json!({"v": 1, "device_id": format!("lamp-{n}"), "brand": "acme", "model": "lamp", "hardware": "A", "serial": format!("S-{n}"), "device_key": key});
        format!("{file}\n")
    };
    // Begun here, gone on with there from where it was.
    let upload = |offset: usize, last: bool, body: String| {
        let request = http.post(format!("{url}/v1/identities?brand=acme")).bearer_auth(token).header("upload-id", "spring");
        request.header("upload-offset", offset).header("upload-complete", if last { "?1" } else { "?0" }).body(body)
    };
    assert_eq!(upload(0, false, line(1)).send().await.unwrap().status(), 200);
    let wrong = two.moved(&http, upload(3, true, line(2))).send().await.unwrap();
    assert_eq!(wrong.status(), 409);
    let whole: Value = two.moved(&http, upload(line(1).len(), true, line(2))).send().await.unwrap().json().await.unwrap();
    assert_eq!((&whole["state"], &whole["devices"]), (&json!("complete"), &json!(2)));
    // Ended there, it is over here.
    let ended = two.moved(&http, http.delete(format!("{url}/v1/token")).bearer_auth(token)).send().await.unwrap();
    assert_eq!(ended.status(), 204);
    let over = http.get(format!("{url}/v1/identities/uploads/spring")).bearer_auth(token).send().await.unwrap();
    assert_eq!(over.status(), 401);
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_other_keys_does_not_start_over_the_same_database() {
    let first = Rig::start().await;
    let (config, _dir) = beside(&first, false);
    let refused = Cloud::start(config).await.err().expect("other keys").to_string();
    assert!(refused.contains("another cloud key") && refused.contains("region.key"), "{refused}");
    first.end().await;
}
