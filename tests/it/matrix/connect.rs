//! The lines of CONNECT: who comes in, who does not, and with which code.

use super::scene::{HERE, HOUR, LISTED, house};
use super::table;
use crate::house::{Device, House};
use crate::{apps, listed, remotes, support};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::service::{Actor, Grant, Recipient, SessionToken};
use hearthkey::sim::mqtt::{Client, ConnectOptions};
use hearthkey::sim::tls::Trust;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::Command;

/// User names and passwords, by the words of the matrix.
type Logins = BTreeMap<&'static str, (String, String)>;

async fn call(house: &House, method: &str, path: &str) {
    let (status, answer) = house.http(method, path, &house.owner_token, None).await;
    assert!((200..300).contains(&status), "{method} {path}: {answer}");
}

/// People whose way in is over, and one whose right is.
async fn people(house: &House, logins: &mut Logins) {
    logins.insert("person with a wrong token", ("user:olivia".into(), format!("hkt1.{}", "A".repeat(43))));
    logins.insert("person with the token of another", ("user:max".into(), house.owner_token.clone()));
    logins.insert("person with a password", ("user:olivia".into(), "correct horse battery".into()));
    let (gone, token) = house.person("gone", Role::Member).await;
    house.hub.service().sign_out(&gone, &SessionToken::new(&token)).await.unwrap();
    logins.insert("person who has signed out", ("user:gone".into(), token));
    let (ended, token) = house.person("ended", Role::Member).await;
    house.hub.service().end_user(&house.owner, ended.user().unwrap(), true).await.unwrap();
    logins.insert("person whose account has ended", ("user:ended".into(), token));
}

async fn programs(house: &House, lamp: &Device, logins: &mut Logins) {
    let make = async |person: &str| {
        let (id, token) = apps::token(house, person, lamp, "view").await;
        (format!("app:{id}"), token)
    };
    let (app, other) = (make(&house.owner_token).await, make(&house.owner_token).await);
    logins.insert("person with the token of their app", ("user:olivia".into(), app.1.clone()));
    logins.insert("app with the token of another app", (app.0.clone(), other.1));
    logins.insert("app with the token of its person", (app.0.clone(), house.owner_token.clone()));
    logins.insert("unknown app", (format!("app:{}", "0".repeat(32)), app.1.clone()));
    logins.insert("app with its token", app);
    let (id, token) = make(&house.owner_token).await;
    call(house, "DELETE", &format!("/me/apps/{}", id.strip_prefix("app:").unwrap())).await;
    logins.insert("app that was ended", (id, token));
    let (mia, token) = house.person("mia", Role::Member).await;
    bind(house, lamp, "mia", Terms::of(Privilege::View)).await;
    logins.insert("app of who became a guest", make(&token).await);
    let path = format!("/users/{}", mia.user().unwrap());
    assert_eq!(house.http("PATCH", &path, &house.owner_token, Some(json!({"role": "guest"}))).await.0, 200);

    let make = async |source: &str, networks: &[&str]| {
        let (id, secret) = listed::service(house, networks).await;
        let token = listed::token(house, source, &id, &secret).await.unwrap();
        (id.clone(), (format!("service:{id}"), token), secret)
    };
    let ((_, one, secret), (_, two, _)) = (make(HERE, &[LISTED]).await, make(HERE, &[LISTED]).await);
    logins.insert("service with the token of another", (one.0.clone(), two.1));
    logins.insert("service with its secret", (one.0.clone(), secret));
    logins.insert("unknown service", (format!("service:{}", "0".repeat(32)), one.1.clone()));
    logins.insert("service with its token", one);
    logins.insert("service from a network that is not listed", make("127.0.0.2", &["127.0.0.2"]).await.1);
    let (id, login, _) = make(HERE, &[LISTED]).await;
    call(house, "DELETE", &format!("/services/{id}")).await;
    logins.insert("service that was ended", login);
}

async fn makers(house: &House, lamp: &Device, logins: &mut Logins) {
    for (word, name) in [
        ("maker's person in a support session", "sam"),
        ("maker's person without a support session", "oscar"),
        ("maker's person from a network that is not listed", "nils"),
    ] {
        let (id, token) = support::vendor(house, name, "support", "acme").await;
        if name != "oscar" {
            support::opened(house, name, &[lamp], "view").await;
        }
        if name == "nils" {
            let elsewhere = json!({"networks": ["127.0.0.2"]});
            assert_eq!(house.http("PATCH", &format!("/users/{id}"), &house.owner_token, Some(elsewhere)).await.0, 200);
        }
        logins.insert(word, (format!("user:{name}"), token));
    }
}

