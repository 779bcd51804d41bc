use serde_json::{Value, json};
use sosohappy_testkit::{Bed, EngineSet, eventually};

use crate::Fixture;
use crate::repository::Repository;

const POLL: (&str, &str) = ("source.poll", "50ms");

impl Fixture {
    /// Sends a request as an operator named lee; returns status and JSON.
    pub async fn operate(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = self.config.at(path);
        let mut request = sosohappy_common::tls::client().request(method, url);
        request = request.basic_auth("lee", Some(&self.bed.operator_token));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub async fn ask(&self, path: &str) -> Value {
        let (status, body) = self
            .operate(reqwest::Method::GET, &format!("/config-service{path}"), None)
            .await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

async fn serve(repository: &Repository) -> Fixture {
    let bed = Bed::new(EngineSet::Embedded).await;
    Fixture::on(bed, &[("source.url", &repository.url()), POLL]).await
}

async fn wait_for_version(fixture: &Fixture, version: &str) {
    eventually("the version is served", async || {
        (fixture.json("/feed-config/default").await["version"] == version).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_version_that_our_services_cannot_read_is_refused_and_reported() {
    let repository = Repository::new(&[("feed-config.yml", "post.text: 10\n")]);
    let good = repository.head();
    let fixture = serve(&repository).await;
    let bad = repository.push(
        "main",
        &[
            ("feed-config.yml", "# why\npost:\n  text: hunter2\n"),
            ("application.yml", "log.lvl: debug\n"),
            ("dm-config.properties", "messages.max-characters=0\n"),
        ],
    );
    eventually("the refusal is reported", async || {
        let status = fixture.ask("/status").await;
        (!status["refused"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    let status = fixture.ask("/status").await;
    assert_eq!((&status["version"], &status["version"]), (&json!(good), &json!(good)));
    let refused = &status["refused"][0];
    assert_eq!(refused["version"], bad);
    let findings: Vec<_> = refused["findings"].as_array().unwrap().iter().collect();
    let place = |finding: &Value| format!("{}:{}", finding["path"].as_str().unwrap(), finding["line"]);
    assert_eq!(
        findings.iter().map(|finding| place(finding)).collect::<Vec<_>>(),
        ["application.yml:1", "dm-config.properties:1", "feed-config.yml:3"]
    );
    assert_eq!(findings[2]["reason"], "post.text: a whole number is expected");
    assert_eq!(fixture.json("/feed-config-default.json").await["post"]["text"], 10);

    let metrics = sosohappy_common::tls::client()
        .get(fixture.config.at("/actuator/prometheus"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains("config_refused_versions_total{application=\"config-service\"} 1"),
        "{metrics}"
    );
    let (_, health) = fixture.operate(reqwest::Method::GET, "/actuator/health", None).await;
    let refusal = health["components"]["source"]["details"]["refused"][0]
        .as_str()
        .unwrap();
    assert!(refusal.contains("feed-config.yml:3: post.text"), "{refusal}");
    // The record is written after the status has changed.
    let history = eventually("the refusal is recorded", async || {
        let history = fixture.ask("/history").await;
        (history[0]["action"] == "refused").then_some(history)
    })
    .await;
    assert_eq!(history[0]["version"], bad);
    assert_eq!(
        (&history[1]["action"], &history[1]["version"]),
        (&json!("published"), &json!(good))
    );
    assert_eq!(history[1]["detail"], "Kim: a change");

    let better = repository.push(
        "main",
        &[
            ("feed-config.yml", "post.text: 20\n"),
            ("application.yml", "log.level: debug\n"),
            ("dm-config.properties", "messages.max-characters=1\n"),
        ],
    );
    wait_for_version(&fixture, &better).await;
    assert_eq!(fixture.ask("/status").await["refused"], json!([]));
}

#[tokio::test]
async fn a_commit_reverts_a_version() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1\ndb.password: hunter2\n")]);
    let first = repository.head();
    let fixture = serve(&repository).await;
    let second = repository.push("main", &[("feed-config.yml", "a: 2\ndb.password: hunter3\n")]);
    wait_for_version(&fixture, &second).await;

    let diff = fixture.ask(&format!("/diff?from={}&to={second}", &first[..8])).await;
    let change = |key: &str, from: Value, to: Value| json!({"key": key, "change": "changed", "from": from, "to": to});
    let redacted = json!("[redacted]");
    assert_eq!(
        diff,
        json!({"from": first, "to": second, "files": [{"path": "feed-config.yml", "change": "changed", "keys": [
            change("a", json!(1), json!(2)), change("db.password", redacted.clone(), redacted)
        ]}]})
    );

    let third = repository.push("main", &[("feed-config.yml", "a: 1\ndb.password: hunter2\n")]);
    wait_for_version(&fixture, &third).await;
    assert_eq!(fixture.json("/feed-config-default.json").await["a"], 1);
    assert_eq!(fixture.ask(&format!("/diff?from={first}")).await["files"], json!([]));
    let fixture = fixture.restart().await;
    assert_eq!(fixture.json("/feed-config/default").await["version"], third);
    let history = fixture.ask("/history?limit=2").await;
    let versions: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["version"])
        .collect();
    assert_eq!(versions, [&json!(third), &json!(second)]);
    assert!(!fixture.ask("/audit").await.to_string().contains("hunter"));
}

#[tokio::test]
async fn operations_require_the_operator_token() {
    let fixture = Fixture::new(&[], &[]).await;
    let service = fixture.bed.service_token.clone();
    let client = sosohappy_common::tls::client();
    for (method, path) in [
        (reqwest::Method::GET, "/config-service/status"),
        (reqwest::Method::GET, "/config-service/history"),
        (reqwest::Method::GET, "/config-service/audit"),
        (reqwest::Method::GET, "/config-service/diff?from=0123456"),
        (reqwest::Method::POST, "/config-service/monitor"),
        (reqwest::Method::POST, "/actuator/busrefresh"),
        (reqwest::Method::POST, "/actuator/busrefresh/feed-service"),
        (reqwest::Method::POST, "/actuator/busenv"),
        (reqwest::Method::POST, "/actuator/busenv/feed-service"),
    ] {
        let url = fixture.config.at(path);
        for token in [None, Some(&service)] {
            let request = client.request(method.clone(), &url);
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            assert_eq!(request.send().await.unwrap().status(), 401, "{method} {path} {token:?}");
        }
    }
}

#[tokio::test]
async fn startup_fails_with_the_setting_or_finding_at_fault() {
    let bed = Bed::new(EngineSet::Embedded).await;
    let file = bed.folder().join("a-file");
    std::fs::write(&file, "").unwrap();
    let state = file.join("state").display().to_string();
    let settings = bed
        .settings("config", sosohappy_config::DEFAULTS, &[("state.folder", &state)])
        .await;
    let context = bed.context(sosohappy_config::SERVICE);
    let error = sosohappy_config::build(settings, context, bed.bus.clone())
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("state.folder: "), "{error}");

    std::fs::create_dir_all(bed.folder().join("config")).unwrap();
    std::fs::write(bed.folder().join("config/feed-config.yml"), "a: 1\npost.text: x\n").unwrap();
    let settings = bed.settings("config", sosohappy_config::DEFAULTS, &[]).await;
    let context = bed.context(sosohappy_config::SERVICE);
    let error = sosohappy_config::build(settings, context, bed.bus.clone())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("feed-config.yml:2: post.text: a whole number"),
        "{error}"
    );
}
