//! People and what may happen at the same time: a password that changes while it is being checked, an account that ends
//! while it acts, sessions that end one by one. Hashing gives every such race its place: a use case that has been asked
//! once waits for it.

use crate::house::{HERE, House};
use futures_util::poll;
use hearthkey::domain::account::Role;
use hearthkey::service::{NewUser, Refusal, SessionToken};
use std::pin::pin;
use zeroize::Zeroizing;

/// As [`House::person`] sets it.
const OLD: &str = "another long password";
const NEW: &str = "a new password of mine";

fn text(password: &str) -> Zeroizing<String> {
    password.to_owned().into()
}

#[tokio::test]
async fn an_owner_who_is_being_ended_leaves_no_new_account_behind() {
    let house = House::new().await;
    let service = house.hub.service();
    let (bad, _) = house.person("otto", Role::Owner).await;
    let new = NewUser { username: "back-door".into(), password: text(OLD), display_name: String::new(), role: Role::Owner };
    let mut adding = pin!(service.add_user(&bad, new));
    assert!(poll!(&mut adding).is_pending(), "the password is being hashed");
    service.end_user(&house.owner, bad.user().unwrap(), true).await.unwrap();
    assert!(matches!(adding.await, Err(Refusal::SignedOut)));
    let all = service.users(&house.owner).unwrap();
    assert_eq!(all.iter().map(|u| u.username.as_str()).collect::<Vec<_>>(), ["olivia"]);
    assert!(matches!(service.users(&bad), Err(Refusal::SignedOut)));
    assert!(matches!(service.audit(&bad, None, 10), Err(Refusal::SignedOut)));
}

#[tokio::test]
async fn an_old_password_opens_nothing_once_it_has_changed() {
    let house = House::new().await;
    let service = house.hub.service();
    let (mia, token) = house.person("mia", Role::Member).await;
    let mut thief = pin!(service.sign_in_person("mia", text(OLD), HERE, "test"));
    assert!(poll!(&mut thief).is_pending(), "the old password is being checked");
    service.change_password(&mia, &SessionToken::new(&token), text(OLD), text(NEW)).await.unwrap();
    assert!(matches!(thief.await, Err(Refusal::WrongPassword)));
    service.sign_in_person("mia", text(NEW), HERE, "test").await.unwrap();
}

#[tokio::test]
async fn of_two_changes_of_a_password_the_first_stands() {
    let house = House::new().await;
    let service = house.hub.service();
    let (mia, token) = house.person("mia", Role::Member).await;
    let stolen = service.sign_in_person("mia", text(OLD), HERE, "test").await.unwrap().token;
    let mut thief = pin!(service.change_password(&mia, &stolen, text(OLD), text("the password of a thief")));
    assert!(poll!(&mut thief).is_pending(), "the old password is being checked");
    service.change_password(&mia, &SessionToken::new(&token), text(OLD), text(NEW)).await.unwrap();
    assert!(matches!(thief.await, Err(Refusal::WrongPassword)));
    service.sign_in_person("mia", text(NEW), HERE, "test").await.unwrap();
}

#[tokio::test]
async fn a_session_that_has_ended_changes_no_password() {
    let house = House::new().await;
    let service = house.hub.service();
    let (mia, token) = house.person("mia", Role::Member).await;
    let token = SessionToken::new(&token);
    let mut changing = pin!(service.change_password(&mia, &token, text(OLD), text(NEW)));
    assert!(poll!(&mut changing).is_pending(), "the old password is being checked");
    service.sign_out(&mia, &token).await.unwrap();
    assert!(matches!(changing.await, Err(Refusal::SignedOut)));
    service.sign_in_person("mia", text(OLD), HERE, "test").await.unwrap();
}

#[tokio::test]
async fn signing_out_ends_the_connections_of_that_session_and_no_others() {
    let house = House::new().await;
    let service = house.hub.service();
    let (mia, phone) = house.person("mia", Role::Member).await;
    let tablet = service.sign_in_person("mia", text(OLD), HERE, "test").await.unwrap().token;
    let connect = |id: &str, token: &str| {
        let options = hearthkey::sim::mqtt::ConnectOptions::new(id).credentials("user:mia", token);
        let house = &house;
        async move { house.connect(&options).await }
    };
    let mut on_phone = connect("phone", &phone).await.unwrap();
    let mut on_tablet = connect("tablet", tablet.reveal()).await.unwrap();
    on_phone.ping().await.unwrap();
    let epoch = service.epoch();
    service.sign_out(&mia, &SessionToken::new(&phone)).await.unwrap();
    assert!(on_phone.ping().await.is_err(), "its session has ended");
    on_tablet.ping().await.unwrap();
    assert_eq!(service.epoch(), epoch, "no right has changed");
    assert!(connect("phone", &phone).await.is_err());
}

#[tokio::test]
async fn many_guesses_at_the_same_time_are_few_guesses() {
    let house = House::new().await;
    let service = house.hub.service();
    let guesses = (0..40).map(|n| service.sign_in_person("olivia", text(&format!("a guess, number {n}")), HERE, "test"));
    let answers = futures_util::future::join_all(guesses).await;
    let checked = answers.iter().filter(|a| matches!(a, Err(Refusal::WrongPassword))).count();
    assert!((1..=5).contains(&checked), "{checked}");
    assert!(answers.iter().all(|a| matches!(a, Err(Refusal::WrongPassword | Refusal::TooMany(_)))));
    // None of them was made against the account elsewhere.
    let elsewhere = "10.9.9.9".parse().unwrap();
    service.sign_in_person("olivia", text("correct horse battery"), elsewhere, "test").await.unwrap();
}
