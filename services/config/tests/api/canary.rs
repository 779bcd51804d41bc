//! A new version goes to one instance of each service, then to the others one at a time, and back when one cannot live with it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_common::Context;
use sosohappy_events::types::{BusMessage, SettingsReport};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::eventually;

use crate::Fixture;

/// Polling would take an hour: only what is asked for finds a new version.
const SETTINGS: [(&str, &str); 3] = [("source.poll", "1h"), ("canary.wait", "5s"), ("canary.watch", "300ms")];

/// What an instance says of a version.
type Mood = fn(&Value) -> (Option<&'static str>, &'static str);

fn well(_: &Value) -> (Option<&'static str>, &'static str) {
    (None, "UP")
}

/// A service that follows the bus as ours do.
struct Instance {
    id: String,
    /// Versions in the order it ran on them.
    ran: Arc<Mutex<Vec<Value>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Instance {
    async fn start(fixture: &Fixture, service: &'static str, mood: Mood) -> Self {
        let context = fixture.bed.context(service);
        let id = context.instance.to_string();
        let ran = Arc::new(Mutex::new(Vec::new()));
        let mut reader = fixture.bed.bus.read(&[Topic::ConfigBus], Start::Latest).await.unwrap();
        let (bus, url) = (
            fixture.bed.bus.clone(),
            fixture.config.at("/config-service/feed-config/default"),
        );
        let (token, ours) = (fixture.bed.service_token.clone(), ran.clone());
        let task = tokio::spawn(async move {
            let mut is_new = true;
            loop {
                if is_new {
                    let report = look(&context, &url, &token, mood, &ours).await;
                    let report = Envelope::new(BusMessage::report(&context, &report), &context);
                    bus.publish(&[report.to_outgoing()]).await.unwrap();
                }
                let record = reader.next().await.unwrap();
                let message = Envelope::<BusMessage>::decode(&record).unwrap().event;
                let destination = message.destination_service.as_deref();
                is_new = message.kind == BusMessage::REFRESH
                    && (destination == Some("**") || destination == Some(&context.instance));
            }
        });
        Self { id, ran, task }
    }

    fn versions(&self) -> Vec<Value> {
        self.ran.lock().clone()
    }
}

async fn look(context: &Context, url: &str, token: &str, mood: Mood, ran: &Mutex<Vec<Value>>) -> SettingsReport {
    let asked = sosohappy_common::tls::client().get(url).bearer_auth(token);
    let asked = asked.header("X-Config-Instance", &*context.instance).send().await;
    let Ok(answer) = asked else {
        return SettingsReport::default();
    };
    let answer: Value = answer.json().await.unwrap();
    let settings = &answer["propertySources"][0]["source"];
    let (refused, health) = mood(&settings["a"]);
    let version = if refused.is_some() {
        ran.lock().last().cloned().unwrap_or_default()
    } else {
        let mut ran = ran.lock();
        if ran.last() != Some(&answer["version"]) {
            ran.push(answer["version"].clone());
        }
        answer["version"].clone()
    };
    SettingsReport {
        version: version.as_str().map(str::to_owned),
        refused: refused.map(str::to_owned),
        health: Some(health.to_owned()),
        ..SettingsReport::default()
    }
}

async fn known(fixture: &Fixture, instances: usize) {
    eventually("all instances are known", async || {
        let told = fixture.ask("/convergence").await;
        let services = told["services"].as_object().unwrap().values();
        let count: usize = services
            .map(|service| service["instances"].as_array().unwrap().len())
            .sum();
        (count == instances).then_some(())
    })
    .await;
}

async fn refresh(fixture: &Fixture, query: &str) -> (u16, Value) {
    let url = fixture.config.at(&format!("/actuator/busrefresh{query}"));
    let request = sosohappy_common::tls::client()
        .post(url)
        .bearer_auth(&fixture.bed.operator_token);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

async fn ends(fixture: &Fixture, phase: &str) -> Value {
    eventually(&format!("the canary is {phase}"), async || {
        let canary = fixture.ask("/convergence").await["canary"].clone();
        (canary["phase"] == phase).then_some(canary)
    })
    .await
}

async fn version(fixture: &Fixture) -> Value {
    fixture.json("/feed-config/default").await["version"].clone()
}

async fn actions(fixture: &Fixture) -> Vec<Value> {
    let history = fixture.ask("/history?limit=3").await;
    history
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].clone())
        .collect()
}

