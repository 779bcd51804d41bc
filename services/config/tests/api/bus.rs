use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_events::types::BusMessage;
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::{Bed, EngineSet, PATIENCE, eventually};

use crate::Fixture;
use crate::repository::Repository;

const SECRET: &str = "a shared secret of webhooks";

/// Reads refresh events and values from `configBus`.
struct Events(Box<dyn sosohappy_bus::Reader>);

impl Events {
    async fn read(bed: &Bed) -> Self {
        Self(bed.bus.read(&[Topic::ConfigBus], Start::Latest).await.unwrap())
    }

    async fn next(&mut self) -> BusMessage {
        let wait = tokio::time::timeout(PATIENCE, async {
            loop {
                let record = self.0.next().await.unwrap();
                let message = Envelope::<BusMessage>::decode(&record).unwrap().event;
                if matches!(&*message.kind, BusMessage::REFRESH | BusMessage::ENVIRONMENT_CHANGE) {
                    return message;
                }
            }
        });
        wait.await.expect("a message arrives")
    }

    /// Returns the next destinations other than `**`, which the first read of a repository publishes.
    async fn destinations(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        while all.len() < count {
            let destination = self.next().await.destination_service.unwrap();
            if destination != "**" {
                all.push(destination);
            }
        }
        all
    }
}

fn post(fixture: &Fixture, path: &str) -> reqwest::RequestBuilder {
    let url = fixture.config.at(path);
    sosohappy_common::tls::client()
        .post(url)
        .bearer_auth(&fixture.bed.operator_token)
}

#[tokio::test]
async fn operators_publish_refresh_events_and_values() {
    let fixture = Fixture::new(&[], &[]).await;
    let mut bus = Events::read(&fixture.bed).await;
    for (path, destination) in [
        ("/actuator/busrefresh", "**"),
        ("/actuator/busrefresh/feed-config", "feed-config:**"),
        ("/actuator/busrefresh/feed-service/8891", "feed-service:8891:**"),
        ("/actuator/busrefresh/feed-service:**", "feed-service:**"),
    ] {
        assert_eq!(post(&fixture, path).send().await.unwrap().status(), 204, "{path}");
        let message = bus.next().await;
        assert_eq!(message.kind, "RefreshRemoteApplicationEvent");
        assert_eq!(message.destination_service.as_deref(), Some(destination), "{path}");
        assert!(
            message.origin_service.starts_with("config-service:"),
            "{}",
            message.origin_service
        );
        assert!(
            !message.id.is_empty() && message.timestamp > 1_700_000_000_000,
            "{message:?}"
        );
    }
    let body = json!({"name": "log.level", "value": "debug"});
    let answer = post(&fixture, "/actuator/busenv/feed-service/**")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 204);
    let message = bus.next().await;
    assert_eq!(message.kind, "EnvironmentChangeRemoteApplicationEvent");
    assert_eq!(message.destination_service.as_deref(), Some("feed-service:**"));
    assert_eq!(message.rest["values"], json!({"log.level": "debug"}));
    for (path, destination) in [
        ("/actuator/busenv?name=log.level", "**"),
        ("/actuator/busenv/feed-service?name=log.level", "feed-service:**"),
    ] {
        let url = fixture.config.at(path);
        let request = sosohappy_common::tls::client()
            .delete(url)
            .bearer_auth(&fixture.bed.operator_token);
        assert_eq!(request.send().await.unwrap().status(), 204, "{path}");
        let message = bus.next().await;
        assert_eq!(message.destination_service.as_deref(), Some(destination));
        assert_eq!(
            message.rest["values"],
            json!({"log.level": ""}),
            "an empty value removes it"
        );
    }
    let audit = fixture.ask("/audit?limit=1").await;
    assert_eq!(audit[0]["detail"], "log.level removed at feed-service");
    let missing = post(&fixture, "/actuator/busenv")
        .json(&json!({}))
        .send()
        .await
        .unwrap();
    assert_eq!(missing.status(), 400);
    let audit = fixture.ask("/audit?limit=4").await;
    assert_eq!(
        audit[2]["detail"], "log.level at feed-service:**",
        "the value is not recorded"
    );
}

