//! Hostile requests and files: reading documents of others, excessive cost, and ambiguous input.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use sosohappy_testkit::eventually;

use crate::Fixture;

const POLL: (&str, &str) = ("source.poll", "50ms");
const PAYROLL: &str = "the token of payroll only";

#[tokio::test]
async fn no_response_contains_a_document_of_another_application() {
    let files = [
        ("application.yml", "shared: 1\n"),
        ("payroll-config.yml", "mine: payroll\n"),
        ("ledger-config.yml", "mine: ledgers-secret\n"),
        ("ledger-config.local.yml", "mine: ledgers-secret\n"),
        ("ledger-config.tar.gz", "ledgers-secret"),
        ("ledger-config/application.yml", "mine: ledgers-secret\n"),
        ("ledger-config/payroll-config.yml", "mine: ledgers-secret\n"),
        ("ledger-config/secrets.yml", "mine: ledgers-secret\n"),
        ("ledger-config/key.pem", "ledgers-secret"),
        ("v2/ledger-config/key.pem", "ledgers-secret"),
        ("v2/payroll-config/key.pem", "payrolls own"),
        ("nginx.conf", "${mine}"),
    ];
    let settings = [
        ("applications.payroll-config", PAYROLL),
        ("applications.ledger-config", "the token of ledger only"),
    ];
    let fixture = Fixture::new(&files, &settings).await;
    let service = fixture.bed.service_token.clone();
    for path in [
        "/payroll-config/default/ledger-config",
        "/payroll-config/default/v2,ledger-config",
        "/ledger-config/payroll-config-default.yml",
        "/ledger-config/payroll-config-default.properties",
        "/ledger-config/payroll-config-default.json",
        "/payroll-config/default/ledger-config/key.pem",
        "/payroll-config/default/ledger-config/nginx.conf",
        "/payroll-config/default/v2/ledger-config%2Fkey.pem",
        "/payroll-config/default/ledger-config/key.pem?useDefaultLabel",
        "/payroll-config/default/ledger-config.tar.gz?useDefaultLabel",
        "/payroll-config/local/ledger-config.yml?useDefaultLabel",
        "/ledger-config(_)payroll-config/default",
        "/ledger-config(_)secrets/default",
        "/x/y%2Fledger-config",
        "/payroll-config,ledger-config/default",
        "/ledger-config,payroll-config/default",
        "/ledger-config/default/v2",
        "/ledger/config",
        "/ledger-config-default.yml",
        "/ledger-config,application-default.properties",
    ] {
        for token in [PAYROLL, service.as_str()] {
            let response = fixture.anonymous(path).bearer_auth(token).send().await.unwrap();
            let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
            assert!(!text.contains("ledgers-secret"), "{path}: {text}");
            assert!(matches!(status, 403 | 404), "{path}: {status} {text}");
        }
    }
    for path in [
        "/payroll-config/default",
        "/payroll-config/default/v2",
        "/payroll-config-default.yml",
        "/v2/payroll-config-default.json",
        "/payroll-config/default/v2/key.pem",
        "/payroll-config/default/v2/nginx.conf",
    ] {
        let response = fixture.anonymous(path).bearer_auth(PAYROLL).send().await.unwrap();
        let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
        assert!(status == 200 && text.contains("payroll"), "{path}: {status} {text}");
    }
}

fn many(name: &str, count: usize) -> String {
    let names: Vec<_> = (0..count).map(|number| format!("{name}{number}")).collect();
    names.join(",")
}

