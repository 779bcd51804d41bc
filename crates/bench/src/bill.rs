//! The bill: what a call of each kind takes from the process of a fleet on embedded engines, from its disk and from its bus, with all that follows
//! from the call.

mod people;
mod trace;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sosohappy_fleet::app::Addresses;
use sosohappy_testkit::Cluster;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::time::sleep;

use crate::bare::{pid_at, processor_seconds_of};
use crate::run::Run;
use crate::{LIKED_DAYS, addresses, metrics};
use people::{OPERATIONS, Operation, People};
use trace::Trace;

/// Calls of each kind that are not counted.
const WARM_UP: u32 = 20;
/// The most calls of each kind: each like is of another post, of another day.
pub const MOST: i64 = LIKED_DAYS - WARM_UP as i64;
/// How long the fleet is measured without calls.
const REST: Duration = Duration::from_secs(5);
/// The pause after the last call, in which its events and notices are handled.
const PAUSE: Duration = Duration::from_secs(3);
/// How long that may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// No push falls due while the bill is made up.
const NO_PUSHES: (&str, &str) = ("SOSOHAPPY_NOTICE__PUSH__DELIVERY_TIMEOUT", "1h");
/// Levels of the log with which each statement is a line, and what only these lines have.
const STATEMENTS: &str = "info,sqlx::query=debug";
const STATEMENT: &str = "sqlx::query";
const LOG_LEVELS: [&str; 5] = [
    "SOSOHAPPY_CONFIG__LOG__LEVEL",
    "SOSOHAPPY_AUTH__LOG__LEVEL",
    "SOSOHAPPY_FEED__LOG__LEVEL",
    "SOSOHAPPY_DM__LOG__LEVEL",
    "SOSOHAPPY_NOTICE__LOG__LEVEL",
];

/// The number of the last record of the journal.
const LAST: &str = "SELECT value FROM counters WHERE name = 'seq'";
/// The records behind a number, by topic, and the bytes of their keys, values and headers.
const RECORDS: &str = "SELECT topics.name, CAST(COUNT(*) AS REAL), \
    CAST(SUM(COALESCE(LENGTH(CAST(key AS BLOB)), 0) + COALESCE(LENGTH(CAST(value AS BLOB)), 0) + LENGTH(headers)) AS REAL) \
    FROM records JOIN topics ON topics.id = records.topic WHERE records.seq > ? GROUP BY topics.name";

/// Measures so many calls of each kind, and writes the section of the page.
pub async fn run(run: &mut Run, calls: u32) -> anyhow::Result<()> {
    let binaries = run.binaries();
    let metered = Metered::of(&binaries, calls).await?;
    let counted = Counted::of(&binaries, calls).await?;
    let rows: Vec<(&str, &Cost, Counts)> = OPERATIONS
        .iter()
        .zip(metered.costs.iter().zip(&counted.counts))
        .map(|((_, name), (cost, counts))| (*name, cost, *counts))
        .chain([("the fleet at rest, a second", &metered.rest, counted.rest)])
        .collect();
    let data = rows
        .iter()
        .map(|(name, cost, counts)| json!({"operation": name, "cost": cost.to_json(), "counts": counts.to_json()}));
    run.keep("bill", data.collect());
    let body = text(&rows, calls, counted.untraced.as_deref())?;
    println!("{body}");
    run.write_section("The bill", &body)
}

/// A fleet on embedded engines, its process, and the people who call it.
struct Subject {
    addresses: Addresses,
    pid: u32,
    people: People,
    cluster: Cluster,
}

impl Subject {
    async fn start(binaries: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let cluster = Cluster::embedded_with(binaries, settings).await;
        let addresses = addresses(cluster.replicas[0]);
        let subject = Self {
            pid: pid_at(&addresses.auth).await?,
            people: People::sign_up(&addresses).await?,
            addresses,
            cluster,
        };
        subject.settle().await?;
        Ok(subject)
    }

