//! Flags for services and `OpenFeature` clients.

use reqwest::header::{ETAG, IF_NONE_MATCH};
use serde_json::{Value, json};
use sosohappy_testkit::eventually;

use crate::Fixture;

const FILES: &[(&str, &str)] = &[
    (
        "application.yml",
        "flags:\n  new-feed: true\n  old-feed: 'off'\n  share: 25%\n  fault.drop: 0%\n",
    ),
    ("payroll-config.yml", "flags.new-feed: false\n"),
];
const PAYROLL: &str = "the token of payroll only";

async fn post(fixture: &Fixture, path: &str, token: &str, body: &str) -> (u16, Value) {
    let url = fixture.config.at(&format!("/ofrep/v1/evaluate/flags{path}"));
    let request = sosohappy_common::tls::client().post(url).bearer_auth(token);
    let response = request
        .header("Content-Type", "application/json")
        .body(body.to_owned())
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

#[tokio::test]
async fn openfeature_clients_evaluate_flags() {
    let fixture = Fixture::new(
        FILES,
        &[("applications.payroll-config", PAYROLL), ("source.poll", "50ms")],
    )
    .await;
    let service = fixture.bed.service_token.clone();
    let for_key = |key: &str| json!({"context": {"targetingKey": key, "more": [1]}}).to_string();
    assert_eq!(
        post(&fixture, "/new-feed", &service, "{}").await,
        (
            200,
            json!({"key": "new-feed", "value": true, "reason": "STATIC", "variant": "on"})
        )
    );
    assert_eq!(post(&fixture, "/old-feed", &service, "").await.1["value"], false);
    assert_eq!(
        post(&fixture, "/fault.drop", &service, &for_key("kim")).await.1["value"],
        false
    );
    assert_eq!(
        post(&fixture, "/new-feed", PAYROLL, "{}").await.1["value"],
        false,
        "from its own settings"
    );
    let named = json!({"context": {"application": "payroll-config"}}).to_string();
    assert_eq!(post(&fixture, "/new-feed", &service, &named).await.0, 403);

    let mut on = 0;
    for key in 0..200 {
        let (status, answer) = post(&fixture, "/share", &service, &for_key(&format!("account-{key}"))).await;
        assert_eq!((status, &answer["reason"]), (200, &json!("SPLIT")));
        on += i32::from(answer["value"] == true);
    }
    assert!((25..=75).contains(&on), "{on} of 200 at 25%");

    for (path, token, body, status, code) in [
        ("/unknown", service.as_str(), "{}", 404, "FLAG_NOT_FOUND"),
        ("/share", &service, "{}", 400, "TARGETING_KEY_MISSING"),
        ("/share", &service, "{\"context\": 1}", 400, "INVALID_CONTEXT"),
        (
            "/share",
            &service,
            "{\"context\": {\"targetingKey\": 1}}",
            400,
            "INVALID_CONTEXT",
        ),
        ("/share", &service, "[", 400, "PARSE_ERROR"),
        ("", &service, "[1]", 400, "PARSE_ERROR"),
    ] {
        let answer = post(&fixture, path, token, body).await;
        assert_eq!(
            (answer.0, &answer.1["errorCode"]),
            (status, &json!(code)),
            "{path} {body}"
        );
    }
    assert_eq!(post(&fixture, "/new-feed", "an unknown token", "{}").await.0, 401);

    let (status, all) = post(&fixture, "", &service, "{\"context\": {}}").await;
    let missing = json!({"key": "share", "errorCode": "TARGETING_KEY_MISSING", "errorDetails": "a percentage requires a targetingKey"});
    assert_eq!((status, all["flags"].as_array().unwrap().len()), (200, 4), "{all}");
    assert!(all["flags"].as_array().unwrap().contains(&missing), "{all}");

    let url = fixture.config.at("/ofrep/v1/evaluate/flags");
    let ask = async |known: &str| {
        let request = sosohappy_common::tls::client().post(&url).header("X-API-Key", &service);
        request
            .header(IF_NONE_MATCH, known)
            .body(for_key("kim"))
            .send()
            .await
            .unwrap()
    };
    let tag = ask("\"none\"").await.headers()[ETAG].to_str().unwrap().to_owned();
    assert_eq!(ask(&tag).await.status(), 304);
    fixture.write("application.yml", "flags:\n  new-feed: false\n");
    eventually("the change is served", async || {
        (ask(&tag).await.status() == 200).then_some(())
    })
    .await;

    let flags = eventually("uses are known", async || {
        let flags = fixture.ask("/flags").await;
        flags[0]["lastEvaluated"].is_string().then_some(flags)
    })
    .await;
    assert_eq!(
        (flags.as_array().unwrap().len(), &flags[0]["key"]),
        (1, &json!("new-feed"))
    );
    assert_eq!(flags[0]["files"], json!(["application.yml", "payroll-config.yml"]));
    assert_eq!(fixture.ask("/flags?stale=true").await, json!([]));
}

#[tokio::test]
async fn an_invalid_flag_is_refused_without_its_value() {
    let fixture = Fixture::new(FILES, &[("source.poll", "50ms")]).await;
    fixture.write("application.yml", "a: 1\nflags.share: s3cret\n");
    let refused = eventually("it is refused", async || {
        let status = fixture.ask("/status").await;
        status["refused"][0]["findings"][0]
            .is_object()
            .then(|| status["refused"][0]["findings"][0].clone())
    })
    .await;
    let reason = "flags.share: true, false, or a percentage such as 25% is expected";
    assert_eq!(refused, json!({"path": "application.yml", "line": 2, "reason": reason}));
}