#[tokio::test]
async fn a_request_with_many_names_has_bounded_cost() {
    let fixture = Fixture::new(&[("l/a.yml", "a: 1\n"), ("a-p.yml", "b: 1\n")], &[]).await;
    let same = |name: &str, count: usize| vec![name; count].join(",");
    let began = Instant::now();
    let path = format!("/{}/{}/{}", same("a", 127), same("p", 7000), same("l", 127));
    let answer = fixture.json(&path).await;
    assert_eq!(answer["profiles"], json!(["p"]));
    assert_eq!(answer["propertySources"].as_array().unwrap().len(), 2);
    for path in [
        format!("/a/{}", many("p", 3000)),
        format!("/{}/p", many("a", 40)),
        format!("/a/p/{}", many("l", 40)),
        format!("/a-{}.yml", many("p", 3000)),
        format!("/a/{}/l/x.txt", many("p", 3000)),
    ] {
        assert_eq!(fixture.status(&path).await, 400, "{path}");
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// The test has one thread: work on the async workers would stop its ticks for as long as it takes.
#[tokio::test]
async fn costly_requests_leave_the_async_workers() {
    let keys = (0..20_000).map(|number| format!("k{number}: v\n")).collect::<Vec<_>>();
    let fixture = Fixture::new(&[("feed-config.yml", &keys.concat())], &[("source.poll", "1h")]).await;
    let longest_pause = std::sync::Arc::new(parking_lot::Mutex::new(Duration::ZERO));
    let tick = Duration::from_millis(5);
    let pause = longest_pause.clone();
    let ticks = tokio::spawn(async move {
        loop {
            let began = Instant::now();
            tokio::time::sleep(tick).await;
            let mut longest = pause.lock();
            *longest = longest.max(began.elapsed());
        }
    });
    for path in ["/feed-config-default.yml", "/feed-config-default.json"] {
        // The best of twenty: other processes may pause this thread, work on it does so each time.
        let mut tries = Vec::new();
        let mut passed = false;
        while !passed && tries.len() < 20 {
            *longest_pause.lock() = Duration::ZERO;
            let began = Instant::now();
            assert_eq!(fixture.text(path).await.matches("k1999").count(), 11, "{path}");
            let took = began.elapsed();
            // So that a pause until the response is noticed.
            tokio::time::sleep(tick * 2).await;
            let pause = *longest_pause.lock();
            passed = pause < took / 2;
            tries.push((pause, took));
        }
        println!("{path}: the longest pause of the workers, and the request: {tries:?}");
        assert!(passed, "{path}: {tries:?}");
    }
    ticks.abort();
}

#[tokio::test]
async fn cycles_of_placeholders_are_refused_with_their_keys() {
    let bombs = [
        ("feed-x.yml", "a: '${b}${b}'\n"),
        ("feed-y.yml", "b: '${a}${a}'\n"),
        ("feed.yml", "ok: '${b:1}'\n"),
        ("text.txt", "${a}"),
    ];
    let fixture = Fixture::new(&bombs, &[POLL]).await;
    assert_eq!(fixture.json("/feed-x.json").await["a"], "${b}${b}");
    assert_eq!(
        fixture.status("/feed/x,y").await,
        200,
        "clients resolve placeholders of the environment"
    );
    for path in [
        "/feed-x,y.yml",
        "/feed-x,y.properties",
        "/feed-x,y.json",
        "/feed/x,y/text.txt?useDefaultLabel",
    ] {
        let response = fixture.get(path).send().await.unwrap();
        assert_eq!(response.status(), 422, "{path}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], "unresolvable-placeholders");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("a → b → a"), "{detail}");
    }
    assert_eq!(fixture.status("/feed-x,y.yml?resolvePlaceholders=false").await, 200);

    let before = fixture.json("/feed/x").await["version"].clone();
    fixture.write("feed.yml", "x: 1\na: '${a}${a}${a}'\n");
    let status = eventually("the version is refused", async || {
        let status = fixture.ask("/status").await;
        (!status["refused"].as_array().unwrap().is_empty()).then_some(status)
    })
    .await;
    let finding = json!({"path": "feed.yml", "line": 2, "reason": "a: placeholders refer to each other: a → a"});
    let findings = status["refused"][0]["findings"].as_array().unwrap();
    assert!(findings.contains(&finding), "{findings:?}");
    assert_eq!(fixture.json("/feed/x").await["version"], before);
}

#[tokio::test]
async fn an_ambiguous_secret_is_refused() {
    let fixture = Fixture::new(&[], &[("encrypt.key", "a test key")]).await;
    let operator = fixture.bed.operator_token.clone();
    let post = async |path: &str, content_type: &str, body: &str| {
        let request = fixture.post(path, &operator, body).header("Content-Type", content_type);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let form = "application/x-www-form-urlencoded";
    for (content_type, body, plain) in [
        (form, "my%2Bpass", Some("my+pass")),
        (form, "ab+/cdE=", None),
        (form, "my+pass", None),
        (form, "", None),
        ("text/plain", "ab+/cdE=", Some("ab+/cdE=")),
        ("text/plain;charset=UTF-8", "my%2Bpass", Some("my%2Bpass")),
        ("application/json", "\"x\"", None),
    ] {
        let (status, answer) = post("/encrypt", content_type, body).await;
        let Some(plain) = plain else {
            assert_eq!(status, 400, "{content_type} {body}");
            assert!(answer.contains("--data-binary @-"), "{answer}");
            continue;
        };
        for form_or_text in [form, "text/plain"] {
            let read = post("/decrypt", form_or_text, &answer).await;
            assert_eq!(read, (200, plain.to_owned()), "{content_type} {body}");
        }
    }
}

fn signature(body: &[u8]) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"a secret of webhooks").unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn webhooks_may_be_as_large_as_the_body_limit() {
    let fixture = Fixture::new(&[], &[("webhooks.secret", "a secret of webhooks")]).await;
    let url = fixture.config.at("/config-service/monitor");
    let send = async |body: Bytes, signature: Option<String>| {
        let mut request = sosohappy_common::tls::client()
            .post(&url)
            .header("X-GitHub-Event", "push");
        if let Some(signature) = signature {
            request = request.header("X-Hub-Signature-256", signature);
        }
        let response = request
            .header("Content-Type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let push = |padding: usize| {
        let head = json!({"commits": [{"modified": ["feed-config.yml"]}], "before": padding}).to_string();
        Bytes::from(head + &" ".repeat(padding))
    };
    for padding in [2_100_000, 24_900_000] {
        let body = push(padding);
        let signed = signature(&body);
        assert_eq!(send(body, Some(signed)).await, (200, json!(["feed-config", "feed"])));
    }
    let body = push(27_000_000);
    let signed = signature(&body);
    assert_eq!(send(body, Some(signed)).await.0, 413);
    let (status, problem) = send(push(24_000_000), None).await;
    assert_eq!((status, &problem["code"]), (403, &json!("webhook-not-verified")));
    assert_eq!(send(push(1000), Some(signature(b"another"))).await.0, 403);
}

#[tokio::test]
async fn lists_and_switches_are_read_as_in_spring() {
    let files = [
        ("demo-dev.yml", "a: ${b:1}\n"),
        ("demo-eu-west.yml", "region: west\n"),
        ("v1/demo.yml", "c: 1\n"),
    ];
    let fixture = Fixture::new(&files, &[]).await;
    for path in ["/demo/dev,", "/demo/,dev", "/demo/dev, ,dev", "/demo,/dev"] {
        let environment = fixture.json(path).await;
        assert_eq!(environment["profiles"], json!(["dev"]), "{path}");
        assert_eq!(environment["propertySources"][0]["source"]["a"], "${b:1}", "{path}");
    }
    assert_eq!(fixture.json("/demo/,").await["profiles"], json!(["default"]));
    assert_eq!(
        fixture.json("/demo/dev/v1,").await["propertySources"][0]["source"]["a"],
        "${b:1}"
    );
    assert_eq!(fixture.json("/demo-dev,.json").await["a"], "1");
    for (switch, a) in [
        ("False", "${b:1}"),
        ("0", "${b:1}"),
        ("no", "${b:1}"),
        ("OFF", "${b:1}"),
        ("True", "1"),
        ("on", "1"),
        ("yes", "1"),
        ("", "1"),
    ] {
        let answer = fixture
            .json(&format!("/demo-dev.json?resolvePlaceholders={switch}"))
            .await;
        assert_eq!(answer["a"], a, "{switch}");
    }
    // The last dash separates name and profile. The file is found either way.
    assert_eq!(fixture.json("/demo-eu-west.json").await["region"], "west");
    assert_eq!(
        fixture.json("/demo/eu-west").await["propertySources"][0]["source"]["region"],
        "west"
    );
}

#[tokio::test]
async fn byte_order_marks_and_wide_numbers_are_read_in_every_form() {
    let pin = "123456789012345678901234567890";
    let yaml = format!("\u{feff}pin: {pin}\n");
    let properties = format!("\u{feff}pin={pin}\n");
    let json_text = format!("\u{feff}{{\"pin\": {pin}, \"huge\": 1e999, \"large\": 18446744073709551615}}");
    let files = [("a.yml", &*yaml), ("b.properties", &properties), ("c.json", &json_text)];
    let fixture = Fixture::new(&files, &[]).await;
    for name in ["a", "b", "c"] {
        let environment = fixture.json(&format!("/{name}/default")).await;
        assert_eq!(environment["propertySources"][0]["source"]["pin"], pin, "{name}");
        assert_eq!(
            fixture.json(&format!("/{name}-default.json")).await["pin"],
            pin,
            "{name}"
        );
    }
    let c = fixture.json("/c/default").await["propertySources"][0]["source"].clone();
    assert_eq!((&c["huge"], &c["large"]), (&json!("1e999"), &json!(u64::MAX)));
}
