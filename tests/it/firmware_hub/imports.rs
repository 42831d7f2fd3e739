//! Taking releases in from files.

use super::{Made, foreign, image};
use crate::house::House;
use hearthkey::domain::account::Role;
use hearthkey::domain::firmware::release::write_head;
use hearthkey::domain::ids::ModelName;
use serde_json::json;
use std::path::PathBuf;

fn images(house: &House) -> Vec<PathBuf> {
    let dir = house.dir.path().join("hub/firmware");
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_release_is_taken_shown_and_taken_again_without_effect() {
    let house = House::new().await;
    let made = Made::new(&house, 1, image(1, 300_000)).await;
    for _ in 0..2 {
        house.taken(&made).await;
    }
    assert_eq!(house.audited("firmware.import").await, 1);
    let (status, shown) = house.call("GET", "/firmware", None).await;
    assert_eq!((status, &shown["cache"]["bytes"], &shown["importing"]), (200, &json!(300_000), &json!(null)));
    let model = &shown["models"][0];
    assert_eq!((&model["brand"], &model["model"], &model["floor"]), (&json!("acme"), &json!("lamp"), &json!(0)));
    assert_eq!(model["policy"], json!({"mode": "ask", "window": null, "percent": 100, "stop": {"after": 3, "percent": 34}, "version": 0}));
    let release = &model["releases"][0];
    for (member, value) in [
        ("rel", json!(1)),
        ("version", json!("1.1.0")),
        ("sha256", json!(made.release.sha256)),
        ("cached", json!(true)),
        ("stopped", json!(false)),
        ("from", json!("file")),
        ("made_at", json!(1_800_000_000_000u64)),
    ] {
        assert_eq!(release[member], value, "{member}");
    }
    let [one] = &images(&house)[..] else { panic!("{:?}", images(&house)) };
    assert_eq!(std::fs::read(one).unwrap(), made.image);
}

#[tokio::test]
async fn what_is_refused_says_why_and_leaves_nothing() {
    let house = House::with(|config| config.firmware.cache_bytes = 1_000_000).await;
    let made = Made::new(&house, 2, image(1, 100_000)).await;
    let good = made.file(&house);
    let untouched = |file: &[u8], at: usize| {
        let mut file = file.to_vec();
        file[at] ^= 1;
        file
    };
    let other_size = made.clone().with(|release| release.size += 1);
    let too_large = Made::new(&house, 3, image(1, 1_000_001)).await;
    let unsigned = {
        let mut head = made.head(&house);
        head.release = made.clone().with(|release| release.rel = 9).release.sign(&ed25519_dalek::SigningKey::from_bytes(&[5; 32]));
        [write_head(&head).unwrap(), made.image.clone()].concat()
    };
    let other_brand = {
        let brand = hearthkey::domain::ids::BrandId::parse("other").unwrap();
        made.clone().with(|release| release.brand = brand).file(&house)
    };
    for (what, file, status, code) in [
        ("another's", foreign(&house, &made), 422, "brand_not_trusted"),
        ("no file", b"hello, this is no release at all".to_vec(), 422, "not_a_release"),
        ("nothing", Vec::new(), 422, "size"),
        ("half a head", good[..50].to_vec(), 422, "size"),
        ("half an image", good[..good.len() - 1].to_vec(), 422, "size"),
        ("more", [good.clone(), vec![0]].concat(), 422, "size"),
        ("shorter than said", other_size.file(&house), 422, "size"),
        ("another image", untouched(&good, good.len() - 1), 422, "hash"),
        ("signed by another", unsigned, 422, "signature"),
        ("of another brand", other_brand, 422, "signature"),
        ("beyond the room", too_large.file(&house), 413, "too_large"),
    ] {
        let (given, answer) = house.upload(&house.owner_token, file).await;
        assert_eq!((given, &answer["code"]), (status, &json!(code)), "{what}: {answer}");
        assert!(answer["detail"].as_str().unwrap().len() > 20, "{what}: {answer}");
    }
    assert_eq!(images(&house), Vec::<PathBuf>::new());
    assert_eq!(house.call("GET", "/firmware", None).await.1["models"], json!([]));
    // The fingerprint that an owner would compare is in the answer.
    let (_, answer) = house.upload(&house.owner_token, foreign(&house, &made)).await;
    assert!(answer["detail"].as_str().unwrap().contains("fingerprint"), "{answer}");
    house.taken(&made).await;
    let again = Made::new(&house, 2, image(2, 100_000)).await;
    let (status, answer) = house.upload(&house.owner_token, again.file(&house)).await;
    assert_eq!((status, &answer["code"]), (409, &json!("conflict")), "the number is used: {answer}");
}

#[tokio::test]
async fn only_who_takes_in_batches_takes_in_releases_and_only_owners_choose_for_a_model() {
    let house = House::new().await;
    let made = Made::new(&house, 1, image(1, 10_000)).await;
    let (_, mia) = house.person("mia", Role::Member).await;
    assert_eq!(house.upload(&mia, made.file(&house)).await.0, 403);
    assert_eq!(house.upload("", made.file(&house)).await.0, 401);
    house.taken(&made).await;
    for (method, path, body) in [
        ("GET", "/firmware", None),
        ("PUT", "/firmware/acme/lamp/policy", Some(json!({"mode": "hold"}))),
        ("POST", "/firmware/acme/lamp/1/resume", None),
        ("DELETE", "/firmware/acme/lamp/1", None),
    ] {
        assert_eq!(house.http(method, path, &mia, body).await.0, 403, "{method} {path}");
    }
    let put = async |body| house.call("PUT", "/firmware/acme/lamp/policy", Some(body)).await.0;
    for wrong in [json!({"percent": 101}), json!({"mode": "often"}), json!({"stop": {"after": 0, "percent": 5}}), json!({"windows": []})] {
        assert_eq!(put(wrong.clone()).await, 422, "{wrong}");
    }
    assert_eq!(put(json!({"mode": "automatic", "window": {"days": ["sun"], "from": "02:00", "to": "04:00"}})).await, 200);
    assert_eq!(house.call("PUT", "/firmware/acme/kettle/policy", Some(json!({}))).await.0, 404);
    for path in ["/firmware/acme/lamp/7/resume", "/firmware/acme/lamp/x/resume"] {
        assert_eq!(house.call("POST", path, None).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn the_least_recently_offered_image_makes_room_and_never_one_that_is_offered() {
    let house = House::with(|config| config.firmware.cache_bytes = 250_000).await;
    house.policy(json!({"mode": "automatic"})).await;
    let (mut lamp, nothing) = house.lamp().await;
    assert_eq!(nothing, json!({}));
    lamp.runs(1).await;
    // For another kind of thing: nobody is offered that.
    let kettle = ModelName::parse("kettle").unwrap();
    let idle = Made::new(&house, 9, image(9, 100_000)).await.with(|release| release.model = kettle);
    house.taken(&idle).await;
    house.taken(&Made::new(&house, 2, image(2, 100_000)).await).await;
    assert_eq!(lamp.offer().await["rel"], 2);
    house.taken(&Made::new(&house, 1, image(1, 100_000)).await).await;
    let cached = async || {
        let (_, shown) = house.call("GET", "/firmware", None).await;
        let mut all = Vec::new();
        for model in shown["models"].as_array().unwrap() {
            for release in model["releases"].as_array().unwrap() {
                if release["cached"] == true {
                    all.push(release["rel"].as_u64().unwrap());
                }
            }
        }
        all.sort_unstable();
        all
    };
    assert_eq!(cached().await, [1, 2], "the kettle's made room");
    assert_eq!(images(&house).len(), 2);
    let large = Made::new(&house, 7, image(7, 200_000)).await.with(|release| release.least_before = 6);
    let (status, answer) = house.upload(&house.owner_token, large.file(&house)).await;
    assert_eq!((status, &answer["code"]), (409, &json!("cache_full")), "{answer}");
    // It comes back when it is brought back.
    house.taken(&Made::new(&house, 3, image(3, 150_000)).await.with(|release| release.least_before = 2)).await;
    assert_eq!(cached().await, [2, 3]);
    let (status, _) = house.call("DELETE", "/firmware/acme/lamp/2", None).await;
    assert_eq!(status, 204);
    assert_eq!(lamp.offer().await, json!({}), "what is not here is not offered");
    assert_eq!(house.firmware_of(&lamp).await["verdict"]["state"], "waits");
    assert_eq!(house.call("DELETE", "/firmware/acme/lamp/2", None).await.0, 404);
}
