//! The time from a like to its notice on the author's socket, compared with a raw produce → consume and an echo over a raw socket.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use reqwest::multipart::Form;
use serde_json::json;
use sosohappy_bus::{Bus, Reader, Start};
use sosohappy_events::{Outgoing, Topic};
use sosohappy_fleet::app::{Addresses, Phone, Socket};
use sosohappy_testkit::{Bed, Cluster, EngineSet};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::report::{Report, Row, millis};
use crate::rounds::{Comparison, Effort, Rounds};
use crate::run::Run;
use crate::sockets::sign_up;
use crate::trace::{Act, Begun, Replicas, Traces};
use crate::{LIKED_DAYS, addresses, echo, noon_of, save_liked_posts};

/// Likes before each round.
const WARM_UP: i64 = 20;
const AUTHOR: &str = "author";

/// The replica of feed that a like is taken at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TakenAt {
    /// The one whose relay publishes.
    Leader,
    Another,
}

pub async fn measure(run: &mut Run, report: &mut Report, set: EngineSet, effort: Effort) -> anyhow::Result<()> {
    let fleet = Cluster::of(set, &run.binaries()).await;
    let [first, second] = fleet.replicas.map(addresses);
    let addresses = Addresses {
        notice: second.notice.clone(),
        ..first.clone()
    };
    let author = sign_up(&addresses, AUTHOR).await?;
    save_liked_posts(&author).await?;
    let mut notices = author.connect_notice().await?;
    let bed = Bed::with_declared_topics(set).await;
    let mut baseline = Baseline::new(&bed).await?;
    let replicas = Replicas::of(&fleet);

    // Embedded there is one replica.
    let places: &[TakenAt] = match set {
        EngineSet::Embedded => &[TakenAt::Leader],
        EngineSet::Real => &[TakenAt::Leader, TakenAt::Another],
    };
    for (&place, name) in places.iter().zip(["liker", "other"]) {
        let leader = leading(&[&first.feed, &second.feed]).await?;
        let is_first = (leader == first.feed) == (place == TakenAt::Leader);
        let feed = if is_first { &first.feed } else { &second.feed };
        let (mut rounds, mut traces) = (Rounds::default(), Traces::default());
        for number in 0..effort.rounds {
            // A person for each round: a like again is no second notice.
            let liker = Liker {
                phone: sign_up(&addresses, &format!("{name}{number}")).await?,
                url: format!("{feed}/feed-service/updateLike"),
                http: sosohappy_common::tls::client(),
            };
            let (acts, raw) = one_round(&liker, &mut notices, &mut baseline, effort).await?;
            rounds.add(acts.iter().map(|act| act.took).collect(), raw);
            traces.add(&replicas, acts).await?;
        }
        ensure!(
            leading(&[&first.feed, &second.feed]).await? == leader,
            "another replica of feed leads than at the start"
        );
        let figures = Figures::of(set, place);
        run.keep(
            &format!("like → notice frame ({})", figures.engines),
            json!({"rounds": rounds.to_json(), "traces": traces.to_json()}),
        );
        report.add_with_steps(&figures.rows(&rounds), &traces.table());
    }
    Ok(())
}

/// Returns the likes of a round, and as many times of the baseline.
async fn one_round(
    liker: &Liker,
    notices: &mut Socket,
    baseline: &mut Baseline,
    effort: Effort,
) -> anyhow::Result<(Vec<Act>, Vec<Duration>)> {
    let (mut acts, mut raw) = (Vec::new(), Vec::new());
    let mut began = Instant::now();
    for day in 0..LIKED_DAYS {
        let start = Begun::now();
        liker.like(noon_of(day), &start.traceparent()).await?;
        let answered = Instant::now();
        notices.text().await?;
        let act = start.end(Instant::now(), vec![("the answer", answered)]);
        let raw_time = baseline.once().await?;
        if day < WARM_UP {
            began = Instant::now();
            continue;
        }
        acts.push(act);
        raw.push(raw_time);
        if effort.is_complete(began, raw.len()) {
            break;
        }
    }
    Ok((acts, raw))
}

/// Likes the author's posts at one replica of feed.
struct Liker {
    phone: Phone,
    url: String,
    http: reqwest::Client,
}

impl Liker {
    /// Likes a post, as the app does, as part of a trace.
    async fn like(&self, date: i64, traceparent: &str) -> anyhow::Result<()> {
        let tokens = self.phone.tokens.as_ref().context("the liker is signed in")?;
        let form = Form::new()
            .text("srcNickname", self.phone.nickname.clone())
            .text("nickname", AUTHOR)
            .text("date", date.to_string());
        let request = self.http.post(&self.url).multipart(form);
        let request = request
            .header("authorization", &tokens.access)
            .header("email", &tokens.account)
            .header("traceparent", traceparent);
        let answer = request.send().await?.error_for_status()?;
        let body = answer.text().await?;
        ensure!(body.contains("true"), "the post is not liked: {body}");
        Ok(())
    }
}

/// Returns the address of the replica whose relay publishes.
async fn leading<'a>(replicas: &[&'a str]) -> anyhow::Result<&'a str> {
    let client = sosohappy_common::tls::client();
    for &replica in replicas {
        let metrics = client.get(format!("{replica}/actuator/prometheus")).send().await?;
        let metrics = metrics.text().await?;
        let mut lines = metrics.lines();
        if lines.any(|line| line.starts_with("outbox_relay_leading{") && line.ends_with(" 1")) {
            return Ok(replica);
        }
    }
    bail!("no replica of feed leads")
}

