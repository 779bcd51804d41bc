//! Canaries: a new version is served to one instance of each service, then to the others one at a time, and rolled back when an instance refuses
//! it, turns unhealthy or stops reporting.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use sosohappy_bus::Start;
use sosohappy_common::Context;
use sosohappy_events::types::{BusMessage, SettingsReport};
use sosohappy_events::{Envelope, Topic};
use sosohappy_testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::Fixture;

/// Polling takes an hour: only requests find a new version.
const NO_POLLING: (&str, &str) = ("source.poll", "1h");

/// Returns what an instance reports of a version: the reason for refusing it, and its health.
type Behaviour = fn(&Value) -> (Option<&'static str>, &'static str);

/// Accepts every version.
fn healthy(_: &Value) -> (Option<&'static str>, &'static str) {
    (None, "UP")
}

/// A service that reads the bus as ours do.
struct Instance {
    id: String,
    /// The versions that it has run, in order.
    ran: Arc<Mutex<Vec<Value>>>,
    stopping: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// The health that the last report of a stopped instance gives.
const STOPPED: &str = "stopped";

impl Drop for Instance {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Instance {
    async fn start(fixture: &Fixture, service: &'static str, behaviour: Behaviour) -> Self {
        let context = fixture.bed.context(service);
        let id = context.instance.to_string();
        let ran = Arc::new(Mutex::new(Vec::new()));
        let mut reader = fixture.bed.bus.read(&[Topic::ConfigBus], Start::Latest).await.unwrap();
        let (bus, url) = (
            fixture.bed.bus.clone(),
            fixture.config.at("/config-service/feed-config/default"),
        );
        let (token, ours) = (fixture.bed.service_token.clone(), ran.clone());
        let stopping = CancellationToken::new();
        let stopped = stopping.clone();
        let task = tokio::spawn(async move {
            let mut is_new = true;
            loop {
                if is_new {
                    let report = refresh_settings(&context, &url, &token, behaviour, &ours).await;
                    let report = Envelope::new(BusMessage::report(&context, &report), &context);
                    bus.publish(&[report.to_outgoing()]).await.unwrap();
                }
                let Some(record) = stopped.run_until_cancelled(reader.next()).await else {
                    let last = SettingsReport {
                        version: ours.lock().last().and_then(Value::as_str).map(str::to_owned),
                        health: Some(STOPPED.to_owned()),
                        ..SettingsReport::default()
                    };
                    let last = Envelope::new(BusMessage::report(&context, &last), &context);
                    return bus.publish(&[last.to_outgoing()]).await.unwrap();
                };
                let message = Envelope::<BusMessage>::decode(&record.unwrap()).unwrap().event;
                let destination = message.destination_service.as_deref();
                is_new = message.kind == BusMessage::REFRESH
                    && (destination == Some("**") || destination == Some(&context.instance));
            }
        });
        Self {
            id,
            ran,
            stopping,
            task,
        }
    }

    fn versions(&self) -> Vec<Value> {
        self.ran.lock().clone()
    }

