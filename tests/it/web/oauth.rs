//! The code flow as attackers see it: codes, verifiers, refresh tokens and redirects that are stolen, mixed up, late, or
//! used twice.

use super::apps::DAY;
use super::{Answer, HOST, Home};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Subject};
use hearthkey::domain::ids::DeviceId;
use hearthkey::store::StoreError;
use serde_json::{Value, json};
use std::collections::HashMap;

const CALLBACK: &str = "https://app.example/cb";
/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const MINUTE: u64 = 60_000;

/// A house with a lamp, a member who may operate it, and a registered app.
struct Scene {
    home: Home,
    lamp: DeviceId,
    mia: String,
    client: String,
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    serde_urlencoded::to_string(pairs).unwrap()
}

/// The members of the query of a URL.
fn told(url: &str) -> HashMap<String, String> {
    serde_urlencoded::from_str(url.split_once('?').unwrap().1).unwrap()
}

impl Scene {
    async fn new() -> Scene {
        let home = Home::new().await;
        let lamp = home.claimed("lamp", &home.owner).await;
        let mia = home.guest_of(&lamp, "mia", Role::Member, Privilege::Operate).await;
        let client = Scene::register(&home, "Third party", CALLBACK).await;
        Scene { home, lamp, mia, client }
    }

    async fn register(home: &Home, name: &str, uri: &str) -> String {
        let made = home.call(&home.owner, "POST /api/v1/oauth/clients", Some(json!({"name": name, "redirect_uris": [uri]}))).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["id"].as_str().unwrap().to_owned()
    }

