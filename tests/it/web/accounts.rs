//! Passwords, recovery, the second factor, sessions, roles, and one's own data, as calls.

use super::{Answer, HERE, Home, PASSWORD, request};
use futures_util::future::join;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::service::{Grant, Recipient, Refusal};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use totp_rs::{Algorithm, TOTP};

const NEW: &str = "a quite different phrase";
const ELSEWHERE: &str = "10.0.0.66";
const DAY_MS: u64 = 24 * 3600 * 1000;

/// A call of somebody who is not signed in.
async fn open(home: &Home, ip: &str, line: &str, body: Value) -> Answer {
    let headers = [("content-type", "application/json"), ("user-agent", "Tablet\u{9}of the \u{fc}kitchen")];
    home.send_from(ip, &request(line, &headers, body.to_string().as_bytes())).await
}

async fn sign_in(home: &Home, ip: &str, name: &str, password: &str, second: Option<&str>) -> Answer {
    let mut body = json!({"username": name, "password": password});
    if let Some(second) = second {
        body["second_factor"] = second.into();
    }
    open(home, ip, "POST /api/v1/sessions", body).await
}

async fn reset(home: &Home, code: &str, password: &str) -> Answer {
    open(home, HERE, "POST /api/v1/passwords/reset", json!({"code": code, "password": password})).await
}

fn user_id(home: &Home, name: &str) -> String {
    let all = home.service.users(&home.actor(&home.owner)).unwrap();
    all.into_iter().find(|u| u.username == name).unwrap().id.to_string()
}

async fn reset_code(home: &Home, id: &str) -> String {
    let made = home.call(&home.owner, &format!("POST /api/v1/users/{id}/reset"), None).await;
    assert_eq!(made.status, 201);
    made.json()["code"].as_str().unwrap().to_owned()
}

fn tick(home: &Home, ms: u64) {
    home.clock.0.fetch_add(ms, Ordering::Relaxed);
}

/// An authenticator app.
struct App(TOTP);

impl App {
    fn code(&self, home: &Home) -> String {
        self.0.generate(home.service.now() / 1000)
    }
}

/// Begins and confirms a second factor; its app and its recovery codes.
async fn second_factor(home: &Home, token: &str) -> (App, Vec<String>) {
    let begun = home.call(token, "POST /api/v1/me/second-factor", Some(json!({"password": PASSWORD}))).await;
    assert_eq!(begun.status, 201);
    let begun = begun.json();
    assert!(begun["uri"].as_str().unwrap().contains(begun["secret"].as_str().unwrap()) && begun["qr"].as_str().unwrap().contains("<svg"));
    let secret = data_encoding::BASE32_NOPAD.decode(begun["secret"].as_str().unwrap().as_bytes()).unwrap();
    let app = App(TOTP::new_unchecked(Algorithm::SHA1, 6, 0, 30, secret));
    let set = home.call(token, "PUT /api/v1/me/second-factor", Some(json!({"code": app.code(home)}))).await;
    assert_eq!(set.status, 200);
    let codes = set.json()["recovery_codes"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().to_owned()).collect();
    tick(home, 30_000);
    (app, codes)
}

