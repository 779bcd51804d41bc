//! `fleet topics` against a real broker.

use std::process::{Command, Output};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use sosohappy_testkit::{Bed, EngineSet, eventually};

fn topics(brokers: &str, prefix: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fleet"))
        .args(["topics", "--url", &format!("kafka:{brokers}"), "--prefix", prefix])
        .args(more)
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Of the last line: made, missing, as declared, differ.
fn counts(text: &str) -> Vec<usize> {
    let last = text.lines().last().unwrap().split_once(": ").unwrap().1;
    last.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_made_once_and_differences_told() {
    if !EngineSet::real_is_there() {
        return;
    }
    // Its prefix begins every topic of this test, and all of them go with it.
    let bed = Bed::new(EngineSet::Real).await;
    let (brokers, prefix) = bed.kafka().unwrap();
    let prefix = format!("{prefix}again_");

    let text = told(&topics(brokers, &prefix, &["--dry-run"]));
    assert_eq!(counts(&text), [0, 26, 0, 0], "{text}");
    let text = told(&topics(brokers, &prefix, &["--dry-run"]));
    assert_eq!(counts(&text), [0, 26, 0, 0], "a dry run made something: {text}");
    let text = told(&topics(brokers, &prefix, &[]));
    assert_eq!(counts(&text), [26, 0, 0, 0], "{text}");
    let text = told(&topics(brokers, &prefix, &["--strict"]));
    assert_eq!(counts(&text), [0, 0, 26, 0], "{text}");

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let changed = format!("{prefix}resign");
    let other = AlterConfig::new(ResourceSpecifier::Topic(&changed)).set("retention.ms", "3600000");
    for answer in admin.alter_configs(&[other], &AdminOptions::new()).await.unwrap() {
        answer.unwrap();
    }
    // Brokers learn of a setting a moment after it was changed.
    let text = eventually("the difference is told", async || {
        let text = told(&topics(brokers, &prefix, &[]));
        (counts(&text) == [0, 0, 25, 1]).then_some(text)
    })
    .await;
    assert!(
        text.contains("retention.ms is 3600000, declared is 604800000"),
        "{text}"
    );
    let strict = topics(brokers, &prefix, &["--strict"]);
    assert!(!strict.status.success(), "a difference passes: {strict:?}");
    assert_eq!(
        String::from_utf8(strict.stderr).unwrap(),
        "fleet: 1 topics are not as declared\n"
    );
}

#[test]
fn a_broker_that_is_away_and_a_bus_without_topics_are_told() {
    let away = topics("127.0.0.1:1", "", &[]);
    let said = String::from_utf8_lossy(&away.stderr).into_owned();
    assert!(
        !away.status.success() && said.contains("the bus is unavailable"),
        "{said}"
    );
    let journal = Command::new(env!("CARGO_BIN_EXE_fleet"))
        .args(["topics", "--url", "journal:here"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&journal.stderr).into_owned();
    assert!(
        !journal.status.success() && said.contains("kept by Kafka alone"),
        "{said}"
    );
}
