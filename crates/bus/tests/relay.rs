//! The outbox relay against an outbox and a bus in memory that fail on demand, in virtual time: every way of dying
//! between publishing and forgetting is a matter of milliseconds here. Real outboxes are tested in `sosohappy-store`. Hints travel between
//! sockets on loopback, in real time.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use sosohappy_bus::Bus;
use sosohappy_bus::relay::{
    Hints, RecordMapping, RelayHandle, spawn_mapping_relay, spawn_relay, spawn_relay_with_heartbeats,
};
use sosohappy_bus::{BusError, Member, Reader, Start};
use sosohappy_common::Context;
use sosohappy_common::clock::Clock;
use sosohappy_events::testing::record_of;
use sosohappy_events::types::RelayHeartbeat;
use sosohappy_events::{Envelope, Header, Outgoing, Topic};
use sosohappy_store::StoreError;
use sosohappy_store::outbox::{Batch, Outbox, Pending, Quarantined};
use support::{assert_counted, counted, record, soon};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

const LEASE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Rows {
    unpublished: BTreeMap<u64, Outgoing>,
    written: u64,
    lease: Option<(String, Instant)>,
    /// How long the next look takes.
    pending_takes: Duration,
    /// Answers an error this many times.
    forget_fails: u32,
    pending_fails: u32,
    /// How often the leader was looked up.
    leader_reads: u32,
    /// How often rows were looked for.
    looks: u32,
    /// The next call of this name never ends.
    hangs: Option<&'static str>,
}

/// An outbox as a database would be: shared by all relays, and outliving them.
#[derive(Debug, Clone, Default)]
struct MemoryOutbox(Arc<Mutex<Rows>>);

impl MemoryOutbox {
    fn write(&self, record: Outgoing) {
        let mut rows = self.0.lock();
        rows.written += 1;
        let row = rows.written;
        rows.unpublished.insert(row, record);
    }

    fn left(&self) -> usize {
        self.0.lock().unpublished.len()
    }

