//! How many instances run on which version.

use serde_json::json;
use sosohappy_events::Envelope;
use sosohappy_events::types::{BusMessage, SettingsReport};

use crate::Fixture;

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
        };
        let message = Envelope::new(BusMessage::report(instance, &report), instance);
        fixture.bed.bus.publish(&[message.to_outgoing()]).await.unwrap();
    }

    let path = fixture.config.at("/config-service/convergence");
    let ask = || reqwest::Client::new().get(&path);
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