#[tokio::test]
async fn a_good_version_goes_to_one_of_each_service_then_to_the_others() {
    let fixture = Fixture::new(&[("feed-config.yml", "a: 1")], &SETTINGS).await;
    let instances = [
        Instance::start(&fixture, "feed-service", well).await,
        Instance::start(&fixture, "feed-service", well).await,
        Instance::start(&fixture, "dm-service", well).await,
    ];
    known(&fixture, 3).await;
    let before = version(&fixture).await;
    fixture.write("feed-config.yml", "a: 2");
    let (status, canary) = refresh(&fixture, "?canary=1").await;
    assert_eq!(status, 202);
    let (first, last) = (
        canary["updated"].as_array().unwrap(),
        canary["waiting"].as_array().unwrap(),
    );
    assert_eq!((first.len(), last.len()), (2, 1), "{canary}");
    assert!(first.iter().any(|id| *id == instances[2].id), "one of each service");
    assert_eq!((&canary["from"], &canary["phase"]), (&before, &json!("running")));
    assert_eq!(version(&fixture).await, before, "who does not say who it is waits");
    let waiting = instances.iter().find(|instance| last[0] == *instance.id).unwrap();
    assert_eq!(refresh(&fixture, "?canary=true").await.0, 409, "one at a time");
    eventually("the first have the new one", async || {
        let others = instances.iter().filter(|instance| instance.id != waiting.id);
        others
            .into_iter()
            .all(|instance| instance.versions().last() == Some(&canary["to"]))
            .then_some(())
    })
    .await;
    assert_eq!(waiting.versions(), vec![before.clone()]);
    assert_eq!(fixture.ask("/status").await["version"], before);
    ends(&fixture, "finished").await;
    assert_eq!(version(&fixture).await, canary["to"]);
    assert_eq!(
        actions(&fixture).await,
        ["canary-finished", "canary-started", "published"]
    );
    eventually("all have it, and nobody has had another", async || {
        let all = instances
            .iter()
            .all(|instance| instance.versions() == [before.clone(), canary["to"].clone()]);
        all.then_some(())
    })
    .await;
    let metrics = sosohappy_common::tls::client().get(fixture.config.at("/actuator/prometheus"));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let finished = "config_canaries_total{outcome=\"finished\",application=\"config-service\"} 1";
    assert!(metrics.contains(finished), "{metrics}");
    assert_eq!(refresh(&fixture, "?canary=perhaps").await.0, 400);
    assert_eq!(refresh(&fixture, "").await.0, 204);
}

/// Feed lives with everything; dm refuses what is odd.
fn refuses_odd(a: &Value) -> (Option<&'static str>, &'static str) {
    let odd = a.as_i64().unwrap_or_default() % 2 == 1;
    (odd.then_some("a: an even number is expected"), "UP")
}

fn sickens_at_odd(a: &Value) -> (Option<&'static str>, &'static str) {
    let odd = a.as_i64().unwrap_or_default() % 2 == 1;
    (None, if odd { "DOWN: db" } else { "UP" })
}

#[tokio::test]
async fn one_that_refuses_takes_everyone_back_and_no_restart_forgets_it() {
    let mut fixture = Fixture::new(&[("feed-config.yml", "a: 2")], &SETTINGS).await;
    let feed = Instance::start(&fixture, "feed-service", well).await;
    let dm = Instance::start(&fixture, "dm-service", refuses_odd).await;
    known(&fixture, 2).await;
    let before = version(&fixture).await;
    fixture.write("feed-config.yml", "a: 3");
    assert_eq!(refresh(&fixture, "?canary=1").await.0, 202);
    let canary = ends(&fixture, "rolled-back").await;
    let reason = canary["reason"].as_str().unwrap();
    assert!(
        reason.starts_with(&dm.id) && reason.ends_with("refused: a: an even number is expected"),
        "{reason}"
    );
    assert_eq!(version(&fixture).await, before);
    eventually("feed is back", async || {
        (feed.versions().last() == Some(&before)).then_some(())
    })
    .await;
    assert_eq!(
        actions(&fixture).await,
        ["canary-rolled-back", "canary-started", "published"]
    );
    drop((feed, dm));
    for _ in 0..2 {
        fixture = fixture.restart().await;
        assert_eq!(
            version(&fixture).await,
            before,
            "the rejected version is still the newest in the source"
        );
    }
    fixture.write("feed-config.yml", "a: 4");
    let fixture = fixture.restart().await;
    assert_eq!(
        fixture.json("/feed-config-default.json").await["a"],
        4,
        "a newer one is served"
    );
}