#[tokio::test]
async fn oversized_and_unprintable_parts_of_bus_messages_are_refused() {
    let fixture = Fixture::new(&[], &[]).await;
    let long = "a".repeat(600);
    for (name, value) in [
        ("a", "x".repeat(1_000_000)),
        (&long, "1".to_owned()),
        ("a\nb", "1".to_owned()),
        ("\0", "1".to_owned()),
    ] {
        let body = json!({"name": name, "value": value});
        let answer = post(&fixture, "/actuator/busenv").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{name:.20} of {} bytes", value.len());
    }
    for destination in ["%00", "feed%0aservice", &long] {
        for path in ["busrefresh", "busenv"] {
            let request = post(&fixture, &format!("/actuator/{path}/{destination}"));
            let answer = request.json(&json!({"name": "a", "value": "1"})).send().await.unwrap();
            assert_eq!(answer.status(), 400, "{path} {destination:.20}");
        }
    }
    let body = json!({"name": "a", "value": "x\ny".repeat(10_000)});
    let answer = post(&fixture, "/actuator/busenv").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 204);
}

#[tokio::test]
async fn fault_switches_are_refused_by_busenv_with_check_fault_flags() {
    let fixture = Fixture::new(&[], &[("check.fault-flags", "refuse")]).await;
    let set = async |name: &str, value: &str| {
        let body = json!({"name": name, "value": value});
        let answer = post(&fixture, "/actuator/busenv").json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = set("flags.fault.slow-store", "true").await;
    assert!(status == 400 && text.contains("check.fault-flags"), "{status} {text}");
    assert_eq!(set("[flags].fault[slow-store]", "true").await.0, 400);
    assert_eq!(
        set("flags.fault.slow-store", "").await.0,
        204,
        "an empty value removes it"
    );
    assert_eq!(set("flags.new-list", "true").await.0, 204);
}

#[tokio::test]
async fn a_change_found_by_polling_refreshes_all_instances() {
    let fixture = Fixture::new(&[("feed-config.yml", "a: 1")], &[("source.poll", "50ms")]).await;
    let mut bus = Events::read(&fixture.bed).await;
    fixture.write("feed-config.yml", "a: 2");
    assert_eq!(bus.next().await.destination_service.as_deref(), Some("**"));
    assert_eq!(
        fixture.json("/feed-config-default.json").await["a"],
        2,
        "the new version is served"
    );
}

fn signature(body: &str) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

#[tokio::test]
async fn a_push_is_processed_once() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1")]);
    let bed = Bed::new(EngineSet::Embedded).await;
    // Polling would take an hour.
    let settings = [
        ("source.url", &*repository.url()),
        ("source.poll", "1h"),
        ("webhooks.secret", SECRET),
    ];
    let fixture = Fixture::on(bed, &settings).await;
    let mut bus = Events::read(&fixture.bed).await;
    let head = repository.push("main", &[("feed-config-prod.yml", "b: 1"), ("feed-config.yml", "a: 2")]);
    let body = json!({
        "ref": "refs/heads/main", "after": head,
        "commits": [{"added": ["feed-config-prod.yml"], "modified": ["feed-config.yml"], "removed": []}]
    })
    .to_string();
    let url = fixture.config.at("/config-service/monitor");
    let hook = async |headers: &[(&str, &str)], body: &str| {
        let mut request = sosohappy_common::tls::client().post(&url).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.header("Content-Type", "application/json").send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let signed = format!("sha256={}", signature(&body));
    let github = [
        ("X-GitHub-Event", "push"),
        ("X-GitHub-Delivery", "1"),
        ("X-Hub-Signature-256", signed.as_str()),
    ];
    let names = json!(["feed-config-prod", "feed-config", "feed"]);
    assert_eq!(hook(&github, &body).await, (200, names));
    assert_eq!(
        fixture.json("/feed-config/default").await["version"],
        head,
        "fetched before the events are published"
    );
    assert_eq!(
        bus.destinations(3).await,
        ["feed-config-prod:**", "feed-config:**", "feed:**"]
    );
    let again = [github[0], ("X-GitHub-Delivery", "2"), github[2]];
    assert_eq!(
        hook(&again, &body).await,
        (200, json!([])),
        "a delivery id is not signed"
    );

    let (status, problem) = hook(&github, &body.replace("feed", "dm")).await;
    assert_eq!((status, &problem["code"]), (403, &json!("webhook-not-verified")));
    assert_eq!(hook(&github[..2], &body).await.0, 403);
    let ping = "{\"zen\":\"x\"}";
    let signed = format!("sha256={}", signature(ping));
    assert_eq!(
        hook(&[("X-GitHub-Event", "ping"), ("X-Hub-Signature-256", &signed)], ping).await,
        (200, json!([]))
    );

    // GitLab sends the secret itself, and Bitbucket does not list files.
    let body = json!({"ref": "refs/heads/main", "commits": [{"modified": ["application.yml"]}]}).to_string();
    let gitlab = [("X-Gitlab-Event", "Push Hook"), ("X-Gitlab-Token", SECRET)];
    assert_eq!(hook(&gitlab, &body).await, (200, json!(["*"])));
    assert_eq!(bus.destinations(1).await, ["*:**"]);
    assert_eq!(hook(&[gitlab[0], ("X-Gitlab-Token", "another")], &body).await.0, 403);
    let body = "{\"push\":{\"changes\":[]}}";
    let signed = format!("sha256={}", signature(body));
    let bitbucket = [
        ("X-Event-Key", "repo:push"),
        ("X-Hook-UUID", "1"),
        ("X-Hub-Signature", signed.as_str()),
    ];
    assert_eq!(hook(&bitbucket, body).await, (200, json!(["*"])));

    let form = [("path", "dm-config.yml"), ("path", "auth-config.yml")];
    let answer = post(&fixture, "/config-service/monitor")
        .form(&form)
        .send()
        .await
        .unwrap();
    let names = answer.json::<Value>().await.unwrap();
    assert_eq!(names, json!(["auth-config", "auth", "dm-config", "dm"]));
    let anonymous = sosohappy_common::tls::client()
        .post(&url)
        .form(&form)
        .send()
        .await
        .unwrap();
    assert_eq!(anonymous.status(), 401);
}

#[tokio::test]
async fn a_push_before_its_commit_is_available_is_retried() {
    let repository = Repository::new(&[("feed-config.yml", "a: 1")]);
    let bed = Bed::new(EngineSet::Embedded).await;
    let settings = [
        ("source.url", &*repository.url()),
        ("source.poll", "1h"),
        ("webhooks.secret", SECRET),
    ];
    let fixture = Fixture::on(bed, &settings).await;
    let mut bus = Events::read(&fixture.bed).await;
    // The webhook arrives before the commit: it is created now and pushed later.
    let head = repository.push("elsewhere", &[("feed-config.yml", "a: 2")]);
    let body = json!({"ref": "refs/heads/main", "after": head, "commits": [{"modified": ["feed-config.yml"]}]});
    let body = body.to_string();
    let answer = sosohappy_common::tls::client()
        .post(fixture.config.at("/config-service/monitor"))
        .header("X-Gitea-Event", "push")
        .header("X-Gitea-Signature", signature(&body))
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(fixture.json("/feed-config-default.json").await["a"], 1);
    repository.work_git(&["push", "origin", "HEAD:main"]);
    assert_eq!(bus.destinations(2).await, ["feed-config:**", "feed:**"]);
    eventually("the commit is served", async || {
        (fixture.json("/feed-config/default").await["version"] == head).then_some(())
    })
    .await;
}
