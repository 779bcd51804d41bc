//! The embedded bus: an append-only log in one `SQLite` file, which one process has open at a time.
//!
//! One task writes, and commits together what is asked of it meanwhile ([`writer`]); readers follow the end of the log ([`log`],
//! [`reader`]); members of consumer groups share partitions out in memory ([`groups`], [`member`]); [`upkeep`] measures lag and removes
//! what is past its retention.

mod codec;
mod groups;
mod log;
mod member;
mod reader;
mod state;
mod upkeep;
mod writer;

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_common::Context;
use sosohappy_common::file_lock::FileLock;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::names::{Channel, Names, WireRecord};
use crate::{Bus, BusError, Member, Reader, Start};
use sosohappy_events::{Outgoing, Topic};
use state::State;
use writer::{Command, Handle};

/// Partitions of a topic: how many members of a group can work side by side, on one machine.
const PARTITIONS: i64 = 4;

/// Connections for reading; each is a thread.
const READERS: u32 = 3;

/// Commands that may queue for the writer; with more, publishers wait.
const COMMANDS: usize = 1024;

type Group = Arc<str>;

/// A record of each partition of a topic.
type Positions = [i64; 4];
const _: () = assert!(PARTITIONS == 4);

/// A partition of a topic, by the topic's number in the file.
type Part = (i64, i64);

#[derive(Debug)]
pub(super) struct Journal {
    inner: Arc<Handle>,
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
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            // Events hold personal data: the file is private to its owner.
            let mut private = std::fs::DirBuilder::new();
            private.recursive(true).mode(0o700);
            private.create(folder).map_err(|error| cannot(&error))?;
        }
        // Locked before anything is read: writes of another process would be missing in memory.
        let lock = FileLock::take(&path.with_added_extension("lock"))
            .await
            .map_err(|error| cannot(&error))?;
        context.health.watch_disk(folder.unwrap_or(Path::new(".")));
        let (writer, channels) = prepared(&path, &names).await.map_err(|error| cannot(&error))?;
        let pool = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .connect_with(options(&path).pragma("query_only", "1"))
            .await
            .map_err(|error| cannot(&error))?;
        let done = log::offsets(&pool).await.map_err(|error| cannot(&error))?;
        let mut topics = BTreeMap::new();
        for (topic, channel) in channels {
            let tail = log::tail(&pool, topic).await.map_err(|error| cannot(&error))?;
            topics.insert(topic, (channel, tail));
        }
        let state = Arc::new(State::new(path, names, context.clock.clone(), pool, topics, done));
        let upkeep = upkeep::Upkeep::new(state.clone(), context.erasure_deadline);
        let (commands, orders) = mpsc::channel(COMMANDS);
        let end = CancellationToken::new();
        // These tasks are the bus's own, not a service's: a service that drains still needs them.
        tokio::spawn(writer::run(state.clone(), writer, orders, lock));
        tokio::spawn(upkeep.run(commands.downgrade(), end.clone()));
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

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        // Deleted records are overwritten with zeros.
        .pragma("secure_delete", "ON")
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
        let records = records.iter().map(WireRecord::of).collect::<Result<Vec<_>, _>>()?;
        let (volatile, records): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.channel.is_volatile());
        for record in volatile {
            self.inner.state.broadcast(record);
        }
        if records.is_empty() {
            return Ok(());
        }
        self.inner.ask(|reply| Command::Publish { records, reply }).await
    }

    async fn join(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Member>, BusError> {
        let group = self.inner.state.names.group(group).into();
        Ok(Box::new(member::JournalMember::join(
            self.inner.clone(),
            group,
            self.numbers(topics, Channel::live),
        )))
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
