//! Handing out images: to the device that is offered one, as long as it is, and to nobody else.

use super::{Lamp, Made, image};
use crate::house::House;
use crate::remotes;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::service::{Grant, Recipient};
use hearthkey::sim::mqtt::{ConnectOptions, Message, Qos};
use serde_json::{Value, json};

const SIZE: usize = 200_000;

/// A lamp that is offered a release, and the image.
async fn offered(house: &House) -> (Lamp, Value, Vec<u8>) {
    house.policy(json!({"mode": "automatic"})).await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(1).await;
    let made = Made::new(house, 2, image(2, SIZE)).await;
    house.taken(&made).await;
    let offer = lamp.offer().await;
    (lamp, offer, made.image)
}

/// A GET as a device makes it: status, headers that matter, and the bytes.
async fn get(house: &House, path: &str, ticket: &str, headers: &[(&str, &str)]) -> (u16, String, Vec<u8>) {
    let (client, base) = house.client();
    let mut request = client.get(format!("{base}{path}"));
    if !ticket.is_empty() {
        request = request.bearer_auth(ticket);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    let range = answer.headers().get("content-range").map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), range, answer.bytes().await.unwrap().to_vec())
}

fn text<'a>(offer: &'a Value, member: &str) -> &'a str {
    offer[member].as_str().unwrap()
}