#[tokio::test]
async fn a_password_that_is_easy_to_guess_is_named_so_and_taken_nowhere() {
    let home = Home::new().await;
    let check = async |body: Value| open(&home, HERE, "POST /api/v1/passwords/check", body).await.json();
    let weak = check(json!({"password": "password1", "username": "mia"})).await;
    assert_eq!(weak["acceptable"], false);
    assert!(weak["score"].as_u64().unwrap() < 2 && !weak["warning"].as_str().unwrap().is_empty());
    assert_eq!(check(json!({"password": NEW})).await["acceptable"], true);
    assert_eq!(check(json!({"password": "short"})).await["acceptable"], false);
    assert_eq!(check(json!({"password": "annemarie-von-und-zu", "username": "Annemarie-von-und-zu"})).await["acceptable"], false);
    assert_eq!(check(json!({"password": "x".repeat(50_000)})).await["acceptable"], false);

    let add = json!({"username": "mia", "password": "password1", "role": "guest"});
    let refused = home.call(&home.owner, "POST /api/v1/users", Some(add)).await;
    assert_eq!(refused.problem().0, 422);
    assert!(refused.json()["detail"].as_str().unwrap().contains("too easy to guess"));
    let mia = home.person("mia", Role::Member).await;
    let change = json!({"current": PASSWORD, "new": "qwertyuiop"});
    assert_eq!(home.call(&mia, "PUT /api/v1/me/password", Some(change)).await.status, 422);
    let code = reset_code(&home, &user_id(&home, "mia")).await;
    assert_eq!(reset(&home, &code, "12345678").await.status, 422);
    // The code has not served yet.
    assert_eq!(reset(&home, &code, NEW).await.status, 204);
}

#[tokio::test]
async fn looking_at_passwords_is_limited_and_keeps_nobody_from_signing_in() {
    let home = Home::new().await;
    let mut answers = Vec::new();
    for _ in 0..130 {
        answers.push(open(&home, HERE, "POST /api/v1/passwords/check", json!({"password": "x"})).await.status);
    }
    assert!(answers.contains(&429));
    assert_eq!(sign_in(&home, HERE, "olivia", PASSWORD, None).await.status, 201);
}

#[tokio::test]
async fn an_owners_code_sets_a_new_password_once_within_a_day_and_ends_every_session() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Member).await;
    let id = user_id(&home, "mia");
    let made = home.call(&home.owner, &format!("POST /api/v1/users/{id}/reset"), None).await.json();
    let first = made["code"].as_str().unwrap();
    assert_eq!(made["link"], format!("https://{}/#/reset/{first}", super::HOST));
    assert_eq!(made["expires"], home.service.now() + DAY_MS);
    assert!(made["qr"].as_str().unwrap().contains("<svg"));
    let second = reset_code(&home, &id).await;
    assert_eq!(reset(&home, first, NEW).await.problem(), (401, "sign_in_refused".into()), "a newer one replaced it");
    assert_eq!(home.call(&mia, "GET /api/v1/me", None).await.status, 200);
    assert_eq!(reset(&home, &second.to_lowercase().replace('-', " "), NEW).await.status, 204);
    assert_eq!(home.call(&mia, "GET /api/v1/me", None).await.status, 401);
    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, None).await.status, 401);
    assert_eq!(sign_in(&home, HERE, "mia", NEW, None).await.status, 201);
    assert_eq!(reset(&home, &second, "yet another phrase").await.status, 401, "it served");

    let late = reset_code(&home, &id).await;
    tick(&home, DAY_MS);
    assert_eq!(reset(&home, &late, "yet another phrase").await.status, 401, "it is over");
    let owner = sign_in(&home, HERE, "olivia", PASSWORD, None).await.json()["token"].as_str().unwrap().to_owned();
    let audit = home.call(&owner, "GET /api/v1/audit?limit=500", None).await;
    let text = String::from_utf8(audit.body).unwrap();
    for secret in [first, &second, &late, NEW] {
        assert!(!text.contains(secret));
    }
    assert!(text.contains("password.reset_code") && text.contains("\"reset_code\""));
}

#[tokio::test]
async fn of_two_who_use_one_code_at_the_same_time_one_sets_the_password() {
    let home = Home::new().await;
    home.person("mia", Role::Member).await;
    let code = reset_code(&home, &user_id(&home, "mia")).await;
    let (one, other) = join(reset(&home, &code, NEW), reset(&home, &code, "the words of somebody else")).await;
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 401]);
    let (mine, theirs) =
        (sign_in(&home, HERE, "mia", NEW, None).await.status, sign_in(&home, HERE, "mia", "the words of somebody else", None).await.status);
    assert_eq!((mine == 201, theirs == 201), (one.status == 204, other.status == 204));
}

