//! The time from a sender's frame to the receiver's, compared with a bare durable insert and an echo over a raw socket.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::{SinkExt as _, StreamExt as _};
use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use serde_json::{Value, json};
use sosohappy_fleet::app::{Addresses, Message, Socket};
use sosohappy_testkit::{Bed, Cluster, EngineSet};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::report::{Report, Row, millis};
use crate::rounds::{Comparison, Effort, Rounds};
use crate::run::Run;
use crate::sockets::sign_up;
use crate::trace::{Act, Begun, Replicas, Traces};
use crate::{addresses, echo};

/// Messages before the first round.
const WARM_UP: i64 = 20;
const FIRST_DATE: i64 = 2_026_030_112_000_000;
const TEXT: &str = "a message as people write it";

pub async fn measure(run: &mut Run, report: &mut Report, set: EngineSet, effort: Effort) -> anyhow::Result<()> {
    let fleet = Cluster::of(set, &run.binaries()).await;
    let [first, second] = fleet.replicas.map(addresses);
    // The receivers' sockets are at the other replica.
    let other = Addresses {
        dm: second.dm,
        ..first.clone()
    };
    let (sender, receiver) = (sign_up(&first, "sender").await?, sign_up(&other, "receiver").await?);
    let mut pair = Pair {
        from: sender.connect_dm().await?,
        to: receiver.connect_dm().await?,
    };
    let (sender, receiver) = (sign_up(&first, "sender2").await?, sign_up(&other, "receiver2").await?);
    let mut numbered = Pair {
        from: sender.resume_dm(0).await?,
        to: receiver.resume_dm(0).await?,
    };
    let bed = Bed::with_declared_topics(set).await;
    let mut baseline = Baseline::new(&bed).await?;
    let replicas = Replicas::of(&fleet);

    for number in 0..WARM_UP {
        pair.send(number).await?;
        baseline.once(number).await?;
        numbered.send_numbered(number).await?;
    }
    let mut numbers = WARM_UP..;
    let (mut rounds, mut numbered_rounds, mut traces) = (Rounds::default(), Rounds::default(), Traces::default());
    for _ in 0..effort.rounds {
        let (mut times, mut raw, mut acts) = (Vec::new(), Vec::new(), Vec::new());
        let began = Instant::now();
        while !effort.is_complete(began, raw.len()) {
            let number = numbers.next().context("there is no end of numbers")?;
            times.push(pair.send(number).await?);
            raw.push(baseline.once(number).await?);
            acts.push(numbered.send_numbered(number).await?);
        }
        rounds.add(times, raw.clone());
        numbered_rounds.add(acts.iter().map(|act| act.took).collect(), raw);
        traces.add(&replicas, acts).await?;
    }
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
    run.keep(
        &format!("DM frame → receiver's frame ({engines})"),
        json!({"version1": rounds.to_json(), "version2": numbered_rounds.to_json(), "traces": traces.to_json()}),
    );
    let mut rows = rows("DM frame → receiver's frame", engines, why, &rounds);
    rows.extend(self::rows(
        "DM frame → receiver's frame of version 2",
        engines,
        why,
        &numbered_rounds,
    ));
    let steps = traces.table();
    let steps = if steps.is_empty() {
        steps
    } else {
        format!("Of messages of version 2, whose frames can be part of a trace. {steps}")
    };
    report.add_with_steps(&rows, &steps);
    Ok(())
}

fn rows(what: &str, engines: &str, why: &'static str, rounds: &Rounds) -> Vec<Row> {
    let rows = [("p50", 500, 2.0, "≤ 2 ×"), ("p99", 990, 3.0, "≤ 3 ×")].map(|(name, per_mille, most, target)| {
        let Comparison { time, baseline, ratio } = rounds.compare(per_mille);
        Row {
            what: format!("{what}, {name} ({engines})"),
            measured: format!("{}, {}", millis(time), ratio.times()),
            baseline: format!("{}, a bare durable insert and a socket's echo", millis(baseline)),
            target,
            met: ratio.median <= most,
            why,
        }
    });
    rows.into()
}

/// The sockets of a sender and of a receiver.
struct Pair {
    from: Socket,
    to: Socket,
}

impl Pair {
    /// Measures one message of version 1.
    async fn send(&mut self, number: i64) -> anyhow::Result<Duration> {
        let message = Message {
            sender: "sender".to_owned(),
            receiver: "receiver".to_owned(),
            date: FIRST_DATE + number,
            text: TEXT.to_owned(),
        };
        let began = Instant::now();
        self.from.send(&message).await?;
        self.to.text().await?;
        Ok(began.elapsed())
    }

    /// Measures one message of version 2, which the receiver acknowledges afterwards.
    async fn send_numbered(&mut self, number: i64) -> anyhow::Result<Act> {
        let start = Begun::now();
        let message = json!({
            "topic": "message",
            "id": number.to_string(),
            "traceparent": start.traceparent(),
            "data": {"receiver": "receiver2", "text": TEXT},
        });
        self.from.send(&message).await?;
        let (from, to) = (&mut self.from, &mut self.to);
        let (accepted, shown) = tokio::try_join!(frame(from, "accepted"), frame(to, "message"))?;
        let act = start.end(shown.at, vec![("accepted", accepted.at)]);
        self.to.send(&json!({"topic": "ack", "seq": shown.seq})).await?;
        Ok(act)
    }
}

/// A frame of version 2 that has arrived.
pub struct Arrived {
    at: Instant,
    pub seq: Value,
}

/// Returns the next frame of a topic; others, which come in between, are of former messages.
pub async fn frame(socket: &mut Socket, topic: &str) -> anyhow::Result<Arrived> {
    loop {
        let text = socket.text().await?;
        let at = Instant::now();
        let frame: Value = serde_json::from_str(&text)?;
        match frame["topic"].as_str() {
            Some("error" | "rejected") => bail!("a message was refused: {text}"),
            Some(known) if known == topic => {
                let seq = frame["seq"].clone();
                return Ok(Arrived { at, seq });
            }
            _ => {}
        }
    }
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
