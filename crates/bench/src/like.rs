//! From a like to its frame at the author's socket, against a raw produce → consume and a raw socket's echo.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{SinkExt as _, StreamExt as _};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use sosohappy_bus::{Bus, Reader, Start};
use sosohappy_events::{Outgoing, Topic};
use sosohappy_fleet::app::{Addresses, NewPost, Phone};
use sosohappy_fleet::demo::picture;
use sosohappy_testkit::{Bed, Cluster, EngineSet};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::addresses;
use crate::report::{Report, Row, Samples, millis, ratio};

const LIKES: usize = 300;
const WARM_UP: usize = 20;

pub async fn measure(report: &mut Report, binaries: &Path, set: EngineSet) -> anyhow::Result<()> {
    let fleet = match set {
        EngineSet::Embedded => Cluster::embedded(binaries).await,
        EngineSet::Real => Cluster::real(binaries).await,
    };
    let [first, second] = fleet.replicas.map(addresses);
    let addresses = Addresses {
        notice: second.notice,
        ..first
    };
    let mut author = Phone::new(addresses.clone(), "author@example.com", "google")?;
    let mut liker = Phone::new(addresses, "liker@example.com", "kakao")?;
    for (phone, name) in [(&mut author, "author"), (&mut liker, "liker")] {
        phone.sign_in().await?;
        phone.set_profile(name, "", &picture(0)).await?;
    }
    let date = 2_026_030_112_000_000;
    author
        .save_post(&NewPost {
            date,
            text: "measured",
            pictures: &[],
        })
        .await?;
    let mut notices = author.connect_notice().await?;
    let bed = Bed::new(set).await;
    let mut floor = Floor::new(&bed).await?;

    let (mut samples, mut raw) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + LIKES {
        let began = Instant::now();
        liker.toggle_like("author", date).await?;
        notices.text().await?;
        let like = began.elapsed();
        liker.toggle_like("author", date).await?;
        let floor = floor.once().await?;
        if round >= WARM_UP {
            samples.push(like);
            raw.push(floor);
        }
    }
    let (ours, floors) = (Samples::new(samples), Samples::new(raw));
    let (engines, why) = match set {
        EngineSet::Embedded => (
            "embedded",
            "a like is two commits to the disk one after the other, the like with its outbox row and the record of the journal; \
             the baseline is one, in the process that waits for it.",
        ),
        EngineSet::Real => (
            "Kafka, MariaDB, SecantusDB, a process each",
            "before the record there are a request, seven statements and a commit in MariaDB and the relay's look at the outbox, after it \
             two lookups in SecantusDB, a process of Python that keeps the notice at the same time; the baseline has the record alone. \
             Nine processes share the two cores.",
        ),
    };
    for (name, per_mille, most, target) in [("p50", 500, 2.0, "≤ 2 ×"), ("p99", 990, 3.0, "≤ 3 ×")] {
        let (like, floor) = (ours.quantile(per_mille), floors.quantile(per_mille));
        let times = ratio(like, floor);
        report.add(Row {
            what: format!("like → notice frame, {name} ({engines})"),
            measured: format!("{}, {times:.1} × the baseline", millis(like)),
            baseline: format!("{}, raw produce → consume and a socket's echo", millis(floor)),
            target,
            met: times <= most,
            why,
        });
    }
    Ok(())
}

/// What a like cannot be quicker than.
struct Floor {
    wire: Wire,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// The client of the broker itself, or the journal's bus.
enum Wire {
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

impl Floor {
    async fn new(bed: &Bed) -> anyhow::Result<Self> {
        let wire = match bed.kafka() {
            Some((brokers, prefix)) => {
                bed.bus.create_topics(&[Topic::Notice]).await?;
                let topic = format!("{prefix}{}", Topic::Notice.default_name());
                Wire::kafka(brokers, topic)?
            }
            None => Wire::journal(bed).await?,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}", listener.local_addr()?);
        tokio::spawn(echo(listener));
        let (socket, _) = tokio_tungstenite::connect_async(url).await?;
        Ok(Self { wire, socket })
    }

    async fn once(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.wire.once().await?;
        self.socket.send(Message::text("a notice")).await?;
        self.socket.next().await.context("the echo ended")??;
        Ok(began.elapsed())
    }
}

async fn echo(listener: TcpListener) -> anyhow::Result<()> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(frame) = socket.next().await {
        socket.send(frame?).await?;
    }
    Ok(())
}

/// A partition that was just made has no leader for a moment.
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

impl Wire {
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