#[tokio::test]
async fn a_code_dies_with_its_account_with_its_makers_role_and_with_a_change_of_the_password() {
    let home = Home::new().await;
    for name in ["mia", "max", "gus"] {
        home.person(name, Role::Member).await;
    }
    let otto = home.person("otto", Role::Owner).await;
    let ended = reset_code(&home, &user_id(&home, "mia")).await;
    home.service.end_user(&home.actor(&home.owner), home_id(&home, "mia").user().unwrap(), true).await.unwrap();
    assert_eq!(reset(&home, &ended, NEW).await.status, 401);

    let by_otto = home.service.make_reset_code(&home.actor(&otto), home_id(&home, "max").user().unwrap()).await.unwrap().code;
    let demote = format!("PATCH /api/v1/users/{}", user_id(&home, "otto"));
    assert_eq!(home.call(&home.owner, &demote, Some(json!({"role": "member"}))).await.json()["role"], "member");
    assert_eq!(reset(&home, &by_otto, NEW).await.status, 401);
    // Not either when its maker is an owner again.
    assert_eq!(home.call(&home.owner, &demote, Some(json!({"role": "owner"}))).await.json()["role"], "owner");
    assert_eq!(reset(&home, &by_otto, NEW).await.status, 401);

    let stolen = reset_code(&home, &user_id(&home, "gus")).await;
    let gus = sign_in(&home, HERE, "gus", PASSWORD, None).await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(home.call(&gus, "PUT /api/v1/me/password", Some(json!({"current": PASSWORD, "new": NEW}))).await.status, 204);
    assert_eq!(reset(&home, &stolen, "the words of a thief").await.status, 401);
}

fn home_id(home: &Home, name: &str) -> hearthkey::domain::binding::Subject {
    hearthkey::domain::binding::Subject::parse(&format!("user:{}", user_id(home, name))).unwrap()
}

#[tokio::test]
async fn only_an_owner_makes_a_reset_code_and_not_for_oneself() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Member).await;
    let (own, hers) = (user_id(&home, "olivia"), user_id(&home, "mia"));
    assert_eq!(home.call(&mia, &format!("POST /api/v1/users/{own}/reset"), None).await.status, 403);
    assert_eq!(home.call(&home.owner, &format!("POST /api/v1/users/{own}/reset"), None).await.status, 409);
    assert_eq!(home.call(&home.owner, &format!("POST /api/v1/users/{}/reset", "0".repeat(32)), None).await.status, 404);
    assert_eq!(home.call(&mia, &format!("DELETE /api/v1/users/{hers}/sessions"), None).await.status, 403);
    assert_eq!(home.call(&mia, &format!("PATCH /api/v1/users/{hers}"), Some(json!({"role": "owner"}))).await.status, 403);
    let password = json!({"password": PASSWORD});
    assert_eq!(home.call(&mia, "POST /api/v1/me/recovery-code", Some(password)).await.status, 403);
    assert_eq!(home.call(&home.owner, "POST /api/v1/me/recovery-code", Some(json!({"password": "wrong wrong"}))).await.status, 422);
}

#[tokio::test]
async fn an_owners_recovery_code_lets_back_in_past_the_second_factor_once() {
    let home = Home::new().await;
    second_factor(&home, &home.owner).await;
    let make = async || {
        let made = home.call(&home.owner, "POST /api/v1/me/recovery-code", Some(json!({"password": PASSWORD}))).await;
        assert_eq!(made.status, 201);
        made.json()["code"].as_str().unwrap().to_owned()
    };
    let (old, code) = (make().await, make().await);
    tick(&home, 400 * DAY_MS);
    assert_eq!(reset(&home, &old, NEW).await.status, 401, "replaced");
    assert_eq!(reset(&home, &code, NEW).await.status, 204);
    assert_eq!(reset(&home, &code, "once more with feeling").await.status, 401);
    assert_eq!(sign_in(&home, HERE, "olivia", NEW, None).await.status, 201, "no second factor any more");
}

