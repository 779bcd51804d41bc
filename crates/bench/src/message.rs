//! The time from a sender's frame to the receiver's, compared with a bare durable insert and an echo over a raw socket.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{SinkExt as _, StreamExt as _};
use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use sosohappy_fleet::app::{Addresses, Message, Phone};
use sosohappy_fleet::demo::picture;
use sosohappy_testkit::{Bed, Cluster, EngineSet};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::report::{Report, Row, Samples, millis, ratio};
use crate::{addresses, echo};

const WARM_UP: i64 = 20;
const ROUNDS: i64 = 400;
const FIRST_DATE: i64 = 2_026_030_112_000_000;
const TEXT: &str = "a message as people write it";

pub async fn measure(report: &mut Report, binaries: &Path, set: EngineSet) -> anyhow::Result<()> {
    let fleet = match set {
        EngineSet::Embedded => Cluster::embedded(binaries).await,
        EngineSet::Real => Cluster::real(binaries).await,
    };
    let [first, second] = fleet.replicas.map(addresses);
    let sender = phone(first.clone(), "sender").await?;
    // The receiver's socket is at the other replica.
    let receiver = Addresses { dm: second.dm, ..first };
    let receiver = phone(receiver, "receiver").await?;
    let (mut from, mut to) = (sender.connect_dm().await?, receiver.connect_dm().await?);
    let bed = Bed::new(set).await;
    let mut baseline = Baseline::new(&bed).await?;

    let (mut samples, mut raw) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let message = Message {
            sender: "sender".to_owned(),
            receiver: "receiver".to_owned(),
            date: FIRST_DATE + round,
            text: TEXT.to_owned(),
        };
        let began = Instant::now();
        from.send(&message).await?;
        to.text().await?;
        let delivered = began.elapsed();
        let raw_time = baseline.once(round).await?;
        if round >= WARM_UP {
            samples.push(delivered);
            raw.push(raw_time);
        }
    }
    let (latencies, raw_times) = (Samples::new(samples), Samples::new(raw));
    let (engines, why) = match set {
        EngineSet::Embedded => (
            "embedded",
            "a message takes two commits to the disk one after the other, the message with its outbox row and the record of the journal; \
             the baseline takes one.",
        ),
        EngineSet::Real => (
            "Kafka, SecantusDB, a process each",
            "a message is inserted in SecantusDB, a Python process, checked against resignations before and after, published by the relay \
             and consumed; the baseline is the insert alone. Nine processes share the two cores.",
        ),
    };
    for (name, per_mille, most, target) in [("p50", 500, 2.0, "≤ 2 ×"), ("p99", 990, 3.0, "≤ 3 ×")] {
        let (delivered, baseline) = (latencies.quantile(per_mille), raw_times.quantile(per_mille));
        let times = ratio(delivered, baseline);
        report.add(Row {
            what: format!("DM frame → receiver's frame, {name} ({engines})"),
            measured: format!("{}, {times:.1} × the baseline", millis(delivered)),
            baseline: format!("{}, a bare durable insert and a socket's echo", millis(baseline)),
            target,
            met: times <= most,
            why,
        });
    }
    Ok(())
}

async fn phone(addresses: Addresses, name: &str) -> anyhow::Result<Phone> {
    let mut phone = Phone::new(addresses, &format!("{name}@example.com"), "google")?;
    phone.sign_in().await?;
    phone.set_profile(name, "", &picture(0)).await?;
    Ok(phone)
}

/// The lower bound of a message's latency: one insert that a crash does not lose, and one echo over a socket.
struct Baseline {
    store: RawStore,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// The database without the services: a plain driver.
enum RawStore {
    Sqlite(SqliteConnection),
    Mongo(mongodb::Collection<Document>),
}

impl Baseline {
    async fn new(bed: &Bed) -> anyhow::Result<Self> {
        let store = match bed.set {
            EngineSet::Embedded => RawStore::sqlite(bed.folder()).await?,
            EngineSet::Real => RawStore::mongo(&bed.mongodb_url("dm")).await?,
        };
        let socket = echo::connect().await?;
        Ok(Self { store, socket })
    }

    /// Measures one insert and one echo.
    async fn once(&mut self, number: i64) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.store.insert(number).await?;
        self.socket.send(Frame::text(TEXT)).await?;
        self.socket.next().await.context("the echo ended")??;
        Ok(began.elapsed())
    }
}

impl RawStore {
    async fn sqlite(folder: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(folder.join("baseline.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut connection = options.connect().await?;
        sqlx::query("CREATE TABLE message (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT")
            .execute(&mut connection)
            .await?;
        Ok(Self::Sqlite(connection))
    }

    async fn mongo(url: &str) -> anyhow::Result<Self> {
        let client = mongodb::Client::with_uri_str(url).await?;
        let database = client.default_database().context("the URL names no database")?;
        let majority = WriteConcern::builder().w(Acknowledgment::Majority).build();
        let options = mongodb::options::CollectionOptions::builder()
            .write_concern(majority)
            .build();
        Ok(Self::Mongo(database.collection_with_options("baseline", options)))
    }

    async fn insert(&mut self, number: i64) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(connection) => {
                sqlx::query("INSERT INTO message (id, text) VALUES (?, ?)")
                    .bind(number)
                    .bind(TEXT)
                    .execute(connection)
                    .await?;
            }
            Self::Mongo(messages) => {
                messages.insert_one(doc! { "_id": number, "text": TEXT }).await?;
            }
        }
        Ok(())
    }
}
