//! Invitations: accounts and rights by a link, what ends them, and accounts that people make by themselves.

use crate::clock::{Virtual, house};
use crate::house::{Device, HERE, House};
use hearthkey::domain::account::Role;
use hearthkey::service::{Actor, NewInvitation, Refusal, Registration, SessionToken};
use serde_json::{Value, json};

const PASSWORD: &str = "a long and quiet evening";

async fn lamp(house: &House) -> Device {
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    lamp
}

async fn invite(house: &House, token: &str, body: Value) -> (u16, Value) {
    house.http("POST", "/invitations", token, Some(body)).await
}

/// The code of an invitation that could be made.
async fn code(house: &House, token: &str, body: Value) -> String {
    let (status, made) = invite(house, token, body).await;
    assert_eq!(status, 201, "{made}");
    made["code"].as_str().unwrap().to_owned()
}

async fn look(house: &House, code: &str) -> (u16, Value) {
    house.http("POST", "/invitations/look", "", Some(json!({"code": code}))).await
}

async fn register(house: &House, code: &str, name: &str) -> (u16, Value) {
    house.http("POST", "/registrations", "", Some(json!({"code": code, "username": name, "password": PASSWORD}))).await
}

async fn accept(house: &House, token: &str, code: &str) -> (u16, Value) {
    house.http("POST", "/invitations/accept", token, Some(json!({"code": code}))).await
}

fn share(device: &Device, privilege: &str) -> Value {
    json!({"grants": [{"device_id": device.id, "privilege": privilege}]})
}

async fn privilege(house: &House, token: &str, device: &Device) -> Value {
    house.http("GET", &format!("/devices/{}", device.id), token, None).await.1["privilege"].clone()
}

async fn users(house: &House) -> usize {
    house.hub.service().users(&house.owner).unwrap().len()
}