#[tokio::test]
async fn an_owners_code_for_somebody_leaves_the_second_factor() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Member).await;
    let (app, _) = second_factor(&home, &mia).await;
    let code = reset_code(&home, &user_id(&home, "mia")).await;
    assert_eq!(reset(&home, &code, NEW).await.status, 204);
    assert_eq!(sign_in(&home, HERE, "mia", NEW, None).await.problem(), (401, "second_factor_required".into()));
    assert_eq!(sign_in(&home, HERE, "mia", NEW, Some(&app.code(&home))).await.status, 201);
}

#[tokio::test]
async fn a_second_factor_is_asked_for_after_the_password_and_each_code_serves_once() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Member).await;
    let begun = home.call(&mia, "POST /api/v1/me/second-factor", Some(json!({"password": PASSWORD}))).await;
    assert_eq!(begun.status, 201);
    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, None).await.status, 201, "begun is not in force");
    let (app, recovery) = second_factor(&home, &mia).await;
    assert_eq!(recovery.len(), 10);
    // A wrong password is told nothing of a second factor, whatever comes with it.
    for second in [None, Some("000000")] {
        assert_eq!(sign_in(&home, HERE, "mia", "wrong wrong wrong", second).await.problem().1, "sign_in_refused");
    }
    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, None).await.problem(), (401, "second_factor_required".into()));
    let code = app.code(&home);
    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, Some(&code)).await.status, 201);
    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, Some(&code)).await.problem(), (401, "sign_in_refused".into()), "replayed");
    // One second-hand code is not made better by waiting for the next step.
    tick(&home, 30_000);
    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, Some(&code)).await.status, 401);
    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, Some(&app.code(&home))).await.status, 201);

    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, Some(&recovery[0].to_lowercase())).await.status, 201);
    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, Some(&recovery[0])).await.status, 401, "used");
    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, Some(&recovery[1])).await.status, 201);

    let again = home.call(&mia, "POST /api/v1/me/second-factor", Some(json!({"password": PASSWORD}))).await;
    assert_eq!(again.status, 409);
    assert_eq!(home.call(&mia, "DELETE /api/v1/me/second-factor", Some(json!({"password": "wrong wrong"}))).await.status, 422);
    assert_eq!(home.call(&mia, "DELETE /api/v1/me/second-factor", Some(json!({"password": PASSWORD}))).await.status, 204);
    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, None).await.status, 201);
}

#[tokio::test]
async fn of_two_sign_ins_with_one_code_at_the_same_time_one_is_let_in() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Member).await;
    let (app, recovery) = second_factor(&home, &mia).await;
    for code in [app.code(&home), recovery[0].clone()] {
        let both = join(sign_in(&home, HERE, "mia", PASSWORD, Some(&code)), sign_in(&home, ELSEWHERE, "mia", PASSWORD, Some(&code))).await;
        let mut statuses = [both.0.status, both.1.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 401]);
    }
}

#[tokio::test]
async fn who_knows_the_password_gets_few_guesses_at_the_second_factor_and_locks_nobody_out() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Member).await;
    let (app, _) = second_factor(&home, &mia).await;
    let mut answers = Vec::new();
    for n in 0..20 {
        // Asking without one in between does not make the guesses fresh.
        let guess = format!("{n:06}");
        answers.push(sign_in(&home, ELSEWHERE, "mia", PASSWORD, if n % 2 == 0 { Some(&guess) } else { None }).await.status);
    }
    assert!(answers.iter().filter(|s| **s == 401).count() <= 5, "{answers:?}");
    assert_eq!(answers.last(), Some(&429));
    // Neither with guesses at codes that set a password.
    let mut resets = Vec::new();
    for _ in 0..20 {
        let body = json!({"code": "0000-0000-0000-0000-0000", "password": NEW});
        resets.push(open(&home, ELSEWHERE, "POST /api/v1/passwords/reset", body).await.status);
    }
    assert_eq!(resets.last(), Some(&429));
    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, Some(&app.code(&home))).await.status, 201);
    let code = reset_code(&home, &user_id(&home, "mia")).await;
    assert_eq!(reset(&home, &code, NEW).await.status, 204);
}

