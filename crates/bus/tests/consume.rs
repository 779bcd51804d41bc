//! Guarantees for consumers, on the journal and on Kafka: retries, dead letters, readiness, draining.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sosohappy_bus::consume::{Consumer, HandleError, spawn_consumer, spawn_reader};
use sosohappy_bus::{Bus, BusError, Member, Reader, Start};
use sosohappy_common::Context;
use sosohappy_common::correlation::{Correlation, correlation};
use sosohappy_events::types::{AccountResigned, NicknameSet};
use sosohappy_events::{Envelope, Event, EventId, Header, Malformed, Meta, Outgoing, Record, Topic};
use support::{Bench, assert_counted, counted, read, soon};
use tokio::sync::{mpsc, watch};

on_both!(
    applies_in_order_and_not_again_after_a_restart,
    retries_unavailable_dependencies_in_order,
    sends_dead_letters_and_continues,
    applies_waiting_records_together_in_order,
    shuts_down_during_a_retry_without_acknowledging,
    an_unreadable_newer_version_waits_for_a_newer_replica,
    consumers_of_state_hold_readiness_back_until_the_group_has_caught_up,
    readers_hold_readiness_back_until_they_have_caught_up,
    readers_skip_records_they_cannot_handle,
    readers_apply_waiting_records_together_in_order,
    readers_from_the_present_miss_nothing_once_ready,
    a_reader_that_fails_goes_on_where_it_began,
    published_events_carry_the_correlation_of_the_consumed_event,
);

const BUDGET: Duration = Duration::from_secs(20);

/// Passes events on, after failing as often as their nicknames say.
struct Told {
    seen: mpsc::UnboundedSender<(String, Meta)>,
    times: Mutex<HashMap<String, u32>>,
}

fn recording() -> (Told, mpsc::UnboundedReceiver<(String, Meta)>) {
    let (seen, told) = mpsc::unbounded_channel();
    (
        Told {
            seen,
            times: Mutex::default(),
        },
        told,
    )
}

#[async_trait]
impl Consumer<AccountResigned> for Told {
    async fn handle(&self, event: Envelope<AccountResigned>) -> Result<(), HandleError> {
        let nickname = event.event.nickname;
        let time = {
            let mut times = self.times.lock();
            *times.entry(nickname.clone()).and_modify(|time| *time += 1).or_insert(1)
        };
        match (nickname.as_str(), time) {
            ("away", 1..=3) => Err(HandleError::Unavailable(anyhow::anyhow!("the database is away"))),
            ("gone", _) => Err(HandleError::Unavailable(anyhow::anyhow!(
                "the database is away for good"
            ))),
            ("bad", _) => Err(HandleError::Rejected("it makes no sense".into())),
            ("corrupt", _) => Err(HandleError::Corrupt(anyhow::anyhow!("a column does not decode"))),
            ("healed", 1..=3) => Err(HandleError::Corrupt(anyhow::anyhow!("a column is missing"))),
            ("panic", _) => panic!("index out of range"),
            _ => {
                self.seen.send((nickname, event.meta)).expect("the test listens");
                Ok(())
            }
        }
    }
}

fn resigned(nickname: &str) -> AccountResigned {
    AccountResigned {
        account: "kim@example.com+kakao".parse().unwrap(),
        nickname: nickname.into(),
    }
}

async fn publish(bench: &Bench, bus: &Arc<dyn Bus>, nicknames: &[&str]) -> Vec<EventId> {
    let envelopes: Vec<_> = nicknames
        .iter()
        .map(|nickname| Envelope::new(resigned(nickname), &bench.context))
        .collect();
    // One by one: what becomes of a batch on a topic that was just made is no matter of these tests.
    for envelope in &envelopes {
        bus.publish(&[envelope.to_outgoing()]).await.unwrap();
    }
    envelopes.iter().map(|envelope| envelope.meta.id).collect()
}

fn malformed() -> Outgoing {
    Outgoing {
        topic: "resign".into(),
        key: Some("nobody".into()),
        value: Some(b"kim".to_vec()),
        headers: vec![],
    }
}

async fn next(seen: &mut mpsc::UnboundedReceiver<(String, Meta)>) -> String {
    soon(seen.recv()).await.expect("the consumer lives").0
}

/// A service that is started anew.
fn service() -> Context {
    Context::system("test-service", 0)
}

