//! Access tokens: what a program with one may do, and how soon it may not any more.

use super::{Home, PASSWORD};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Subject, Terms};
use hearthkey::domain::ids::DeviceId;
use hearthkey::service::{Grant, Recipient};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

pub(super) const DAY: u64 = 24 * 3600 * 1000;

impl Home {
    pub(super) fn wait(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    /// Somebody who may do this with the device.
    pub(super) async fn guest_of(&self, device: &DeviceId, name: &str, role: Role, privilege: Privilege) -> String {
        let token = self.person(name, role).await;
        self.grant(device, name, Terms::of(privilege)).await;
        token
    }

    pub(super) async fn grant(&self, device: &DeviceId, name: &str, terms: Terms) {
        let grant = Grant { to: Recipient::Person(name.into()), terms };
        self.service.grant(&self.actor(&self.owner), device, grant).await.unwrap();
    }

    pub(super) async fn token(&self, person: &str, devices: Value) -> (String, String) {
        let made = self.call(person, "POST /api/v1/me/tokens", Some(json!({"name": "Dashboard", "devices": devices}))).await;
        assert_eq!(made.status, 201, "{made:?}");
        let text = |name: &str| made.json()[name].as_str().unwrap().to_owned();
        assert!(text("token").starts_with("hka1."));
        (text("id"), text("token"))
    }

    pub(super) async fn sees(&self, token: &str, device: &DeviceId) -> u16 {
        self.call(token, &format!("GET /api/v1/devices/{device}/twin"), None).await.status
    }

    pub(super) async fn sets(&self, token: &str, device: &DeviceId) -> u16 {
        let line = format!("PATCH /api/v1/devices/{device}/twin/desired");
        self.call(token, &line, Some(json!({"on": true}))).await.status
    }
}

#[tokio::test]
async fn a_token_looks_and_no_more_unless_the_person_said_so() {
    let home = Home::new().await;
    let (lamp, other) = (home.claimed("lamp", &home.owner).await, home.claimed("lamp", &home.owner).await);
    let (_, looks) = home.token(&home.owner, json!([{"id": lamp}])).await;
    assert_eq!((home.sees(&looks, &lamp).await, home.sets(&looks, &lamp).await, home.sees(&looks, &other).await), (200, 403, 404));
    let (_, works) = home.token(&home.owner, json!([{"id": lamp, "privilege": "operate"}])).await;
    assert_eq!((home.sees(&works, &lamp).await, home.sets(&works, &lamp).await), (200, 200));
    let (_, narrow) = home.token(&home.owner, json!([{"id": lamp, "privilege": "operate", "only": ["brightness"]}])).await;
    assert_eq!(home.sets(&narrow, &lamp).await, 403);
    let devices = home.call(&looks, "GET /api/v1/devices", None).await.json();
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_app_can_do_nothing_that_is_for_people_or_to_the_hub() {
    let home = Home::new().await;
    let lamp = home.claimed("lamp", &home.owner).await;
    let (id, token) = home.token(&home.owner, json!([{"id": lamp, "privilege": "manage"}])).await;
    let devices = json!([{"id": lamp}]);
    for (line, body) in [
        ("GET /api/v1/me".to_owned(), None),
        ("GET /api/v1/me/apps".into(), None),
        ("GET /api/v1/apps".into(), None),
        ("GET /api/v1/users".into(), None),
        ("GET /api/v1/audit".into(), None),
        ("GET /api/v1/oauth/clients".into(), None),
        ("GET /metrics".into(), None),
        ("DELETE /api/v1/sessions/current".into(), None),
        (format!("DELETE /api/v1/me/apps/{id}"), None),
        (format!("DELETE /api/v1/apps/{id}"), None),
        ("POST /api/v1/me/tokens".into(), Some(json!({"name": "more", "devices": devices}))),
        ("POST /api/v1/oauth/clients".into(), Some(json!({"name": "x", "redirect_uris": ["https://app.example/cb"]}))),
        ("PUT /api/v1/me/password".into(), Some(json!({"current": PASSWORD, "new": "another long password"}))),
        ("POST /api/v1/users".into(), Some(json!({"username": "eve", "password": "another long password", "role": "owner"}))),
        (format!("POST /api/v1/devices/{lamp}/bindings"), Some(json!({"username": "olivia", "privilege": "view"}))),
        (format!("POST /api/v1/devices/{lamp}/administration"), None),
        (format!("POST /api/v1/devices/{lamp}/suspend"), None),
        (format!("DELETE /api/v1/devices/{lamp}"), None),
    ] {
        let answer = home.call(&token, &line, body).await;
        assert_eq!(answer.status, 403, "{line}: {answer:?}");
    }
    assert_eq!(home.sets(&token, &lamp).await, 200);
}

#[tokio::test]
async fn nobody_gives_an_app_more_than_they_have() {
    let home = Home::new().await;
    let (lamp, door) = (home.claimed("lamp", &home.owner).await, home.claimed("garage-door", &home.owner).await);
    let mia = home.guest_of(&lamp, "mia", Role::Member, Privilege::Operate).await;
    let gus = home.guest_of(&lamp, "gus", Role::Guest, Privilege::Operate).await;
    let asked = async |who: &str, body: Value| home.call(who, "POST /api/v1/me/tokens", Some(body)).await.status;
    let one = |id: &DeviceId, privilege: &str| json!({"name": "x", "devices": [{"id": id, "privilege": privilege}]});
    assert_eq!(asked(&mia, one(&lamp, "manage")).await, 422);
    assert_eq!(asked(&mia, one(&door, "view")).await, 404);
    assert_eq!(asked(&home.owner, one(&lamp, "administer")).await, 422);
    assert_eq!(asked(&gus, one(&lamp, "view")).await, 403, "a guest links no apps");
    let twice = json!({"name": "x", "devices": [{"id": lamp}, {"id": lamp}]});
    for body in [json!({"name": "x", "devices": []}), twice, json!({"name": " ", "devices": [{"id": lamp}]})] {
        assert_eq!(asked(&mia, body.clone()).await, 422, "{body}");
    }
    let long = json!({"name": "x", "devices": [{"id": lamp}], "expires_in_ms": 367 * DAY});
    assert_eq!(asked(&mia, long).await, 422);
    // What was refused left nothing behind.
    assert_eq!(home.call(&mia, "GET /api/v1/me/apps", None).await.json(), json!({"apps": []}));
    // A person whose right ends sooner gives a shorter one, whatever happens to their own later.
    let soon = home.service.now() + DAY;
    home.grant(&lamp, "mia", Terms { until: Some(soon), ..Terms::of(Privilege::Operate) }).await;
    let (_, token) = home.token(&mia, json!([{"id": lamp}])).await;
    home.grant(&lamp, "mia", Terms::of(Privilege::Operate)).await;
    assert_eq!(home.sees(&token, &lamp).await, 200);
    home.wait(DAY);
    assert_eq!((home.sees(&token, &lamp).await, home.sees(&mia, &lamp).await), (404, 200));
}

#[tokio::test]
async fn an_app_never_has_more_than_its_person_has_now() {
    let home = Home::new().await;
    let lamp = home.claimed("lamp", &home.owner).await;
    let mia = home.guest_of(&lamp, "mia", Role::Member, Privilege::Operate).await;
    let (_, token) = home.token(&mia, json!([{"id": lamp, "privilege": "operate"}])).await;
    assert_eq!(home.sets(&token, &lamp).await, 200);
    home.grant(&lamp, "mia", Terms::of(Privilege::View)).await;
    assert_eq!((home.sees(&token, &lamp).await, home.sets(&token, &lamp).await), (200, 403));
    let id = home.actor(&mia).user().unwrap().clone();
    home.service.revoke(&home.actor(&home.owner), &lamp, &Subject::User(id), true).await.unwrap();
    assert_eq!(home.sees(&token, &lamp).await, 404);
    // The person's new right does not bring the app's back.
    home.grant(&lamp, "mia", Terms::of(Privilege::Operate)).await;
    assert_eq!((home.sees(&mia, &lamp).await, home.sees(&token, &lamp).await), (200, 404));
}

#[tokio::test]
async fn a_token_ends_with_its_time_its_leave_its_persons_password_and_its_person() {
    let home = Home::new().await;
    let lamp = home.claimed("lamp", &home.owner).await;
    let mia = home.guest_of(&lamp, "mia", Role::Member, Privilege::Operate).await;
    let max = home.guest_of(&lamp, "max", Role::Member, Privilege::Operate).await;
    let (id, ended) = home.token(&mia, json!([{"id": lamp}])).await;
    let (_, other) = home.token(&mia, json!([{"id": lamp}])).await;
    assert_eq!(home.call(&max, &format!("DELETE /api/v1/me/apps/{id}"), None).await.status, 404, "another's app");
    assert_eq!(home.call(&max, &format!("DELETE /api/v1/apps/{id}"), None).await.status, 403);
    assert_eq!(home.sees(&ended, &lamp).await, 200);
    assert_eq!(home.call(&mia, &format!("DELETE /api/v1/me/apps/{id}"), None).await.status, 204);
    assert_eq!(home.call(&mia, &format!("DELETE /api/v1/me/apps/{id}"), None).await.status, 404);
    assert_eq!((home.sees(&ended, &lamp).await, home.sees(&other, &lamp).await), (401, 200));
    let change = json!({"current": PASSWORD, "new": "another long password"});
    assert_eq!(home.call(&mia, "PUT /api/v1/me/password", Some(change)).await.status, 204);
    assert_eq!(home.sees(&other, &lamp).await, 401, "the password has changed");
    let (id, by_owner) = home.token(&mia, json!([{"id": lamp}])).await;
    let all = home.call(&home.owner, "GET /api/v1/apps", None).await.json();
    assert_eq!((&all["apps"][0]["username"], &all["apps"][0]["id"]), (&json!("mia"), &json!(id)));
    assert_eq!(home.call(&home.owner, &format!("DELETE /api/v1/apps/{id}"), None).await.status, 204);
    assert_eq!(home.sees(&by_owner, &lamp).await, 401);
    let (_, of_ended) = home.token(&mia, json!([{"id": lamp}])).await;
    let account = home.actor(&mia).user().unwrap().clone();
    home.service.end_user(&home.actor(&home.owner), &account, true).await.unwrap();
    assert_eq!(home.sees(&of_ended, &lamp).await, 401);
    let (_, lasting) = home.token(&max, json!([{"id": lamp}])).await;
    home.wait(90 * DAY - 1);
    assert_eq!(home.sees(&lasting, &lamp).await, 200);
    home.wait(1);
    assert_eq!(home.sees(&lasting, &lamp).await, 401);
    // The sweep takes what is over away for good; nothing comes back when the clock is set back.
    home.service.sweep_apps().await.unwrap();
    home.clock.0.fetch_sub(DAY, Ordering::Relaxed);
    assert_eq!(home.sees(&lasting, &lamp).await, 401);
}

#[tokio::test]
async fn who_becomes_a_guest_or_gets_a_new_password_by_a_code_has_no_apps() {
    let home = Home::new().await;
    let lamp = home.claimed("lamp", &home.owner).await;
    let mia = home.guest_of(&lamp, "mia", Role::Member, Privilege::Operate).await;
    let account = home.actor(&mia).user().unwrap().clone();
    let (_, token) = home.token(&mia, json!([{"id": lamp}])).await;
    let role =
        async |role: &str| home.call(&home.owner, &format!("PATCH /api/v1/users/{account}"), Some(json!({"role": role}))).await.status;
    assert_eq!(home.sees(&token, &lamp).await, 200);
    assert_eq!(role("guest").await, 200);
    assert_eq!((home.sees(&token, &lamp).await, home.sees(&mia, &lamp).await), (401, 200));
    assert_eq!(role("member").await, 200);
    assert_eq!(home.sees(&token, &lamp).await, 401, "what has ended does not come back with the role");
    let (_, token) = home.token(&mia, json!([{"id": lamp}])).await;
    assert_eq!(home.sees(&token, &lamp).await, 200);
    let reset = home.call(&home.owner, &format!("POST /api/v1/users/{account}/reset"), None).await.json();
    let body = json!({"code": reset["code"], "password": "yet another long password"}).to_string();
    let done = home.ask("POST /api/v1/passwords/reset", &[("content-type", "application/json")], body.as_bytes()).await;
    assert_eq!(done.status, 204, "{done:?}");
    assert_eq!(home.sees(&token, &lamp).await, 401);
}

#[tokio::test]
async fn only_so_many_apps_act_for_one_person() {
    let home = Home::new().await;
    let lamp = home.claimed("lamp", &home.owner).await;
    let body = json!({"name": "x", "devices": [{"id": lamp}]});
    let make = async || home.call(&home.owner, "POST /api/v1/me/tokens", Some(body.clone())).await;
    for _ in 0..50 {
        assert_eq!(make().await.status, 201);
    }
    assert_eq!(make().await.status, 409);
    // Whoever makes and ends them all the time has to wait.
    for _ in 0..10 {
        let all = home.call(&home.owner, "GET /api/v1/me/apps", None).await.json();
        let id = all["apps"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(home.call(&home.owner, &format!("DELETE /api/v1/me/apps/{id}"), None).await.status, 204);
        home.wait(1);
        assert_eq!(make().await.status, 201);
    }
    let all = home.call(&home.owner, "GET /api/v1/me/apps", None).await.json();
    let id = all["apps"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(home.call(&home.owner, &format!("DELETE /api/v1/me/apps/{id}"), None).await.status, 204);
    assert_eq!(make().await.status, 429);
    home.wait(DAY);
    assert_eq!(make().await.status, 201);
}

#[tokio::test]
async fn what_an_app_did_stands_in_the_audit_as_the_apps_and_no_token_does() {
    let home = Home::new().await;
    let lamp = home.claimed("lamp", &home.owner).await;
    let (id, token) = home.token(&home.owner, json!([{"id": lamp, "privilege": "manage"}])).await;
    let named = home.call(&token, &format!("PATCH /api/v1/devices/{lamp}"), Some(json!({"name": "By an app"}))).await;
    assert_eq!(named.status, 200);
    let audit = home.call(&home.owner, "GET /api/v1/audit", None).await.json();
    let entries = audit["entries"].as_array().unwrap();
    assert!(entries.iter().any(|e| e["actor"] == format!("app:{id}") && e["object"] == json!(lamp)), "{entries:?}");
    assert!(entries.iter().any(|e| e["action"] == "app.link" && e["object"] == format!("app:{id}")));
    assert!(!audit.to_string().contains(&token[5..]));
}