    /// Ends the instance, and waits until config has read a last report: none of the instance is on its way after that.
    async fn stop(self, fixture: &Fixture) {
        self.stopping.cancel();
        eventually("config has read the last report", async || {
            let convergence = fixture.ask("/convergence").await;
            let services = convergence["services"].as_object().unwrap().values();
            let mut instances = services.flat_map(|service| service["instances"].as_array().unwrap());
            instances
                .any(|instance| instance["id"] == *self.id && instance["health"] == STOPPED)
                .then_some(())
        })
        .await;
    }
}

/// Requests the settings as an instance does, and returns its report.
async fn refresh_settings(
    context: &Context,
    url: &str,
    token: &str,
    behaviour: Behaviour,
    ran: &Mutex<Vec<Value>>,
) -> SettingsReport {
    let response = sosohappy_common::tls::client().get(url).bearer_auth(token);
    let response = response.header("X-Config-Instance", &*context.instance).send().await;
    let Ok(answer) = response else {
        return SettingsReport::default();
    };
    let answer: Value = answer.json().await.unwrap();
    let settings = &answer["propertySources"][0]["source"];
    let (refused, health) = behaviour(&settings["a"]);
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

async fn wait_for_instances(fixture: &Fixture, instances: usize) {
    eventually("all instances are known", async || {
        let convergence = fixture.ask("/convergence").await;
        let services = convergence["services"].as_object().unwrap().values();
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

async fn wait_for_phase(fixture: &Fixture, phase: &str) -> Value {
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
async fn a_valid_version_is_served_to_one_of_each_service_then_to_the_others() {
    // Steps so long that a busy machine can look at one before the next begins.
    let settings = [NO_POLLING, ("canary.wait", "1m"), ("canary.watch", "3s")];
    let fixture = Fixture::new(&[("feed-config.yml", "a: 1")], &settings).await;
    let instances = [
        Instance::start(&fixture, "feed-service", healthy).await,
        Instance::start(&fixture, "feed-service", healthy).await,
        Instance::start(&fixture, "dm-service", healthy).await,
    ];
    wait_for_instances(&fixture, 3).await;
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
    assert_eq!(
        version(&fixture).await,
        before,
        "a client without an instance id gets the version before"
    );
    let waiting = instances.iter().find(|instance| last[0] == *instance.id).unwrap();
    assert_eq!(refresh(&fixture, "?canary=true").await.0, 409, "one at a time");
    eventually("the first instances have the new version", async || {
        let others = instances.iter().filter(|instance| instance.id != waiting.id);
        others
            .into_iter()
            .all(|instance| instance.versions().last() == Some(&canary["to"]))
            .then_some(())
    })
    .await;
    assert_eq!(waiting.versions(), vec![before.clone()]);
    assert_eq!(fixture.ask("/status").await["version"], before);
    wait_for_phase(&fixture, "finished").await;
    assert_eq!(version(&fixture).await, canary["to"]);
    assert_eq!(
        actions(&fixture).await,
        ["canary-finished", "canary-started", "published"]
    );
    eventually("all instances have run both versions and no other", async || {
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

/// Refuses odd numbers.
fn refuses_odd(a: &Value) -> (Option<&'static str>, &'static str) {
    let odd = a.as_i64().unwrap_or_default() % 2 == 1;
    (odd.then_some("a: an even number is expected"), "UP")
}

/// Turns unhealthy at odd numbers.
fn unhealthy_at_odd(a: &Value) -> (Option<&'static str>, &'static str) {
    let odd = a.as_i64().unwrap_or_default() % 2 == 1;
    (None, if odd { "DOWN: db" } else { "UP" })
}

#[tokio::test]
async fn a_refusal_rolls_back_and_the_rollback_survives_restarts() {
    let settings = [NO_POLLING, ("canary.wait", "1m"), ("canary.watch", "1m")];
    let mut fixture = Fixture::new(&[("feed-config.yml", "a: 2")], &settings).await;
    let feed = Instance::start(&fixture, "feed-service", healthy).await;
    let dm = Instance::start(&fixture, "dm-service", refuses_odd).await;
    wait_for_instances(&fixture, 2).await;
    let before = version(&fixture).await;
    fixture.write("feed-config.yml", "a: 3");
    assert_eq!(refresh(&fixture, "?canary=1").await.0, 202);
    let canary = wait_for_phase(&fixture, "rolled-back").await;
    let reason = canary["reason"].as_str().unwrap();
    assert!(
        reason.starts_with(&dm.id) && reason.ends_with("refused: a: an even number is expected"),
        "{reason}"
    );
    assert_eq!(version(&fixture).await, before);
    eventually("feed runs the version before", async || {
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
        "a newer version is served"
    );
}

#[tokio::test]
async fn an_unhealthy_or_silent_instance_rolls_back() {
    let settings = [NO_POLLING, ("canary.wait", "8s"), ("canary.watch", "5s")];
    let fixture = Fixture::new(&[("feed-config.yml", "a: 2")], &settings).await;
    let unhealthy = Instance::start(&fixture, "feed-service", unhealthy_at_odd).await;
    wait_for_instances(&fixture, 1).await;
    let before = version(&fixture).await;
    fixture.write("feed-config.yml", "a: 3");
    assert_eq!(refresh(&fixture, "?canary=1").await.0, 202);
    let canary = wait_for_phase(&fixture, "rolled-back").await;
    assert!(
        canary["reason"].as_str().unwrap().ends_with("unhealthy: DOWN: db"),
        "{canary}"
    );
    assert_eq!(version(&fixture).await, before);
    eventually("the instance runs the version before", async || {
        (unhealthy.versions().last() == Some(&before)).then_some(())
    })
    .await;

    unhealthy.stop(&fixture).await;
    let (status, problem) = refresh(&fixture, "?canary=1").await;
    assert_eq!((status, &problem["code"]), (409, &json!("canary")));
    assert_eq!(version(&fixture).await, before);

    // The same version again: an instance without reports is a failure too.
    let silent = Instance::start(&fixture, "feed-service", healthy).await;
    assert_eq!(refresh(&fixture, "?canary=1").await.0, 202);
    assert_eq!(version(&fixture).await, before);
    let stop = || {
        let url = fixture.config.at("/actuator/busrefresh");
        sosohappy_common::tls::client()
            .delete(url)
            .bearer_auth(&fixture.bed.operator_token)
    };
    assert_eq!(stop().send().await.unwrap().status(), 200);
    let canary = wait_for_phase(&fixture, "rolled-back").await;
    assert_eq!(canary["reason"], "stopped by operator");
    assert_eq!(stop().send().await.unwrap().status(), 409);
    assert_eq!(refresh(&fixture, "?canary=1").await.0, 202);
    drop(silent);
    let canary = wait_for_phase(&fixture, "rolled-back").await;
    assert!(canary["reason"].as_str().unwrap().contains("no report"), "{canary}");
}

#[tokio::test]
async fn a_canary_continues_after_a_restart() {
    let settings = [NO_POLLING, ("canary.wait", "8s"), ("canary.watch", "5s")];
    let fixture = Fixture::new(&[("feed-config.yml", "a: 1")], &settings).await;
    let before = version(&fixture).await;
    let state = fixture.bed.folder().join("config-state");
    let instance = Instance::start(&fixture, "feed-service", healthy).await;
    wait_for_instances(&fixture, 1).await;
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

    // A crash between saving the canary and saving the version: the archive does not have the new version.
    fixture.config.stop().await;
    std::fs::write(state.join("canary.json"), &kept).unwrap();
    std::fs::write(state.join("versions/last"), before.as_str().unwrap()).unwrap();
    std::fs::remove_file(state.join("versions").join(started["to"].as_str().unwrap())).unwrap();
    let settings: Vec<_> = settings.to_vec();
    let bed = fixture.bed;
    let fixture = Fixture::on(bed, &settings).await;
    assert_eq!(version(&fixture).await, before);
    assert_eq!(fixture.ask("/convergence").await["canary"]["phase"], "running");
    let canary = wait_for_phase(&fixture, "rolled-back").await;
    assert!(canary["reason"].as_str().unwrap().contains("no report"));
    assert_eq!(version(&fixture).await, before);
}

#[tokio::test]
async fn a_canary_without_its_leader_is_rolled_back() {
    let settings = [NO_POLLING, ("canary.hold", "true"), ("canary.watch", "1m")];
    let follows = [&settings[..], &[("canary.wait", "5s")]].concat();
    let fixture = Fixture::new(&[("feed-config.yml", "a: 2")], &follows).await;
    let before = version(&fixture).await;
    let folder = fixture.bed.folder().join("leader").display().to_string();
    // The leader waits longer for the instance, which the other replica serves.
    let leads = [&settings[..], &[("canary.wait", "1m"), ("state.folder", &folder)]].concat();
    let leader = crate::start(&fixture.bed, &leads).await;
    let feed = Instance::start(&fixture, "feed-service", healthy).await;
    wait_for_instances(&fixture, 1).await;
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
    wait_for_phase(&fixture, "running").await;
    leader.stop().await;
    let canary = wait_for_phase(&fixture, "rolled-back").await;
    let reason = canary["reason"].as_str().unwrap();
    assert_eq!(reason, "the leading replica of config is unavailable");
    assert_eq!(version(&fixture).await, before);
    drop(feed);
}

/// Every service may write to `configBus`, and so may an attacker who controls one.
#[tokio::test]
async fn no_record_of_config_bus_starts_a_canary_or_publishes_a_held_version() {
    let settings = [("source.poll", "50ms"), ("canary.hold", "true")];
    let fixture = Fixture::new(&[("feed-config.yml", "a: 2")], &settings).await;
    let before = version(&fixture).await;
    fixture.write("feed-config.yml", "a: 3");
    eventually("the new version is held back", async || {
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
    // The report follows the forged records: when it is listed they have been read.
    let feed = fixture.bed.context("feed-service");
    let report = SettingsReport {
        version: before.as_str().map(str::to_owned),
        ..SettingsReport::default()
    };
    let follows = Envelope::new(BusMessage::report(&feed, &report), &feed);
    fixture.bed.bus.publish(&[follows.to_outgoing()]).await.unwrap();
    wait_for_instances(&fixture, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fixture.ask("/convergence").await["canary"], Value::Null);
    assert_eq!(version(&fixture).await, before);
    assert!(fixture.ask("/status").await["waiting"].is_string());
}

#[tokio::test]
async fn with_hold_a_version_is_held_back_until_busrefresh_on_all_replicas() {
    let settings = [
        ("source.poll", "50ms"),
        ("canary.hold", "true"),
        ("canary.wait", "1m"),
        ("canary.watch", "1m"),
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
    let waiting = eventually("it is held back", async || {
        let waiting = fixture.ask("/status").await["waiting"].clone();
        waiting.is_string().then_some(waiting)
    })
    .await;
    assert_eq!(
        (version(&fixture).await, at_second().await),
        (before.clone(), before.clone())
    );
    let feed = Instance::start(&fixture, "feed-service", refuses_odd).await;
    wait_for_instances(&fixture, 1).await;
    let (status, canary) = refresh(&fixture, "?canary=1").await;
    assert_eq!((status, &canary["to"]), (202, &waiting));
    wait_for_phase(&fixture, "rolled-back").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        (version(&fixture).await, at_second().await),
        (before.clone(), before.clone())
    );
    fixture.write("feed-config.yml", "a: 4");
    eventually("the next version is held back too", async || {
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
    eventually("feed runs it", async || (feed.versions().len() == 2).then_some(())).await;
    second.stop().await;
}