#[tokio::test]
async fn an_image_comes_whole_and_in_ranges() {
    let house = House::new().await;
    let (_lamp, offer, image) = offered(&house).await;
    let (path, ticket) = (text(&offer, "path"), text(&offer, "ticket"));
    let (status, _, bytes) = get(&house, path, ticket, &[]).await;
    assert_eq!((status, bytes == image), (200, true));
    let etag = format!("\"{}\"", text(&offer, "sha256"));
    for (range, if_range, status, content_range, expected) in [
        ("bytes=0-9", "", 206, "bytes 0-9/200000", &image[..10]),
        ("bytes=150000-", "", 206, "bytes 150000-199999/200000", &image[150_000..]),
        ("bytes=-10", "", 206, "bytes 199990-199999/200000", &image[199_990..]),
        ("bytes=100-250000", etag.as_str(), 206, "bytes 100-199999/200000", &image[100..]),
        ("bytes=100-199", "\"another\"", 200, "", &image[..]),
        ("bytes=0-1,5-6", "", 200, "", &image[..]),
    ] {
        let mut headers = vec![("range", range)];
        headers.extend((!if_range.is_empty()).then_some(("if-range", if_range)));
        let (given, given_range, bytes) = get(&house, path, ticket, &headers).await;
        assert_eq!((given, given_range.as_str(), bytes == expected), (status, content_range, true), "{range}");
    }
    assert_eq!(get(&house, path, ticket, &[("range", "bytes=200000-")]).await.1, "bytes */200000");
    let (client, base) = house.client();
    let head = client.head(format!("{base}{path}")).bearer_auth(ticket).send().await.unwrap();
    assert_eq!(head.headers()["etag"], etag.as_str());
    assert_eq!(head.headers()["accept-ranges"], "bytes");
    assert_eq!(head.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn without_the_ticket_there_is_nothing_and_nothing_more_is_told() {
    let house = House::new().await;
    let (mut lamp, offer, _) = offered(&house).await;
    let (mut other, theirs) = house.lamp().await;
    other.runs(1).await;
    let theirs = if theirs == json!({}) { other.offer().await } else { theirs };
    let (path, ticket) = (text(&offer, "path"), text(&offer, "ticket"));
    let nobody = format!("/firmware/{}", uuid::Uuid::now_v7());
    let mut answers = std::collections::BTreeSet::new();
    let bits: String = ticket.chars().rev().collect();
    for (path, ticket) in [
        (path, ""),
        (path, "x"),
        (path, bits.as_str()),
        (path, house.owner_token.as_str()),
        (path, text(&theirs, "ticket")),
        (text(&theirs, "path"), ticket),
        (nobody.as_str(), ticket),
        ("/firmware/..%2Fhub.redb", ticket),
    ] {
        let (status, _, body) = get(&house, path, ticket, &[("range", "bytes=0-1")]).await;
        assert_eq!(status, 404, "{path}");
        answers.insert(body);
    }
    assert_eq!(answers.len(), 1, "one answer for all of it");
    assert_eq!(get(&house, text(&theirs, "path"), text(&theirs, "ticket"), &[]).await.0, 200);
    lamp.is(2, "confirmed", &offer, json!({})).await;
    assert_eq!(get(&house, path, ticket, &[]).await.0, 404, "it has ended");
    house.policy(json!({"mode": "hold"})).await;
    assert_eq!(get(&house, text(&theirs, "path"), text(&theirs, "ticket"), &[]).await.0, 404, "it was taken back");
}

#[tokio::test]
async fn as_many_download_as_may_and_the_next_is_told_to_wait() {
    let house = House::with(|config| config.firmware.downloads = 1).await;
    let (_lamp, offer, _) = offered(&house).await;
    let service = house.hub.service();
    let (id, ticket) = (text(&offer, "offer"), text(&offer, "ticket"));
    let held = service.firmware_download(id, ticket).unwrap();
    assert_eq!(get(&house, text(&offer, "path"), ticket, &[]).await.0, 503);
    drop(held);
    assert_eq!(get(&house, text(&offer, "path"), ticket, &[]).await.0, 200);
}

impl Lamp {
    async fn ask(&mut self, offer: &Value, offset: usize, length: usize) {
        let body = json!({"offer": offer["offer"], "offset": offset, "length": length});
        assert_eq!(self.say("firmware/get", &body).await, 0);
    }

    /// The offset and the bytes of the next chunk.
    async fn chunk(&mut self, offer: &Value) -> (u64, Vec<u8>) {
        let heard = self.hear().await;
        assert_eq!(heard.topic.to_string(), self.device.topic("firmware/chunk"));
        let (id, rest) = heard.payload.split_at(16);
        assert_eq!(uuid::Uuid::from_slice(id).unwrap().to_string(), text(offer, "offer"));
        let (offset, bytes) = rest.split_at(8);
        (u64::from_be_bytes(offset.try_into().unwrap()), bytes.to_vec())
    }
}

#[tokio::test]
async fn over_mqtt_an_image_comes_in_parts_as_they_are_asked_for() {
    let house = House::new().await;
    let (mut lamp, offer, image) = offered(&house).await;
    let mut whole = Vec::new();
    while whole.len() < SIZE {
        lamp.ask(&offer, whole.len(), 16_384).await;
        let (offset, bytes) = lamp.chunk(&offer).await;
        assert_eq!(offset, whole.len() as u64);
        whole.extend(bytes);
    }
    assert!(whole == image);
    lamp.ask(&offer, 10, 5).await;
    assert_eq!(lamp.chunk(&offer).await, (10, image[10..15].to_vec()));
    lamp.ask(&offer, 0, 1_000_000).await;
    assert_eq!(lamp.chunk(&offer).await.1.len(), 16_384, "never more");
    for (offer, offset, length) in
        [(&offer, SIZE, 10), (&offer, 0, 0), (&json!({"offer": uuid::Uuid::now_v7()}), 0, 10), (&json!({"offer": "x"}), 0, 10)]
    {
        lamp.ask(offer, offset, length).await;
    }
    assert_eq!(lamp.say("firmware/get", &json!([1, 2, 3])).await, 0);
    let answered: Vec<_> = lamp.waiting().await.iter().map(|heard| heard.payload.len()).collect();
    assert!(answered.is_empty(), "{answered:?}");
    lamp.is(2, "confirmed", &offer, json!({})).await;
    assert_eq!(lamp.offer().await, json!({}));
    lamp.ask(&offer, 0, 10).await;
    assert!(lamp.waiting().await.is_empty(), "the offer has ended");
}

#[tokio::test]
async fn nobody_else_hears_or_says_anything_there() {
    let house = House::new().await;
    let (mut lamp, offer, _) = offered(&house).await;
    let (_, token) = house.person("anna", Role::Owner).await;
    let grant = Grant { to: Recipient::Person("anna".into()), terms: Terms::of(Privilege::Administer) };
    house.hub.service().grant(&house.owner, &lamp.device.id, grant).await.unwrap();
    let mut anna = house.connect_person("anna", &token).await.unwrap();
    let own = lamp.device.topic("#");
    let codes =
        anna.subscribe(&[("#", Qos::AtLeastOnce), (&own, Qos::AtLeastOnce), (&lamp.device.topic("firmware/+"), Qos::AtLeastOnce)]).await;
    assert_eq!(codes.unwrap(), [1, 1, 1], "as any filter of theirs");
    for place in ["report", "get", "offer", "chunk", "other"] {
        let topic = lamp.device.topic(&format!("firmware/{place}"));
        assert_eq!(anna.publish(&Message::new(&topic, "{}", Qos::AtLeastOnce)).await.unwrap(), 0x87, "{place}");
    }
    for place in ["offer", "chunk", "other"] {
        assert_eq!(lamp.say(&format!("firmware/{place}"), &json!({})).await, 0x87, "{place}");
    }
    // Another device, bound to it as far as a binding goes.
    let (remote, secret) = remotes::ready(&house, "lamp", "Remote").await;
    let grant = Grant { to: Recipient::Device(remote.id.clone()), terms: Terms::of(Privilege::Operate) };
    house.hub.service().grant(&house.owner, &lamp.device.id, grant).await.unwrap();
    let options = ConnectOptions::new("remote").credentials(remote.id.as_str(), secret.as_str());
    let mut remote = house.connect(&options).await.unwrap();
    for place in ["report", "get", "offer"] {
        let topic = lamp.device.topic(&format!("firmware/{place}"));
        assert_eq!(remote.publish(&Message::new(&topic, "{}", Qos::AtLeastOnce)).await.unwrap(), 0x87, "{place}");
    }
    lamp.ask(&offer, 0, 100).await;
    lamp.chunk(&offer).await;
    lamp.is(1, "downloaded", &offer, json!({})).await;
    house.policy(json!({"mode": "hold"})).await;
    assert_eq!(lamp.offer().await, json!({}));
    anna.ping().await.unwrap();
    let mut heard = Vec::new();
    while let Some(message) = anna.receive(std::time::Duration::ZERO).await.unwrap() {
        heard.push(message.topic.to_string());
    }
    assert!(heard.iter().all(|topic| !topic.contains("/firmware/")), "{heard:?}");
    let retained = Message { retain: true, ..Message::new(lamp.device.topic("firmware/report"), "{}", Qos::AtLeastOnce) };
    assert_eq!(lamp.client.publish(&retained).await.unwrap(), 0x87);
}