#[tokio::test]
async fn sessions_are_listed_and_ended_one_by_one_and_all_at_once() {
    let home = Home::new().await;
    let phone = home.person("mia", Role::Member).await;
    let tablet = sign_in(&home, ELSEWHERE, "mia", PASSWORD, None).await.json()["token"].as_str().unwrap().to_owned();
    tick(&home, 60_000);
    let all = home.call(&phone, "GET /api/v1/me/sessions", None).await.json()["sessions"].as_array().unwrap().clone();
    assert_eq!(all.len(), 2);
    let other = all.iter().find(|s| s["current"] == false).unwrap();
    assert_eq!((&other["source"], other["agent"].as_str().unwrap()), (&ELSEWHERE.into(), "Tabletof the ükitchen"));
    let own = all.iter().find(|s| s["current"] == true).unwrap();
    assert_eq!(own["last_seen"], home.service.now());
    assert!(!all.iter().any(|s| phone.contains(s["id"].as_str().unwrap())));

    let id = other["id"].as_str().unwrap();
    // Not by somebody else, of whom it is not known to exist.
    assert_eq!(home.call(&home.owner, &format!("DELETE /api/v1/me/sessions/{id}"), None).await.status, 404);
    assert_eq!(home.call(&phone, &format!("DELETE /api/v1/me/sessions/{id}"), None).await.status, 204);
    assert_eq!(home.call(&tablet, "GET /api/v1/me", None).await.status, 401);
    assert_eq!(home.call(&phone, &format!("DELETE /api/v1/me/sessions/{id}"), None).await.status, 404);
    assert_eq!(home.call(&home.owner, &format!("DELETE /api/v1/users/{}/sessions", user_id(&home, "mia")), None).await.status, 204);
    assert_eq!(home.call(&phone, "GET /api/v1/me", None).await.status, 401);
}

#[tokio::test]
async fn when_a_session_was_last_used_is_kept_and_written_seldom() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Member).await;
    home.service.sweep_sessions().await.unwrap();
    tick(&home, 7_200_000);
    let writes = || home.service.write_counts().0;
    let before = writes();
    for _ in 0..20 {
        assert_eq!(home.call(&mia, "GET /api/v1/me", None).await.status, 200);
    }
    assert_eq!(writes(), before, "using a session writes nothing");
    home.service.sweep_sessions().await.unwrap();
    assert_eq!(writes(), before + 2, "what is over, and when the others were used");
    home.service.sweep_sessions().await.unwrap();
    assert_eq!(writes(), before + 3, "nothing was used since");
}

#[tokio::test]
async fn the_last_owner_stays_one_and_a_role_that_falls_takes_effect_at_once() {
    let home = Home::new().await;
    let own = format!("PATCH /api/v1/users/{}", user_id(&home, "olivia"));
    assert_eq!(home.call(&home.owner, &own, Some(json!({"role": "member"}))).await.status, 409);
    assert_eq!(home.call(&home.owner, "DELETE /api/v1/me", Some(json!({"password": PASSWORD}))).await.status, 409);
    let otto = home.person("otto", Role::Owner).await;
    let his = format!("PATCH /api/v1/users/{}", user_id(&home, "otto"));
    assert_eq!(home.call(&otto, "GET /api/v1/audit", None).await.status, 200);
    let changed = home.call(&home.owner, &his, Some(json!({"role": "guest", "display_name": " Opa\n Otto "}))).await.json();
    assert_eq!((&changed["role"], &changed["display_name"]), (&"guest".into(), &"Opa Otto".into()));
    assert_eq!(home.call(&otto, "GET /api/v1/audit", None).await.status, 403);
    assert_eq!(home.call(&otto, &own, Some(json!({"role": "member"}))).await.status, 403);
    let renamed = home.call(&otto, "PATCH /api/v1/me", Some(json!({"display_name": ""}))).await.json();
    assert_eq!(renamed["display_name"], "otto");
    assert_eq!(home.call(&otto, "PATCH /api/v1/me", Some(json!({"display_name": "x", "role": "owner"}))).await.status, 422);
}