#[tokio::test]
async fn one_that_turns_unhealthy_or_silent_takes_everyone_back() {
    let fixture = Fixture::new(&[("feed-config.yml", "a: 2")], &SETTINGS).await;
    let sick = Instance::start(&fixture, "feed-service", sickens_at_odd).await;
    known(&fixture, 1).await;
    let before = version(&fixture).await;
    fixture.write("feed-config.yml", "a: 3");
    assert_eq!(refresh(&fixture, "?canary=1").await.0, 202);
    let canary = ends(&fixture, "rolled-back").await;
    assert!(
        canary["reason"].as_str().unwrap().ends_with("unhealthy: DOWN: db"),
        "{canary}"
    );
    assert_eq!(version(&fixture).await, before);
    eventually("it is well again", async || {
        (sick.versions().last() == Some(&before)).then_some(())
    })
    .await;

    drop(sick);
    let (status, problem) = refresh(&fixture, "?canary=1").await;
    assert_eq!((status, &problem["code"]), (409, &json!("canary")));
    assert_eq!(version(&fixture).await, before);

    // The same version again: an instance that reports nothing is no better.
    let silent = Instance::start(&fixture, "feed-service", well).await;
    assert_eq!(refresh(&fixture, "?canary=1").await.0, 202);
    assert_eq!(version(&fixture).await, before);
    let stop = || {
        let url = fixture.config.at("/actuator/busrefresh");
        sosohappy_common::tls::client()
            .delete(url)
            .bearer_auth(&fixture.bed.operator_token)
    };
    assert_eq!(stop().send().await.unwrap().status(), 200);
    let canary = ends(&fixture, "rolled-back").await;
    assert_eq!(canary["reason"], "stopped by operator");
    assert_eq!(stop().send().await.unwrap().status(), 409);
    assert_eq!(refresh(&fixture, "?canary=1").await.0, 202);
    drop(silent);
    let canary = ends(&fixture, "rolled-back").await;
    assert!(canary["reason"].as_str().unwrap().contains("no report"), "{canary}");
}

#[tokio::test]
async fn a_restart_in_the_middle_goes_on_where_it_was() {
    let settings = [("source.poll", "1h"), ("canary.wait", "8s"), ("canary.watch", "500ms")];
    let fixture = Fixture::new(&[("feed-config.yml", "a: 1")], &settings).await;
    let before = version(&fixture).await;
    let state = fixture.bed.folder().join("config-state");
    let instance = Instance::start(&fixture, "feed-service", well).await;
    known(&fixture, 1).await;
    fixture.write("feed-config.yml", "a: 2");
    let (status, started) = refresh(&fixture, "?canary=1").await;
    drop(instance);
    assert_eq!(status, 202);
    let kept = std::fs::read(state.join("canary.json")).unwrap();
    let fixture = fixture.restart().await;
    assert_eq!(version(&fixture).await, before);
    let canary = fixture.ask("/convergence").await["canary"].clone();
    assert_eq!((&canary["id"], &canary["phase"]), (&started["id"], &json!("running")));
    assert_eq!(fixture.json("/feed-config/default").await["version"], before);

    // The crash came between the file and the version: the archive has not seen the new one yet.
    fixture.config.stop().await;
    std::fs::write(state.join("canary.json"), &kept).unwrap();
    std::fs::write(state.join("versions/last"), before.as_str().unwrap()).unwrap();
    std::fs::remove_file(state.join("versions").join(started["to"].as_str().unwrap())).unwrap();
    let settings: Vec<_> = settings.to_vec();
    let bed = fixture.bed;
    let fixture = Fixture::on(bed, &settings).await;
    assert_eq!(version(&fixture).await, before);
    assert_eq!(fixture.ask("/convergence").await["canary"]["phase"], "running");
    let canary = eventually("nobody is there any more", async || {
        let canary = fixture.ask("/convergence").await["canary"].clone();
        (canary["phase"] == "rolled-back").then_some(canary)
    });
    assert!(canary.await["reason"].as_str().unwrap().contains("no report"));
    assert_eq!(version(&fixture).await, before);
}

#[tokio::test]
async fn the_version_is_rolled_back_when_the_leading_replica_is_gone() {
    let settings = [
        ("source.poll", "1h"),
        ("canary.hold", "true"),
        ("canary.wait", "3s"),
        ("canary.watch", "1m"),
    ];
    let fixture = Fixture::new(&[("feed-config.yml", "a: 2")], &settings).await;
    let before = version(&fixture).await;
    let folder = fixture.bed.folder().join("leader").display().to_string();
    let leader = crate::start(&fixture.bed, &[&settings[..], &[("state.folder", &folder)]].concat()).await;
    let feed = Instance::start(&fixture, "feed-service", well).await;
    known(&fixture, 1).await;
    fixture.write("feed-config.yml", "a: 4");
    let url = leader.at("/actuator/busrefresh?canary=1");
    let request = sosohappy_common::tls::client()
        .post(url)
        .bearer_auth(&fixture.bed.operator_token);
    eventually("the leader knows the instance and starts a canary", async || {
        let answer = request.try_clone()?.send().await.ok()?;
        let canary: Value = answer.json().await.ok()?;
        canary["updated"]
            .as_array()
            .filter(|updated| !updated.is_empty())
            .map(|_| ())
    })
    .await;
    ends(&fixture, "running").await;
    leader.stop().await;
    let canary = ends(&fixture, "rolled-back").await;
    let reason = canary["reason"].as_str().unwrap();
    assert_eq!(reason, "the replica of config that led it is gone");
    assert_eq!(version(&fixture).await, before);
    drop(feed);
}