    /// What the app asks for, with some of it different.
    fn query(&self, other: &[(&str, &str)]) -> String {
        let mut all = vec![
            ("response_type", "code"),
            ("client_id", self.client.as_str()),
            ("redirect_uri", CALLBACK),
            ("scope", "operate"),
            ("state", "xyz&1"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        for (name, value) in other {
            all.retain(|(n, _)| n != name);
            all.push((name, value));
        }
        all.retain(|(_, value)| !value.is_empty());
        encoded(&all)
    }

    async fn authorize(&self, other: &[(&str, &str)]) -> Answer {
        self.home.ask(&format!("GET /oauth/authorize?{}", self.query(other)), &[], b"").await
    }

    async fn answer(&self, who: &str, other: Value) -> Answer {
        let mut body = json!({
            "client_id": self.client, "redirect_uri": CALLBACK, "scope": "operate", "state": "xyz&1", "code_challenge": CHALLENGE,
            "devices": [{"id": self.lamp, "privilege": "operate"}],
        });
        body.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        self.home.call(who, "POST /api/v1/oauth/consents", Some(body)).await
    }

    /// A code that mia has consented to.
    async fn code(&self) -> String {
        let answer = self.answer(&self.mia, json!({})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let redirect = answer.json()["redirect"].as_str().unwrap().to_owned();
        assert!(redirect.starts_with(&format!("{CALLBACK}?")), "{redirect}");
        let told = told(&redirect);
        assert_eq!((told["state"].as_str(), told["iss"].clone()), ("xyz&1", format!("https://{HOST}")));
        told["code"].clone()
    }

    async fn form(&self, path: &str, pairs: &[(&str, &str)]) -> Answer {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.home.ask(&format!("POST {path}"), &headers, encoded(pairs).as_bytes()).await
    }

    async fn exchange_with(&self, code: &str, client: &str, redirect_uri: &str, verifier: &str) -> Answer {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("client_id", client),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        self.form("/oauth/token", &pairs).await
    }

    async fn exchange(&self, code: &str) -> Answer {
        self.exchange_with(code, &self.client, CALLBACK, VERIFIER).await
    }

    /// Tokens from the start: access and refresh.
    async fn tokens(&self) -> (String, String) {
        pair(&self.exchange(&self.code().await).await)
    }

    async fn refresh(&self, token: &str, more: &[(&str, &str)]) -> Answer {
        let mut pairs = vec![("grant_type", "refresh_token"), ("client_id", self.client.as_str()), ("refresh_token", token)];
        pairs.extend(more);
        self.form("/oauth/token", &pairs).await
    }

    async fn sees(&self, token: &str) -> u16 {
        self.home.sees(token, &self.lamp).await
    }
}

fn pair(answer: &Answer) -> (String, String) {
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{answer:?}");
    let body = answer.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(3600)));
    (body["access_token"].as_str().unwrap().to_owned(), body["refresh_token"].as_str().unwrap().to_owned())
}

/// The word of an error in the form of OAuth.
fn error(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.status, if answer.json()["error"] == "invalid_client" { 401 } else { 400 });
    answer.json()["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_person_lets_an_app_in_and_it_does_what_they_said_and_no_more() {
    let scene = Scene::new().await;
    let page = scene.authorize(&[]).await;
    assert_eq!(page.status, 303);
    assert_eq!(page.header("location").unwrap(), format!("/#/consent?{}", scene.query(&[])));
    let asked = scene.home.call(&scene.mia, &format!("GET /api/v1/oauth/requests?{}", scene.query(&[("scope", "manage")])), None).await;
    let name = asked.json()["devices"][0]["name"].clone();
    assert_eq!(
        asked.json(),
        json!({
            "client": {"id": scene.client, "name": "Third party"}, "privilege": "manage", "redirect_host": "app.example",
            "devices": [{"id": scene.lamp, "name": name, "privilege": "operate"}],
        })
    );
    let answer = scene.exchange(&scene.code().await).await;
    assert_eq!(answer.json()["scope"], "operate");
    let (access, _) = pair(&answer);
    assert_eq!((scene.sees(&access).await, scene.home.sets(&access, &scene.lamp).await), (200, 200));
    let mine = scene.home.call(&scene.mia, "GET /api/v1/me/apps", None).await.json();
    assert_eq!(mine["apps"][0]["client_id"], json!(scene.client));
    assert_eq!(mine["apps"][0]["id"], answer.json()["app_id"]);
    // Only a part of a device is a part through the code as well.
    let part = json!({"devices": [{"id": scene.lamp, "privilege": "operate", "only": ["brightness"]}]});
    let part = scene.answer(&scene.mia, part).await.json();
    let (access, _) = pair(&scene.exchange(&told(part["redirect"].as_str().unwrap())["code"]).await);
    assert_eq!((scene.sees(&access).await, scene.home.sets(&access, &scene.lamp).await), (200, 403));
    // Less than was asked for is given as well.
    let less = scene.answer(&scene.mia, json!({"devices": [{"id": scene.lamp, "privilege": "view"}]})).await.json();
    let (access, _) = pair(&scene.exchange(&told(less["redirect"].as_str().unwrap())["code"]).await);
    assert_eq!((scene.sees(&access).await, scene.home.sets(&access, &scene.lamp).await), (200, 403));
}

#[tokio::test]
async fn nothing_is_ever_sent_to_a_place_that_is_not_registered() {
    let scene = Scene::new().await;
    let other = Scene::register(&scene.home, "Other", "https://other.example/cb").await;
    for wrong in [
        ("redirect_uri", "https://evil.example/cb"),
        ("redirect_uri", "https://app.example/cb/../evil"),
        ("redirect_uri", "https://other.example/cb"),
        ("redirect_uri", ""),
        ("client_id", &other),
        ("client_id", "0123456789abcdef0123456789abcdef"),
        ("client_id", ""),
        ("client_id", "../hub"),
    ] {
        let answer = scene.authorize(&[wrong, ("response_type", "token")]).await;
        assert_eq!((answer.status, answer.header("location")), (422, None), "{wrong:?}");
        let consent = scene.answer(&scene.mia, json!({wrong.0: wrong.1})).await;
        assert_eq!(consent.problem(), (422, "invalid".into()), "{wrong:?}");
    }
    let twice = scene.home.ask(&format!("GET /oauth/authorize?{}&client_id={other}", scene.query(&[])), &[], b"").await;
    assert_eq!(twice.status, 422);
}

#[tokio::test]
async fn whatever_else_is_wrong_is_told_to_the_app_with_its_state_and_the_issuer() {
    let scene = Scene::new().await;
    let long = "x".repeat(1025);
    for (wrong, word) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", ""), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("scope", "administer"), "invalid_scope"),
        (("state", &long), "invalid_request"),
    ] {
        let answer = scene.authorize(&[wrong]).await;
        let location = answer.header("location").unwrap().to_owned();
        assert!(answer.status == 303 && location.starts_with(&format!("{CALLBACK}?")), "{wrong:?}: {location}");
        let told = told(&location);
        assert_eq!((told["error"].as_str(), told["iss"].clone()), (word, format!("https://{HOST}")), "{wrong:?}");
        assert_eq!(told.get("state").map(String::as_str), (wrong.0 != "state").then_some("xyz&1"));
        let shown = scene.home.call(&scene.mia, &format!("GET /api/v1/oauth/requests?{}", scene.query(&[wrong])), None).await;
        assert_eq!(shown.status, 422, "{wrong:?}");
    }
    let denied = scene.answer(&scene.mia, json!({"deny": true, "devices": []})).await.json();
    assert_eq!(told(denied["redirect"].as_str().unwrap())["error"], "access_denied");
}

