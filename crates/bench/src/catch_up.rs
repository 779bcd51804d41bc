//! The token registry at the start of a process: records a second until it is ready, beside a bare consumer of the same topic, and the resident
//! memory of a live token.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use futures::TryStreamExt as _;
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use sosohappy_bus::Bus;
use sosohappy_common::Context;
use sosohappy_common::settings::Events;
use sosohappy_events::types::{AccessTokenIssued, Role, SessionId, TokenDigest};
use sosohappy_events::{Envelope, Outgoing, Topic};
use sosohappy_testkit::{Bed, EngineSet, resident_of};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::access::start_registry;
use crate::metrics;
use crate::report::{Report, Row};
use crate::rounds::{Spread, median};
use crate::run::Run;

/// The share of the tokens from which on a token's memory is measured. A power of two: the tables are as full with these as with all of them.
const FEW: u32 = 8;
/// Records that are published at once.
const BATCH: usize = 10_000;
/// The life of a token, as `tokens.access-lifetime` has it.
const LIFE: Duration = Duration::from_hours(10);
/// For the memory of the records to be released.
const REST: Duration = Duration::from_secs(2);
/// How long a process may take.
const PATIENCE: Duration = Duration::from_mins(15);

/// The rate of the registry, in times of the baseline.
const SHARE: f64 = 0.5;
/// Bytes of a token.
const BYTES: f64 = 96.0;

/// The rows of a topic in a journal, as its readers ask for them.
const ROWS: &str = "SELECT seq, part, stamp, key, value, headers FROM records \
    WHERE topic = (SELECT id FROM topics WHERE name = ?) ORDER BY seq";

/// What is measured.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Size {
    /// The tokens on the topic; the targets are for the default
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(i64::from(FEW)..))]
    tokens: u32,
    /// Rounds of the registry and its baseline
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
}

/// Measures and writes the section of the page.
pub async fn run(run: &mut Run, size: Size) -> anyhow::Result<()> {
    ensure!(
        EngineSet::real_is_there(),
        "needs the real engines: scripts/engines up && eval \"$(scripts/engines env)\""
    );
    let mut report = Report::default();
    for set in [EngineSet::Real, EngineSet::Embedded] {
        let source = Source::of(set).await?;
        let measured = Measured::of(&source, size).await?;
        run.keep(
            &format!("registry ({})", source.engines),
            json!({
                "few": to_json(&measured.few),
                "registry": to_json(&measured.registry),
                "baseline": to_json(&measured.baseline),
            }),
        );
        for row in measured.rows(&source, size) {
            report.add(&row);
        }
    }
    let Size { tokens, rounds } = size;
    let build = if cfg!(debug_assertions) { ", debug build" } else { "" };
    let body = format!(
        "Written by `bench catch-up`{build}: {tokens} records of `accessToken`, each of another account, are published through the bus. In {rounds} rounds two \
         processes read all of them, one after the other: a bare consumer, which counts them (on Kafka librdkafka's with the settings of the bus's readers, but 16 MiB read ahead, \
         on the journal a `SELECT` of its rows), and the registry with the readers of revocations and heartbeats, as a service starts it, until it is \
         ready. The time begins before the client is created. A token's memory is the resident memory of the process {} s after that, less that of a process \
         with the first {}, both the median of {rounds}.\n\n{}",
        REST.as_secs(),
        tokens / FEW,
        report.table()
    );
    run.write_section("Registry", &body)
}

/// A bus of the engines. Its topics, or its file, are deleted when it is dropped.
struct Source {
    engines: &'static str,
    baseline: &'static str,
    url: String,
    prefix: String,
    // Held for its drop.
    _bed: Bed,
}