async fn applies_in_order_and_not_again_after_a_restart(bench: Bench) {
    let bus = bench.open().await;
    let ids = publish(&bench, &bus, &["1", "2", "3"]).await;
    let (consumer, mut seen) = recording();
    let first = service();
    spawn_consumer(&first, bus.clone(), consumer);
    for (nickname, id) in ["1", "2", "3"].into_iter().zip(ids) {
        let (came, meta) = soon(seen.recv()).await.unwrap();
        assert_eq!((came.as_str(), meta.id), (nickname, id));
    }
    assert!(first.lifecycle.shutdown(BUDGET).await.is_empty());
    assert_counted(
        &first,
        "events_consumed_total",
        &[r#"kind="consumer""#, r#"outcome="applied""#, r#"topic="resign""#],
        3,
    );

    let (consumer, mut seen) = recording();
    let second = service();
    spawn_consumer(&second, bus.clone(), consumer);
    publish(&bench, &bus, &["4"]).await;
    assert_eq!(next(&mut seen).await, "4");
    assert!(second.lifecycle.shutdown(BUDGET).await.is_empty());
}

async fn retries_unavailable_dependencies_in_order(bench: Bench) {
    let bus = bench.open().await;
    publish(&bench, &bus, &["away", "next"]).await;
    let (consumer, mut seen) = recording();
    let service = service();
    spawn_consumer(&service, bus.clone(), consumer);
    assert_eq!(next(&mut seen).await, "away");
    assert_eq!(next(&mut seen).await, "next");
    assert_counted(&service, "events_consumed_total", &[r#"outcome="unavailable""#], 3);
    assert!(service.lifecycle.shutdown(BUDGET).await.is_empty());
}

async fn sends_dead_letters_and_continues(bench: Bench) {
    let bus = bench.open().await;
    let (consumer, mut seen) = recording();
    let service = service();
    spawn_consumer(&service, bus.clone(), consumer);
    publish(&bench, &bus, &["first"]).await;
    assert_eq!(next(&mut seen).await, "first");
    bus.publish(&[malformed()]).await.unwrap();
    let ids = publish(&bench, &bus, &["bad", "panic", "corrupt", "last"]).await;
    assert_eq!(next(&mut seen).await, "last");

    let mut dead = bus.read_dead_letters(&[Topic::Resign]).await.unwrap();
    let letters = read(&mut *dead, 4).await;
    let reasons: Vec<_> = letters
        .iter()
        .map(|letter| letter.header(Header::DLT_REASON).unwrap())
        .collect();
    assert_eq!(
        reasons,
        [
            "malformed: the key is not an account",
            "rejected: it makes no sense",
            "rejected: the consumer panicked: index out of range",
            "corrupt: a column does not decode",
        ]
    );
    assert_eq!(letters[1].header(Header::EVENT_ID), Some(ids[0].to_string().as_str()));
    assert!(
        letters[0]
            .header(Header::DLT_GROUP)
            .unwrap()
            .ends_with("test-service.consumers")
    );
    assert!(service.lifecycle.shutdown(BUDGET).await.is_empty());
    assert_counted(&service, "events_dead_letters_total", &[r#"topic="resign""#], 4);
    assert_counted(&service, "events_consumed_total", &[r#"outcome="corrupt""#], 6);
}

/// Handles whatever comes.
struct Any(mpsc::UnboundedSender<String>);

#[async_trait]
impl Consumer<AccountResigned> for Any {
    async fn handle(&self, event: Envelope<AccountResigned>) -> Result<(), HandleError> {
        self.0
            .send(event.event.nickname)
            .map_err(|error| HandleError::Rejected(error.to_string()))
    }
}

/// The same event in a release that names accounts by number.
#[derive(Debug, PartialEq)]
struct AccountResignedV2 {
    nickname: String,
}

impl Event for AccountResignedV2 {
    const TOPIC: Topic = AccountResigned::TOPIC;
    const TYPE: &'static str = AccountResigned::TYPE;
    const VERSION: u16 = 2;

    fn key(&self) -> Option<String> {
        Some("7".to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(self.nickname.clone().into_bytes())
    }

    fn aggregate(&self) -> String {
        "7".to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        Ok(Self {
            nickname: record.value_text()?.to_owned(),
        })
    }
}

struct Newer(mpsc::UnboundedSender<String>);

#[async_trait]
impl Consumer<AccountResignedV2> for Newer {
    async fn handle(&self, event: Envelope<AccountResignedV2>) -> Result<(), HandleError> {
        self.0.send(event.event.nickname).expect("the test listens");
        Ok(())
    }
}

async fn an_unreadable_newer_version_waits_for_a_newer_replica(bench: Bench) {
    let bus = bench.open().await;
    let sent = ["1", "2"].map(|nickname| {
        let event = AccountResignedV2 {
            nickname: nickname.to_owned(),
        };
        Envelope::new(event, &bench.context).to_outgoing()
    });
    bus.publish(&sent).await.unwrap();

    let (consumer, mut seen) = recording();
    let older = service();
    spawn_consumer(&older, bus.clone(), consumer);
    let newer_version = || counted(&older, "events_consumed_total", &[r#"outcome="newer-version""#]);
    soon(async {
        while newer_version() < 1.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(older.lifecycle.shutdown(BUDGET).await.is_empty());
    assert!(seen.try_recv().is_err(), "nothing is applied");
    assert_counted(&older, "events_dead_letters_total", &[r#"topic="resign""#], 0);

    let (sender, mut seen) = mpsc::unbounded_channel();
    let newer = service();
    spawn_consumer(&newer, bus.clone(), Newer(sender));
    for nickname in ["1", "2"] {
        assert_eq!(soon(seen.recv()).await.as_deref(), Some(nickname));
    }
    assert!(newer.lifecycle.shutdown(BUDGET).await.is_empty());
}

/// Applies records together, all of them or none.
struct Together {
    told: Told,
    happened: Arc<AtomicBool>,
}

#[async_trait]
impl Consumer<AccountResigned> for Together {
    const MOST_AT_ONCE: usize = 20;

    async fn handle(&self, event: Envelope<AccountResigned>) -> Result<(), HandleError> {
        self.told.handle(event).await
    }

    async fn handle_all(&self, events: Vec<Envelope<AccountResigned>>) -> Result<(), HandleError> {
        if events.iter().any(|event| event.event.nickname == "bad") {
            return Err(HandleError::Rejected("it makes no sense".into()));
        }
        self.happened.store(true, Ordering::Relaxed);
        for event in events {
            self.told.handle(event).await?;
        }
        Ok(())
    }
}

async fn applies_waiting_records_together_in_order(bench: Bench) {
    const ROUND: u32 = 50;
    let bus = bench.open().await;
    let service = service();
    let (told, mut seen) = recording();
    let happened = Arc::new(AtomicBool::default());
    let consumer = Together {
        told,
        happened: happened.clone(),
    };
    spawn_consumer(&service, bus.clone(), consumer);
    let mut rounds = 0;
    // How many of them wait when the consumer looks is the bus's choice.
    soon(async {
        while !happened.load(Ordering::Relaxed) {
            let numbers: Vec<String> = (0..ROUND).map(|number| (rounds * ROUND + number).to_string()).collect();
            let mut nicknames: Vec<&str> = numbers.iter().map(String::as_str).collect();
            nicknames.insert(ROUND as usize / 2, "bad");
            publish(&bench, &bus, &nicknames).await;
            for number in &numbers {
                assert_eq!(next(&mut seen).await, *number);
            }
            rounds += 1;
        }
    })
    .await;
    assert!(service.lifecycle.shutdown(BUDGET).await.is_empty());
    assert_counted(&service, "events_dead_letters_total", &[r#"topic="resign""#], rounds);
    let labels = [r#"kind="consumer""#, r#"outcome="applied""#, r#"topic="resign""#];
    assert_counted(&service, "events_consumed_total", &labels, rounds * ROUND);
}

async fn shuts_down_during_a_retry_without_acknowledging(bench: Bench) {
    let bus = bench.open().await;
    publish(&bench, &bus, &["done", "gone"]).await;
    let (consumer, mut seen) = recording();
    let first = service();
    spawn_consumer(&first, bus.clone(), consumer);
    assert_eq!(next(&mut seen).await, "done");
    soon(async {
        while counted(&first, "events_consumed_total", &[r#"outcome="unavailable""#]) < 1.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(first.lifecycle.shutdown(BUDGET).await.is_empty());

    // "gone" is delivered again, to a member that can handle it.
    let (sender, mut seen) = mpsc::unbounded_channel();
    let second = service();
    spawn_consumer(&second, bus.clone(), Any(sender));
    assert_eq!(soon(seen.recv()).await.unwrap(), "gone");
    assert!(second.lifecycle.shutdown(BUDGET).await.is_empty());
}

/// Takes its time for each name.
struct Slow(Arc<Mutex<usize>>);

#[async_trait]
impl Consumer<NicknameSet> for Slow {
    async fn handle(&self, _: Envelope<NicknameSet>) -> Result<(), HandleError> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        *self.0.lock() += 1;
        Ok(())
    }
}

async fn consumers_of_state_hold_readiness_back_until_the_group_has_caught_up(bench: Bench) {
    let bus = bench.open().await;
    let names: Vec<_> = (0..100)
        .map(|number| {
            let event = NicknameSet {
                account: format!("{number}@example.com+kakao").parse().unwrap(),
                nickname: Some(number.to_string()),
            };
            Envelope::new(event, &bench.context).to_outgoing()
        })
        .collect();
    bus.publish(&names).await.unwrap();
    let applied = Arc::new(Mutex::new(0));
    // The assignment of partitions makes no difference: each answers from the events that both have applied.
    let replicas = [service(), service()];
    for replica in &replicas {
        spawn_consumer(replica, bus.clone(), Slow(applied.clone()));
        assert_eq!(replica.lifecycle.readiness().waiting_for, ["consumer-emailAndNickname"]);
    }
    for replica in &replicas {
        soon(replica.lifecycle.ready()).await;
        assert!(*applied.lock() >= names.len(), "{} applied", applied.lock());
    }
    for replica in &replicas {
        assert!(replica.lifecycle.shutdown(BUDGET).await.is_empty());
    }
}

async fn readers_hold_readiness_back_until_they_have_caught_up(bench: Bench) {
    let bus = bench.open().await;
    let nicknames: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    publish(&bench, &bus, &nicknames.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (consumer, mut seen) = recording();
    let service = service();
    spawn_reader(&service, bus.clone(), Start::Earliest, consumer);
    assert_eq!(service.lifecycle.readiness().waiting_for, ["reader-resign"]);
    soon(service.lifecycle.ready()).await;
    let mut before = Vec::new();
    while let Ok((nickname, _)) = seen.try_recv() {
        before.push(nickname);
    }
    assert_eq!(before, nicknames, "all of them, before it was ready");
    assert!(service.lifecycle.shutdown(BUDGET).await.is_empty());
}

async fn readers_skip_records_they_cannot_handle(bench: Bench) {
    let bus = bench.open().await;
    bus.publish(&[malformed()]).await.unwrap();
    publish(&bench, &bus, &["bad", "panic", "corrupt", "away", "healed", "last"]).await;
    let (consumer, mut seen) = recording();
    let service = service();
    spawn_reader(&service, bus.clone(), Start::Earliest, consumer);
    assert_eq!(next(&mut seen).await, "away", "what is away is waited for");
    assert_eq!(next(&mut seen).await, "healed", "what is corrupt is tried some times");
    assert_eq!(next(&mut seen).await, "last");
    assert!(
        bus.read_dead_letters(&[Topic::Resign]).await.unwrap().caught_up(),
        "readers bury nothing"
    );
    assert!(service.lifecycle.shutdown(BUDGET).await.is_empty());
}

async fn readers_apply_waiting_records_together_in_order(bench: Bench) {
    let bus = bench.open().await;
    let numbers: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    let (first, second) = numbers.split_at(30);
    for (part, bad) in [(first, Some("bad")), (second, None)] {
        let nicknames: Vec<&str> = part.iter().map(String::as_str).chain(bad).collect();
        publish(&bench, &bus, &nicknames).await;
        bus.publish(&[malformed()]).await.unwrap();
    }
    let (told, mut seen) = recording();
    let happened = Arc::new(AtomicBool::default());
    let consumer = Together {
        told,
        happened: happened.clone(),
    };
    let service = service();
    spawn_reader(&service, bus.clone(), Start::Earliest, consumer);
    soon(service.lifecycle.ready()).await;
    for number in &numbers {
        assert_eq!(next(&mut seen).await, *number);
    }
    assert!(seen.try_recv().is_err(), "a record was applied twice");
    assert!(happened.load(Ordering::Relaxed), "each record was applied by itself");
    for (outcome, count) in [("applied", 60), ("rejected", 1), ("malformed", 2)] {
        let outcome = format!("outcome=\"{outcome}\"");
        let labels = [r#"topic="resign""#, r#"kind="reader""#, &outcome];
        assert_counted(&service, "events_consumed_total", &labels, count);
    }
    assert!(service.lifecycle.shutdown(BUDGET).await.is_empty());
}

async fn readers_from_the_present_miss_nothing_once_ready(bench: Bench) {
    let bus = bench.open().await;
    publish(&bench, &bus, &["old"]).await;
    let services: Vec<_> = (0..2)
        .map(|_| {
            let (consumer, seen) = recording();
            let service = service();
            spawn_reader(&service, bus.clone(), Start::Latest, consumer);
            (service, seen)
        })
        .collect();
    for (service, _) in &services {
        soon(service.lifecycle.ready()).await;
    }
    publish(&bench, &bus, &["new"]).await;
    for (service, mut seen) in services {
        assert_eq!(next(&mut seen).await, "new", "every replica");
        assert!(service.lifecycle.shutdown(BUDGET).await.is_empty());
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    Works,
    Breaks,
    /// A reader has failed. None is opened.
    Broken,
}

/// Delegates to another bus, to which the connection of its readers can break.
#[derive(Debug)]
struct BreakingBus {
    bus: Arc<dyn Bus>,
    connection: watch::Sender<Connection>,
}

struct BreakingReader {
    reader: Box<dyn Reader>,
    connection: watch::Sender<Connection>,
}

#[async_trait]
impl Bus for BreakingBus {
    async fn publish(&self, records: &[Outgoing]) -> Result<(), BusError> {
        self.bus.publish(records).await
    }

    async fn join(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Member>, BusError> {
        self.bus.join(group, topics).await
    }

    async fn read(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Reader>, BusError> {
        let mut connection = self.connection.subscribe();
        let works = connection.wait_for(|connection| *connection == Connection::Works);
        works.await.expect("the bus lives");
        Ok(Box::new(BreakingReader {
            reader: self.bus.read(topics, start).await?,
            connection: self.connection.clone(),
        }))
    }

    async fn read_dead_letters(&self, topics: &[Topic]) -> Result<Box<dyn Reader>, BusError> {
        self.bus.read_dead_letters(topics).await
    }

    async fn create_topics(&self, topics: &[Topic]) -> Result<(), BusError> {
        self.bus.create_topics(topics).await
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.bus.ping().await
    }
}

#[async_trait]
impl Reader for BreakingReader {
    async fn next_batch(&mut self, most: usize) -> Result<Vec<Record>, BusError> {
        let mut connection = self.connection.subscribe();
        let breaks = async {
            let broken = connection.wait_for(|connection| *connection == Connection::Breaks);
            // It locks the channel.
            drop(broken.await);
        };
        tokio::select! {
            biased;
            () = breaks => {}
            batch = self.reader.next_batch(most) => return batch,
        }
        self.connection.send_replace(Connection::Broken);
        Err(BusError::Unavailable("the connection is lost".to_owned()))
    }

    fn caught_up(&self) -> bool {
        self.reader.caught_up()
    }
}

async fn a_reader_that_fails_goes_on_where_it_began(bench: Bench) {
    let bus = bench.open().await;
    let breaking = Arc::new(BreakingBus {
        bus: bus.clone(),
        connection: watch::Sender::new(Connection::Works),
    });
    let (consumer, mut seen) = recording();
    let service = service();
    spawn_reader(&service, breaking.clone(), Start::Latest, consumer);
    soon(service.lifecycle.ready()).await;

    let mut connection = breaking.connection.subscribe();
    breaking.connection.send_replace(Connection::Breaks);
    let broken = soon(connection.wait_for(|connection| *connection == Connection::Broken)).await;
    drop(broken.expect("the bus lives"));
    publish(&bench, &bus, &["meanwhile"]).await;
    breaking.connection.send_replace(Connection::Works);
    assert_eq!(next(&mut seen).await, "meanwhile");
    assert!(service.lifecycle.shutdown(BUDGET).await.is_empty());
}

/// Tells the correlation it is called in.
struct Current(mpsc::UnboundedSender<Option<Correlation>>);

#[async_trait]
impl Consumer<AccountResigned> for Current {
    async fn handle(&self, _event: Envelope<AccountResigned>) -> Result<(), HandleError> {
        self.0
            .send(correlation())
            .map_err(|error| HandleError::Rejected(error.to_string()))
    }
}

async fn published_events_carry_the_correlation_of_the_consumed_event(bench: Bench) {
    let bus = bench.open().await;
    let mut envelope = Envelope::new(resigned("1"), &bench.context);
    envelope.meta.correlation_id = Some("request-1".into());
    envelope.meta.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into());
    bus.publish(&[envelope.to_outgoing()]).await.unwrap();
    let (sender, mut seen) = mpsc::unbounded_channel();
    let service = service();
    spawn_consumer(&service, bus.clone(), Current(sender));
    let current = soon(seen.recv()).await.unwrap().unwrap();
    assert_eq!(&*current.id, "request-1");
    assert_eq!(current.traceparent.as_deref(), envelope.meta.traceparent.as_deref());
    assert!(service.lifecycle.shutdown(BUDGET).await.is_empty());
}