#[tokio::test]
async fn only_people_who_may_consent_and_only_to_what_is_theirs() {
    let scene = Scene::new().await;
    let home = &scene.home;
    let door = home.claimed("garage-door", &home.owner).await;
    let gus = home.guest_of(&scene.lamp, "gus", Role::Guest, Privilege::Operate).await;
    let (access, _) = scene.tokens().await;
    assert_eq!(scene.answer(&gus, json!({})).await.status, 403);
    assert_eq!(scene.answer(&access, json!({})).await.status, 403, "an app");
    assert_eq!(scene.answer(&access, json!({"deny": true})).await.status, 403, "an app");
    assert_eq!(scene.answer("", json!({})).await.status, 401);
    assert_eq!(scene.answer(&scene.mia, json!({"devices": [{"id": door}]})).await.status, 404);
    let more = json!({"devices": [{"id": scene.lamp, "privilege": "manage"}], "scope": "manage"});
    assert_eq!(scene.answer(&scene.mia, more).await.status, 422, "more than one's own");
    assert_eq!(scene.answer(&scene.mia, json!({"scope": "view"})).await.status, 422, "more than was asked for");
    assert_eq!(scene.answer(&scene.mia, json!({"devices": []})).await.status, 422);
    // A page elsewhere cannot consent with the person's cookie.
    let cookie = format!("__Host-hearthkey={}", scene.mia);
    for origin in [vec![], vec![("origin", "https://app.example")]] {
        let mut headers = vec![("cookie", cookie.as_str()), ("content-type", "application/json")];
        headers.extend(origin);
        let answer = home.ask("POST /api/v1/oauth/consents", &headers, b"{}").await;
        assert_eq!(answer.status, 403);
    }
}

#[tokio::test]
async fn a_code_serves_once_and_a_second_use_ends_what_came_of_the_first() {
    let scene = Scene::new().await;
    let code = scene.code().await;
    let (access, refresh) = pair(&scene.exchange(&code).await);
    let (other, _) = scene.tokens().await;
    assert_eq!(scene.sees(&access).await, 200);
    // A thief needs no verifier to be noticed.
    let again = scene.exchange_with(&code, &scene.client, CALLBACK, "").await;
    assert_eq!(error(&again), "invalid_request");
    let again = scene.exchange_with(&code, &scene.client, CALLBACK, &"x".repeat(43)).await;
    assert_eq!(error(&again), "invalid_grant");
    assert_eq!((scene.sees(&access).await, scene.sees(&other).await), (401, 200));
    assert_eq!(error(&scene.refresh(&refresh, &[]).await), "invalid_grant");
    assert_eq!(error(&scene.exchange(&code).await), "invalid_grant");
}