impl Source {
    async fn of(set: EngineSet) -> anyhow::Result<Self> {
        let bed = Bed::with_declared_topics(set).await;
        let (engines, baseline) = match set {
            EngineSet::Real => ("Kafka", "a bare consumer"),
            EngineSet::Embedded => ("embedded", "a bare `SELECT`"),
        };
        let (url, prefix) = match bed.kafka() {
            Some((brokers, prefix)) => (format!("kafka:{brokers}"), prefix.to_owned()),
            // Not the bed's own, which only this process can open.
            None => (format!("journal:{}/tokens.db", bed.folder().display()), String::new()),
        };
        if set == EngineSet::Real {
            bed.bus.create_topics(&Topic::ALL).await?;
        }
        Ok(Self {
            engines,
            baseline,
            url,
            prefix,
            _bed: bed,
        })
    }

    /// Has a process do work on the tokens of these numbers, and returns what it printed.
    async fn have(&self, work: Work, numbers: Range<u32>) -> anyhow::Result<Value> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["access-tokens", work.name(), &self.url, &self.prefix])
            .args([numbers.start, numbers.end].map(|number| number.to_string()))
            .kill_on_drop(true);
        let ended = timeout(PATIENCE, command.output()).await;
        let output = ended.with_context(|| format!("{} takes too long", work.name()))??;
        ensure!(
            output.status.success(),
            "{}: {}: {}",
            work.name(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout).with_context(|| format!("unexpected output of {}", work.name()))
    }

    /// Has a process read the tokens up to this number.
    async fn read(&self, work: Work, tokens: u32) -> anyhow::Result<Reading> {
        let read = self.have(work, 0..tokens).await?;
        let number = |name: &str| {
            let number = read[name].as_f64();
            number.with_context(|| format!("{} printed no {name}: {read}", work.name()))
        };
        Ok(Reading {
            seconds: number("seconds")?,
            resident: number("resident")?,
        })
    }
}

/// What a process took that has read the topic.
struct Reading {
    /// Until the last record was read, and the registry was ready.
    seconds: f64,
    /// Resident bytes of the process afterwards.
    resident: f64,
}

fn to_json(readings: &[Reading]) -> Value {
    let readings = readings
        .iter()
        .map(|reading| json!({"seconds": reading.seconds, "residentBytes": reading.resident}));
    readings.collect()
}

/// Returns the median of the resident bytes.
fn resident(readings: &[Reading]) -> f64 {
    median(readings.iter().map(|reading| reading.resident).collect())
}

/// The readings of all rounds.
struct Measured {
    /// Of the registry with the first tokens.
    few: Vec<Reading>,
    registry: Vec<Reading>,
    baseline: Vec<Reading>,
}

impl Measured {
    async fn of(source: &Source, size: Size) -> anyhow::Result<Self> {
        let Size { tokens, rounds } = size;
        let first = tokens / FEW;
        let mut measured = Self {
            few: Vec::new(),
            registry: Vec::new(),
            baseline: Vec::new(),
        };
        source.have(Work::Publish, 0..first).await?;
        for _ in 0..rounds {
            measured.few.push(source.read(Work::Registry, first).await?);
        }
        source.have(Work::Publish, first..tokens).await?;
        for _ in 0..rounds {
            measured.baseline.push(source.read(Work::Bare, tokens).await?);
            measured.registry.push(source.read(Work::Registry, tokens).await?);
        }
        Ok(measured)
    }

    /// Returns the resident bytes of a token.
    fn bytes(&self, tokens: u32) -> f64 {
        (resident(&self.registry) - resident(&self.few)) / f64::from(tokens - tokens / FEW)
    }

