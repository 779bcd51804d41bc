//! A broker that is unavailable for a while: librdkafka's own mock broker, which goes down and comes back at once.

mod restarts;
#[path = "../support/mod.rs"]
mod support;

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use sosohappy_bus::{Bus, BusError, Start};
use sosohappy_events::Topic;
use support::{Bench, counted, record, soon, value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

const BROKER: i32 = 1;

/// The log lines of this process.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_writer({
            let log = log.clone();
            move || log.clone()
        })
        .with_ansi(false)
        .init();
    log
});

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn mock_broker(topics: &[&str]) -> (MockCluster<'static, DefaultProducerContext>, Bench) {
    let cluster = MockCluster::new(1).unwrap();
    for topic in topics {
        cluster.create_topic(topic, 2, 1).unwrap();
    }
    let bench = Bench::new(format!("kafka:{}", cluster.bootstrap_servers()), String::new());
    (cluster, bench)
}

/// Cases A8: the batch of the relay waits for the broker, whatever becomes of reports.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_times_out_leaves_the_relays_batch_alone() {
    let (cluster, bench) = mock_broker(&["notice", "configBus"]);
    let bus = bench.open().await;
    let (batch, report) = (
        [record(Topic::Notice, "key", "1")],
        [record(Topic::ConfigBus, "key", "1")],
    );
    soon(bus.publish(&batch)).await.unwrap();
    soon(bus.publish_reports(&report)).await.unwrap();

    cluster.broker_down(BROKER).unwrap();
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move { bus.publish(&batch).await }
    });
    let began = Instant::now();
    let outcome = soon(bus.publish_reports(&report)).await;
    assert!(matches!(outcome, Err(BusError::Unavailable(_))), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert!(!publishing.is_finished(), "the batch waits for the broker");

    cluster.broker_up(BROKER).unwrap();
    soon(publishing).await.unwrap().unwrap();
}