#[tokio::test]
async fn a_code_is_of_no_use_to_others_and_of_none_after_a_wrong_attempt_or_a_minute() {
    let scene = Scene::new().await;
    let other = Scene::register(&scene.home, "Other", CALLBACK).await;
    let wrong_verifier = "x".repeat(43);
    for (client, uri, verifier) in [
        (&other, CALLBACK, VERIFIER),
        (&scene.client, "https://app.example/cb2", VERIFIER),
        (&scene.client, CALLBACK, wrong_verifier.as_str()),
        (&scene.client, CALLBACK, CHALLENGE),
    ] {
        let code = scene.code().await;
        assert_eq!(error(&scene.exchange_with(&code, client, uri, verifier).await), "invalid_grant");
        assert_eq!(error(&scene.exchange(&code).await), "invalid_grant", "nobody guesses twice");
    }
    let code = scene.code().await;
    scene.home.wait(MINUTE);
    assert_eq!(error(&scene.exchange(&code).await), "invalid_grant");
    let nobody = "0123456789abcdef0123456789abcdef";
    assert_eq!(error(&scene.exchange_with("hkc1.x", nobody, CALLBACK, VERIFIER).await), "invalid_client");
    assert_eq!(error(&scene.exchange("hkc1.made-up").await), "invalid_grant");
    assert_eq!(scene.home.call(&scene.mia, "GET /api/v1/me/apps", None).await.json(), json!({"apps": []}));
}

#[tokio::test]
async fn a_code_is_worth_nothing_once_its_person_has_lost_the_right_or_changed_the_password() {
    let scene = Scene::new().await;
    let home = &scene.home;
    let code = scene.code().await;
    let change = json!({"current": super::PASSWORD, "new": "another long password"});
    assert_eq!(home.call(&scene.mia, "PUT /api/v1/me/password", Some(change)).await.status, 204);
    assert_eq!(error(&scene.exchange(&code).await), "invalid_grant");
    let code = scene.code().await;
    let mia = Subject::User(home.actor(&scene.mia).user().unwrap().clone());
    home.service.revoke(&home.actor(&home.owner), &scene.lamp, &mia, true).await.unwrap();
    assert_eq!(error(&scene.exchange(&code).await), "invalid_grant");
    assert_eq!(home.call(&scene.mia, "GET /api/v1/me/apps", None).await.json(), json!({"apps": []}));
}

#[tokio::test]
async fn a_refresh_token_serves_once_and_a_second_use_ends_the_whole_leave() {
    let scene = Scene::new().await;
    let (first_access, first) = scene.tokens().await;
    let (second_access, second) = pair(&scene.refresh(&first, &[]).await);
    assert_eq!((scene.sees(&first_access).await, scene.sees(&second_access).await), (200, 200));
    let (third_access, third) = pair(&scene.refresh(&second, &[]).await);
    // The very first one, two generations later.
    assert_eq!(error(&scene.refresh(&first, &[]).await), "invalid_grant");
    for access in [&first_access, &second_access, &third_access] {
        assert_eq!(scene.sees(access).await, 401);
    }
    assert_eq!(error(&scene.refresh(&third, &[]).await), "invalid_grant");
}

#[tokio::test]
async fn of_two_who_refresh_at_the_same_time_neither_keeps_anything() {
    let scene = Scene::new().await;
    let (access, refresh) = scene.tokens().await;
    let (one, two) = tokio::join!(scene.refresh(&refresh, &[]), scene.refresh(&refresh, &[]));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
    let got = if one.status == 200 { pair(&one) } else { pair(&two) };
    assert_eq!((scene.sees(&access).await, scene.sees(&got.0).await), (401, 401));
    assert_eq!(error(&scene.refresh(&got.1, &[]).await), "invalid_grant");
}

#[tokio::test]
async fn a_made_up_refresh_token_ends_nothing_and_another_clients_neither() {
    let scene = Scene::new().await;
    let other = Scene::register(&scene.home, "Other", CALLBACK).await;
    let (access, refresh) = scene.tokens().await;
    let mut forged = data_encoding::BASE64URL_NOPAD.decode(refresh.strip_prefix("hkr1.").unwrap().as_bytes()).unwrap();
    // Right leave, right number, wrong mark.
    *forged.last_mut().unwrap() ^= 1;
    let forged = format!("hkr1.{}", data_encoding::BASE64URL_NOPAD.encode(&forged));
    for made_up in [forged.as_str(), "hkr1.", "hkr1.AAAA", &access, "x"] {
        assert_eq!(error(&scene.refresh(made_up, &[]).await), "invalid_grant", "{made_up}");
    }
    let stolen = [("grant_type", "refresh_token"), ("client_id", other.as_str()), ("refresh_token", refresh.as_str())];
    assert_eq!(error(&scene.form("/oauth/token", &stolen).await), "invalid_grant");
    assert_eq!(scene.sees(&access).await, 200);
    pair(&scene.refresh(&refresh, &[]).await);
}

