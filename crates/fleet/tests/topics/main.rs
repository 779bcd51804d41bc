//! Tests of `fleet topics` on a real broker.

use std::process::{Command, Output};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use sosohappy_common::settings::{Events, Security};
use sosohappy_events::Topic;
use sosohappy_events::topic::Service;
use sosohappy_kafka_admin::{Admin, BrokerAcl};
use sosohappy_testkit::{Bed, EngineSet, eventually};

/// Runs `fleet topics`.
fn topics(brokers: &str, prefix: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fleet"))
        .args(["topics", "--url", &format!("kafka:{brokers}"), "--prefix", prefix])
        .args(more)
        .output()
        .unwrap()
}

/// Returns the output of a command, which must have succeeded.
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns the numbers of the summary, which is the last line. For topics: created, missing, as declared, differ.
fn counts(text: &str) -> Vec<usize> {
    let last = text.lines().last().unwrap().split_once(": ").unwrap().1;
    last.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_created_once_and_differences_are_reported() {
    if !EngineSet::real_is_there() {
        return;
    }
    // Deletes the topics of this test, which begin with its prefix, when it is dropped.
    let bed = Bed::new(EngineSet::Real).await;
    let (brokers, prefix) = bed.kafka().unwrap();
    let prefix = format!("{prefix}again_");
    // Each topic has a dead-letter topic.
    let all = 2 * Topic::ALL.len();

    let text = stdout(&topics(brokers, &prefix, &["--dry-run"]));
    assert_eq!(counts(&text), [0, all, 0, 0], "{text}");
    let text = stdout(&topics(brokers, &prefix, &["--dry-run"]));
    assert_eq!(counts(&text), [0, all, 0, 0], "a dry run created topics: {text}");
    let text = stdout(&topics(brokers, &prefix, &[]));
    assert_eq!(counts(&text), [all, 0, 0, 0], "{text}");
    // Brokers read the metadata of what was created or changed a moment later.
    eventually("the topics are as declared", async || {
        let text = stdout(&topics(brokers, &prefix, &["--dry-run"]));
        (counts(&text) == [0, 0, all, 0]).then_some(())
    })
    .await;
    let text = stdout(&topics(brokers, &prefix, &["--strict"]));
    assert_eq!(counts(&text), [0, 0, all, 0], "{text}");

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let changed = format!("{prefix}resign");
    let other = AlterConfig::new(ResourceSpecifier::Topic(&changed)).set("retention.ms", "3600000");
    for answer in admin.alter_configs(&[other], &AdminOptions::new()).await.unwrap() {
        answer.unwrap();
    }
    let text = eventually("the difference is reported", async || {
        let text = stdout(&topics(brokers, &prefix, &[]));
        (counts(&text) == [0, 0, all - 1, 1]).then_some(text)
    })
    .await;
    assert!(
        text.contains("retention.ms is 3600000, declared is 604800000"),
        "{text}"
    );
    let strict = topics(brokers, &prefix, &["--strict"]);
    assert!(!strict.status.success(), "a difference is accepted: {strict:?}");
    assert_eq!(
        String::from_utf8(strict.stderr).unwrap(),
        "fleet: 1 topics are not as declared\n"
    );
}

#[test]
fn an_unavailable_broker_and_a_bus_without_topics_are_errors() {
    let unavailable = topics("127.0.0.1:1", "", &[]);
    let message = String::from_utf8_lossy(&unavailable.stderr).into_owned();
    assert!(
        !unavailable.status.success() && message.contains("the bus is unavailable"),
        "{message}"
    );
    let journal = Command::new(env!("CARGO_BIN_EXE_fleet"))
        .args(["topics", "--url", "journal:here"])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&journal.stderr).into_owned();
    assert!(
        !journal.status.success() && message.contains("kept by Kafka alone"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acls_are_created_once_and_pruned() {
    if !EngineSet::real_is_there() {
        return;
    }
    let bed = Bed::new(EngineSet::Real).await;
    let (brokers, prefix) = bed.kafka().unwrap();
    let template = format!("User:{prefix}{{service}}");
    let acls = |more: &[&str]| topics(brokers, prefix, &[&["--acls", "--principal", &template], more].concat());

    // The number of ACLs follows from the declared topics.
    let events = Events::new("kafka:", prefix);
    let declared = |service: Service| sosohappy_bus::acls_of(service, "User:x", &events).unwrap().len();
    let all: usize = Service::ALL.into_iter().map(declared).sum();
    let text = stdout(&acls(&["--dry-run"]));
    assert_eq!(
        counts(&text),
        [all, 0, 0, 0],
        "missing, same, deleted, undeclared: {text}"
    );
    let text = stdout(&acls(&[]));
    assert_eq!(counts(&text), [all, 0, 0, 0], "a dry run created ACLs: {text}");
    // Brokers read what was created or deleted a moment later.
    eventually("the ACLs are as declared", async || {
        let text = stdout(&acls(&["--dry-run"]));
        (counts(&text) == [0, all, 0, 0]).then_some(())
    })
    .await;
    let text = stdout(&acls(&["--strict"]));
    assert_eq!(counts(&text), [0, all, 0, 0], "{text}");

    // Creates an ACL of auth for feed, as an operator might by mistake.
    let mut admin = Admin::connect(brokers, &Security::default()).await.unwrap();
    let feed = format!("User:{prefix}feed");
    let auth = sosohappy_bus::acls_of(Service::Auth, &feed, &events).unwrap();
    let stray: Vec<_> = auth
        .into_iter()
        .filter(|acl| acl.to_string().contains("WRITE topic") && acl.name.ends_with("accessToken"))
        .collect();
    assert_eq!(stray.len(), 1);
    admin.create_acls(&stray).await.unwrap();
    let strict = eventually("an undeclared ACL is not accepted", async || {
        let strict = acls(&["--strict"]);
        (!strict.status.success()).then_some(strict)
    })
    .await;
    assert_eq!(
        String::from_utf8(strict.stderr).unwrap(),
        "fleet: 1 ACLs of the services are not declared\n"
    );
    let text = stdout(&acls(&["--prune"]));
    assert_eq!(counts(&text), [0, all, 1, 0], "{text}");
    assert!(
        text.contains(&format!("deleted    {feed} may WRITE topic {prefix}accessToken\n")),
        "{text}"
    );

    for service in Service::ALL {
        let principal = format!("User:{prefix}{}", service.short_name());
        let found = eventually("the rights are those that are declared", async || {
            let found = admin.acls_of(&principal).await.unwrap();
            (found.len() == declared(service)).then_some(found)
        })
        .await;
        let known = found.into_iter().filter_map(|acl| match acl {
            BrokerAcl::Known(acl) => Some(acl),
            BrokerAcl::Other(_) => None,
        });
        admin.delete_acls(&known.collect::<Vec<_>>()).await.unwrap();
    }
}

#[test]
fn acls_are_printed_without_a_broker() {
    let printed = Command::new(env!("CARGO_BIN_EXE_fleet"))
        .args(["topics", "--acls", "--prefix", "t1-"])
        .output()
        .unwrap();
    let text = stdout(&printed);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.contains(&"User:auth may WRITE topic t1-accessToken"), "{text}");
    assert!(!lines.contains(&"User:feed may WRITE topic t1-accessToken"), "{text}");
    assert!(lines.contains(&"User:feed may READ  group t1-feed-service.*"), "{text}");
}