#[tokio::test]
async fn nobody_of_the_house_becomes_a_makers_and_a_makers_role_stays() {
    let home = Home::new().await;
    home.person("mia", Role::Member).await;
    let vendor = hearthkey::service::Vendor { brand: home.brand.to_string(), networks: vec!["10.0.0.0/24".into()] };
    let new = super::new_user("pat", Role::ProductManager);
    let pat = home.service.add_vendor_person(&home.actor(&home.owner), new, vendor).await.unwrap().id;
    for (id, role) in [(user_id(&home, "mia"), "support"), (pat.to_string(), "developer"), (pat.to_string(), "owner")] {
        let changed = home.call(&home.owner, &format!("PATCH /api/v1/users/{id}"), Some(json!({"role": role}))).await;
        assert_eq!(changed.status, 409, "{role}");
    }
}

#[tokio::test]
async fn a_person_takes_home_what_the_hub_holds_about_them_and_nothing_that_opens_anything() {
    let home = Home::new().await;
    let (mia, max) = (home.person("mia", Role::Member).await, home.person("max", Role::Member).await);
    let (hers, his) = (home.claimed("lamp", &mia).await, home.claimed("lamp", &max).await);
    let grant = |name: &str| Grant { to: Recipient::Person(name.into()), terms: Terms::of(Privilege::View) };
    home.service.grant(&home.actor(&mia), &hers, grant("max")).await.unwrap();
    home.service.grant(&home.actor(&max), &his, grant("olivia")).await.unwrap();
    let answer = home.call(&mia, "GET /api/v1/me/export", None).await;
    assert!(answer.header("content-disposition").unwrap().starts_with("attachment"));
    let data = answer.json();
    assert_eq!((&data["account"]["username"], &data["audit_complete"]), (&"mia".into(), &true.into()));
    let devices = |of: &str| data[of].as_array().unwrap().iter().map(|b| b["device_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!((devices("bindings_held"), devices("bindings_given")), (vec![hers.to_string()], vec![hers.to_string()]));
    let actions: Vec<&str> = data["audit"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert!(actions.contains(&"session.open") && actions.contains(&"user.add") && actions.contains(&"device.claim"), "{actions:?}");
    let text = data.to_string();
    for foreign in [his.as_str(), "argon2", "password_hash"] {
        assert!(!text.contains(foreign), "{foreign}");
    }
}

#[tokio::test]
async fn who_leaves_is_gone_with_everything_personal_in_reach() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Member).await;
    let max = home.person("max", Role::Member).await;
    let lamp = home.claimed("lamp", &mia).await;
    let grant = Grant { to: Recipient::Person("max".into()), terms: Terms::of(Privilege::Administer) };
    home.service.grant(&home.actor(&mia), &lamp, grant).await.unwrap();
    home.call(&mia, "PATCH /api/v1/me", Some(json!({"display_name": "Miriam Muster"}))).await;
    assert_eq!(home.call(&mia, "DELETE /api/v1/me", Some(json!({"password": "wrong wrong"}))).await.status, 422);
    assert_eq!(sign_in(&home, ELSEWHERE, "mia", "wrong wrong wrong", None).await.status, 401);
    assert_eq!(home.call(&mia, "GET /api/v1/me", None).await.status, 200);
    assert_eq!(home.call(&mia, "DELETE /api/v1/me", Some(json!({"password": PASSWORD}))).await.status, 204);
    assert_eq!(home.call(&mia, "GET /api/v1/me", None).await.status, 401);
    assert_eq!(home.call(&max, &format!("GET /api/v1/devices/{lamp}"), None).await.status, 404, "what she gave ended");
    let bindings = home.service.bindings(&home.actor(&home.owner), &lamp);
    assert!(matches!(bindings, Err(Refusal::NotAllowed(_))) || !format!("{bindings:?}").contains("Miriam"));
    let audit = String::from_utf8(home.call(&home.owner, "GET /api/v1/audit?limit=500", None).await.body).unwrap();
    assert!(audit.contains("user.end") && !audit.contains("mia as Member") && !audit.contains("\"?mia\""), "{audit}");
    assert_eq!(sign_in(&home, HERE, "mia", PASSWORD, None).await.status, 401);
    // The name is free again, and leads to nothing of hers.
    let next = home.person("mia", Role::Guest).await;
    let data = home.call(&next, "GET /api/v1/me/export", None).await.json();
    assert!(data["bindings_held"].as_array().unwrap().is_empty() && !data.to_string().contains("Muster"));
    home.service.verify_audit().unwrap();

    let erased = format!("DELETE /api/v1/users/{}?erase=1", user_id(&home, "max"));
    assert_eq!(home.call(&home.owner, &erased, None).await.status, 200);
    let audit = String::from_utf8(home.call(&home.owner, "GET /api/v1/audit?limit=500", None).await.body).unwrap();
    assert!(!audit.contains("max as Member"), "{audit}");
    home.service.verify_audit().unwrap();
}

#[tokio::test]
async fn an_account_that_has_ended_is_erased_later_and_once() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Member).await;
    home.call(&mia, "PATCH /api/v1/me", Some(json!({"display_name": "Miriam Muster"}))).await;
    let lamp = home.claimed("lamp", &home.owner).await;
    home.grant(&lamp, "mia", Terms::of(Privilege::Operate)).await;
    home.token(&mia, json!([{"id": lamp}])).await;
    let id = user_id(&home, "mia");
    let delete = async |who: &str, more: &str| home.call(who, &format!("DELETE /api/v1/users/{id}{more}"), None).await;
    let audit = async || String::from_utf8(home.call(&home.owner, "GET /api/v1/audit?limit=500", None).await.body).unwrap();
    assert_eq!(delete(&home.owner, "").await.status, 200);
    assert_eq!(delete(&home.owner, "").await.status, 404, "it has ended");
    assert!(audit().await.contains("mia as Member"));
    // Somebody else has her name by now: what strangers try at it is not hers alone any more.
    let next = home.person("mia", Role::Member).await;
    assert_eq!(sign_in(&home, ELSEWHERE, "mia", "wrong wrong wrong", None).await.status, 401);
    while !audit().await.contains("\"?mia\"") {
        tokio::task::yield_now().await;
    }
    assert_eq!(delete(&next, "?erase=1").await.status, 403, "only owners");
    let erased = delete(&home.owner, "?erase=1").await;
    assert_eq!((erased.status, &erased.json()["bindings"]), (200, &json!([])));
    let left = home.call(&home.owner, &format!("GET /api/v1/audit?limit=500&object={id}"), None).await.json();
    for entry in left["entries"].as_array().unwrap() {
        assert!(entry["action"] == "audit.erase" || entry["erased"] == true, "{entry}");
    }
    assert!(left["entries"].as_array().unwrap().iter().any(|e| e["action"] == "user.erase"));
    assert!(!audit().await.contains("Muster") && audit().await.contains("\"?mia\""));
    assert_eq!(delete(&home.owner, "?erase=1").await.status, 404, "nothing is left of it");
    assert_eq!(home.call(&next, "GET /api/v1/me", None).await.json()["username"], "mia");
    home.service.verify_audit().unwrap();
}