#[tokio::test]
async fn refreshing_never_gives_more_or_for_longer_than_the_person_did() {
    let scene = Scene::new().await;
    let (_, refresh) = scene.tokens().await;
    for more in ["manage", "operate manage", "administer"] {
        assert_eq!(error(&scene.refresh(&refresh, &[("scope", more)]).await), "invalid_scope", "{more}");
    }
    let answer = scene.refresh(&refresh, &[("scope", "view")]).await;
    assert_eq!(answer.json()["scope"], "operate", "what it really is");
    let (access, refresh) = pair(&answer);
    scene.home.wait(60 * MINUTE - 1);
    assert_eq!(scene.sees(&access).await, 200);
    scene.home.wait(1);
    assert_eq!(scene.sees(&access).await, 401, "an hour");
    let (access, refresh) = pair(&scene.refresh(&refresh, &[]).await);
    assert_eq!(scene.sees(&access).await, 200);
    scene.home.wait(90 * DAY);
    assert_eq!(error(&scene.refresh(&refresh, &[]).await), "invalid_grant", "the leave is over");
}

#[tokio::test]
async fn a_leave_that_ends_takes_its_tokens_along_and_a_client_its_leaves() {
    let scene = Scene::new().await;
    let home = &scene.home;
    let (access, refresh) = scene.tokens().await;
    let mine = home.call(&scene.mia, "GET /api/v1/me/apps", None).await.json();
    let line = format!("DELETE /api/v1/me/apps/{}", mine["apps"][0]["id"].as_str().unwrap());
    assert_eq!(home.call(&scene.mia, &line, None).await.status, 204);
    assert_eq!((scene.sees(&access).await, error(&scene.refresh(&refresh, &[]).await)), (401, "invalid_grant".into()));
    let (access, refresh) = scene.tokens().await;
    let code = scene.code().await;
    let line = format!("DELETE /api/v1/oauth/clients/{}", scene.client);
    assert_eq!(home.call(&scene.mia, &line, None).await.status, 403);
    assert_eq!(home.call(&home.owner, &line, None).await.status, 204);
    assert_eq!(scene.sees(&access).await, 401);
    assert_eq!(error(&scene.refresh(&refresh, &[]).await), "invalid_client");
    assert_eq!(error(&scene.exchange(&code).await), "invalid_client");
    assert_eq!(scene.authorize(&[]).await.status, 422);
}

#[tokio::test]
async fn an_app_ends_its_own_tokens_and_nobody_elses() {
    let scene = Scene::new().await;
    let other = Scene::register(&scene.home, "Other", CALLBACK).await;
    let (access, refresh) = scene.tokens().await;
    let revoke = async |token: &str, client: &str| scene.form("/oauth/revoke", &[("token", token), ("client_id", client)]).await;
    assert_eq!(error(&revoke(&access, &other).await), "unauthorized_client");
    assert_eq!(error(&revoke(&refresh, &other).await), "unauthorized_client");
    assert_eq!(revoke("hka1.nothing", &scene.client).await.status, 200);
    assert_eq!(scene.sees(&access).await, 200);
    assert_eq!(revoke(&access, &scene.client).await.status, 200);
    assert_eq!(scene.sees(&access).await, 401);
    let (access, refresh) = pair(&scene.refresh(&refresh, &[]).await);
    assert_eq!(revoke(&refresh, &scene.client).await.status, 200);
    assert_eq!(scene.sees(&access).await, 401);
    assert_eq!(error(&scene.refresh(&refresh, &[]).await), "invalid_grant");
}