/// What is said about a figure on the page.
struct Figures {
    engines: &'static str,
    why: &'static str,
    /// Of the median, in times of the baseline.
    target: (f64, &'static str),
}

impl Figures {
    fn of(set: EngineSet, place: TakenAt) -> Self {
        let (engines, why) = match (set, place) {
            (EngineSet::Embedded, _) => (
                "embedded",
                "a like takes two commits to the disk one after the other, the like with its outbox row and the record of the journal; \
                 the baseline takes one, in the process that waits for it.",
            ),
            (EngineSet::Real, TakenAt::Leader) => (
                "Kafka, MariaDB, SecantusDB, a process each",
                "before the record come a request, four statements and a commit in MariaDB and the relay's query of the outbox, after it \
                 two lookups in SecantusDB, a Python process that stores the notice at the same time; the baseline has the record alone. \
                 Nine processes share the two cores.",
            ),
            (EngineSet::Real, TakenAt::Another) => (
                "Kafka, MariaDB, SecantusDB, a process each, at a replica whose relay does not lead",
                "as at the leader, and a hint from the replica that took the like to the one whose relay leads.",
            ),
        };
        let target = match set {
            EngineSet::Embedded => (1.5, "≤ 1.5 ×"),
            EngineSet::Real => (2.0, "≤ 2 ×"),
        };
        Self { engines, why, target }
    }

    fn rows(&self, rounds: &Rounds) -> Vec<Row> {
        let Self { engines, target, .. } = self;
        let quantiles = [("p50", 500, *target), ("p99", 990, (3.0, "≤ 3 ×"))];
        let rows = quantiles.map(|(name, per_mille, (most, target))| {
            let Comparison { time, baseline, ratio } = rounds.compare(per_mille);
            Row {
                what: format!("like → notice frame, {name} ({engines})"),
                measured: format!("{}, {}", millis(time), ratio.times()),
                baseline: format!("{}, raw produce → consume and a socket's echo", millis(baseline)),
                target,
                met: ratio.median <= most,
                why: self.why,
            }
        });
        rows.into()
    }
}

/// The lower bound of a like's latency: one record over the bus, and one echo over a socket.
struct Baseline {
    bus: RawBus,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// The bus without the services: a plain Kafka client, or the journal.
enum RawBus {
    Kafka {
        producer: FutureProducer,
        consumer: Box<StreamConsumer>,
        topic: String,
    },
    Journal {
        bus: std::sync::Arc<dyn Bus>,
        reader: Box<dyn Reader>,
    },
}

impl Baseline {
    async fn new(bed: &Bed) -> anyhow::Result<Self> {
        let bus = match bed.kafka() {
            Some((brokers, prefix)) => {
                bed.bus.create_topics(&[Topic::Notice]).await?;
                let topic = format!("{prefix}{}", Topic::Notice.default_name());
                RawBus::kafka(brokers, topic)?
            }
            None => RawBus::journal(bed).await?,
        };
        let socket = echo::connect().await?;
        Ok(Self { bus, socket })
    }

    /// Measures one record and one echo.
    async fn once(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.bus.once().await?;
        self.socket.send(Message::text("a notice")).await?;
        self.socket.next().await.context("the echo ended")??;
        Ok(began.elapsed())
    }
}

/// Returns the end offset of a partition. Retries for 10 s: a new partition has no leader yet.
fn end_of(consumer: &StreamConsumer, topic: &str, partition: i32) -> anyhow::Result<i64> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match consumer.fetch_watermarks(topic, partition, Duration::from_secs(10)) {
            Ok((_, end)) => return Ok(end),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

impl RawBus {
    fn kafka(brokers: &str, topic: String) -> anyhow::Result<Self> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers);
        let producer = settings.clone().set("acks", "all").set("linger.ms", "0").create()?;
        let consumer: StreamConsumer = settings
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .create()?;
        let mut all = TopicPartitionList::new();
        let metadata = consumer.fetch_metadata(Some(&topic), Duration::from_secs(10))?;
        for partition in metadata
            .topics()
            .iter()
            .flat_map(rdkafka::metadata::MetadataTopic::partitions)
        {
            let end = end_of(&consumer, &topic, partition.id())?;
            all.add_partition_offset(&topic, partition.id(), Offset::Offset(end))?;
        }
        consumer.assign(&all)?;
        Ok(Self::Kafka {
            producer,
            consumer: Box::new(consumer),
            topic,
        })
    }

    async fn journal(bed: &Bed) -> anyhow::Result<Self> {
        let reader = bed.bus.read(&[Topic::Notice], Start::Latest).await?;
        Ok(Self::Journal {
            bus: bed.bus.clone(),
            reader,
        })
    }

    /// Publishes a record and waits until it is consumed.
    async fn once(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Kafka {
                producer,
                consumer,
                topic,
            } => {
                let record = FutureRecord::to(topic).key("author").payload("liker,2026030112000000");
                let (_, received) = tokio::join!(
                    producer.send(record, Duration::from_secs(5)),
                    tokio::time::timeout(Duration::from_secs(5), consumer.recv())
                );
                received.context("the record did not come back")??;
            }
            Self::Journal { bus, reader } => {
                let record = Outgoing {
                    topic: Topic::Notice.default_name().to_owned(),
                    key: Some("author".to_owned()),
                    value: Some(b"liker,2026030112000000".to_vec()),
                    headers: Vec::new(),
                };
                bus.publish(&[record]).await?;
                reader.next().await?;
            }
        }
        Ok(())
    }
}
