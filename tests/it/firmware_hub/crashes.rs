//! The hub dies in the middle: what was acknowledged is there when it is back, and nothing half.

use super::{Made, image};
use crate::durability::Process;
use crate::house::{Device, House};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Message, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const SHORT: Duration = Duration::from_secs(10);

struct Left {
    dir: TempDir,
    ca: Vec<u8>,
    token: String,
}

impl Left {
    fn client(&self) -> reqwest::Client {
        let ca = reqwest::Certificate::from_der(&self.ca).unwrap();
        reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap()
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("hub")
    }

    async fn start(&self) -> Process {
        Process::start(&self.data()).await
    }

    async fn upload(&self, hub: &Process, body: reqwest::Body) -> reqwest::Result<u16> {
        let request = self.client().post(format!("https://localhost:{}/api/v1/firmware", hub.https.port())).bearer_auth(&self.token);
        let answer = request.header("content-type", "application/octet-stream").body(body).send().await?;
        Ok(answer.status().as_u16())
    }

    async fn get(&self, hub: &Process, path: &str, token: &str, range: &str) -> (u16, Vec<u8>) {
        let request = self.client().get(format!("https://localhost:{}{path}", hub.https.port())).bearer_auth(token);
        let answer = request.header("range", range).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    }

    async fn json(&self, hub: &Process, path: &str) -> Value {
        let (status, body) = self.get(hub, &format!("/api/v1{path}"), &self.token, "bytes=0-").await;
        assert_eq!(status, 200);
        serde_json::from_slice(&body).unwrap()
    }
}

async fn listening(hub: &Process, device: &Device) -> (Client<Stream>, Value) {
    let password = device.keys.token(device.next_counter(), &[8; 16], &[]);
    let options = ConnectOptions::new("lamp").credentials(device.id.as_str(), password);
    let mut client = hub.connect(&options).await.unwrap();
    client.subscribe(&[(&device.topic("firmware/offer"), Qos::AtLeastOnce)]).await.unwrap();
    let heard = client.receive(SHORT).await.unwrap().unwrap();
    (client, serde_json::from_slice(&heard.payload).unwrap())
}

async fn say(client: &mut Client<Stream>, device: &Device, body: Value) {
    let message = Message::new(device.topic("firmware/report"), body.to_string(), Qos::AtLeastOnce);
    assert_eq!(client.publish(&message).await.unwrap(), 0);
}

fn parts(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("firmware")).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_dies_in_an_import_and_in_an_update_goes_on_where_it_was() {
    let house = House::new().await;
    house.policy(json!({"mode": "automatic"})).await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let (one, two) = (Made::new(&house, 1, image(1, 2_000_000)).await, Made::new(&house, 2, image(2, 2_000_000)).await);
    let (first, second) = (one.file(&house), two.file(&house));
    let House { hub, dir, owner_token: token, .. } = house;
    let ca = hub.identity().ca_der.clone();
    hub.shut_down().await;
    let left = Left { dir, ca, token };

    let process = left.start().await;
    assert_eq!(left.upload(&process, first.into()).await.unwrap(), 201);
    // The second one comes half: the hub dies while it waits for the rest.
    let (sender, mut rest) = tokio::sync::mpsc::channel::<Vec<u8>>(4);
    let body =
        reqwest::Body::wrap_stream(futures_util::stream::poll_fn(move |cx| rest.poll_recv(cx).map(|p| p.map(Ok::<_, std::io::Error>))));
    let (half, _) = second.split_at(1_000_000);
    let uploading = async {
        sender.send(half.to_vec()).await.unwrap();
        loop {
            let shown = left.json(&process, "/firmware").await;
            if shown["importing"]["received"].as_u64().is_some_and(|received| received > 0) {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(parts(&left.data()), 1);
    };
    tokio::select! {
        answer = left.upload(&process, body) => panic!("it was answered: {answer:?}"),
        () = uploading => {}
    }
    process.die().await;

    let process = left.start().await;
    assert_eq!(parts(&left.data()), 0, "nothing half is left");
    let shown = left.json(&process, "/firmware").await;
    assert_eq!((shown["models"][0]["releases"].as_array().unwrap().len(), &shown["cache"]["bytes"]), (1, &json!(2_000_000)), "{shown}");
    assert_eq!(left.upload(&process, second.into()).await.unwrap(), 201);
    let (mut client, offer) = listening(&process, &lamp).await;
    say(&mut client, &lamp, json!({"rel": 1, "version": "1.1.0", "state": "idle"})).await;
    assert_eq!(offer["rel"], 2);
    let (path, ticket) = (offer["path"].as_str().unwrap(), offer["ticket"].as_str().unwrap());
    let (status, bytes) = left.get(&process, path, ticket, "bytes=0-999999").await;
    assert_eq!((status, bytes == two.image[..1_000_000]), (206, true));
    say(&mut client, &lamp, json!({"rel": 1, "version": "1.1.0", "state": "downloading", "offer": offer["offer"], "offset": 1_000_000}))
        .await;
    process.die().await;

    let process = left.start().await;
    let (status, bytes) = left.get(&process, path, ticket, "bytes=1000000-").await;
    assert_eq!((status, bytes == two.image[1_000_000..]), (206, true), "the ticket serves on, and the download goes on");
    let (mut client, again) = listening(&process, &lamp).await;
    assert_eq!(again, offer);
    say(&mut client, &lamp, json!({"rel": 1, "version": "1.1.0", "state": "installing", "offer": offer["offer"]})).await;
    process.die().await;

    let process = left.start().await;
    let shown = left.json(&process, &format!("/devices/{}/firmware", lamp.id)).await;
    assert_eq!(shown["progress"]["state"], "installing");
    let (mut client, _) = listening(&process, &lamp).await;
    say(&mut client, &lamp, json!({"rel": 2, "version": "1.2.0", "state": "confirmed", "offer": offer["offer"]})).await;
    process.die().await;
    let process = left.start().await;
    let shown = left.json(&process, &format!("/devices/{}/firmware", lamp.id)).await;
    assert_eq!(
        (&shown["rel"], &shown["history"][0]["outcome"], &shown["verdict"]["state"]),
        (&json!(2), &json!("confirmed"), &json!("up_to_date"))
    );
    assert_eq!(left.get(&process, path, ticket, "bytes=0-1").await.0, 404);
}