/// `configBus` is open to every service, and to what has taken one over.
#[tokio::test]
async fn no_record_of_config_bus_starts_a_canary_or_publishes_a_held_version() {
    let settings = [("source.poll", "50ms"), ("canary.hold", "true")];
    let fixture = Fixture::new(&[("feed-config.yml", "a: 2")], &settings).await;
    let before = version(&fixture).await;
    fixture.write("feed-config.yml", "a: 3");
    eventually("the new version waits", async || {
        fixture.ask("/status").await["waiting"].as_str().map(|_| ())
    })
    .await;
    let forger = fixture.bed.context("config-service");
    let mut canary = BusMessage::refresh(&forger, "**");
    "ConfigCanaryRemoteApplicationEvent".clone_into(&mut canary.kind);
    let state = json!({
        "id": "1", "from": before, "to": before, "startedAt": forger.clock.now().to_string(), "startedBy": "feed",
        "phase": "rolled-back", "steps": [], "step": 0, "reason": null
    });
    canary.rest.insert("canary".to_owned(), state);
    let refresh = BusMessage::refresh(&forger, "**");
    let records = [canary, refresh].map(|message| Envelope::new(message, &forger).to_outgoing());
    fixture.bed.bus.publish(&records).await.unwrap();
    // A record that follows them has been read when it shows.
    let known = fixture.bed.context("feed-service");
    let report = SettingsReport {
        version: before.as_str().map(str::to_owned),
        ..SettingsReport::default()
    };
    let follows = Envelope::new(BusMessage::report(&known, &report), &known);
    fixture.bed.bus.publish(&[follows.to_outgoing()]).await.unwrap();
    self::known(&fixture, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fixture.ask("/convergence").await["canary"], Value::Null);
    assert_eq!(version(&fixture).await, before);
    assert!(fixture.ask("/status").await["waiting"].is_string());
}

#[tokio::test]
async fn with_hold_a_version_waits_for_busrefresh_and_replicas_agree() {
    let settings = [
        ("source.poll", "50ms"),
        ("canary.hold", "true"),
        ("canary.wait", "5s"),
        ("canary.watch", "300ms"),
    ];
    let fixture = Fixture::new(&[("feed-config.yml", "a: 2")], &settings).await;
    let before = version(&fixture).await;
    let folder = fixture.bed.folder().join("second").display().to_string();
    let second = crate::start(&fixture.bed, &[&settings[..], &[("state.folder", &folder)]].concat()).await;
    let at_second = async || {
        let request = sosohappy_common::tls::client().get(second.at("/config-service/feed-config/default"));
        let answer = request.bearer_auth(&fixture.bed.service_token).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["version"].clone()
    };
    fixture.write("feed-config.yml", "a: 3");
    let waiting = eventually("it waits", async || {
        let waiting = fixture.ask("/status").await["waiting"].clone();
        waiting.is_string().then_some(waiting)
    })
    .await;
    assert_eq!(
        (version(&fixture).await, at_second().await),
        (before.clone(), before.clone())
    );
    let feed = Instance::start(&fixture, "feed-service", refuses_odd).await;
    known(&fixture, 1).await;
    let (status, canary) = refresh(&fixture, "?canary=1").await;
    assert_eq!((status, &canary["to"]), (202, &waiting));
    ends(&fixture, "rolled-back").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        (version(&fixture).await, at_second().await),
        (before.clone(), before.clone())
    );
    fixture.write("feed-config.yml", "a: 4");
    eventually("the next one waits too", async || {
        let waiting = fixture.ask("/status").await["waiting"].clone();
        (waiting.is_string() && waiting != canary["to"]).then_some(())
    })
    .await;
    assert_eq!(refresh(&fixture, "").await.0, 204);
    eventually("both replicas serve it", async || {
        let (one, two) = (version(&fixture).await, at_second().await);
        (one == two && one != before).then_some(())
    })
    .await;
    eventually("and feed has it", async || (feed.versions().len() == 2).then_some(())).await;
    second.stop().await;
}
