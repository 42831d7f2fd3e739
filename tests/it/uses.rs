//! A right for a number of uses: each command and each wish that is taken counts, by whichever way, and nothing else.

use crate::house::{Device, House};
use crate::remotes::{ready, say, signed_in};
use hearthkey::domain::account::Role;
use hearthkey::service::{Actor, CommandRequest, Refusal};
use hearthkey::sim::mqtt::Client;
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};

const DENIED: u8 = 0x87;

struct Home {
    house: House,
    lamp: Device,
    lamp_client: Option<Client<Stream>>,
    guest: Actor,
    token: String,
}

async fn home(uses: u32) -> Home {
    let house = House::new().await;
    let (lamp, secret) = ready(&house, "lamp", "Lamp").await;
    let lamp_client = Some(signed_in(&house, &lamp, &secret).await);
    let (guest, token) = house.person("gus", Role::Guest).await;
    let body = json!({"username": "gus", "privilege": "operate", "uses": uses});
    assert_eq!(house.http("POST", &format!("/devices/{}/bindings", lamp.id), &house.owner_token, Some(body)).await.0, 200);
    Home { house, lamp, lamp_client, guest, token }
}

impl Home {
    fn left(&self) -> Option<u32> {
        let all = self.house.hub.service().bindings(&self.house.owner, &self.lamp.id).unwrap();
        all.iter().find(|b| b.username.as_deref() == Some("gus")).unwrap().terms.uses
    }

    async fn call(&self, method: &str, rest: &str, body: Value) -> u16 {
        self.house.http(method, &format!("/devices/{}{rest}", self.lamp.id), &self.token, Some(body)).await.0
    }

    async fn command(&self) -> Result<(), Refusal> {
        let request = CommandRequest { name: "identify".into(), ..CommandRequest::default() };
        self.house.hub.service().command(&self.guest, &self.lamp.id, request).await.map(|_| ())
    }
}

#[tokio::test]
async fn of_many_that_use_the_last_use_at_the_same_time_exactly_one_does() {
    let home = home(1).await;
    let patch = json!({"on": true}).as_object().unwrap().clone();
    let desire = async || home.house.hub.service().desire(&home.guest, &home.lamp.id, patch.clone(), None).await.map(|_| ());
    let (a, b, c, d) = tokio::join!(home.command(), desire(), home.command(), desire());
    let all = [a, b, c, d];
    assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{all:?}");
    assert_eq!(home.left(), Some(0));
    let reasons = all.iter().filter_map(|r| r.as_ref().err()).map(ToString::to_string).collect::<Vec<_>>();
    assert!(reasons.iter().all(|r| r.contains("used as often")), "{reasons:?}");
}

#[tokio::test]
async fn what_is_refused_spends_nothing() {
    let mut home = home(2).await;
    let mut gus = home.house.connect_person("gus", &home.token).await.unwrap();
    let (update, identify) = (home.lamp.topic("shadow/update"), home.lamp.topic("commands/identify"));
    // Wrong in itself, of another version, not its own.
    assert_eq!(home.call("PATCH", "/twin/desired", json!({"on": "maybe"})).await, 422);
    assert_eq!(home.call("PATCH", "/twin/desired", json!({"bright": 1})).await, 403);
    assert_eq!(home.call("POST", "/commands", json!({"name": "identify", "args": {"x": 1}})).await, 422);
    assert_eq!(home.call("POST", "/commands", json!({"name": "explode"})).await, 422);
    for body in [
        json!({"state": {"desired": {"on": 1}}}),
        json!({"state": {"reported": {"on": true}}}),
        json!({"state": {"desired": {"on": true}}, "version": 9}),
    ] {
        assert_eq!(say(&mut gus, &update, body).await, 0);
    }
    assert_eq!(say(&mut gus, &identify, json!({"args": 1})).await, 0);
    assert_eq!(say(&mut gus, &identify, json!([])).await, 0);
    assert_eq!(home.left(), Some(2));
    // Away.
    home.lamp_client.take().unwrap().disconnect(0).await.unwrap();
    while home.house.hub.service().device(&home.house.owner, &home.lamp.id).unwrap().online {
        tokio::task::yield_now().await;
    }
    assert_eq!(home.call("POST", "/commands", json!({"name": "identify"})).await, 409);
    assert_eq!(say(&mut gus, &identify, json!({})).await, 0);
    assert_eq!(home.left(), Some(2));
    assert_eq!(home.house.http("GET", &format!("/devices/{}/twin", home.lamp.id), &home.token, None).await.0, 200, "to look is no use");
    assert_eq!(home.call("PATCH", "/twin/desired", json!({"on": true})).await, 200);
    assert_eq!(home.left(), Some(1));
}

#[tokio::test]
async fn with_the_last_use_the_live_session_closes_for_more_whichever_way_it_went() {
    let home = home(2).await;
    let mut gus = home.house.connect_person("gus", &home.token).await.unwrap();
    let (update, identify) = (home.lamp.topic("shadow/update"), home.lamp.topic("commands/identify"));
    let wish = || json!({"state": {"desired": {"on": true}}});
    assert_eq!(home.call("POST", "/commands", json!({"name": "identify"})).await, 202);
    assert_eq!(say(&mut gus, &update, wish()).await, 0);
    assert_eq!(home.left(), Some(0));
    for (topic, body) in [(&update, wish()), (&identify, json!({}))] {
        assert_eq!(say(&mut gus, topic, body).await, DENIED);
    }
    assert_eq!(home.call("POST", "/commands", json!({"name": "identify"})).await, 403);
    assert_eq!(home.call("PATCH", "/twin/desired", json!({"on": false})).await, 403);
    assert_eq!(
        home.house.http("GET", &format!("/devices/{}/twin", home.lamp.id), &home.token, None).await.0,
        200,
        "what it may see it still sees"
    );
    // Given anew, it goes on in the same session.
    let body = json!({"username": "gus", "privilege": "operate", "uses": 1});
    let path = format!("/devices/{}/bindings", home.lamp.id);
    assert_eq!(home.house.http("POST", &path, &home.house.owner_token, Some(body)).await.0, 200);
    assert_eq!(say(&mut gus, &identify, json!({})).await, 0);
    assert_eq!(say(&mut gus, &identify, json!({})).await, DENIED);
}

#[tokio::test]
async fn a_remote_for_one_use_opens_once() {
    let home = home(1).await;
    let (remote, secret) = ready(&home.house, "lamp", "Remote").await;
    let body = json!({"device": remote.id, "privilege": "operate", "only": ["identify"], "uses": 1});
    let path = format!("/devices/{}/bindings", home.lamp.id);
    assert_eq!(home.house.http("POST", &path, &home.house.owner_token, Some(body)).await.0, 200);
    let mut remote = signed_in(&home.house, &remote, &secret).await;
    assert_eq!(say(&mut remote, &home.lamp.topic("commands/identify"), json!({})).await, 0);
    assert_eq!(say(&mut remote, &home.lamp.topic("commands/identify"), json!({})).await, DENIED);
    assert_eq!(home.left(), Some(1), "another's uses are not touched");
}