    /// Makes the first calls of a kind, and waits for what follows from them.
    async fn warm_up(&mut self, operation: Operation) -> anyhow::Result<()> {
        self.people.prepare(operation).await?;
        for number in 0..WARM_UP {
            self.people.call(operation, number).await?;
        }
        self.settle().await?;
        Ok(())
    }

    /// Makes the calls that are counted, one after the other, and waits for what follows from them.
    async fn call(&mut self, operation: Operation, calls: u32) -> anyhow::Result<Usage> {
        for number in WARM_UP..WARM_UP + calls {
            self.people.call(operation, number).await?;
        }
        self.settle().await
    }

    /// Waits until no outbox has records and no consumer is behind, and returns what the process has used by then.
    async fn settle(&self) -> anyhow::Result<Usage> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            sleep(PAUSE).await;
            // Before the metrics are read: their answers take processor time, too.
            let usage = Usage::of(self.pid)?;
            if self.is_idle().await? {
                return Ok(usage);
            }
            ensure!(Instant::now() < deadline, "records wait in an outbox or for a consumer");
        }
    }

    async fn is_idle(&self) -> anyhow::Result<bool> {
        let Addresses { auth, feed, dm, notice } = &self.addresses;
        for url in [auth, feed, dm, notice] {
            let metrics = metrics::of(url).await?;
            let pending = metrics::sum(&metrics, "outbox_pending_records");
            let pending = pending.with_context(|| format!("no outbox_pending_records at {url}"))?;
            // A service whose consumers have not joined has no series of these.
            let lag = metrics::sum(&metrics, "events_consumer_lag_records").unwrap_or_default();
            if pending + lag > 0.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What a process has used since its start.
#[derive(Debug, Clone, Copy)]
struct Usage {
    at: Instant,
    /// Seconds, in user and in system mode.
    processor: f64,
    /// Bytes that it had the system write to a disk.
    stored: f64,
    /// Bytes of its calls that write.
    written: f64,
}

impl Usage {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let io =
            std::fs::read_to_string(format!("/proc/{pid}/io")).context("bytes are read from Linux's /proc/PID/io")?;
        Ok(Self {
            at: Instant::now(),
            processor: processor_seconds_of(pid)?,
            stored: counter(&io, "write_bytes")?,
            written: counter(&io, "wchar")?,
        })
    }

    /// Returns what the process has used since an earlier moment, beside the records that were published in that time.
    fn since(&self, before: &Self, published: Published) -> Spent {
        Spent {
            seconds: (self.at - before.at).as_secs_f64(),
            cost: Cost {
                processor: self.processor - before.processor,
                stored: self.stored - before.stored,
                written: self.written - before.written,
                published,
            },
        }
    }
}

/// Reads a counter in the text of `/proc/PID/io`.
fn counter(io: &str, name: &str) -> anyhow::Result<f64> {
    let mut lines = io.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let value = value.with_context(|| format!("no {name} in /proc/PID/io"))?;
    Ok(value.parse()?)
}

/// Records and their bytes, by topic.
type Published = BTreeMap<String, (f64, f64)>;

/// What a call takes, or the fleet at rest in a second.
#[derive(Debug, Clone, Default)]
struct Cost {
    /// Seconds.
    processor: f64,
    /// Bytes.
    stored: f64,
    written: f64,
    published: Published,
}

impl Cost {
    fn to_json(&self) -> Value {
        let Self {
            processor,
            stored,
            written,
            published,
        } = self;
        json!({"processorSeconds": processor, "writeBytes": stored, "wchar": written, "recordsAndBytesByTopic": published})
    }
}

/// What the fleet took in a time.
struct Spent {
    seconds: f64,
    cost: Cost,
}

impl Spent {
    /// Returns what one of so many calls took beside what the fleet takes at rest.
    fn each(&self, calls: f64, rest: &Cost) -> Cost {
        let each = |spent: f64, rest: f64| (spent - rest * self.seconds) / calls;
        let published = self.cost.published.iter().map(|(topic, (records, bytes))| {
            let (records_at_rest, bytes_at_rest) = rest.published.get(topic).copied().unwrap_or_default();
            (
                topic.clone(),
                (each(*records, records_at_rest), each(*bytes, bytes_at_rest)),
            )
        });
        Cost {
            processor: each(self.cost.processor, rest.processor),
            stored: each(self.cost.stored, rest.stored),
            written: each(self.cost.written, rest.written),
            published: published.collect(),
        }
    }
}

/// The journal of a fleet, read beside it.
struct Journal(SqliteConnection);

impl Journal {
    async fn open(cluster: &Cluster) -> anyhow::Result<Self> {
        let file = cluster.folder().join("data").join("events.db");
        let options = SqliteConnectOptions::new().filename(file).pragma("query_only", "1");
        Ok(Self(options.connect().await?))
    }

    async fn last(&mut self) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(LAST).fetch_one(&mut self.0).await?)
    }

    async fn since(&mut self, last: i64) -> anyhow::Result<Published> {
        let topics = sqlx::query_as::<_, (String, f64, f64)>(RECORDS).bind(last);
        let topics = topics.fetch_all(&mut self.0).await?.into_iter();
        Ok(topics
            .map(|(topic, records, bytes)| (topic, (records, bytes)))
            .collect())
    }
}

