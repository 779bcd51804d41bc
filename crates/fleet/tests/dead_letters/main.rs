//! Tests of `fleet dead-letters` on the journal and on Kafka.

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use sosohappy_bus::{Bus, Start};
use sosohappy_common::Context;
use sosohappy_common::settings::Events;
use sosohappy_events::types::AccountResigned;
use sosohappy_events::{Envelope, Event as _, Header, Topic};
use sosohappy_testkit::{Bed, EngineSet};

/// The bus of one test. The test opens it again after each command, since the command line is another process.
struct TestBus {
    url: String,
    prefix: String,
}

impl TestBus {
    async fn open(&self) -> Arc<dyn Bus> {
        let events = Events::new(&self.url, &self.prefix);
        let opened = sosohappy_bus::open(&events, &Context::system("test-service", 0)).await;
        opened.expect("the bus opens")
    }

    /// Runs `fleet dead-letters` on this bus.
    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fleet"))
            .args(["dead-letters", "--url", &self.url, "--prefix", &self.prefix])
            .args(arguments)
            .output()
            .expect("the binary runs")
    }

    /// Runs a command that must succeed, and returns its output.
    fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command that must fail, and returns its error message.
    fn stderr_of_failure(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

/// Returns the ids of the listed dead letters.
fn ids(listed: &str) -> Vec<&str> {
    let lines = listed.lines().filter(|line| line.starts_with("resign/"));
    lines.map(|line| line.split_once("  ").expect("columns").0).collect()
}

async fn dead_letters_are_listed_replayed_and_discarded(bus_of_test: TestBus) {
    let bus = bus_of_test.open().await;
    let context = Context::system("test-service", 0);
    let sent = ["one", "two", "three"].map(|nickname| {
        let event = AccountResigned {
            account: format!("{nickname}@example.com+kakao").parse().expect("an account"),
            nickname: nickname.to_owned(),
        };
        Envelope::new(event, &context)
    });
    bus.publish(&sent.each_ref().map(Envelope::to_outgoing))
        .await
        .expect("published");
    let mut member = bus.join("test-service.resign", &[Topic::Resign]).await.expect("joined");
    for _ in &sent {
        let next = tokio::time::timeout(Duration::from_mins(1), member.next()).await;
        let record = next.expect("a record arrives").expect("the member is running");
        let reason = match record.value_text().expect("text") {
            "one" => "rejected: the account is unknown",
            _ => "malformed: the key is not an account",
        };
        member.dead_letter(&record, reason).await.expect("sent");
        member.done(&record).await.expect("done");
    }
    member.leave().await;
    drop(bus);

    let listed = bus_of_test.stdout(&["list"]);
    assert_eq!(ids(&listed).len(), 3, "{listed}");
    assert!(listed.ends_with("3 dead letters\n"), "{listed}");
    assert!(!listed.contains("@example.com"), "no personal data in a list: {listed}");
    let one = bus_of_test.stdout(&["list", "--topic", "resign", "--reason", "unknown", "--since", "1h"]);
    assert_eq!(ids(&one).len(), 1, "{one}");
    for nothing in [["list", "--topic", "expired"], ["list", "--group", "feed-service"]] {
        assert_eq!(bus_of_test.stdout(&nothing), "0 dead letters\n");
    }
    let id = ids(&one)[0];
    let shown = bus_of_test.stdout(&["show", id]);
    assert!(
        shown.contains("key: one@example.com+kakao") && shown.ends_with("\none\n"),
        "{shown}"
    );
    assert!(shown.contains(&format!("event-id: {}", sent[0].meta.id)), "{shown}");

    let dry = bus_of_test.stdout(&["replay", "--reason", "unknown", "--dry-run"]);
    assert!(dry.contains(&format!("would be replayed: {id}")), "{dry}");
    assert_eq!(
        ids(&bus_of_test.stdout(&["list"])).len(),
        3,
        "a dry run changes nothing"
    );
    let replayed = bus_of_test.stdout(&["replay", "--reason", "unknown"]);
    assert!(replayed.ends_with("1 dead letters replayed\n"), "{replayed}");
    let left = bus_of_test.stdout(&["list"]);
    assert_eq!(ids(&left).len(), 2, "{left}");
    assert!(
        bus_of_test
            .stderr_of_failure(&["replay", id])
            .contains("has been resolved")
    );
    assert!(
        bus_of_test.stderr_of_failure(&["discard"]).contains("required"),
        "a selection is needed"
    );
    assert!(
        bus_of_test
            .stderr_of_failure(&["show", "resign"])
            .contains("TOPIC/PARTITION/OFFSET")
    );

    bus_of_test.stdout(&["discard", ids(&left)[0]]);
    assert_eq!(ids(&bus_of_test.stdout(&["list"])), [ids(&left)[1]]);
    bus_of_test.stdout(&["discard", "--all"]);
    assert_eq!(bus_of_test.stdout(&["list"]), "0 dead letters\n");

    let bus = bus_of_test.open().await;
    let mut reader = bus
        .read(&[AccountResigned::TOPIC], Start::Earliest)
        .await
        .expect("read");
    let mut first = Vec::new();
    while first.len() < 2 {
        let next = tokio::time::timeout(Duration::from_mins(1), reader.next()).await;
        let record = next.expect("a record arrives").expect("the reader is running");
        if record.value_text() == Ok("one") {
            assert!(record.header(Header::DLT_REASON).is_none());
            first.push(
                Envelope::<AccountResigned>::decode(&record)
                    .expect("the original event")
                    .meta,
            );
        }
    }
    assert_eq!(first[0], first[1], "the replayed event has the same id and time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_on_the_journal() {
    let folder = tempfile::tempdir().expect("a temporary folder can be created");
    dead_letters_are_listed_replayed_and_discarded(TestBus {
        url: format!("journal:{}", folder.path().join("events.db").display()),
        prefix: String::new(),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_on_kafka() {
    if !EngineSet::real_is_there() {
        return;
    }
    // Deletes the topics of this test, which begin with its prefix, when it is dropped.
    let bed = Bed::new(EngineSet::Real).await;
    let (brokers, prefix) = bed.kafka().expect("the real engines");
    dead_letters_are_listed_replayed_and_discarded(TestBus {
        url: format!("kafka:{brokers}"),
        prefix: format!("{prefix}letters_"),
    })
    .await;
}