/// Cases A17: 8 processes wrote 33,000 lines in three minutes. The log is the process's, so that the test has one of its own.
#[test]
fn a_client_without_a_broker_logs_one_line_a_minute() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_without_a_broker", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{child:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "only as a child process"]
async fn child_without_a_broker() {
    let log = LOG.clone();
    let (cluster, bench) = mock_broker(&["notice", "notice.dlt", "resign"]);
    let bus = bench.open().await;
    let mut member = soon(bus.join("group", &[Topic::Notice])).await.unwrap();
    let mut reader = soon(bus.read(&[Topic::Resign], Start::Earliest)).await.unwrap();
    soon(bus.publish(&[record(Topic::Notice, "key", "1")])).await.unwrap();
    soon(member.next()).await.unwrap();
    // Clients say how they are while they are polled.
    let consuming = tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = member.next() => {}
                _ = reader.next() => {}
            }
        }
    });
    let gauge = |name: &str| counted(&bench.context, name, &[]);
    let clients = gauge("events_kafka_clients");
    assert!(clients >= 4.0, "two producers, a member, a reader: {clients}");

    log.0.lock().clear();
    cluster.broker_down(BROKER).unwrap();
    let outage = Instant::now();
    soon(async {
        while gauge("events_kafka_clients_disconnected") < clients || outage.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let text = String::from_utf8(log.0.lock().clone()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.contains(" DEBUG ")).collect();
    assert!((1..=4).contains(&lines.len()), "{} lines:\n{text}", lines.len());
    let suppressed = gauge("events_kafka_log_lines_suppressed_total");
    assert!(suppressed > clients, "{suppressed} lines were suppressed");

    cluster.broker_up(BROKER).unwrap();
    soon(async {
        while gauge("events_kafka_clients_disconnected") > 0.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    consuming.abort();
}

/// A broker that has gone without closing its connections answers nothing: a reader connects again before a minute has passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stops_answering_is_given_up_in_seconds() {
    let (cluster, bench) = mock_broker(&["notice", "notice.dlt"]);
    let bus = bench.open().await;
    let mut reader = soon(bus.read(&[Topic::Notice], Start::Earliest)).await.unwrap();
    soon(bus.publish(&[record(Topic::Notice, "key", "1")])).await.unwrap();
    soon(reader.next()).await.unwrap();
    let disconnected = || counted(&bench.context, "events_kafka_clients_disconnected", &[]);

    cluster.broker_round_trip_time(BROKER, Duration::from_hours(1)).unwrap();
    // A fetch is under way all the time. With librdkafka's default it waits for more than a minute.
    let given_up = tokio::time::timeout(Duration::from_secs(40), async {
        while disconnected() < 1.0 {
            // Clients say how they are while they are polled.
            let _ = tokio::time::timeout(Duration::from_millis(100), reader.next()).await;
        }
    });
    assert!(given_up.await.is_ok(), "the reader still waits for its fetch");

    cluster.broker_round_trip_time(BROKER, Duration::ZERO).unwrap();
    soon(bus.publish(&[record(Topic::Notice, "key", "2")])).await.unwrap();
    let next = soon(reader.next()).await.unwrap();
    assert_eq!(value(&next), "2");
}

/// In a cluster, the consumers of a service stayed out of their group for minutes after the broker had got another address, and health was up.
/// Here the coordinator accepts connections and answers nothing, while another broker answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_get_back_into_its_group_is_replaced() {
    const COORDINATOR: i32 = 2;
    let cluster = MockCluster::new(2).unwrap();
    for topic in ["notice", "notice.dlt"] {
        cluster.create_topic(topic, 2, 1).unwrap();
        for partition in 0..2 {
            cluster.partition_leader(topic, partition, Some(BROKER)).unwrap();
        }
    }
    let group = MockCoordinator::Group("group".to_owned());
    cluster.coordinator(group, COORDINATOR).unwrap();
    let brokers = cluster.bootstrap_servers();
    let first = brokers.split(',').next().unwrap();
    let bench = Bench::new(format!("kafka:{first}"), String::new());
    let bus = bench.open().await;

    let (sender, mut came) = mpsc::unbounded_channel();
    let consuming = tokio::spawn(consume(bus.clone(), sender));
    let replaced = || counted(&bench.context, "events_kafka_clients_replaced_total", &[]);
    soon(bus.publish(&[record(Topic::Notice, "key", "1")])).await.unwrap();
    assert_eq!(soon(came.recv()).await.as_deref(), Some("1"));
    assert_eq!(bus_health(&bench).await, Ok(()));

    cluster
        .broker_round_trip_time(COORDINATOR, Duration::from_hours(1))
        .unwrap();
    soon(async {
        while replaced() < 1.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    // Although each new client begins anew.
    let reason = soon(async {
        loop {
            if let Err(reason) = bus_health(&bench).await {
                return reason;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    assert!(reason.starts_with("out of group group for "), "{reason}");
    let missing = || counted(&bench.context, "events_consumer_groups_missing", &[]);
    soon(async {
        while missing() < 1.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;

    cluster.broker_round_trip_time(COORDINATOR, Duration::ZERO).unwrap();
    soon(bus.publish(&[record(Topic::Notice, "key", "2")])).await.unwrap();
    soon(async {
        // The first record may come again.
        while came.recv().await.as_deref() != Some("2") {}
    })
    .await;
    soon(async {
        while bus_health(&bench).await.is_err() || missing() > 0.0 {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    consuming.abort();
}

/// Returns the result of the health check `events`.
async fn bus_health(bench: &Bench) -> Result<(), String> {
    let report = bench.context.health.report().await;
    let (_, checked) = report.0.iter().find(|(name, _)| *name == "events").unwrap();
    checked.clone().map(drop)
}

/// Consumes `notice` in a group, as the loop of a consumer does, and sends the values.
async fn consume(bus: Arc<dyn Bus>, sender: mpsc::UnboundedSender<String>) {
    loop {
        let Ok(mut member) = bus.join("group", &[Topic::Notice]).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while let Ok(record) = member.next().await {
            // Fails when the test has ended.
            let _ = sender.send(value(&record));
            if member.done(&record).await.is_err() {
                break;
            }
        }
        member.leave().await;
    }
}

/// The keys of requests.
const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const GET_TELEMETRY_SUBSCRIPTIONS: i16 = 71;

/// Stands in front of a mock broker, and gives its clients its own address in place of that one's. While it is fenced it answers as a broker that
/// has just started: its metadata name topics and no brokers.
#[derive(Debug, Clone)]
struct Front {
    port: u16,
    behind: u16,
    is_fenced: Arc<AtomicBool>,
    /// Closes all connections.
    resets: Arc<Notify>,
    /// The keys of the requests that came.
    requests: Arc<Mutex<Vec<i16>>>,
}

impl Front {
    async fn start(cluster: &MockCluster<'_, DefaultProducerContext>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = cluster.bootstrap_servers();
        let front = Self {
            port: listener.local_addr().unwrap().port(),
            behind: address.rsplit_once(':').unwrap().1.parse().unwrap(),
            is_fenced: Arc::default(),
            resets: Arc::default(),
            requests: Arc::default(),
        };
        let serving = front.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let front = serving.clone();
                tokio::spawn(async move { front.forward(client).await });
            }
        });
        front
    }

    async fn forward(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.behind)).await?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (sender, asked) = mpsc::unbounded_channel();
        tokio::select! {
            ended = self.pass_requests(from_client, to_server, sender) => ended,
            ended = self.pass_answers(from_server, to_client, asked) => ended,
            () = self.resets.notified() => Ok(()),
        }
    }

    async fn pass_requests(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        asked: mpsc::UnboundedSender<i16>,
    ) -> io::Result<()> {
        loop {
            let request = read_frame(&mut from).await?;
            let key = i16::from_be_bytes([request[0], request[1]]);
            self.requests.lock().push(key);
            // Fails when the answers have ended.
            let _ = asked.send(key);
            write_frame(&mut to, &request).await?;
        }
    }

    /// Returns the keys of all requests from now until `count` of one key have come.
    async fn requests_until(&self, key: i16, count: usize) -> Vec<i16> {
        self.requests.lock().clear();
        soon(async {
            loop {
                let requests = self.requests.lock().clone();
                if requests.iter().filter(|request| **request == key).count() >= count {
                    return requests;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// A broker answers the requests of a connection in their order.
    async fn pass_answers(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        mut asked: mpsc::UnboundedReceiver<i16>,
    ) -> io::Result<()> {
        loop {
            let answer = read_frame(&mut from).await?;
            let Some(key) = asked.recv().await else { return Ok(()) };
            write_frame(&mut to, &self.changed(key, answer)).await?;
        }
    }

    fn changed(&self, key: i16, mut answer: Vec<u8>) -> Vec<u8> {
        const HOST: &[u8] = b"127.0.0.1";
        let behind = [HOST, &u32::from(self.behind).to_be_bytes()].concat();
        let Some(host) = answer.windows(behind.len()).position(|window| window == behind) else {
            return answer;
        };
        let port = host + HOST.len();
        if key == METADATA && self.is_fenced.load(Ordering::SeqCst) {
            // From version 9 on: the number of brokers and one, and of each its id, the length of its host and one, host, port, rack (none) and
            // tags (none).
            let (number, broker) = (host - 6, host - 5..port + 6);
            assert_eq!((answer[number], &answer[port + 4..port + 6]), (2, &[0, 0][..]));
            answer[number] = 1;
            answer.drain(broker);
        } else {
            answer[port..port + 4].copy_from_slice(&u32::from(self.port).to_be_bytes());
        }
        answer
    }
}

/// Requests and answers are lengths of four bytes and so many bytes.
async fn read_frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut frame = vec![0; usize::try_from(length).unwrap()];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write_frame(to: &mut OwnedWriteHalf, frame: &[u8]) -> io::Result<()> {
    to.write_u32(u32::try_from(frame.len()).unwrap()).await?;
    to.write_all(frame).await
}

/// librdkafka forgets all brokers then, and may not begin again (its issue 5301).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_recover_from_a_broker_that_names_no_brokers() {
    const ROUNDS: u32 = 4;
    let (cluster, _) = mock_broker(&["notice", "notice.dlt"]);
    let front = Front::start(&cluster).await;
    let bench = Bench::new(format!("kafka:127.0.0.1:{}", front.port), String::new());
    let bus = bench.open().await;
    let (sender, mut consumed) = mpsc::unbounded_channel();
    let consuming = tokio::spawn(consume(bus.clone(), sender));
    let (sender, mut was_read) = mpsc::unbounded_channel();
    let reading = tokio::spawn({
        let bus = bus.clone();
        async move {
            // As the loop of a reader does.
            loop {
                let Ok(mut reader) = bus.read(&[Topic::Notice], Start::Earliest).await else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                while let Ok(record) = reader.next().await {
                    let _ = sender.send(value(&record));
                }
            }
        }
    });
    for round in 0..=ROUNDS {
        let sent = round.to_string();
        // A producer that is replaced gives its records back.
        soon(async {
            while bus.publish(&[record(Topic::Notice, "key", &sent)]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        for came in [&mut consumed, &mut was_read] {
            // Earlier records may come again.
            soon(async { while came.recv().await.as_ref() != Some(&sent) {} }).await;
        }
        front.is_fenced.store(true, Ordering::SeqCst);
        front.resets.notify_waiters();
        tokio::time::sleep(Duration::from_secs(2)).await;
        front.is_fenced.store(false, Ordering::SeqCst);
    }
    reading.abort();
    consuming.abort();
}

/// A broker that has just started names itself the leader of all partitions, and becomes it of one after the other. The answer to a fetch
/// names some leaders then and not others, of which librdkafka may die (its issue 5280).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_fetch_once_each_leader_serves() {
    let (cluster, _) = mock_broker(&["notice"]);
    let front = Front::start(&cluster).await;
    let bench = Bench::new(format!("kafka:127.0.0.1:{}", front.port), String::new());
    let bus = bench.open().await;
    let mut reader = soon(bus.read(&[Topic::Notice], Start::Earliest)).await.unwrap();
    soon(bus.publish(&[record(Topic::Notice, "key", "1")])).await.unwrap();
    assert_eq!(value(&soon(reader.next()).await.unwrap()), "1");
    let requests = front.requests.lock().clone();
    assert!(!requests.contains(&GET_TELEMETRY_SUBSCRIPTIONS), "{requests:?}");

    let not_leader = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    cluster.request_errors(RDKafkaApiKey::ListOffsets, &[not_leader; 1_000]);
    front.resets.notify_waiters();
    // Asked by who has paused the reader.
    front.requests_until(LIST_OFFSETS, 1).await;
    let began = Instant::now();
    // Each look asks at most twice, for the first and the last offset: four looks, ever more seldom.
    let requests = front.requests_until(LIST_OFFSETS, 8).await;
    assert!(!requests.contains(&FETCH), "{requests:?}");
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());

    cluster.clear_request_errors(RDKafkaApiKey::ListOffsets);
    soon(bus.publish(&[record(Topic::Notice, "key", "2")])).await.unwrap();
    assert_eq!(value(&soon(reader.next()).await.unwrap()), "2");
}

/// A runtime drops its tasks in its own threads when it shuts down. librdkafka waits for ever there for the end of a client with records in a
/// queue that was split off, as for that of a client that hangs.
#[test]
fn a_runtime_ends_while_a_member_has_records_left() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let cluster = runtime.block_on(async {
        let (cluster, bench) = mock_broker(&["notice", "notice.dlt", "resign"]);
        let bus = bench.open().await;
        let records: Vec<_> = (0..100)
            .map(|number| record(Topic::Notice, "key", &number.to_string()))
            .collect();
        soon(bus.publish(&records)).await.unwrap();
        let mut member = soon(bus.join("group", &[Topic::Notice])).await.unwrap();
        let mut reader = soon(bus.read(&[Topic::Notice], Start::Earliest)).await.unwrap();
        soon(member.next()).await.unwrap();
        soon(reader.next()).await.unwrap();
        tokio::spawn(async move {
            let _owned = (bus, bench, member, reader);
            std::future::pending::<()>().await;
        });
        cluster
    });
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(runtime);
        sender.send(()).unwrap();
    });
    assert_eq!(
        ended.recv_timeout(Duration::from_secs(10)),
        Ok(()),
        "the runtime waits for a client"
    );
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_was_replaced_ends() {
    let (cluster, bench) = mock_broker(&["notice", "resign"]);
    let bus = bench.open().await;
    // It looks for new partitions with the producer.
    let _reader = soon(bus.read(&[Topic::Resign], Start::Earliest)).await.unwrap();
    soon(bus.publish(&[record(Topic::Notice, "key", "1")])).await.unwrap();
    let clients = || counted(&bench.context, "events_kafka_clients", &[]);
    let before = clients();

    cluster.broker_down(BROKER).unwrap();
    let batch = [record(Topic::Notice, "key", "2")];
    // A batch that is dropped is taken back, which ends the use of its producer.
    let outcome = tokio::time::timeout(Duration::from_secs(1), bus.publish(&batch)).await;
    assert!(outcome.is_err(), "the batch waits for the broker: {outcome:?}");
    cluster.broker_up(BROKER).unwrap();
    soon(async {
        while clients() > before {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    soon(bus.publish(&[record(Topic::Notice, "key", "3")])).await.unwrap();
}