/// The costs of the operations, in their order.
struct Metered {
    rest: Cost,
    costs: Vec<Cost>,
}

impl Metered {
    async fn of(binaries: &Path, calls: u32) -> anyhow::Result<Self> {
        let mut subject = Subject::start(binaries, &[NO_PUSHES]).await?;
        let mut journal = Journal::open(&subject.cluster).await?;
        let (last, before) = (journal.last().await?, Usage::of(subject.pid)?);
        sleep(REST).await;
        let after = Usage::of(subject.pid)?;
        let spent = after.since(&before, journal.since(last).await?);
        let rest = spent.each(spent.seconds, &Cost::default());
        let mut costs = Vec::with_capacity(OPERATIONS.len());
        for (operation, name) in OPERATIONS {
            println!("{name}: {calls} calls");
            subject.warm_up(operation).await.context(name)?;
            let (last, before) = (journal.last().await?, Usage::of(subject.pid)?);
            let after = subject.call(operation, calls).await.context(name)?;
            let spent = after.since(&before, journal.since(last).await?);
            costs.push(spent.each(calls.into(), &rest));
        }
        Ok(Self { rest, costs })
    }
}

/// Statements and waits for the disk: of a call, or of the fleet at rest in a second.
#[derive(Debug, Clone, Copy)]
struct Counts {
    statements: f64,
    /// `None` where they cannot be counted.
    fsyncs: Option<f64>,
}

impl Counts {
    fn to_json(self) -> Value {
        json!({"statements": self.statements, "fsyncs": self.fsyncs})
    }

    /// Returns the counts of one of so many calls, which were made in that time, beside those of the fleet at rest.
    fn each(self, calls: f64, seconds: f64, rest: Self) -> Self {
        let each = |count: f64, rest: f64| (count - rest * seconds) / calls;
        Self {
            statements: each(self.statements, rest.statements),
            fsyncs: self.fsyncs.zip(rest.fsyncs).map(|(count, rest)| each(count, rest)),
        }
    }
}

/// The counts of the operations, in their order.
struct Counted {
    rest: Counts,
    counts: Vec<Counts>,
    /// Why fsyncs are not counted.
    untraced: Option<String>,
}

