//! The versions that instances run.

use serde_json::json;
use sosohappy_bus::Start;
use sosohappy_events::types::{BusMessage, SettingsReport};
use sosohappy_events::{Envelope, Topic};

use crate::Fixture;

#[tokio::test]
async fn an_acknowledgement_counts_as_the_new_version_and_config_is_not_listed() {
    let fixture = Fixture::new(&[("feed-config.yml", "a: 1")], &[("source.poll", "50ms")]).await;
    let before = fixture.json("/feed-config/default").await["version"].clone();
    let mut bus = fixture.bed.bus.read(&[Topic::ConfigBus], Start::Latest).await.unwrap();
    fixture.write("feed-config.yml", "a: 2");
    // A Spring service acknowledges the event and publishes nothing else.
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
    let convergence = sosohappy_testkit::eventually("the acknowledgement is read", async || {
        let convergence = fixture.ask("/convergence").await;
        convergence["services"]["dm-service"].is_object().then_some(convergence)
    })
    .await;
    assert_ne!(convergence["version"], before);
    assert_eq!(
        convergence["services"]["dm-service"]["instances"][0]["version"],
        convergence["version"]
    );
    // Config's own acknowledgement, before or after that one.
    let own = loop {
        let record = bus.next().await.unwrap();
        let message = Envelope::<BusMessage>::decode(&record).unwrap().event;
        if message.kind == BusMessage::ACK && message.origin_service.starts_with("config-service:") {
            break message;
        }
    };
    assert_eq!(own.rest["ackId"], refresh.id);
    let convergence = fixture.ask("/convergence").await;
    let services: Vec<_> = convergence["services"].as_object().unwrap().keys().collect();
    assert_eq!(services, ["dm-service"]);
    assert_eq!(convergence["converged"], true);
}

#[tokio::test]
async fn operators_see_the_reports_of_instances() {
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

    let convergence = sosohappy_testkit::eventually("both reports are read", async || {
        let convergence = ask().bearer_auth(&fixture.bed.operator_token).send().await.unwrap();
        let convergence: serde_json::Value = convergence.error_for_status().unwrap().json().await.unwrap();
        (convergence["services"].as_object().unwrap().len() == 2).then_some(convergence)
    })
    .await;
    assert_eq!(convergence["version"], version);
    assert_eq!(convergence["converged"], false);
    assert_eq!(
        convergence["services"]["feed-service"]["versions"],
        json!({ newest: 1 })
    );
    let (feed, dm) = (
        &convergence["services"]["feed-service"]["instances"][0],
        &convergence["services"]["dm-service"]["instances"][0],
    );
    assert_eq!(
        (&feed["standing"], &feed["needsRestart"]),
        (&json!("newest"), &json!(["server.port"]))
    );
    assert_eq!((&dm["standing"], &dm["version"]), (&json!("refusing"), &json!("older")));
    assert_eq!(dm["refused"], "limits.posts: at least 1");
}