/// A member who administers a lamp that the owner has claimed.
async fn administrator(house: &House, lamp: &Device, name: &str) -> (Actor, String) {
    let (actor, token) = house.person(name, Role::Member).await;
    let body = json!({"username": name, "privilege": "administer"});
    assert_eq!(house.http("POST", &format!("/devices/{}/bindings", lamp.id), &house.owner_token, Some(body)).await.0, 200);
    (actor, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_registers_by_a_link_and_has_what_it_promised_and_the_link_serves_once() {
    let house = House::new().await;
    let lamp = lamp(&house).await;
    let until = house.hub.service().now() + 86_400_000;
    let window = json!({"days": ["tue", "fri"], "from": "09:00", "to": "12:30"});
    let gift = json!({"device_id": lamp.id, "privilege": "operate", "until": until, "windows": [window], "only": ["on"], "uses": 3});
    let body = json!({"role": "guest", "display_name": "Gil", "grants": [gift]});
    let (status, made) = invite(&house, &house.owner_token, body).await;
    assert_eq!(status, 201);
    let code = made["code"].as_str().unwrap();
    let link = made["link"].as_str().unwrap();
    let port = house.hub.addresses.https.unwrap().port();
    assert_eq!(link, format!("https://localhost:{port}/#/join/{code}"));
    assert!(made["qr"].as_str().unwrap().contains("<svg"));
    let (status, promised) = look(&house, &code.to_lowercase()).await;
    assert_eq!((status, &promised["by_name"], &promised["role"]), (200, &json!("olivia"), &json!("guest")));
    let gift = &promised["grants"][0];
    assert_eq!((&gift["device_name"], &gift["privilege"], &gift["uses"]), (&json!("lamp"), &json!("operate"), &json!(3)));
    assert!(gift.get("device_id").is_none(), "a stranger learns no id");
    let (status, opened) = register(&house, code, "gil").await;
    assert_eq!((status, &opened["user"]["role"], &opened["user"]["display_name"]), (201, &json!("guest"), &json!("Gil")));
    let token = opened["token"].as_str().unwrap();
    assert_eq!(house.http("GET", "/me", token, None).await.1["username"], "gil");
    let (_, all) = house.http("GET", &format!("/devices/{}/bindings", lamp.id), &house.owner_token, None).await;
    let given = all["bindings"].as_array().unwrap().iter().find(|b| b["username"] == "gil").unwrap();
    assert_eq!(
        (&given["until"], &given["windows"][0], &given["only"], &given["uses"]),
        (&json!(until), &window, &json!(["on"]), &json!(3))
    );
    assert_eq!(given["granted_by_name"], "olivia");
    assert_eq!(register(&house, code, "gus").await.0, 404, "it serves once");
    assert_eq!(look(&house, code).await.0, 404);
    assert_eq!(users(&house).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_use_one_link_at_the_same_time_one_gets_in() {
    let house = House::new().await;
    let code = code(&house, &house.owner_token, json!({"role": "member"})).await;
    let names = ["ann", "ben", "cem"];
    let tries = futures_util::future::join_all(names.iter().map(|name| register(&house, &code, name))).await;
    let mut statuses: Vec<u16> = tries.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 404, 404]);
    assert_eq!(users(&house).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_fails_leaves_nothing_and_keeps_the_link() {
    let house = House::new().await;
    let lamp = lamp(&house).await;
    let code = code(&house, &house.owner_token, json!({"role": "guest", "grants": [{"device_id": lamp.id, "privilege": "view"}]})).await;
    assert_eq!(register(&house, &code, "olivia").await.0, 409);
    let short = json!({"code": code, "username": "gil", "password": "short"});
    assert_eq!(house.http("POST", "/registrations", "", Some(short)).await.0, 422);
    assert_eq!(users(&house).await, 1);
    assert_eq!(register(&house, &code, "gil").await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_promise_what() {
    let house = House::new().await;
    let (lamp, other) = (lamp(&house).await, lamp(&house).await);
    let (_, mia) = administrator(&house, &lamp, "mia").await;
    for role in ["owner", "member", "guest"] {
        assert_eq!(invite(&house, &house.owner_token, json!({"role": role})).await.0, 201, "{role}");
        assert_eq!(invite(&house, &mia, json!({"role": role})).await.0, 403, "{role}");
    }
    assert_eq!(invite(&house, &mia, share(&lamp, "manage")).await.0, 201);
    assert_eq!(invite(&house, &mia, share(&other, "view")).await.0, 404, "not hers, and not for her to know");
    let (_, gil) = house.person("gil", Role::Guest).await;
    let body = json!({"username": "gil", "privilege": "manage"});
    house.http("POST", &format!("/devices/{}/bindings", lamp.id), &house.owner_token, Some(body)).await;
    assert_eq!(invite(&house, &gil, share(&lamp, "view")).await.0, 403);
    // Nobody promises longer than they have.
    let until = house.hub.service().now() + 3_600_000;
    let body = json!({"username": "gil", "privilege": "administer", "until": until});
    house.http("POST", &format!("/devices/{}/bindings", lamp.id), &house.owner_token, Some(body)).await;
    assert_eq!(invite(&house, &gil, share(&lamp, "view")).await.0, 403);
    let within = json!({"grants": [{"device_id": lamp.id, "privilege": "view", "until": until}]});
    assert_eq!(invite(&house, &gil, within).await.0, 201);
    for wrong in [
        json!({}),
        json!({"role": "support"}),
        json!({"role": "guest", "expires_in_ms": 59_999}),
        json!({"role": "guest", "expires_in_ms": 2_592_000_001u64}),
        json!({"grants": [{"device_id": lamp.id, "privilege": "view"}, {"device_id": lamp.id, "privilege": "manage"}]}),
    ] {
        assert_eq!(invite(&house, &house.owner_token, wrong.clone()).await.0, 422, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sharing_by_link_gives_to_who_has_an_account_and_takes_nothing_from_them() {
    let house = House::new().await;
    let lamp = lamp(&house).await;
    let (_, mia) = administrator(&house, &lamp, "mia").await;
    let (_, ben) = house.person("ben", Role::Member).await;
    let first = code(&house, &mia, share(&lamp, "operate")).await;
    assert_eq!(register(&house, &first, "nobody").await.0, 409, "a member makes no accounts");
    assert_eq!(accept(&house, &mia, &first).await.0, 409, "her own");
    let (status, given) = accept(&house, &ben, &first).await;
    assert_eq!((status, &given["bindings"][0]["privilege"]), (200, &json!("operate")));
    assert_eq!(privilege(&house, &ben, &lamp).await, "operate");
    assert_eq!(accept(&house, &ben, &first).await.0, 404, "it serves once");
    // Less does not take away, more adds, what is neither is refused and kept.
    let less = code(&house, &mia, share(&lamp, "view")).await;
    assert_eq!(accept(&house, &ben, &less).await.1["bindings"][0]["privilege"], "operate");
    assert_eq!(privilege(&house, &ben, &lamp).await, "operate");
    let other = json!({"grants": [{"device_id": lamp.id, "privilege": "manage", "uses": 1}]});
    let other = code(&house, &mia, other).await;
    assert_eq!(accept(&house, &ben, &other).await.0, 409);
    let more = code(&house, &mia, share(&lamp, "manage")).await;
    assert_eq!(accept(&house, &ben, &more).await.0, 200);
    assert_eq!(privilege(&house, &ben, &lamp).await, "manage");
    let account = code(&house, &house.owner_token, json!({"role": "guest"})).await;
    assert_eq!(accept(&house, &ben, &account).await.0, 409, "he has an account");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_ends_with_its_givers_account_right_or_role() {
    let house = House::new().await;
    let lamp = lamp(&house).await;
    let (ben, ben_token) = house.person("ben", Role::Member).await;
    let service = house.hub.service();
    // The right to give, taken away or made less; also when it comes back.
    let (mia, mia_token) = administrator(&house, &lamp, "mia").await;
    let path = format!("/devices/{}/bindings", lamp.id);
    for take in ["revoke", "lower"] {
        let code = code(&house, &mia_token, share(&lamp, "view")).await;
        if take == "revoke" {
            service.revoke(&house.owner, &lamp.id, &mia.subject, true).await.unwrap();
        } else {
            let body = json!({"username": "mia", "privilege": "manage"});
            assert_eq!(house.http("POST", &path, &house.owner_token, Some(body)).await.0, 200);
        }
        assert_eq!(look(&house, &code).await.0, 404, "{take}");
        let again = json!({"username": "mia", "privilege": "administer"});
        assert_eq!(house.http("POST", &path, &house.owner_token, Some(again)).await.0, 200);
        assert_eq!(accept(&house, &ben_token, &code).await.0, 404, "{take}");
    }
    // A right that runs out gives nothing more, and says so.
    let (_, gil) = house.person("gil", Role::Guest).await;
    let until = service.now() + 3_600_000;
    let body = json!({"username": "gil", "privilege": "administer", "until": until});
    house.http("POST", &path, &house.owner_token, Some(body)).await;
    let code_of_gil = code(&house, &gil, json!({"grants": [{"device_id": lamp.id, "privilege": "view", "until": until}]})).await;
    let shorter = json!({"username": "gil", "privilege": "administer", "until": until - 1});
    house.http("POST", &path, &house.owner_token, Some(shorter)).await;
    let (status, problem) = accept(&house, &ben_token, &code_of_gil).await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("ask for a new invitation"), "{problem}");
    assert_eq!(look(&house, &code_of_gil).await.0, 409);
    // The role; also when it comes back. What shares devices does not need it.
    let (otto, otto_token) = house.person("otto", Role::Owner).await;
    let body = json!({"username": "otto", "privilege": "administer"});
    assert_eq!(house.http("POST", &path, &house.owner_token, Some(body)).await.0, 200);
    let code_of_otto = code(&house, &otto_token, json!({"role": "owner"})).await;
    let sharing = code(&house, &otto_token, share(&lamp, "view")).await;
    for role in ["member", "owner"] {
        let his = format!("/users/{}", otto.user().unwrap());
        assert_eq!(house.http("PATCH", &his, &house.owner_token, Some(json!({"role": role}))).await.0, 200);
    }
    assert_eq!(register(&house, &code_of_otto, "mallory").await.0, 404);
    assert_eq!(look(&house, &sharing).await.0, 200);
    // The account.
    let (paul, paul_token) = house.person("paul", Role::Owner).await;
    let code_of_paul = code(&house, &paul_token, json!({"role": "owner"})).await;
    service.end_user(&house.owner, paul.user().unwrap(), true).await.unwrap();
    assert_eq!(register(&house, &code_of_paul, "mallory").await.0, 404);
    // The device.
    let code_of_lamp = code(&house, &house.owner_token, share(&lamp, "view")).await;
    service.remove_device(&house.owner, &lamp.id).await.unwrap();
    assert_eq!(accept(&house, &ben_token, &code_of_lamp).await.0, 404);
    assert!(service.devices(&ben).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_serves_until_its_time_and_is_forgotten_after_it() {
    let clock = Virtual::at(1_795_000_000_000, true);
    let house = house(&clock).await;
    let service = house.hub.service();
    let new = |expires_in_ms| NewInvitation { role: Some(Role::Guest), expires_in_ms, ..NewInvitation::default() };
    let (short, week) =
        (service.invite(&house.owner, new(Some(60_000))).await.unwrap(), service.invite(&house.owner, new(None)).await.unwrap());
    let look = |code: &str| service.look_at_invitation(code, HERE, "test").is_ok();
    clock.pass(59_999);
    assert!(look(&short.code) && look(&week.code));
    clock.pass(1);
    assert!(!look(&short.code) && look(&week.code));
    let user = Registration {
        code: Some(short.code.to_string()),
        username: "gil".into(),
        password: PASSWORD.to_owned().into(),
        display_name: String::new(),
    };
    assert!(matches!(service.register(user, HERE, "test").await, Err(Refusal::NotFound(_))));
    assert_eq!(service.invitations(&house.owner).unwrap().len(), 1);
    service.sweep_invitations().await.unwrap();
    clock.pass(7 * 86_400_000 - 60_000 - 1);
    assert!(look(&week.code));
    clock.pass(1);
    assert!(!look(&week.code));
}

#[tokio::test(flavor = "multi_thread")]
async fn invitations_are_listed_and_withdrawn_by_whose_they_are_and_by_owners() {
    let house = House::new().await;
    let lamp = lamp(&house).await;
    let (_, mia) = administrator(&house, &lamp, "mia").await;
    let (_, ben) = house.person("ben", Role::Member).await;
    let code_of_mia = code(&house, &mia, share(&lamp, "view")).await;
    code(&house, &house.owner_token, json!({"role": "guest"})).await;
    let list = async |token: &str| {
        let (status, all) = house.http("GET", "/invitations", token, None).await;
        assert_eq!(status, 200);
        assert!(!all.to_string().contains(&code_of_mia.replace('-', "")) && !all.to_string().contains(&code_of_mia));
        all["invitations"].as_array().unwrap().clone()
    };
    assert_eq!((list(&house.owner_token).await.len(), list(&mia).await.len(), list(&ben).await.len()), (2, 1, 0));
    let of_mia = list(&mia).await[0].clone();
    assert_eq!((&of_mia["by_name"], &of_mia["grants"][0]["device_id"]), (&json!("mia"), &json!(lamp.id)));
    let path = format!("/invitations/{}", of_mia["id"].as_str().unwrap());
    assert_eq!(house.http("DELETE", &path, &ben, None).await.0, 404);
    assert_eq!(house.http("DELETE", &path, &mia, None).await.0, 204);
    assert_eq!(accept(&house, &ben, &code_of_mia).await.0, 404);
    let of_olivia = list(&house.owner_token).await[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/invitations/{of_olivia}");
    assert_eq!(house.http("DELETE", &path, &mia, None).await.0, 404);
    assert_eq!(house.http("DELETE", &path, &house.owner_token, None).await.0, 204);
    // Who did what is kept, the code is not.
    let audit = house.http("GET", "/audit?limit=500", &house.owner_token, None).await.1.to_string();
    assert!(audit.contains("invitation.make") && audit.contains("invitation.withdraw") && !audit.contains(&code_of_mia));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_invitations_without_end_and_nobody_guesses_codes() {
    let house = House::new().await;
    for n in 0..50 {
        assert_eq!(invite(&house, &house.owner_token, json!({"role": "guest"})).await.0, 201, "{n}");
    }
    assert_eq!(invite(&house, &house.owner_token, json!({"role": "guest"})).await.0, 409);
    let (_, all) = house.http("GET", "/invitations", &house.owner_token, None).await;
    let one = all["invitations"][0]["id"].as_str().unwrap();
    assert_eq!(house.http("DELETE", &format!("/invitations/{one}"), &house.owner_token, None).await.0, 204);
    let good = code(&house, &house.owner_token, json!({"role": "guest"})).await;
    let mut statuses = Vec::new();
    for n in 0..7 {
        statuses.push(look(&house, &format!("0000-0000-0000-0000-000{n}")).await.0);
    }
    assert_eq!(statuses, [404, 404, 404, 404, 429, 429, 429]);
    assert_eq!(register(&house, &good, "gil").await.0, 429, "who has guessed waits, also with a good code");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_invitation_people_make_accounts_only_while_an_owner_lets_them_and_only_as_guests() {
    let house = House::new().await;
    let body = |name: &str| Some(json!({"username": name, "password": PASSWORD}));
    assert_eq!(house.http("POST", "/registrations", "", body("gil")).await.0, 422);
    assert_eq!(users(&house).await, 1);
    let set = async |open: bool| house.http("PATCH", "/hub/settings", &house.owner_token, Some(json!({"open_registration": open}))).await;
    assert_eq!(set(true).await.1["open_registration"], true);
    let (status, opened) = house.http("POST", "/registrations", "", body("gil")).await;
    assert_eq!((status, &opened["user"]["role"]), (201, &json!("guest")));
    let gil = house.hub.service().actor(&SessionToken::new(opened["token"].as_str().unwrap()), "test", HERE).unwrap();
    assert!(house.hub.service().devices(&gil).unwrap().is_empty());
    assert_eq!(set(false).await.0, 200);
    assert_eq!(house.http("POST", "/registrations", "", body("gus")).await.0, 422);
    // Nobody fills the hub with accounts.
    set(true).await;
    let mut statuses = Vec::new();
    for n in 0..6 {
        statuses.push(house.http("POST", "/registrations", "", body(&format!("flood-{n}"))).await.0);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
}
