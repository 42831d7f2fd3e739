//! What lies between hub and cloud: authorities, dates, proxies; and a look at a cloud that is not linked.

use super::cloud::{Answer, Cloud, Days};
use super::proxy::Proxy;
use super::{code, house, linked_blindly, until, wish};
use ed25519_dalek::SigningKey;
use hearthkey::hub::BoxClock;
use hearthkey::service::{MirrorPhase, Refusal};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A box whose clock is as the machine's, and which knows that only when it is told.
struct Unsure {
    start: Instant,
    sure: AtomicBool,
}

impl Unsure {
    fn new(sure: bool) -> Arc<Unsure> {
        Arc::new(Unsure { start: Instant::now(), sure: AtomicBool::new(sure) })
    }
}

impl BoxClock for Unsure {
    fn wall_ms(&self) -> u64 {
        super::cloud::now_s() * 1_000
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    fn is_synchronised(&self) -> bool {
        self.sure.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_taken_for_interception_and_nothing_is_sent() {
    let (cloud, other) = (Cloud::start().await, Cloud::start().await);
    let ca_file = other.ca_file.clone();
    let house = linked_blindly(&cloud, None, move |config| config.cloud.ca_file = Some(ca_file)).await;
    let told = until(&house, "a problem", |s| s.problem.is_some()).await;
    assert_eq!((code(&told), told.phase), ("intercepted", MirrorPhase::Failing));
    assert!(cloud.all().is_empty());
}

#[tokio::test]
async fn an_expired_certificate_is_taken_only_while_the_time_is_unknown() {
    let cloud = Cloud::valid(Days(-40, -2)).await;
    let clock = Unsure::new(false);
    let house = linked_blindly(&cloud, Some(clock.clone()), |config| config.clock.trusted = false).await;
    cloud.until("a batch", |s| s.is_sync()).await;
    // From when on the box knows the time, be it from the cloud's own answer, dates count.
    clock.sure.store(true, Ordering::Relaxed);
    house.hub.service().watch_clock().await.unwrap();
    wish(&house);
    let told = until(&house, "a problem", |s| s.problem.is_some()).await;
    assert_eq!(code(&told), "clock", "{told:?}");
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn an_expired_certificate_is_not_taken_by_a_box_that_knows_the_time() {
    for days in [Days(-40, -2), Days(2, 40)] {
        let cloud = Cloud::valid(days).await;
        let house = linked_blindly(&cloud, Some(Unsure::new(true)), |_| {}).await;
        let told = until(&house, "a problem", |s| s.problem.is_some()).await;
        assert_eq!(code(&told), "clock", "{told:?}");
        assert!(cloud.all().is_empty());
    }
}

#[tokio::test]
async fn a_proxy_is_gone_through_and_what_it_wants_is_told() {
    // (what it wants, what it answers, what the hub gives, what the hub makes of it)
    let cases = [
        (None, None, "", ""),
        (Some("Basic aHViOnNlY3JldA=="), None, "hub:secret@", ""),
        (Some("Basic aHViOnNlY3JldA=="), None, "", "proxy"),
        (Some("Basic aHViOnNlY3JldA=="), None, "hub:guess@", "proxy"),
        (None, Some(403), "", "proxy"),
    ];
    for (wants, refuses, gives, expected) in cases {
        let cloud = Cloud::start().await;
        let proxy = Proxy::start(wants, refuses).await;
        let url = format!("http://{gives}{}", proxy.address);
        let house = linked_blindly(&cloud, None, move |config| config.cloud.proxy = Some(url)).await;
        if expected.is_empty() {
            until(&house, "idle through the proxy", |s| s.phase == MirrorPhase::Idle && s.connected).await;
        } else {
            let told = until(&house, "a problem", |s| s.problem.is_some()).await;
            assert_eq!(code(&told), expected, "{wants:?} {refuses:?}: {told:?}");
            assert!(cloud.all().is_empty());
        }
        let asked = proxy.asked.borrow().clone();
        assert!(!asked.is_empty() && asked.iter().all(|to| *to == format!("localhost:{}", cloud.address.port())), "{asked:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_away_is_named_as_what_is_wrong() {
    let cloud = Cloud::start().await;
    let proxy = Proxy::start(None, None).await;
    let url = format!("http://{}", proxy.address);
    drop(proxy);
    let house = linked_blindly(&cloud, None, move |config| config.cloud.proxy = Some(url)).await;
    let told = until(&house, "a problem", |s| s.problem.is_some()).await;
    assert_eq!(code(&told), "proxy", "{told:?}");
}

#[tokio::test]
async fn a_look_shows_what_a_cloud_says_of_itself_and_what_is_none() {
    let cloud = Cloud::start().await;
    let house = house(&cloud, None, |_| {}).await;
    let service = house.hub.service();
    let (view, linked) = service.look_at_cloud(&house.owner, &format!("{}/", cloud.url())).await.unwrap();
    assert_eq!((view.name.as_str(), view.url, linked), ("Test cloud", cloud.url(), false));
    let html = vec![("content-type", "text/html".to_owned())];
    for (answer, expected) in [
        (Answer::Unsigned(200, html, "<h1>Hello".into()), "portal"),
        (Answer::Unsigned(302, Vec::new(), String::new()), "portal"),
        (Answer::Unsigned(200, Vec::new(), "{}".into()), "signature"),
        (Answer::Forged(SigningKey::from_bytes(&[9; 32])), "intercepted"),
        (Answer::Signed(200, json!({"v": 1})), "intercepted"),
        (Answer::Nothing, "unreachable"),
    ] {
        cloud.instead("GET /v1", answer);
        let refused = service.look_at_cloud(&house.owner, &cloud.url()).await.unwrap_err();
        let Refusal::Cloud(problem) = refused else { panic!("{refused:?}") };
        assert_eq!(problem.code, expected, "{problem:?}");
    }
    drop(cloud);
}
