//! The embedded bus: an append-only log in one `SQLite` file, which several processes of one machine may share.
//!
//! One task writes for this process and commits what is asked of it meanwhile together ([`writer`]); readers follow the
//! end of the log ([`log`]); members of groups claim partitions in the same file ([`member`]); a watcher looks for what
//! other processes wrote, and whether they live ([`watcher`]).

mod codec;
mod log;
mod member;
mod process;
mod reader;
mod share;
mod watcher;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable as _};
use parking_lot::Mutex;
use prometheus::IntGauge;
use sosohappy_common::Context;
use sosohappy_common::clock::Clock;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::names::{Channel, Names, Parcel};
use crate::{Bus, BusError, Member, Reader, Start};
use sosohappy_events::{Outgoing, Record, Topic};
use writer::Command;

/// Partitions of a topic: how many members of a group can work side by side, on one machine.
const PARTITIONS: i64 = 4;

/// Connections for reading; each is a thread.
const READERS: u32 = 3;

/// What waits for the writer before publishers have to wait.
const COMMANDS: usize = 1024;

/// How long a connection waits for the lock of another process.
const BUSY: Duration = Duration::from_secs(5);

type Group = Arc<str>;

/// A partition of a topic, by the topic's number in the file.
type Part = (i64, i64);

/// What the tasks of this process share.
#[derive(Debug)]
struct State {
    path: PathBuf,
    names: Names,
    /// By number in the file.
    channels: BTreeMap<i64, Channel>,
    clock: Arc<dyn Clock>,
    /// This process, as others see it.
    process: String,
    pool: SqlitePool,
    /// The last record of each topic that this process knows of.
    tails: HashMap<i64, watch::Sender<i64>>,
    generations: watch::Sender<HashMap<String, i64>>,
    /// Done, and not yet written: it goes with the next commit, or with the next tick of the writer.
    done: Mutex<BTreeMap<(Group, Part), i64>>,
    observed: Mutex<HashMap<String, Observed>>,
    members: AtomicU64,
    /// Records of volatile topics: for the readers of this process at this moment, never on the disk.
    volatile: broadcast::Sender<Record>,
    volatile_count: AtomicI64,
}

/// Volatile records that a slow reader may be behind.
const VOLATILE: usize = 64;

/// A member whose lag somebody wants to know.
#[derive(Debug, Clone)]
struct Observed {
    group: Group,
    lag: IntGauge,
}

impl State {
    fn advance(&self, topic: i64, seq: i64) {
        if let Some(tail) = self.tails.get(&topic) {
            tail.send_if_modified(|known| {
                let further = seq > *known;
                *known = seq.max(*known);
                further
            });
        }
    }

    fn learn_generation(&self, group: String, generation: i64) {
        self.generations.send_if_modified(|known| {
            let current = known.entry(group).or_insert(0);
            let newer = generation > *current;
            *current = generation.max(*current);
            newer
        });
    }

    fn new_member_name(&self) -> String {
        format!("{}-{:06}", self.process, self.members.fetch_add(1, Ordering::Relaxed))
    }

    fn number(&self, channel: Channel) -> i64 {
        let found = self.channels.iter().find(|(_, known)| **known == channel);
        *found.expect("every channel was numbered when the journal was opened").0
    }

    /// Hands a record to those who read now; no reader is no error.
    fn broadcast(&self, parcel: Parcel) {
        let record = Record {
            topic: parcel.channel.topic,
            partition: 0,
            offset: self.volatile_count.fetch_add(1, Ordering::Relaxed),
            key: parcel.key,
            value: parcel.value,
            headers: parcel.headers,
            timestamp: self.clock.now(),
        };
        let _ = self.volatile.send(record);
    }

    /// Marks records as done without waiting for the disk.
    fn note_done(&self, group: &Group, part: Part, seq: i64) {
        let mut done = self.done.lock();
        let known = done.entry((group.clone(), part)).or_insert(seq);
        *known = seq.max(*known);
    }
}

#[derive(Debug)]
pub(super) struct Journal {
    inner: Arc<Handle>,
}

/// Held by the bus, its members and its readers: the tasks end when the last of them is gone.
#[derive(Debug)]
struct Handle {
    state: Arc<State>,
    commands: mpsc::Sender<Command>,
    _end: DropGuard,
}

