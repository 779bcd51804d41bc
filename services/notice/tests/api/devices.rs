//! `registerDevice`, `devices`, `removeDevice`.

use serde_json::{Value, json};
use sosohappy_events::types::{AccountResigned, DeviceTokenSet};
use sosohappy_testkit::push_providers::PushProviders;
use sosohappy_testkit::{Bed, Person, Running, eventually, on_both_engines};

use crate::fleet::{AT_ONCE, DATE, applied, connect, device, kim, lee, like, pushes, replica};

async fn post(notice: &Running, person: &Person, call: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let request = sosohappy_common::tls::client().post(notice.at(&format!("/notice-service/{call}")));
    let answer = person.sign(request).form(form).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn register(notice: &Running, person: &Person, token: &str, language: &str) -> (u16, Value) {
    let form = [("deviceToken", token), ("platform", "ios"), ("language", language)];
    post(notice, person, "registerDevice", &form).await
}

async fn devices(notice: &Running, person: &Person) -> Vec<Value> {
    let request = sosohappy_common::tls::client().get(notice.at("/notice-service/devices"));
    let answer = person.sign(request).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let page: Value = answer.json().await.expect("JSON");
    page["content"].as_array().expect("a list").clone()
}

async fn devices_are_registered_listed_and_removed(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    assert_eq!(devices(&notice, &kim).await, [""; 0]);
    let (status, registered) = register(&notice, &kim, "fcm:phone", "en-US").await;
    assert_eq!(status, 200, "{registered}");
    let id = kim.session.to_string();
    assert_eq!(
        (
            &registered["id"],
            &registered["platform"],
            &registered["language"],
            &registered["current"]
        ),
        (&json!(id), &json!("ios"), &json!("en"), &json!(true))
    );
    let pad = bed.person("kim@example.com+kakao", "kim").await;
    assert_eq!(register(&notice, &pad, "fcm:pad", "ko").await.0, 200);
    let found = devices(&notice, &kim).await;
    let current: Vec<_> = found.iter().map(|device| &device["current"]).collect();
    assert_eq!(current, [&json!(false), &json!(true)]);
    assert_eq!(found[1], registered);

    for form in [
        &[("platform", "ios"), ("language", "ko")][..],
        &[("deviceToken", ""), ("platform", "ios"), ("language", "ko")],
        &[("deviceToken", "with a blank"), ("platform", "ios"), ("language", "ko")],
        &[("deviceToken", "t"), ("platform", "watch"), ("language", "ko")],
        &[
            ("deviceToken", "t"),
            ("platform", "ios"),
            ("language", "Korean, please"),
        ],
    ] {
        assert_eq!(post(&notice, &kim, "registerDevice", form).await.0, 400, "{form:?}");
    }
    let long = "t".repeat(4097);
    assert_eq!(register(&notice, &kim, &long, "ko").await.0, 400);

    let removed = async |person: &Person, form: &[(&str, &str)]| post(&notice, person, "removeDevice", form).await;
    assert_eq!(removed(&lee, &[("id", &id)]).await, (200, json!({ "success": false })));
    assert_eq!(removed(&pad, &[("id", &id)]).await, (200, json!({ "success": true })));
    assert_eq!(removed(&pad, &[]).await, (200, json!({ "success": true })));
    assert_eq!(removed(&pad, &[]).await, (200, json!({ "success": false })));
    assert_eq!(removed(&pad, &[("id", "x")]).await.0, 400);
    assert_eq!(devices(&notice, &kim).await, [""; 0]);
}

/// A sign-out is a list without the session.
async fn sign_out_and_resignation_remove_devices(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let kim = kim(&bed).await;
    assert_eq!(register(&notice, &kim, "fcm:phone", "ko").await.0, 200);
    let pad = bed.person("kim@example.com+kakao", "kim").await;
    assert_eq!(register(&notice, &pad, "fcm:pad", "ko").await.0, 200);
    // Events have whole milliseconds: the sign-out is after the sign-in.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let list = DeviceTokenSet::all(kim.account.clone(), Vec::new()).with_sessions(vec![pad.session]);
    bed.publish(list).await;
    applied(&notice, "deviceToken", 1).await;
    let left = devices(&notice, &pad).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["id"], json!(pad.session.to_string()));
    let (status, problem) = register(&notice, &kim, "fcm:phone", "ko").await;
    assert_eq!((status, &problem["code"]), (403, &json!("access-denied")));

    bed.publish(AccountResigned {
        account: kim.account.clone(),
        nickname: kim.nickname.clone(),
    })
    .await;
    applied(&notice, "resign", 1).await;
    // The next sign-up has a later millisecond than the resignation.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let again = bed.person("kim@example.com+kakao", "kim").await;
    assert_eq!(devices(&notice, &again).await, [""; 0]);
}

async fn a_registered_device_gets_pushes_in_its_language(bed: Bed) {
    let providers = PushProviders::start().await;
    let settings = providers.settings();
    let mut settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    settings.push(AT_ONCE);
    let notice = replica(&bed, &settings).await;
    let (kim, lee) = (kim(&bed).await, lee(&bed).await);
    // The sign-in published another push token of the same session.
    device(&bed, &kim, "fcm:before").await;
    applied(&notice, "deviceToken", 1).await;
    assert_eq!(register(&notice, &kim, "fcm:now", "en").await.0, 200);
    bed.publish(like(&lee, &kim, DATE)).await;
    let sent = eventually("the push is sent", async || {
        let sent = providers.sent();
        (!sent.is_empty()).then_some(sent)
    })
    .await;
    assert_eq!((sent.len(), sent[0].device.as_str()), (1, "fcm:now"));
    assert_eq!(
        sent[0].payload["message"]["notification"],
        json!({ "title": "SoSoHappy", "body": "lee cheers for kim's happiness🩷" })
    );
    eventually("it is recorded", async || {
        (pushes(&notice, "like", "sent").await == 1).then_some(())
    })
    .await;
}

/// The published app registers by signing in, and is seen when it opens its socket.
async fn the_published_app_is_seen_on_its_socket(bed: Bed) {
    let notice = replica(&bed, &[]).await;
    let kim = kim(&bed).await;
    device(&bed, &kim, "phone").await;
    applied(&notice, "deviceToken", 1).await;
    let before = devices(&notice, &kim).await;
    assert_eq!(
        (&before[0]["platform"], &before[0]["language"]),
        (&Value::Null, &json!("ko"))
    );
    let _socket = connect(&notice, &kim).await;
    eventually("the device is seen", async || {
        let now = devices(&notice, &kim).await;
        (now[0]["lastSeen"] != before[0]["lastSeen"]).then_some(())
    })
    .await;
}

on_both_engines!(
    a_registered_device_gets_pushes_in_its_language,
    devices_are_registered_listed_and_removed,
    sign_out_and_resignation_remove_devices,
    the_published_app_is_seen_on_its_socket,
);
