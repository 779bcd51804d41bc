//! How many instances run on which version.

use serde_json::json;
use sosohappy_bus::Start;
use sosohappy_events::types::{BusMessage, SettingsReport};
use sosohappy_events::{Envelope, Topic};

use crate::Fixture;

#[tokio::test]
async fn whoever_acknowledges_a_new_version_runs_on_it_and_config_follows_nobody() {
    let fixture = Fixture::new(&[("feed-config.yml", "a: 1")], &[("source.poll", "50ms")]).await;
    let before = fixture.json("/feed-config/default").await["version"].clone();
    let mut bus = fixture.bed.bus.read(&[Topic::ConfigBus], Start::Latest).await.unwrap();
    fixture.write("feed-config.yml", "a: 2");
    // A Spring service: it acknowledges at once, and says nothing more.
    let spring = fixture.bed.context("dm-service");
    let refresh = loop {
        let record = bus.next().await.unwrap();
        let message = Envelope::<BusMessage>::decode(&record).unwrap().event;
        if message.kind == BusMessage::REFRESH {
            break message;
        }
    };
    let ack = Envelope::new(BusMessage::ack(&spring, &refresh), &spring);
    fixture.bed.bus.publish(&[ack.to_outgoing()]).await.unwrap();
    let told = sosohappy_testkit::eventually("it is heard", async || {
        let told = fixture.ask("/convergence").await;
        told["services"]["dm-service"].is_object().then_some(told)
    })
    .await;
    assert_ne!(told["version"], before);
    assert_eq!(
        told["services"]["dm-service"]["instances"][0]["version"],
        told["version"]
    );
    // Config's own acknowledgement came before that one or has come now.
    let own = loop {
        let record = bus.next().await.unwrap();
        let message = Envelope::<BusMessage>::decode(&record).unwrap().event;
        if message.kind == BusMessage::ACK && message.origin_service.starts_with("config-service:") {
            break message;
        }
    };
    assert_eq!(own.rest["ackId"], refresh.id);
    let told = fixture.ask("/convergence").await;
    let services: Vec<_> = told["services"].as_object().unwrap().keys().collect();
    assert_eq!(services, ["dm-service"]);
    assert_eq!(told["converged"], true);
}

#[tokio::test]
async fn what_instances_report_is_told_to_operators() {
    let fixture = Fixture::new(&[("feed-config.yml", "a: 1")], &[("convergence.late-after", "1ms")]).await;
    let version = fixture.json("/feed-config/default").await["version"].clone();
    let newest = version.as_str().unwrap();
    let feed = fixture.bed.context("feed-service");
    let dm = fixture.bed.context("dm-service");
    for (instance, version, refused) in [(&feed, newest, None), (&dm, "older", Some("limits.posts: at least 1"))] {
        let report = SettingsReport {
            version: Some(version.to_owned()),
            needs_restart: vec!["server.port".to_owned()],
            refused: refused.map(str::to_owned),
            ..SettingsReport::default()
        };
        let message = Envelope::new(BusMessage::report(instance, &report), instance);
        fixture.bed.bus.publish(&[message.to_outgoing()]).await.unwrap();
    }

    let path = fixture.config.at("/config-service/convergence");
    let ask = || sosohappy_common::tls::client().get(&path);
    let anonymous = ask().send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    let service = ask().bearer_auth(&fixture.bed.service_token).send().await.unwrap();
    assert_eq!(service.status(), 401);

    let told = sosohappy_testkit::eventually("both are heard", async || {
        let told = ask().bearer_auth(&fixture.bed.operator_token).send().await.unwrap();
        let told: serde_json::Value = told.error_for_status().unwrap().json().await.unwrap();
        (told["services"].as_object().unwrap().len() == 2).then_some(told)
    })
    .await;
    assert_eq!(told["version"], version);
    assert_eq!(told["converged"], false);
    assert_eq!(told["services"]["feed-service"]["versions"], json!({ newest: 1 }));
    let (feed, dm) = (
        &told["services"]["feed-service"]["instances"][0],
        &told["services"]["dm-service"]["instances"][0],
    );
    assert_eq!(
        (&feed["standing"], &feed["needsRestart"]),
        (&json!("newest"), &json!(["server.port"]))
    );
    assert_eq!((&dm["standing"], &dm["version"]), (&json!("refusing"), &json!("older")));
    assert_eq!(dm["refused"], "limits.posts: at least 1");
}