impl Handle {
    /// Asks the writer, and waits for its commit.
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, BusError>>) -> Command,
    ) -> Result<T, BusError> {
        let gone = || BusError::Unavailable("the journal's writer gave no answer".to_owned());
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn unavailable(error: impl std::fmt::Display) -> BusError {
    BusError::Unavailable(format!("journal: {error}"))
}

impl Journal {
    /// `rest` is what follows `journal:`, a path.
    pub(super) async fn open(rest: &str, names: Names, context: &Context) -> Result<Self, BusError> {
        let path = rest.strip_prefix("//").unwrap_or(rest);
        if path.is_empty() {
            return Err(BusError::Settings("journal: needs a file".to_owned()));
        }
        let path = PathBuf::from(path);
        let cannot = |error: &dyn std::fmt::Display| BusError::Settings(format!("journal {}: {error}", path.display()));
        if let Some(folder) = path.parent() {
            // Whatever the fleet tells itself is nobody else's to read.
            let mut private = std::fs::DirBuilder::new();
            private.recursive(true).mode(0o700);
            private.create(folder).map_err(|error| cannot(&error))?;
        }
        // Several processes may make the file at the same time; the switch to WAL does not wait for its lock.
        let connect = || async { prepared(&path, &names).await };
        let retries = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_jitter()
            .with_max_times(8);
        let (mut writer, channels) = connect
            .retry(retries)
            .when(busy)
            .await
            .map_err(|error| cannot(&error))?;

        let process = context.entropy.hex(8);
        let lock = process::Lock::take(&path, &process).map_err(|error| cannot(&error))?;
        let pool = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false);
        let pool = pool
            .connect_with(options(&path).pragma("query_only", "1"))
            .await
            .map_err(|error| cannot(&error))?;
        let watching = options(&path).connect().await.map_err(|error| cannot(&error))?;

        sqlx::query("INSERT INTO processes (id) VALUES (?)")
            .bind(&process)
            .execute(&mut writer)
            .await
            .map_err(|error| cannot(&error))?;
        let mut tails = HashMap::new();
        for &topic in channels.keys() {
            let tail = log::tail(&pool, topic).await.map_err(|error| cannot(&error))?;
            tails.insert(topic, watch::Sender::new(tail));
        }
        let state = Arc::new(State {
            path,
            names,
            channels,
            clock: context.clock.clone(),
            process,
            pool,
            tails,
            generations: watch::Sender::default(),
            done: Mutex::default(),
            observed: Mutex::default(),
            members: AtomicU64::new(0),
            volatile: broadcast::Sender::new(VOLATILE),
            volatile_count: AtomicI64::new(0),
        });
        let (commands, orders) = mpsc::channel(COMMANDS);
        let end = CancellationToken::new();
        // These tasks are the bus's own, not a service's: what a service does while it drains still needs them.
        tokio::spawn(writer::run(state.clone(), writer, orders, lock));
        tokio::spawn(watcher::run(state.clone(), watching, commands.downgrade(), end.clone()));
        Ok(Self {
            inner: Arc::new(Handle {
                state,
                commands,
                _end: end.drop_guard(),
            }),
        })
    }

    fn numbers(&self, topics: &[Topic], channel: fn(Topic) -> Channel) -> Vec<i64> {
        topics
            .iter()
            .map(|topic| self.inner.state.number(channel(*topic)))
            .collect()
    }
}

fn busy(error: &sqlx::Error) -> bool {
    // SQLITE_BUSY and its extended codes.
    matches!(error, sqlx::Error::Database(error) if error.code().is_some_and(|code| code.parse::<i64>().is_ok_and(|code| code & 0xff == 5)))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .synchronous(SqliteSynchronous::Full)
}

/// The connection that writes, with all tables there, and the numbers of this prefix's topics.
async fn prepared(path: &Path, names: &Names) -> Result<(SqliteConnection, BTreeMap<i64, Channel>), sqlx::Error> {
    let mut connection = options(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .connect()
        .await?;
    let mut channels = BTreeMap::new();
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(include_str!("journal/schema.sql"))
        .execute(&mut *tx)
        .await?;
    for channel in Channel::all() {
        let name = names.wire(channel);
        sqlx::query("INSERT OR IGNORE INTO topics (name) VALUES (?)")
            .bind(&name)
            .execute(&mut *tx)
            .await?;
        let number = sqlx::query_scalar("SELECT id FROM topics WHERE name = ?")
            .bind(&name)
            .fetch_one(&mut *tx)
            .await?;
        channels.insert(number, channel);
    }
    tx.commit().await?;
    Ok((connection, channels))
}

#[async_trait]
impl Bus for Journal {
    async fn publish(&self, records: &[Outgoing]) -> Result<(), BusError> {
        let parcels = records.iter().map(Parcel::of).collect::<Result<Vec<_>, _>>()?;
        let (volatile, parcels): (Vec<_>, Vec<_>) =
            parcels.into_iter().partition(|parcel| parcel.channel.is_volatile());
        for parcel in volatile {
            self.inner.state.broadcast(parcel);
        }
        if parcels.is_empty() {
            return Ok(());
        }
        self.inner.ask(|reply| Command::Publish { parcels, reply }).await
    }

    async fn join(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Member>, BusError> {
        let group = self.inner.state.names.group(group).into();
        Ok(Box::new(
            member::JournalMember::join(self.inner.clone(), group, self.numbers(topics, Channel::live)).await?,
        ))
    }

    async fn read(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Reader>, BusError> {
        let (volatile, stored): (Vec<Topic>, Vec<Topic>) = topics.iter().partition(|topic| topic.is_volatile());
        let stored = self.numbers(&stored, Channel::live);
        let reader = reader::JournalReader::begin(self.inner.clone(), &stored, start).await?;
        Ok(Box::new(reader.with_volatile(volatile)))
    }

    async fn read_dead_letters(&self, topics: &[Topic]) -> Result<Box<dyn Reader>, BusError> {
        let topics = self.numbers(topics, Channel::dead);
        Ok(Box::new(
            reader::JournalReader::begin(self.inner.clone(), &topics, Start::Earliest).await?,
        ))
    }

    /// All were made when the journal was opened.
    async fn create_topics(&self, _topics: &[Topic]) -> Result<(), BusError> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), BusError> {
        log::ping(&self.inner.state.pool).await.map_err(unavailable)
    }
}