    fn rows(&self, source: &Source, size: Size) -> [Row; 2] {
        let Size { tokens, .. } = size;
        let shares = self.registry.iter().zip(&self.baseline);
        let share = Spread::of(shares.map(|(registry, bare)| bare.seconds / registry.seconds).collect());
        let rate = |readings: &[Reading]| {
            let rates = readings.iter().map(|reading| f64::from(tokens) / reading.seconds);
            median(rates.collect())
        };
        let mebibytes = |readings: &[Reading]| resident(readings) / f64::from(1 << 20);
        let bytes = self.bytes(tokens);
        let catch_up = Row {
            what: format!("registry catch-up of {tokens} tokens ({})", source.engines),
            measured: format!(
                "{:.0} records/s, {:.2} of the baseline {}",
                rate(&self.registry),
                share.median,
                share.range(2)
            ),
            baseline: format!("{:.0} records/s, {}", rate(&self.baseline), source.baseline),
            target: "≥ 0.5",
            met: share.median >= SHARE,
            why: "the headers of each record are parsed, and key, value and headers copied, decoded and inserted, by one task; the consumer leaves records as \
                  they are.",
        };
        let memory = Row {
            what: format!(
                "resident memory of a live token, slope from {} to {tokens} ({})",
                tokens / FEW,
                source.engines
            ),
            measured: format!(
                "{bytes:.0} bytes; {:.0} MiB resident with all tokens",
                mebibytes(&self.registry)
            ),
            baseline: format!("{:.0} MiB resident, {}", mebibytes(&self.baseline), source.baseline),
            target: "≤ 96 bytes",
            met: bytes <= BYTES,
            why: "beside the tables, memory of former tables and of records is counted that the allocator has not returned to the system.",
        };
        [catch_up, memory]
    }
}

/// The work of one process.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Work {
    Publish,
    Bare,
    Registry,
}

impl Work {
    /// Returns the name on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Bare => "bare",
            Self::Registry => "registry",
        }
    }
}

/// What one process does, as the command line says it.
#[derive(Debug, Clone, clap::Args)]
pub struct Task {
    #[arg(value_enum)]
    work: Work,
    url: String,
    prefix: String,
    /// The first token to publish.
    first: u32,
    /// The number behind the last token.
    end: u32,
}

impl Task {
    /// Does the work, and prints what it took as JSON.
    pub async fn perform(&self) -> anyhow::Result<()> {
        let took = match self.work {
            Work::Publish => self.publish().await?,
            Work::Bare => self.count().await?,
            Work::Registry => self.catch_up().await?,
        };
        println!("{took}");
        Ok(())
    }

    async fn open(&self, context: &Context) -> anyhow::Result<Arc<dyn Bus>> {
        let events = Events::new(&self.url, &self.prefix);
        Ok(sosohappy_bus::open(&events, context).await?)
    }

    async fn publish(&self) -> anyhow::Result<Value> {
        let context = Context::system("bench", 0);
        let bus = self.open(&context).await?;
        let mut numbers = self.first..self.end;
        while !numbers.is_empty() {
            let batch = numbers.by_ref().take(BATCH).map(|number| issued(number, &context));
            let batch: Vec<Outgoing> = batch.collect::<anyhow::Result<_>>()?;
            bus.publish(&batch).await?;
        }
        Ok(Value::Null)
    }

    /// Counts the records without the bus.
    async fn count(&self) -> anyhow::Result<Value> {
        let topic = format!("{}{}", self.prefix, Topic::AccessToken.default_name());
        let began = Instant::now();
        if let Some(brokers) = self.url.strip_prefix("kafka:") {
            count_on_kafka(brokers, &topic, self.end).await?;
        } else {
            let file = self.url.strip_prefix("journal:").context("the URL is of no bus")?;
            count_in_journal(file, &topic, self.end).await?;
        }
        took(began).await
    }

    /// Starts the registry, and waits until it is ready.
    async fn catch_up(&self) -> anyhow::Result<Value> {
        let context = Context::system("bench", 0);
        let began = Instant::now();
        let bus = self.open(&context).await?;
        let _started = start_registry(&context, &bus)?;
        tokio::select! {
            () = context.lifecycle.ready() => {}
            failure = context.lifecycle.failed() => return Err(failure),
        }
        let took = took(began).await?;
        let metrics = context.metrics.render();
        let applied = metrics::sum(&metrics, "events_consumed_total").context("no record was counted")?;
        let held = metrics::sum(&metrics, "access_registry_tokens").context("no token was counted")?;
        let expected = f64::from(self.end);
        // A sweep, which counts the tokens while others are inserted, may miss some of these.
        ensure!(
            applied >= expected && held >= expected * 0.99,
            "the registry has {held} tokens of {applied} records, not {expected}"
        );
        context.lifecycle.shutdown(Duration::from_secs(1)).await;
        Ok(took)
    }
}