/// What was given for a time that is over when this returns.
async fn over(house: &House, lamp: &Device, logins: &mut Logins, pass: impl FnOnce(u64)) {
    let now = house.hub.service().now();
    let (_, token) = house.person("emil", Role::Guest).await;
    bind(house, lamp, "emil", Terms { until: Some(now + HOUR), ..Terms::of(Privilege::View) }).await;
    logins.insert("person whose right is over", ("user:emil".into(), token));
    let body = json!({"name": "Dashboard", "devices": [{"id": lamp.id}], "expires_in_ms": HOUR});
    let (status, made) = house.http("POST", "/me/tokens", &house.owner_token, Some(body)).await;
    assert_eq!(status, 201, "{made}");
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    logins.insert("app whose time is over", (format!("app:{}", text("id")), text("token")));
    let (id, secret) = listed::service(house, &[LISTED]).await;
    let token = listed::token(house, HERE, &id, &secret).await.unwrap();
    logins.insert("service with a token that nobody used", (format!("service:{id}"), token));
    let (_, token) = support::vendor(house, "ida", "support", "acme").await;
    support::opened(house, "ida", &[lamp], "view").await;
    logins.insert("maker's person with a session that nobody used", ("user:ida".into(), token));
    pass(2 * HOUR);
}

async fn bind(house: &House, device: &Device, name: &str, terms: Terms) {
    let grant = Grant { to: Recipient::Person(name.into()), terms };
    house.hub.service().grant(&house.owner, &device.id, grant).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_come_in_is_told_so_with_the_code_that_stands_in_the_matrix() {
    let (house, clock) = house().await;
    let ((device, secret), (remote, remote_secret)) =
        (remotes::ready(&house, "lamp", "Lamp").await, remotes::ready(&house, "lamp", "Remote").await);
    let owner: &Actor = &house.owner;
    let grant = Grant { to: Recipient::Device(remote.id.clone()), terms: Terms::of(Privilege::Operate) };
    house.hub.service().grant(owner, &device.id, grant).await.unwrap();
    let mut logins = Logins::new();
    over(&house, &device, &mut logins, |ms| clock.pass(ms)).await;
    people(&house, &mut logins).await;
    programs(&house, &device, &mut logins).await;
    makers(&house, &device, &mut logins).await;

    let other = house.device("lamp").await;
    let (suspended, suspended_secret) = remotes::ready(&house, "lamp", "Suspended").await;
    house.hub.service().suspend(owner, &suspended.id, true).await.unwrap();
    house.person("max", Role::Member).await;
    let used = device.keys.token(50, &[1; 16], &[]);
    let (stream, _) = house.dial(Trust::Plain).await;
    Client::connect(stream, &ConnectOptions::new("x").credentials(device.id.as_str(), used.as_str())).await.unwrap();
    let mut wrong_secret = secret.clone();
    let last = if wrong_secret.pop() == Some('A') { 'Q' } else { 'A' };
    wrong_secret.push(last);
    let port = house.hub.addresses.mqtt.unwrap().port().to_string();
    let d = device.id.as_str();
    let mut nonce = 10;
    for line in table::lines().filter(|l| l.first() == Some(&"connect")) {
        for (version, code) in [("5", line[2]), ("311", line[3])] {
            // Whoever guesses in the device's name does not keep the device out.
            house.connect(&ConnectOptions::new("x").credentials(d, secret.as_str())).await.unwrap();
            nonce += 1;
            let token = |device: &Device, counter: u64, spki: &[u8]| device.keys.token(counter, &[nonce; 16], spki);
            let login: Option<(String, String)> = match line[1] {
                "anonymous" => None,
                "unknown device" => Some(("lamp-000000000000".into(), token(&device, 60, &[]))),
                "wrong secret" => Some((d.into(), wrong_secret.clone())),
                "secret of another" => Some((other.id.to_string(), secret.clone())),
                "token of another" => Some((d.into(), token(&other, 60, &[]))),
                "token for another hub key" => Some((d.into(), token(&device, 60, &[9; 32]))),
                "token again" => Some((d.into(), used.clone())),
                "remote with the name of what it is bound to" => Some((d.into(), remote_secret.clone())),
                "suspended with its secret" => Some((suspended.id.to_string(), suspended_secret.clone())),
                "suspended with a token" => Some((suspended.id.to_string(), token(&suspended, 60, &[]))),
                "suspended with a wrong secret" => Some((suspended.id.to_string(), secret.clone())),
                other => Some(logins.get(other).unwrap_or_else(|| panic!("nobody knows how to be: {other}")).clone()),
            };
            let mut command = Command::new("mosquitto_pub");
            command.args(["-h", HERE, "-p", &port, "-V", version, "-d", "-i", "x", "-t", "things/x/y", "-m", "m"]);
            if let Some((user, password)) = &login {
                command.args(["-u", user, "-P", password]);
            }
            let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            let number = code.strip_prefix("0x").map_or_else(|| code.parse(), |hex| u8::from_str_radix(hex, 16)).unwrap();
            assert!(said.contains(&format!("CONNACK ({number})")), "{} over {version}: expected {code}, was: {said}", line[1]);
        }
    }
}