#[tokio::test]
async fn the_token_endpoint_speaks_as_the_standard_says() {
    let scene = Scene::new().await;
    let grant = |value: &'static str| scene.form("/oauth/token", std::slice::from_ref(Box::leak(Box::new(("grant_type", value)))));
    assert_eq!(error(&grant("password").await), "unsupported_grant_type");
    assert_eq!(error(&grant("authorization_code").await), "invalid_request");
    assert_eq!(error(&grant("").await), "invalid_request");
    let twice = [("grant_type", "refresh_token"), ("grant_type", "authorization_code")];
    assert_eq!(error(&scene.form("/oauth/token", &twice).await), "invalid_request");
    let json = scene.home.ask("POST /oauth/token", &[("content-type", "application/json")], b"{}").await;
    assert_eq!(json.status, 415);
    let page = [("content-type", "application/x-www-form-urlencoded"), ("origin", "https://app.example")];
    let foreign = scene.home.ask("POST /oauth/token", &page, b"grant_type=x").await;
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (403, None));
    let metadata = scene.home.ask("GET /.well-known/oauth-authorization-server", &[], b"").await.json();
    assert_eq!(metadata["issuer"], format!("https://{HOST}"));
    assert_eq!(metadata["token_endpoint"], format!("https://{HOST}/oauth/token"));
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    for uri in ["http://app.example/cb", "javascript:alert(1)", "https://app.example/#x", "app:/x"] {
        let body = json!({"name": "x", "redirect_uris": [uri]});
        assert_eq!(scene.home.call(&scene.home.owner, "POST /api/v1/oauth/clients", Some(body)).await.status, 422, "{uri}");
    }
}

#[tokio::test]
async fn who_asks_too_often_at_the_open_doors_has_to_wait() {
    let scene = Scene::new().await;
    let mut last = 0;
    for _ in 0..200 {
        last = scene.exchange("hkc1.guess").await.status;
        if last == 429 {
            break;
        }
    }
    assert_eq!(last, 429);
    assert_eq!(scene.authorize(&[]).await.status, 429);
    // People at the same address still sign in.
    let body = json!({"username": "mia", "password": super::PASSWORD}).to_string();
    let opened = scene.home.ask("POST /api/v1/sessions", &[("content-type", "application/json")], body.as_bytes()).await;
    assert_eq!(opened.status, 201);
}

#[tokio::test]
async fn a_strangers_guesses_at_the_token_endpoint_write_nothing() {
    let scene = Scene::new().await;
    let home = &scene.home;
    // What was put in the queue before is done when this is; the number of jobs that were not its own.
    let (mut fences, store) = (0, home.store.clone());
    let mut jobs = async || {
        fences += 1;
        store.write::<_, StoreError, _>(|_| Ok(())).await.unwrap();
        store.write_counts().0 - fences
    };
    let told = || {
        let entries = home.service.audit(&home.actor(&home.owner), None, 100).unwrap();
        entries.into_iter().filter(|e| e.event.action == "app.token").count()
    };
    // Who knows no app is told so, and that is all: the audit is not a stranger's to fill.
    let before = jobs().await;
    let nobody = "0123456789abcdef0123456789abcdef";
    for _ in 0..5 {
        assert_eq!(error(&scene.exchange_with("hkc1.guess", nobody, CALLBACK, VERIFIER).await), "invalid_client");
    }
    assert_eq!((jobs().await, told()), (before, 0));
    // Who knows one is in the audit once, and counted from then on.
    assert_eq!(error(&scene.exchange("hkc1.guess").await), "invalid_grant");
    while told() == 0 {
        tokio::task::yield_now().await;
    }
    let before = jobs().await;
    for n in 0..5 {
        assert_eq!(error(&scene.exchange(&format!("hkc1.guess{n}")).await), "invalid_grant");
        assert_eq!(error(&scene.refresh(&format!("hkr1.guess{n}"), &[]).await), "invalid_grant");
        for token in ["hka1.guess", "hkr1.guess", "guess"] {
            let revoked = scene.form("/oauth/revoke", &[("token", token), ("client_id", &scene.client)]).await;
            assert_eq!(revoked.status, 200, "{token}");
        }
    }
    while told() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!((jobs().await, told()), (before + 1, 2), "one more: guesses at refresh tokens are told apart");
}