/// Returns the time since then, and the resident memory of this process when it has come to rest.
async fn took(began: Instant) -> anyhow::Result<Value> {
    let seconds = began.elapsed().as_secs_f64();
    sleep(REST).await;
    Ok(json!({"seconds": seconds, "resident": resident_of(std::process::id())}))
}

/// Returns the record of a token, each of another account.
fn issued(number: u32, context: &Context) -> anyhow::Result<Outgoing> {
    let issued_at = context.clock.now();
    let event = AccessTokenIssued {
        account: format!("person{number}@example.com+google").parse()?,
        digest: TokenDigest::of(&format!("token {number}")),
        raw: None,
        session: SessionId(number.into()),
        role: Role::User,
        issued_at,
        expires_at: Some(issued_at + LIFE),
    };
    Ok(Envelope::new(event, context).to_outgoing())
}

/// Counts the records of a topic, with the settings of the bus's readers.
async fn count_on_kafka(brokers: &str, topic: &str, tokens: u32) -> anyhow::Result<()> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench")
        .set("socket.nagle.disable", "true")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "500")
        .set("fetch.error.backoff.ms", "100")
        .set("queued.max.messages.kbytes", "16384")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let mut all = TopicPartitionList::new();
    for partition in metadata
        .topics()
        .iter()
        .flat_map(rdkafka::metadata::MetadataTopic::partitions)
    {
        all.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let mut counted = 0;
    while counted < tokens {
        match consumer.recv().await {
            Ok(_) => counted += 1,
            Err(KafkaError::PartitionEOF(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Counts the records of a topic in the file of a journal that no process has open.
async fn count_in_journal(file: &str, topic: &str, tokens: u32) -> anyhow::Result<()> {
    let options = SqliteConnectOptions::new().filename(file).pragma("query_only", "1");
    let mut connection = options.connect().await?;
    let mut rows = sqlx::query(ROWS).bind(topic).fetch(&mut connection);
    let mut counted = 0;
    while rows.try_next().await?.is_some() {
        counted += 1;
    }
    ensure!(counted == tokens, "the journal has {counted} of {tokens} records");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(of: [(f64, f64); 3]) -> Vec<Reading> {
        of.map(|(seconds, resident)| Reading { seconds, resident }).into()
    }

    #[test]
    fn memory_is_that_of_the_median_rounds() {
        let measured = Measured {
            few: readings([(1.0, 10_000.0), (1.0, 9_000.0), (1.0, 90_000.0)]),
            registry: readings([(2.0, 80_000.0), (4.0, 85_000.0), (3.0, 60_000.0)]),
            baseline: readings([(1.0, 5_000.0), (3.0, 5_000.0), (1.5, 5_000.0)]),
        };
        assert_eq!(format!("{:.1}", measured.bytes(800)), "100.0");
    }

    #[test]
    fn a_process_is_given_its_work_by_name() {
        for work in [Work::Publish, Work::Bare, Work::Registry] {
            let parsed = Work::from_str(work.name(), false).expect("the name is one of the command line");
            assert_eq!(parsed.name(), work.name());
        }
    }

    #[tokio::test]
    async fn each_token_is_of_another_account() {
        let context = Context::system("bench", 0);
        let [one, other] = [1, 2].map(|number| issued(number, &context).expect("a record"));
        assert_eq!(one.topic, Topic::AccessToken.default_name());
        assert_ne!((one.key, one.value), (other.key, other.value));
    }
}
