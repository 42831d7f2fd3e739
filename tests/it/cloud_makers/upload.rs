//! Makers upload identities: in parts, as a whole or not at all, by listed programs alone.

use super::rig::{Rig, device_key, line, lines};
use hearthkey::cloud::Scope;
use hearthkey::domain::mirror::wire::Consent;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_it_was_cut_and_counts_as_a_whole() {
    let rig = Rig::start().await;
    let token = rig.token("acme", &[Scope::UploadIdentities, Scope::AssignDevices]).await;
    let hub = rig.hub(1, &[Consent::Devices]).await;
    let all = lines("acme", 0, 3000);
    // Cut in the midst of a line: whole lines stay.
    let cut = all.len() / 2 + 7;
    let part = rig.upload(&token, "first", 0, false, &all[..cut]).await.good();
    let offset = part["offset"].as_u64().unwrap();
    assert!(offset <= cut as u64 && all.as_bytes()[offset as usize - 1] == b'\n', "{part}");
    assert_eq!(part["state"], "receiving");
    // Nobody is told of it.
    let path = format!("/v1/hubs/{}/assignments", hub.id);
    let assign = async |devices: &[&str]| rig.call("POST", &path, &token, json!({"devices": devices})).await;
    assign(&["lamp-000001"]).await.refused(404, "not_found");
    // Where to go on is said, and the bytes in between cannot be left out.
    let shown = rig.call("GET", "/v1/identities/uploads/first", &token, Value::Null).await.good();
    assert_eq!(shown["offset"], offset);
    let refused = rig.upload(&token, "first", offset + 1, true, &all[offset as usize + 1..]).await.refused(409, "offset");
    assert_eq!(refused["offset"], offset);
    let done = rig.upload(&token, "first", offset, true, &all[offset as usize..]).await.good();
    assert_eq!(
        (&done["state"], &done["devices"], &done["known"], &done["lines"]),
        (&json!("complete"), &json!(3000), &json!(0), &json!(3000))
    );
    assert_eq!(rig.upload(&token, "first", 0, true, &all[..]).await.good(), done, "the same again changes nothing");
    assign(&["lamp-000001", "lamp-002999"]).await.good();
    assign(&["lamp-000001", "lamp-003000"]).await.refused(404, "not_found");

    // The same devices once more are known, and one whose key is another is not believed.
    let again = rig.upload(&token, "second", 0, true, lines("acme", 2990, 3010)).await.good();
    assert_eq!((&again["devices"], &again["known"]), (&json!(10), &json!(10)));
    let forged = lines("acme", 4000, 4002) + &line("acme", "lamp-000007", &device_key(8));
    let refused = rig.upload(&token, "third", 0, true, forged).await.refused(409, "identity_conflict");
    assert_eq!(refused["line"], 3);
    assign(&["lamp-004000"]).await.refused(404, "not_found");
    assert_eq!(rig.call("DELETE", "/v1/identities/uploads/third", &token, Value::Null).await.good()["state"], "ended");
    rig.upload(&token, "third", 0, true, lines("acme", 4000, 4001)).await.refused(409, "conflict");

    // What does not hold is refused with its line, and the good ones before it count no more than it does.
    for (bad, code) in [
        (line("acme", "lamp-005001", &device_key(1)).replace("\"lamp\"", "\"heater\""), "invalid"),
        (line("other", "lamp-005001", &device_key(1)), "invalid"),
        ("{\"v\":1}\n".to_owned(), "invalid"),
        ("x".repeat(5000), "invalid"),
    ] {
        let id = format!("bad-{}", bad.len());
        let refused = rig.upload(&token, &id, 0, true, line("acme", "lamp-005000", &device_key(5000)) + &bad).await.refused(422, code);
        assert_eq!(refused["line"], 2, "{refused}");
        rig.call("DELETE", &format!("/v1/identities/uploads/{id}"), &token, Value::Null).await.good();
    }
    assign(&["lamp-005000"]).await.refused(404, "not_found");
    assert!(rig.operator.verify_acts().await.unwrap()[0].entries > 3);
    drop(hub);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_uploads_from_a_listed_network_for_its_own_brand_and_within_its_scopes() {
    let rig = Rig::start().await;
    rig.brand("other").await;
    let account = rig.service("acme", &[Scope::UploadIdentities]).await;
    // Not from elsewhere, whatever a header claims; nor with another secret.
    rig.sign_in_service("127.0.0.2", &account).await.refused(401, "sign_in_refused");
    rig.sign_in_service("127.0.0.1", &(account.0.clone(), "hkcss1.x".into())).await.refused(401, "sign_in_refused");
    let signed_in = rig.sign_in_service("127.0.0.1", &account).await.good();
    assert_eq!((&signed_in["scope"], &signed_in["expires_in"]), (&json!("upload_identities"), &json!(900)));
    let token = signed_in["access_token"].as_str().unwrap();
    let from =
        |source| rig.client_from(source).get(rig.url("/v1/identities/uploads")).bearer_auth(token).header("x-forwarded-for", "127.0.0.1");
    rig.ask(from("127.0.0.1")).await.good();
    rig.ask(from("127.0.0.2")).await.refused(401, "signed_out");
    rig.call("GET", "/v1/fleet", token, Value::Null).await.refused(403, "not_allowed");
    rig.upload(token, "a/b", 0, true, "").await.refused(422, "invalid");
    let request = rig.client_from("127.0.0.1").post(rig.url("/v1/identities?brand=other")).bearer_auth(token).header("upload-id", "x");
    rig.ask(request.body("")).await.refused(403, "not_allowed");

    // What one brand has uploaded, another neither sees nor assigns.
    rig.upload(token, "mine", 0, true, lines("acme", 0, 3)).await.good();
    let other = rig.token("other", &[Scope::UploadIdentities, Scope::AssignDevices]).await;
    rig.call("GET", "/v1/identities/uploads/mine", &other, Value::Null).await.refused(404, "not_found");
    let hub = rig.hub(1, &[]).await;
    let body = json!({"devices": ["lamp-000001"]});
    rig.call("POST", &format!("/v1/hubs/{}/assignments", hub.id), &other, body).await.refused(404, "not_found");

    // When the account ends, its tokens do.
    rig.operator.end_service(&account.0).await.unwrap();
    rig.ask(from("127.0.0.1")).await.refused(401, "signed_out");
    rig.sign_in_service("127.0.0.1", &account).await.refused(401, "sign_in_refused");
    drop(hub);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brand_comes_from_its_workshop_and_keeps_its_root() {
    let rig = Rig::start().await;
    let view = rig.call("GET", "/v1", "", Value::Null).await.good();
    let brand = rig.workshop().brand(&hearthkey::factory::BrandId::parse("acme").unwrap()).unwrap();
    assert_eq!(view["brands"], json!([{"id": "acme", "fingerprint": brand.fingerprint.to_string()}]));
    // Another workshop's brand of the same name is another brand.
    let elsewhere = tempfile::tempdir().unwrap();
    let workshop = hearthkey::factory::Workshop::open(elsewhere.path()).unwrap();
    workshop.new_brand(&brand.id).unwrap();
    workshop.add_model(&brand.id, r#"{"model": "lamp", "title": "Lamp", "version": 2, "kind": "lamp"}"#).unwrap();
    let refused = rig.operator.add_tenant(&elsewhere.path().join("acme")).await.unwrap_err().to_string();
    assert!(refused.contains("another root"), "{refused}");
    // New models of the brand are taken.
    rig.workshop().add_model(&brand.id, r#"{"model": "plug", "title": "Plug", "version": 1, "kind": "plug"}"#).unwrap();
    let tenant = rig.operator.add_tenant(&rig.brand_dir("acme")).await.unwrap();
    assert_eq!(tenant.models, [("lamp".to_owned(), 1), ("plug".to_owned(), 1)]);
    let refused = rig.operator.add_tenant(elsewhere.path()).await.unwrap_err().to_string();
    assert!(refused.contains("brand.json"), "{refused}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_when_it_is_not_used_and_after_half_a_day_in_any_case() {
    let rig = Rig::start().await;
    let account = rig.service("acme", &[Scope::UploadIdentities]).await;
    let sign_in = async || rig.sign_in_service("127.0.0.1", &account).await.good()["access_token"].as_str().unwrap().to_owned();
    let unused = sign_in().await;
    rig.clock.forward(16);
    rig.call("GET", "/v1/identities/uploads", &unused, Value::Null).await.refused(401, "signed_out");
    let used = sign_in().await;
    let mut minutes = 0;
    while minutes + 13 < 12 * 60 {
        rig.clock.forward(13);
        minutes += 13;
        rig.call("GET", "/v1/identities/uploads", &used, Value::Null).await.good();
    }
    rig.clock.forward(13);
    rig.call("GET", "/v1/identities/uploads", &used, Value::Null).await.refused(401, "signed_out");
    rig.stop().await;
}
