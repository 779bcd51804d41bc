use std::sync::Arc;

use serde_json::{Value, json};
use sosohappy_bus::Bus;
use sosohappy_common::settings::Events;
use sosohappy_testkit::{Bed, EngineSet, eventually};

use crate::Fixture;
use crate::repository::Repository;

const POLL: (&str, &str) = ("source.poll", "50ms");

impl Fixture {
    /// As an operator named lee; status and JSON.
    pub async fn operate(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = self.config.at(path);
        let mut request = reqwest::Client::new().request(method, url);
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

async fn over(repository: &Repository) -> Fixture {
    let bed = Bed::new(EngineSet::Embedded).await;
    Fixture::on(bed, &[("source.url", &repository.url()), POLL]).await
}

async fn served(fixture: &Fixture, version: &str) {
    eventually("the version is served", async || {
        (fixture.json("/feed-config/default").await["version"] == version).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_version_our_services_cannot_read_is_refused_and_told() {
    let repository = Repository::new(&[("feed-config.yml", "post.text: 10\n")]);
    let good = repository.head();
    let fixture = over(&repository).await;
    let bad = repository.push(
        "main",
        &[
            ("feed-config.yml", "# why\npost:\n  text: hunter2\n"),
            ("application.yml", "log.lvl: debug\n"),
            ("dm-config.properties", "messages.max-characters=0\n"),
        ],
    );
    eventually("the refusal is told", async || {
        let status = fixture.ask("/status").await;
        (!status["refused"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    let status = fixture.ask("/status").await;
    assert_eq!((&status["version"], &status["newest"]), (&json!(good), &json!(good)));
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

    let metrics = reqwest::get(fixture.config.at("/actuator/prometheus"))
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
    let told = health["components"]["source"]["details"]["refused"][0]
        .as_str()
        .unwrap();
    assert!(told.contains("feed-config.yml:3: post.text"), "{told}");
    let history = fixture.ask("/history").await;
    assert_eq!(
        (&history[0]["action"], &history[0]["version"]),
        (&json!("refused"), &json!(bad))
    );
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
    served(&fixture, &better).await;
    assert_eq!(fixture.ask("/status").await["refused"], json!([]));
}

#[tokio::test]
async fn a_version_is_gone_back_to_until_it_is_let_go() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1\ndb.password: hunter2\n")]);
    let first = repository.head();
    let fixture = over(&repository).await;
    let second = repository.push("main", &[("feed-config.yml", "a: 2\ndb.password: hunter3\n")]);
    served(&fixture, &second).await;

    let diff = fixture.ask(&format!("/diff?from={}&to={second}", &first[..8])).await;
    let change = |key: &str, from: Value, to: Value| json!({"key": key, "change": "changed", "from": from, "to": to});
    let redacted = json!("[redacted]");
    assert_eq!(
        diff,
        json!({"from": first, "to": second, "files": [{"path": "feed-config.yml", "change": "changed", "keys": [
            change("a", json!(1), json!(2)), change("db.password", redacted.clone(), redacted)
        ]}]})
    );

    let rollback = "/config-service/rollback";
    let post = reqwest::Method::POST;
    let (status, pin) = fixture
        .operate(post.clone(), rollback, Some(json!({"version": &first[..10]})))
        .await;
    assert_eq!(
        (status, &pin["version"], &pin["by"]),
        (200, &json!(first), &json!("lee"))
    );
    assert_eq!(fixture.json("/feed-config/default").await["version"], first);
    assert_eq!(
        fixture.json("/feed-config/default/main").await["version"],
        first,
        "under its name too"
    );

    // Pushes are looked at and not served, and a restart changes nothing.
    let third = repository.push("main", &[("feed-config.yml", "a: 3\n")]);
    eventually("the push is seen", async || {
        (fixture.ask("/status").await["newest"] == third).then_some(())
    })
    .await;
    let fixture = fixture.restart().await;
    assert_eq!(fixture.json("/feed-config/default").await["version"], first);
    assert_eq!(fixture.ask("/status").await["pin"]["version"], first);

    let (status, pin) = fixture.operate(reqwest::Method::DELETE, rollback, None).await;
    assert_eq!((status, &pin["version"]), (200, &Value::Null));
    assert_eq!(fixture.json("/feed-config/default").await["version"], third);
    for (version, expected) in [("0123456789", 404), ("012", 400)] {
        let (status, _) = fixture
            .operate(post.clone(), rollback, Some(json!({"version": version})))
            .await;
        assert_eq!(status, expected, "{version}");
    }

    let audit = fixture.ask("/audit").await;
    let told: Vec<_> = audit
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (&entry["who"], &entry["action"]))
        .collect();
    assert_eq!(told[0], (&json!("lee"), &json!("unpinned")));
    assert!(told.contains(&(&json!("lee"), &json!("pinned"))), "{told:?}");
    assert_eq!(fixture.ask("/history?limit=2").await.as_array().unwrap().len(), 2);
    assert!(!audit.to_string().contains("hunter"), "{audit}");
}

#[tokio::test]
async fn a_folder_can_be_rolled_back_too_and_other_replicas_follow() {
    let fixture = Fixture::new(&[("feed-config.yml", "a: 1\n")], &[POLL]).await;
    let first = fixture.json("/feed-config/default").await["version"]
        .as_str()
        .unwrap()
        .to_owned();
    // A replica with a folder of its own for its state, on the same source and the same bus.
    let state = fixture.bed.folder().join("second-state").display().to_string();
    let settings = [POLL, ("state.folder", state.as_str())];
    let second = crate::start(&fixture.bed, &settings).await;
    fixture.write("feed-config.yml", "a: 2\n");
    let of_second = async || {
        let url = second.at("/config-service/feed-config-default.json");
        let request = reqwest::Client::new().get(url).bearer_auth(&fixture.bed.service_token);
        request.send().await.unwrap().json::<Value>().await.unwrap()["a"].clone()
    };
    eventually("both serve the new one", async || {
        let both = fixture.json("/feed-config-default.json").await["a"] == 2 && of_second().await == 2;
        both.then_some(())
    })
    .await;
    let body = Some(json!({"version": first}));
    let (status, _) = fixture
        .operate(reqwest::Method::POST, "/config-service/rollback", body)
        .await;
    assert_eq!(status, 200);
    assert_eq!(fixture.json("/feed-config-default.json").await["a"], 1);
    eventually("the other replica follows", async || {
        (of_second().await == 1).then_some(())
    })
    .await;
    let (status, _) = fixture
        .operate(reqwest::Method::DELETE, "/config-service/rollback", None)
        .await;
    assert_eq!(status, 200);
    eventually("the other replica lets go", async || {
        (of_second().await == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pin_is_known_to_whoever_comes_later_even_when_the_bus_has_forgotten_it() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1\n")]);
    let first = repository.head();
    let fixture = over(&repository).await;
    let second = repository.push("main", &[("feed-config.yml", "a: 2\n")]);
    served(&fixture, &second).await;
    let body = Some(json!({"version": first}));
    let (status, _) = fixture
        .operate(reqwest::Method::POST, "/config-service/rollback", body)
        .await;
    assert_eq!(status, 200);

    // On the same bus: from its first ready moment a new replica serves what is pinned.
    let url = repository.url();
    let replica = async |bus: Arc<dyn Bus>, state: &str| {
        let state = fixture.bed.folder().join(state).display().to_string();
        let settings = [POLL, ("source.url", url.as_str()), ("state.folder", state.as_str())];
        let settings = fixture
            .bed
            .settings("config", sosohappy_config::DEFAULTS, &settings)
            .await;
        let context = fixture.bed.context(sosohappy_config::SERVICE);
        let service = sosohappy_config::build(settings, context, bus).await;
        fixture.bed.start(service).await
    };
    let version_at = async |config: &sosohappy_testkit::Running| {
        let asked = reqwest::Client::new().get(config.at("/config-service/feed-config/default"));
        let answer = asked.bearer_auth(&fixture.bed.service_token).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["version"].clone()
    };
    let late = replica(fixture.bed.bus.clone(), "late").await;
    assert_eq!(version_at(&late).await, first);
    late.stop().await;

    // On a bus that knows of nothing: who knows tells again.
    let folder = fixture.bed.folder().join("empty.db");
    let empty = Events::new(&format!("journal:{}", folder.display()), "");
    let empty = sosohappy_bus::open(&empty, &fixture.bed.context("test")).await.unwrap();
    let new = replica(empty.clone(), "new").await;
    assert_eq!(version_at(&new).await, second, "nobody has told it");
    let knows = replica(empty, "late").await;
    assert_eq!(version_at(&knows).await, first, "it has a pin of its own");
    eventually("the new one follows", async || {
        (version_at(&new).await == first).then_some(())
    })
    .await;
}

#[tokio::test]
async fn operators_only() {
    let fixture = Fixture::new(&[], &[]).await;
    let service = fixture.bed.service_token.clone();
    let client = reqwest::Client::new();
    for (method, path) in [
        (reqwest::Method::GET, "/config-service/status"),
        (reqwest::Method::GET, "/config-service/history"),
        (reqwest::Method::GET, "/config-service/audit"),
        (reqwest::Method::GET, "/config-service/diff?from=0123456"),
        (reqwest::Method::POST, "/config-service/rollback"),
        (reqwest::Method::DELETE, "/config-service/rollback"),
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
async fn the_state_is_for_its_owner_only_and_the_start_says_what_is_wrong() {
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