    /// Answers a call, unless it is to hang: the server has gone without closing its connections.
    async fn answer(&self, call: &str) {
        let hangs = self.0.lock().hangs.take_if(|name| *name == call).is_some();
        if hangs {
            std::future::pending::<()>().await;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

fn broken(fails: &mut u32) -> Result<(), StoreError> {
    if *fails > 0 {
        *fails -= 1;
        return Err(StoreError::Unavailable(anyhow::anyhow!("the database is away")));
    }
    Ok(())
}

#[async_trait]
impl Outbox for MemoryOutbox {
    async fn lease(&self, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.answer("lease").await;
        let mut rows = self.0.lock();
        if rows
            .lease
            .as_ref()
            .is_some_and(|(held, until)| held != holder && *until > Instant::now())
        {
            return Ok(false);
        }
        rows.lease = Some((holder.to_owned(), Instant::now() + ttl));
        Ok(true)
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        sleep(Duration::from_millis(1)).await;
        self.0.lock().lease.take_if(|(held, _)| held == holder);
        Ok(())
    }

    async fn leader(&self) -> Result<Option<String>, StoreError> {
        sleep(Duration::from_millis(1)).await;
        let mut rows = self.0.lock();
        rows.leader_reads += 1;
        Ok(rows.lease.as_ref().map(|(holder, _)| holder.clone()))
    }

    async fn pending(&self, limit: usize) -> Result<Batch, StoreError> {
        self.answer("pending").await;
        let (unpublished, takes) = {
            let mut rows = self.0.lock();
            rows.looks += 1;
            broken(&mut rows.pending_fails)?;
            (rows.unpublished.clone(), std::mem::take(&mut rows.pending_takes))
        };
        sleep(takes).await;
        let mut batch = Batch::default();
        for (row, record) in unpublished.into_iter().take(limit) {
            if record.topic == "unreadable" {
                self.0.lock().unpublished.remove(&row);
                batch.quarantined.push(Quarantined {
                    row: row.to_string(),
                    reason: "headers".to_owned(),
                });
                continue;
            }
            batch.pending.push(Pending {
                row: row.to_string(),
                record,
                age: Duration::from_secs(1),
            });
        }
        Ok(batch)
    }

    async fn published(&self, published: &[String]) -> Result<(), StoreError> {
        self.answer("published").await;
        let mut rows = self.0.lock();
        broken(&mut rows.forget_fails)?;
        for row in published {
            rows.unpublished.remove(&row.parse().unwrap());
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Log {
    records: Vec<Outgoing>,
    takes: Duration,
    unavailable: u32,
    /// Refuses batches with a record of the value "blocked" as unavailable.
    is_blocked: bool,
}

/// The records that arrived on the bus. A publish that is dropped half way has published half, as with a real broker.
#[derive(Debug, Clone, Default)]
struct MemoryBus(Arc<Mutex<Log>>);

impl MemoryBus {
    fn values(&self) -> Vec<String> {
        self.0
            .lock()
            .records
            .iter()
            .map(|record| String::from_utf8(record.value.clone().unwrap()).unwrap())
            .collect()
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish(&self, records: &[Outgoing]) -> Result<(), BusError> {
        if records
            .iter()
            .any(|record| record.value.as_deref() == Some(b"too large") && record.topic == "notice")
        {
            return Err(BusError::Refused("too large".into()));
        }
        if records.iter().any(|record| record.topic.starts_with("tomorrow")) {
            return Err(BusError::Refused("no such topic".into()));
        }
        let takes = {
            let mut log = self.0.lock();
            // A heartbeat fits through where the outbox's records do not.
            if log.unavailable > 0 && records.iter().all(|record| record.topic != "heartbeat") {
                log.unavailable -= 1;
                return Err(BusError::Unavailable("away".into()));
            }
            if log.is_blocked && records.iter().any(|record| record.value.as_deref() == Some(b"blocked")) {
                return Err(BusError::Unavailable("away".into()));
            }
            log.takes
        };
        sleep(takes).await;
        for some in records.chunks(16) {
            sleep(Duration::from_millis(1)).await;
            self.0.lock().records.extend_from_slice(some);
        }
        Ok(())
    }

    async fn join(&self, _: &str, _: &[Topic]) -> Result<Box<dyn Member>, BusError> {
        unreachable!("a relay publishes only")
    }

    async fn read(&self, _: &[Topic], _: Start) -> Result<Box<dyn Reader>, BusError> {
        unreachable!("a relay publishes only")
    }

    async fn read_dead_letters(&self, _: &[Topic]) -> Result<Box<dyn Reader>, BusError> {
        unreachable!("a relay publishes only")
    }

    async fn create_topics(&self, _: &[Topic]) -> Result<(), BusError> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), BusError> {
        Ok(())
    }
}

fn event(number: u64) -> Outgoing {
    record(Topic::Notice, &format!("key-{}", number % 3), &number.to_string())
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn relay(bus: &MemoryBus, outbox: &MemoryOutbox) -> (Context, RelayHandle) {
    let context = Context::system("test-service", 0);
    let handle = spawn_relay(&context, Arc::new(bus.clone()), Arc::new(outbox.clone()), Hints::off());
    (context, handle)
}

async fn emptied(outbox: &MemoryOutbox) {
    let empty = async {
        while outbox.left() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_mins(10), empty)
        .await
        .expect("the outbox is emptied");
}

/// As `kill -9` would: nothing is given back.
async fn kill(context: Context) {
    context.lifecycle.stopped().cancel();
    sleep(Duration::from_nanos(1)).await;
}

#[tokio::test(start_paused = true)]
async fn rows_are_published_in_order_and_deleted() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    (0..1000).for_each(|number| outbox.write(event(number)));
    let (context, _handle) = relay(&bus, &outbox);
    emptied(&outbox).await;
    assert_eq!(bus.values(), numbers(0..1000));
    assert_counted(&context, "outbox_published_total", &[r#"topic="notice""#], 1000);
}

#[tokio::test(start_paused = true)]
async fn a_mapping_says_what_is_published_for_a_record() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    (0..3).for_each(|number| outbox.write(event(number)));
    let context = Context::system("test-service", 0);
    let failures = Arc::new(std::sync::atomic::AtomicUsize::new(2));
    // Each twice, but for the first, which is published as nothing.
    let mapping: RecordMapping = Arc::new(move |record| {
        let fails = failures
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
            .is_ok();
        Box::pin(async move {
            match record.value.as_deref() {
                _ if fails => Err(BusError::Unavailable("the database".to_owned())),
                Some(b"0") => Ok(Vec::new()),
                _ => Ok(vec![record.clone(), record]),
            }
        })
    });
    let (to, from) = (Arc::new(bus.clone()), Arc::new(outbox.clone()));
    let _handle = spawn_mapping_relay(&context, to, from, Hints::off(), mapping);
    emptied(&outbox).await;
    assert_eq!(bus.values(), ["1", "1", "2", "2"]);
    assert_counted(&context, "outbox_published_total", &[r#"topic="notice""#], 3);
}

#[tokio::test(start_paused = true)]
async fn a_wake_publishes_before_the_next_poll() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (_context, handle) = relay(&bus, &outbox);
    sleep(Duration::from_secs(10)).await;
    for (woken, within) in [(true, Duration::from_millis(10)), (false, Duration::from_millis(210))] {
        sleep(Duration::from_secs(10)).await;
        let began = Instant::now();
        outbox.write(event(0));
        if woken {
            handle.wake();
        }
        emptied(&outbox).await;
        assert!(began.elapsed() <= within, "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn publishing_is_retried_while_a_dependency_is_unavailable() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    (0..10).for_each(|number| outbox.write(event(number)));
    bus.0.lock().unavailable = 7;
    outbox.0.lock().pending_fails = 3;
    outbox.0.lock().forget_fails = 5;
    let _relay = relay(&bus, &outbox);
    emptied(&outbox).await;
    assert_eq!(
        bus.values(),
        numbers(0..10),
        "forgetting is tried again, publishing is not"
    );
}

#[tokio::test(start_paused = true)]
async fn a_database_that_never_answers_is_asked_again() {
    for call in ["lease", "pending", "published"] {
        let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
        outbox.write(event(0));
        outbox.0.lock().hangs = Some(call);
        let began = Instant::now();
        let (context, _handle) = relay(&bus, &outbox);
        emptied(&outbox).await;
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{call}: {:?}",
            began.elapsed()
        );
        assert_eq!(outbox.0.lock().hangs, None, "it was not called");
        kill(context).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_mapping_that_never_answers_is_asked_again() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    outbox.write(event(0));
    let context = Context::system("test-service", 0);
    let first = Arc::new(AtomicBool::new(true));
    let mapping: RecordMapping = Arc::new(move |record| {
        let hangs = first.swap(false, SeqCst);
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(vec![record])
        })
    });
    let (to, from) = (Arc::new(bus.clone()), Arc::new(outbox.clone()));
    let _handle = spawn_mapping_relay(&context, to, from, Hints::off(), mapping);
    emptied(&outbox).await;
    assert_eq!(bus.values(), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_takes_long_keeps_its_lease() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    outbox.write(event(0));
    bus.0.lock().takes = LEASE * 10;
    let _first = relay(&bus, &outbox);
    sleep(Duration::from_secs(1)).await;
    let _second = relay(&bus, &outbox);
    emptied(&outbox).await;
    sleep(LEASE * 20).await;
    assert_eq!(bus.values(), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn a_relay_without_the_lease_publishes_nothing() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let _relay = relay(&bus, &outbox);
    sleep(Duration::from_secs(1)).await;
    // Another has taken it, by an operator's hand or because this one slept too long.
    outbox.0.lock().lease = Some(("another".to_owned(), Instant::now() + Duration::from_mins(1)));
    sleep(LEASE).await;
    outbox.write(event(0));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(bus.values(), Vec::<String>::new());
    emptied(&outbox).await;
    assert_eq!(bus.values(), ["0"], "when the other is gone");
}

#[tokio::test(start_paused = true)]
async fn rows_read_before_the_lease_expired_are_not_published_after_it() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    outbox.0.lock().pending_takes = LEASE * 2;
    outbox.write(event(0));
    let (first, _) = relay(&bus, &outbox);
    sleep(LEASE + Duration::from_millis(100)).await;
    let (_second, _) = relay(&bus, &outbox);
    emptied(&outbox).await;
    // It has published this one and whatever came since; the first relay still holds what it saw.
    sleep(LEASE * 3).await;
    assert_eq!(bus.values(), ["0"]);
    assert!(first.lifecycle.failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn one_relay_publishes_and_another_takes_over() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (first, _) = relay(&bus, &outbox);
    sleep(Duration::from_millis(100)).await;
    let (second, _) = relay(&bus, &outbox);
    outbox.write(event(0));
    emptied(&outbox).await;
    kill(first).await;
    outbox.write(event(1));
    let began = Instant::now();
    emptied(&outbox).await;
    assert!(
        began.elapsed() < LEASE + Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );

    // One that leaves in order gives the lease back, and publishes what is still there.
    let (_third, _) = relay(&bus, &outbox);
    (2..600).for_each(|number| outbox.write(event(number)));
    assert!(second.lifecycle.shutdown(Duration::from_secs(10)).await.is_empty());
    assert_eq!(outbox.left(), 0);
    outbox.write(event(600));
    let began = Instant::now();
    emptied(&outbox).await;
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    assert_eq!(bus.values(), numbers(0..601));
}

#[tokio::test(start_paused = true)]
async fn refused_records_become_dead_letters() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    outbox.write(event(0));
    outbox.write(record(Topic::Notice, "key-0", "too large"));
    outbox.write(event(3));
    let (context, _handle) = relay(&bus, &outbox);
    emptied(&outbox).await;
    assert_eq!(bus.values(), ["0", "too large", "3"]);
    let dead = bus.0.lock().records[1].clone();
    assert_eq!(dead.topic, "notice.dlt");
    assert!(
        dead.headers
            .contains(&(Header::DLT_REASON.to_owned(), "too large".to_owned())),
        "{dead:?}"
    );
    assert_counted(&context, "outbox_refused_total", &[r#"topic="notice""#], 1);
}

#[tokio::test(start_paused = true)]
async fn records_refused_with_their_dead_letters_stay_and_block_no_others() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    for number in 0..600 {
        // More of them than fit into one batch: a roll-back of a version that had another topic.
        outbox.write(Outgoing {
            topic: "tomorrow".into(),
            ..event(number)
        });
    }
    (0..10).for_each(|number| outbox.write(event(number)));
    let _relay = relay(&bus, &outbox);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(bus.values(), numbers(0..10));
    assert_eq!(outbox.left(), 600);
}

#[tokio::test(start_paused = true)]
async fn quarantined_rows_are_counted_and_block_no_others() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let unreadable = || Outgoing {
        topic: "unreadable".into(),
        ..event(0)
    };
    // More of them than fit into one batch, and one between others.
    (0..600).for_each(|_| outbox.write(unreadable()));
    outbox.write(event(0));
    outbox.write(unreadable());
    outbox.write(event(1));
    let (context, _handle) = relay(&bus, &outbox);
    let began = Instant::now();
    emptied(&outbox).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(bus.values(), numbers(0..2));
    assert_counted(&context, "outbox_quarantined_total", &[], 601);
}

/// Kills the relay again and again at points of time that move over all it does.
#[tokio::test(start_paused = true)]
async fn no_event_is_lost_or_reordered_wherever_a_relay_crashes() {
    for millis in 1..50 {
        let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
        (0..300).for_each(|number| outbox.write(event(number)));
        let mut deaths = 0;
        while outbox.left() > 0 {
            let (context, _handle) = relay(&bus, &outbox);
            sleep(Duration::from_millis(millis + deaths)).await;
            kill(context).await;
            // As if its time had passed.
            outbox.0.lock().lease = None;
            deaths += 1;
        }
        let mut seen = BTreeSet::new();
        let firsts: Vec<_> = bus
            .values()
            .into_iter()
            .filter(|value| seen.insert(value.clone()))
            .collect();
        assert_eq!(firsts, numbers(0..300), "killed after {millis} ms, {deaths} times");
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_shuts_down_while_others_still_write() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (context, _handle) = relay(&bus, &outbox);
    outbox.write(event(0));
    emptied(&outbox).await;
    let another_replica = tokio::spawn({
        let outbox = outbox.clone();
        async move {
            loop {
                outbox.write(event(1));
                sleep(Duration::from_millis(50)).await;
            }
        }
    });
    let dropped = context.lifecycle.shutdown(Duration::from_secs(20)).await;
    another_replica.abort();
    assert!(dropped.is_empty(), "{dropped:?}");
}

async fn hints() -> Hints {
    let hints = Hints::bind("127.0.0.1:0".parse().unwrap(), "a-service-token-1".into()).await;
    hints.unwrap()
}

/// A replica whose relay sends and receives hints.
async fn hinting_relay(bus: &MemoryBus, outbox: &MemoryOutbox) -> (Context, RelayHandle) {
    let context = Context::system("test-service", 0);
    let (to, from) = (Arc::new(bus.clone()), Arc::new(outbox.clone()));
    let handle = spawn_relay(&context, to, from, hints().await);
    (context, handle)
}

/// Returns how often an outbox without rows is looked at in 10 s, after it has been idle.
async fn idle_looks(outbox: &MemoryOutbox) -> u32 {
    sleep(Duration::from_secs(20)).await;
    let before = outbox.0.lock().looks;
    sleep(Duration::from_secs(10)).await;
    outbox.0.lock().looks - before
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_that_gets_hints_polls_every_second() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (_leader, handle) = hinting_relay(&bus, &outbox).await;
    let looks = idle_looks(&outbox).await;
    assert!((9..=10).contains(&looks), "{looks} in 10 s");
    // The first hint after the pause is lost, and those of the next events; then a commit of its own process.
    for (number, within, woken) in [(0, 1020, false), (1, 210, false), (2, 210, false), (3, 10, true)] {
        if woken {
            sleep(Duration::from_secs(20)).await;
        }
        let began = Instant::now();
        outbox.write(event(number));
        if woken {
            handle.wake();
        }
        emptied(&outbox).await;
        let elapsed = began.elapsed();
        assert!(elapsed <= Duration::from_millis(within), "{number}: {elapsed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_polls_at_the_same_pace_without_hints_or_with_heartbeats() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (first, _handle) = relay(&bus, &outbox);
    let looks = idle_looks(&outbox).await;
    assert!((45..=50).contains(&looks), "{looks} in 10 s without hints");
    kill(first).await;

    let outbox = MemoryOutbox::default();
    let context = Context::system("test-service", 0);
    let (to, from) = (Arc::new(bus.clone()), Arc::new(outbox.clone()));
    let _handle = spawn_relay_with_heartbeats(&context, to, from, hints().await);
    let looks = idle_looks(&outbox).await;
    assert!((45..=50).contains(&looks), "{looks} in 10 s with heartbeats");
}

/// Waits until a counter of this replica is at least that much.
async fn reaches(context: &Context, name: &str, labels: &[&str], count: f64) {
    let reached = async {
        while counted(context, name, labels) < count {
            sleep(Duration::from_millis(5)).await;
        }
    };
    soon(reached).await;
}

const SENT: &[&str] = &[r#"outcome="sent""#];
const BY_HINT: &[&str] = &[r#"cause="hint""#];

#[tokio::test]
async fn the_leader_publishes_at_the_hint_of_a_replica_that_commits() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (leader, _leader_handle) = hinting_relay(&bus, &outbox).await;
    reaches(&leader, "outbox_relay_leading", &[], 1.0).await;
    let (follower, handle) = hinting_relay(&bus, &outbox).await;
    let mut written = 0;
    // Not with the first event if the follower does not know the leader yet, or if a poll comes first.
    let hinted = async {
        while counted(&leader, "outbox_reads_total", BY_HINT) < 1.0 {
            outbox.write(event(written));
            handle.wake();
            written += 1;
            emptied(&outbox).await;
        }
    };
    soon(hinted).await;
    assert_eq!(bus.values(), numbers(0..written));
    assert!(counted(&follower, "outbox_hints_total", SENT) >= 1.0);
    assert!(counted(&leader, "outbox_hints_total", &[r#"outcome="received""#]) >= 1.0);

    // A replica that leads sends no hints to itself or others.
    assert_counted(&leader, "outbox_hints_total", SENT, 0);
    assert_counted(&follower, "outbox_published_total", &[], 0);
}

/// During a roll-out the leader may be of an earlier release, whose lease names no address.
#[tokio::test]
async fn events_are_published_where_the_leader_receives_no_hints() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (leader, _leader_handle) = relay(&bus, &outbox);
    reaches(&leader, "outbox_relay_leading", &[], 1.0).await;
    let (follower, handle) = hinting_relay(&bus, &outbox).await;
    for number in 0..20 {
        outbox.write(event(number));
        handle.wake();
        emptied(&outbox).await;
    }
    assert_eq!(bus.values(), numbers(0..20));
    assert_counted(&follower, "outbox_hints_total", SENT, 0);
    assert!(counted(&leader, "outbox_reads_total", &[r#"cause="poll""#]) >= 1.0);
    assert_counted(&leader, "outbox_reads_total", BY_HINT, 0);
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_hints_does_not_look_the_leader_up() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (_leader, _leader_handle) = relay(&bus, &outbox);
    sleep(Duration::from_secs(1)).await;
    let (_follower, handle) = relay(&bus, &outbox);
    for number in 0..10 {
        outbox.write(event(number));
        handle.wake();
        sleep(Duration::from_secs(1)).await;
    }
    emptied(&outbox).await;
    assert_eq!(bus.values(), numbers(0..10));
    assert_eq!(outbox.0.lock().leader_reads, 0);
}

#[tokio::test]
async fn hints_do_not_shorten_the_pause_after_a_failed_publish() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (leader, _leader_handle) = hinting_relay(&bus, &outbox).await;
    reaches(&leader, "outbox_relay_leading", &[], 1.0).await;
    bus.0.lock().unavailable = u32::MAX;
    outbox.write(event(0));
    let (follower, handle) = hinting_relay(&bus, &outbox).await;
    let hinted = async {
        while counted(&follower, "outbox_hints_total", SENT) < 800.0 {
            handle.wake();
            sleep(Duration::from_millis(1)).await;
        }
    };
    soon(hinted).await;
    // At most one try in two seconds once the pause has grown, also on a machine that takes two minutes.
    let tries = u32::MAX - std::mem::take(&mut bus.0.lock().unavailable);
    assert!((1..80).contains(&tries), "{tries} tries");
    soon(emptied(&outbox)).await;
    assert_eq!(bus.values(), numbers(0..1));
}

#[tokio::test(start_paused = true)]
async fn commits_do_not_shorten_the_pause_after_a_failed_publish() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (_context, handle) = relay(&bus, &outbox);
    bus.0.lock().unavailable = u32::MAX;
    for number in 0..1000 {
        outbox.write(event(number));
        handle.wake();
        sleep(Duration::from_millis(20)).await;
    }
    let tries = u32::MAX - std::mem::take(&mut bus.0.lock().unavailable);
    assert!((1..40).contains(&tries), "{tries} tries in 20 s");
    emptied(&outbox).await;
    assert_eq!(bus.values(), numbers(0..1000));
}

#[tokio::test(start_paused = true)]
async fn a_commit_ends_the_pause_after_a_failed_look() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (_context, handle) = relay(&bus, &outbox);
    outbox.0.lock().pending_fails = u32::MAX;
    sleep(Duration::from_secs(30)).await;
    for number in 0..10 {
        outbox.0.lock().pending_fails = 0;
        let began = Instant::now();
        outbox.write(event(number));
        handle.wake();
        emptied(&outbox).await;
        assert!(began.elapsed() <= Duration::from_millis(50), "{:?}", began.elapsed());
        outbox.0.lock().pending_fails = u32::MAX;
        sleep(Duration::from_secs(30)).await;
    }
    assert_eq!(bus.values(), numbers(0..10));
}

#[tokio::test]
async fn events_whose_hints_are_lost_are_published_in_order() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    // Its machine has stopped: hints to it arrive nowhere.
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let held = (format!("gone@{gone}"), Instant::now() + Duration::from_hours(1));
    outbox.0.lock().lease = Some(held);
    let (follower, handle) = hinting_relay(&bus, &outbox).await;
    let mut written = 0;
    let lost = async {
        while counted(&follower, "outbox_hints_total", SENT) < 3.0 {
            outbox.write(event(written));
            handle.wake();
            written += 1;
            sleep(Duration::from_millis(5)).await;
        }
    };
    soon(lost).await;
    assert_eq!(bus.values(), Vec::<String>::new(), "another has the lease");
    outbox.0.lock().lease = None;
    soon(emptied(&outbox)).await;
    assert_eq!(bus.values(), numbers(0..written));
}

#[tokio::test]
async fn a_leader_that_is_killed_between_hints_loses_and_reorders_nothing() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (leader, _leader_handle) = hinting_relay(&bus, &outbox).await;
    reaches(&leader, "outbox_relay_leading", &[], 1.0).await;
    let (_follower, handle) = hinting_relay(&bus, &outbox).await;
    for number in 0..200 {
        outbox.write(event(number));
        handle.wake();
        sleep(Duration::from_millis(1)).await;
        if number == 100 {
            leader.lifecycle.stopped().cancel();
        }
    }
    soon(emptied(&outbox)).await;
    let mut seen = BTreeSet::new();
    let mut firsts = bus.values();
    firsts.retain(|value| seen.insert(value.clone()));
    assert_eq!(firsts, numbers(0..200));
}

#[tokio::test]
async fn forged_hints_cause_no_read() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let (leader, _handle) = hinting_relay(&bus, &outbox).await;
    reaches(&leader, "outbox_relay_leading", &[], 1.0).await;
    let (holder, _) = outbox.0.lock().lease.clone().expect("a lease");
    let (_, address) = holder.rsplit_once('@').expect("an address");
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for forged in [0, 31, 32, 33, 60_000].map(|bytes| vec![7_u8; bytes]) {
        stranger.send_to(&forged, address).await.unwrap();
    }
    reaches(&leader, "outbox_hints_total", &[r#"outcome="rejected""#], 5.0).await;
    assert_counted(&leader, "outbox_hints_total", &[r#"outcome="received""#], 0);
    assert_counted(&leader, "outbox_reads_total", BY_HINT, 0);
}

fn relay_with_heartbeats(context: &Context, bus: &MemoryBus, outbox: &MemoryOutbox) -> RelayHandle {
    spawn_relay_with_heartbeats(context, Arc::new(bus.clone()), Arc::new(outbox.clone()), Hints::off())
}

/// Returns the heartbeats on the bus, in order: the relay, and the time up to which everything has been published.
fn heartbeats(bus: &MemoryBus) -> Vec<RelayHeartbeat> {
    let log = bus.0.lock();
    let heartbeats = log.records.iter().filter(|record| record.topic == "heartbeat");
    heartbeats
        .map(|record| Envelope::decode(&record_of(record)).unwrap().event)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_leading_relay_alone_publishes_heartbeats_past_the_outbox() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let contexts = [1, 2].map(|port| Context::system("test-service", port));
    let relays = contexts
        .each_ref()
        .map(|context| relay_with_heartbeats(context, &bus, &outbox));
    // The machine's clock stands still while virtual time goes on.
    sleep(Duration::from_millis(10_100)).await;
    let heard = heartbeats(&bus);
    assert!(!heard.is_empty());
    assert!(heard.iter().all(|heartbeat| heartbeat.relay == heard[0].relay));
    assert!(heard.iter().all(|heartbeat| heartbeat.service == "test-service"));
    assert_eq!(outbox.0.lock().written, 0);
    drop(relays);
}

#[tokio::test(start_paused = true)]
async fn no_heartbeat_overtakes_unpublished_rows() {
    let (bus, outbox) = <(MemoryBus, MemoryOutbox)>::default();
    let context = Context {
        clock: Arc::new(VirtualClock(Instant::now())),
        ..Context::system("test-service", 0)
    };
    let handle = relay_with_heartbeats(&context, &bus, &outbox);
    sleep(Duration::from_secs(10)).await;
    let idle = heartbeats(&bus);
    assert!((18..=21).contains(&idle.len()), "{} in ten seconds", idle.len());
    let until = |heartbeats: &[RelayHeartbeat]| heartbeats.last().unwrap().published_until;
    assert!(context.clock.now().duration_since(until(&idle)).unsigned_abs() < Duration::from_secs(1));

    outbox.write(event(0));
    let written = context.clock.now();
    // A broker that takes nothing of the outbox for a minute.
    bus.0.lock().unavailable = u32::MAX;
    handle.wake();
    sleep(Duration::from_mins(1)).await;
    bus.0.lock().unavailable = 0;
    let meanwhile = heartbeats(&bus);
    assert!(until(&meanwhile) <= written, "{:?} after {written}", meanwhile.last());
    emptied(&outbox).await;
    sleep(Duration::from_secs(1)).await;
    assert!(until(&heartbeats(&bus)) > written);

    // More rows than one batch has: those of the second one stay.
    let before = context.clock.now();
    bus.0.lock().is_blocked = true;
    for number in 0..256 {
        outbox.write(event(number));
    }
    outbox.write(record(Topic::Notice, "key", "blocked"));
    sleep(Duration::from_millis(10)).await;
    handle.wake();
    sleep(Duration::from_mins(1)).await;
    assert_eq!(outbox.left(), 1);
    let meanwhile = heartbeats(&bus);
    assert!(until(&meanwhile) <= before, "{:?} after {before}", meanwhile.last());
    bus.0.lock().is_blocked = false;
    emptied(&outbox).await;
    sleep(Duration::from_secs(1)).await;
    assert!(until(&heartbeats(&bus)) > before);
}

/// Goes on as virtual time does.
#[derive(Debug)]
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap() + self.0.elapsed()
    }
}