impl Counted {
    async fn of(binaries: &Path, calls: u32) -> anyhow::Result<Self> {
        let settings: Vec<(&str, &str)> = LOG_LEVELS
            .iter()
            .map(|key| (*key, STATEMENTS))
            .chain([NO_PUSHES])
            .collect();
        let mut subject = Subject::start(binaries, &settings).await?;
        let untraced = match Trace::attach(subject.pid, subject.cluster.folder()).await {
            Ok(trace) => {
                trace.end().await?;
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        let is_traced = untraced.is_none();
        let counting = Counting::begin(&subject, is_traced).await?;
        sleep(REST).await;
        let (seconds, counts) = counting.end(&subject).await?;
        ensure!(counts.statements > 0.0, "the fleet logs no statements");
        let none = Counts {
            statements: 0.0,
            fsyncs: Some(0.0),
        };
        let rest = counts.each(seconds, seconds, none);
        let mut counts = Vec::with_capacity(OPERATIONS.len());
        for (operation, name) in OPERATIONS {
            println!("{name}: {calls} calls, counted");
            subject.warm_up(operation).await.context(name)?;
            let counting = Counting::begin(&subject, is_traced).await.context(name)?;
            subject.call(operation, calls).await.context(name)?;
            let (seconds, counted) = counting.end(&subject).await.context(name)?;
            counts.push(counted.each(calls.into(), seconds, rest));
        }
        Ok(Self { rest, counts, untraced })
    }
}

/// A count that has begun.
struct Counting {
    began: Instant,
    /// Bytes of the log.
    logged: usize,
    trace: Option<Trace>,
}

impl Counting {
    async fn begin(subject: &Subject, is_traced: bool) -> anyhow::Result<Self> {
        let mut trace = None;
        if is_traced {
            trace = Some(Trace::attach(subject.pid, subject.cluster.folder()).await?);
        }
        Ok(Self {
            logged: subject.cluster.logs().len(),
            began: Instant::now(),
            trace,
        })
    }

    /// Returns the seconds since the begin, and what was counted.
    async fn end(self, subject: &Subject) -> anyhow::Result<(f64, Counts)> {
        let seconds = self.began.elapsed().as_secs_f64();
        let log = subject.cluster.logs();
        let log = log.get(self.logged..).context("the log is shorter than before")?;
        let statements = f64::from(statements_in(log)?);
        let mut fsyncs = None;
        if let Some(trace) = self.trace {
            fsyncs = Some(trace.end().await?.into());
        }
        Ok((seconds, Counts { statements, fsyncs }))
    }
}

/// Returns how many lines of a log are of a statement.
fn statements_in(log: &str) -> anyhow::Result<u32> {
    let lines = log.lines().filter(|line| line.contains(STATEMENT));
    Ok(lines.count().try_into()?)
}

fn text(rows: &[(&str, &Cost, Counts)], calls: u32, untraced: Option<&str>) -> anyhow::Result<String> {
    let build = if cfg!(debug_assertions) { ", debug binaries" } else { "" };
    let fsyncs = match untraced {
        None => String::new(),
        Some(reason) => format!(" Fsyncs are not counted: {reason}."),
    };
    let mut text = format!(
        "Written by `bench bill`{build}: one process on embedded engines, {calls} calls of each kind one after the other, behind {WARM_UP} that are not counted. A \
         call is counted with all that follows from it, until at least {} s after the last one no outbox has records and no consumer is behind, less what the \
         fleet takes at rest (the last row, of {} s); less than nothing is shown as 0. Processor time is that of all threads, in user and in system mode. Bytes \
         to the disk are `write_bytes` of `/proc/PID/io`, whole pages; bytes written are its `wchar`, with logs and a part of what sockets send. Records are those of the \
         journal, with the bytes of key, value and headers; heartbeats and frames from replica to replica are in no journal. Statements, without the begin and end of \
         transactions and with those of the journal, are lines of the log of a second fleet, and fsyncs (`fsync`, `fdatasync`) are counted there by `strace`: both slow \
         it down.{fsyncs} Allocations are not counted: the allocator of the `fleet` binary is the system's, which keeps no count. Pushes fall due after an hour, so \
         that none is sent. Acknowledgements of notices have no answer and are sent {} ms apart.\n\n\
         | operation | processor time | to the disk | written | records | their bytes | statements | fsyncs |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        PAUSE.as_secs(),
        REST.as_secs(),
        people::APART.as_millis(),
    );
    for (name, cost, counts) in rows {
        writeln!(text, "{}", row(name, cost, *counts))?;
    }
    Ok(text)
}

fn row(name: &str, cost: &Cost, counts: Counts) -> String {
    let kibibytes = |bytes: f64| format!("{:.1} KiB", bytes.max(0.0) / 1024.0);
    let (mut records, mut bytes, mut topics) = (0.0, 0.0, Vec::new());
    for (topic, (of_topic, bytes_of_topic)) in &cost.published {
        records += of_topic;
        bytes += bytes_of_topic;
        // Not those that were published once meanwhile.
        if *of_topic >= 0.05 {
            topics.push(format!("{topic} {of_topic:.1}"));
        }
    }
    let topics = if topics.is_empty() {
        String::new()
    } else {
        format!(" ({})", topics.join(", "))
    };
    let fsyncs = match counts.fsyncs {
        Some(fsyncs) => format!("{:.1}", fsyncs.max(0.0)),
        None => "—".to_owned(),
    };
    format!(
        "| {name} | {:.2} ms | {} | {} | {:.1}{topics} | {} | {:.1} | {fsyncs} |",
        cost.processor.max(0.0) * 1e3,
        kibibytes(cost.stored),
        kibibytes(cost.written),
        f64::max(records, 0.0),
        kibibytes(bytes),
        counts.statements.max(0.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_by_its_whole_name() {
        let io = "rchar: 6976\nwchar: 12\nwrite_bytes: 8192\ncancelled_write_bytes: 4096\n";
        let read = ["wchar", "write_bytes"].map(|name| counter(io, name).expect("the counter is there"));
        assert_eq!(format!("{read:?}"), "[12.0, 8192.0]");
        assert!(counter(io, "char").is_err());
    }

    #[test]
    fn the_cost_at_rest_is_not_of_the_calls() {
        let published = |records: f64, bytes: f64| Published::from([("post".to_owned(), (records, bytes))]);
        let spent = Spent {
            seconds: 2.0,
            cost: Cost {
                processor: 1.0,
                stored: 40_960.0,
                written: 20_480.0,
                published: published(10.0, 5_120.0),
            },
        };
        let rest = Cost {
            processor: 0.1,
            written: 5_120.0,
            ..Cost::default()
        };
        let counts = Counts {
            statements: 24.0,
            fsyncs: Some(10.0),
        };
        let counts_at_rest = Counts {
            statements: 2.0,
            fsyncs: Some(0.0),
        };
        assert_eq!(
            row("like", &spent.each(10.0, &rest), counts.each(10.0, 2.0, counts_at_rest)),
            "| like | 80.00 ms | 4.0 KiB | 1.0 KiB | 1.0 (post 1.0) | 0.5 KiB | 2.0 | 1.0 |"
        );
        let untraced = Counts {
            fsyncs: None,
            ..counts_at_rest
        };
        assert_eq!(
            row("page", &Cost::default(), counts.each(10.0, 2.0, untraced)),
            "| page | 0.00 ms | 0.0 KiB | 0.0 KiB | 0.0 | 0.0 KiB | 2.0 | — |"
        );
    }

    #[test]
    fn lines_of_statements_are_counted() {
        let log = "{\"level\":\"INFO\",\"target\":\"sosohappy_feed\"}\n{\"level\":\"DEBUG\",\"target\":\"sqlx::query\",\"summary\":\"SELECT 1\"}\n";
        assert_eq!(statements_in(log).expect("few lines"), 1);
    }
}
