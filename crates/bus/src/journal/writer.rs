//! The single writer task. Requests that arrive during a commit share the next one, so that many publishers share one wait for the
//! disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::Digest as _;
use sosohappy_common::file_lock::FileLock;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::DropGuard;

use super::state::State;
use super::{Group, PARTITIONS, Part, Positions, codec, unavailable};
use crate::BusError;
use crate::names::WireRecord;

/// The longest time until committed offsets are written: half of the time that the bus promises.
const FLUSH: Duration = Duration::from_millis(400);

/// Commands of one commit.
const BATCH: usize = 512;

pub(super) type Reply<T> = oneshot::Sender<Result<T, BusError>>;

#[derive(Debug)]
pub(super) enum Command {
    Publish {
        records: Vec<WireRecord>,
        reply: Reply<()>,
    },
    /// Writes what was done.
    Flush {
        reply: Reply<()>,
    },
    /// Removes records stamped before a time, a bounded number of them; answers how many.
    Trim {
        topic: i64,
        before: i64,
        tombstones: bool,
        /// Up to which record of each partition.
        done: Positions,
        reply: Reply<u64>,
    },
    /// Removes these records.
    Remove {
        topic: i64,
        seqs: Vec<i64>,
        reply: Reply<()>,
    },
    /// Writes the file anew, so that no byte of a removed record is in it.
    Rewrite {
        reply: Reply<()>,
    },
    /// Writes the write-ahead log back into the file and empties it.
    CutLog {
        reply: Reply<()>,
    },
}

/// The answer to a caller that waits for the transaction to be on the disk.
type Answer = Box<dyn FnOnce(Result<(), &BusError>) + Send>;

/// Held by the bus, its members and its readers: the tasks end when the last of them is gone.
#[derive(Debug)]
pub(super) struct Handle {
    pub state: Arc<State>,
    pub commands: mpsc::Sender<Command>,
    pub _end: DropGuard,
}

impl Handle {
    /// Asks the writer, and waits for its commit.
    pub async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, BusError> {
        let gone = || BusError::Unavailable("the journal's writer gave no answer".to_owned());
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

pub(super) async fn run(
    state: Arc<State>,
    mut connection: SqliteConnection,
    mut orders: mpsc::Receiver<Command>,
    lock: FileLock,
) {
    let mut flush = interval(FLUSH);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            received = orders.recv_many(&mut batch, BATCH) => if received == 0 { break },
            _ = flush.tick() => if !state.has_unwritten_offsets() { continue },
        }
        write(&state, &mut connection, std::mem::take(&mut batch)).await;
    }
    // The offsets that were acknowledged since the last commit.
    write(&state, &mut connection, Vec::new()).await;
    state.pool.close().await;
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "journal close failed");
    }
    // Only now may another process open the file.
    drop(lock);
}

/// Commits one transaction with the pending acknowledgements; after a failure they stay for the next one.
async fn write(state: &State, connection: &mut SqliteConnection, commands: Vec<Command>) {
    let done = state.take_unwritten();
    let mut answers: Vec<Answer> = Vec::with_capacity(commands.len());
    match transact(state, connection, commands, &done, &mut answers).await {
        Ok(tails) => {
            for (topic, seq) in tails {
                state.advance(topic, seq);
            }
            for answer in answers {
                answer(Ok(()));
            }
        }
        Err(error) => {
            let error = unavailable(error);
            tracing::warn!(%error, "journal write failed");
            state.unwrite(done.into_iter().map(|(key, _)| key));
            for answer in answers {
                answer(Err(&error));
            }
        }
    }
}

/// An answer that waits for the commit.
fn answer<T: Send + 'static>(reply: Reply<T>, value: T) -> Answer {
    Box::new(move |committed| {
        // The caller may have been cancelled.
        let _ = reply.send(
            committed
                .map(|()| value)
                .map_err(|error| BusError::Unavailable(error.to_string())),
        );
    })
}

/// Answers the last record of each topic that has new ones.
async fn transact(
    state: &State,
    connection: &mut SqliteConnection,
    commands: Vec<Command>,
    done: &[((Group, Part), i64)],
    answers: &mut Vec<Answer>,
) -> Result<HashMap<i64, i64>, sqlx::Error> {
    if connection.is_in_transaction() {
        // SQLite rolled the transaction back by itself, as it does on a full disk, but sqlx still counts it as open.
        *connection = super::options(&state.path).connect().await?;
    }
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut tails = HashMap::new();
    // Statements that no transaction may have.
    let mut outside = Vec::new();
    for ((group, (topic, part)), seq) in done {
        sqlx::query(
            "INSERT INTO offsets (grp, topic, part, done) VALUES (?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET done = MAX(done, excluded.done)",
        )
        .bind(&**group)
        .bind(topic)
        .bind(part)
        .bind(seq)
        .execute(&mut *tx)
        .await?;
    }
    for command in commands {
        match command {
            Command::Publish { records, reply } => {
                answers.push(answer(reply, ()));
                append(state, &mut tx, &records, &mut tails).await?;
            }
            Command::Flush { reply } => answers.push(answer(reply, ())),
            Command::Trim {
                topic,
                before,
                tombstones,
                done,
                reply,
            } => {
                let removed = trim(&mut tx, topic, before, tombstones, done).await?;
                answers.push(answer(reply, removed));
            }
            Command::Remove { topic, seqs, reply } => {
                for seq in seqs {
                    sqlx::query("DELETE FROM records WHERE topic = ? AND seq = ?")
                        .bind(topic)
                        .bind(seq)
                        .execute(&mut *tx)
                        .await?;
                }
                answers.push(answer(reply, ()));
            }
            Command::Rewrite { reply } => outside.push(("VACUUM", reply)),
            Command::CutLog { reply } => outside.push(("PRAGMA wal_checkpoint(TRUNCATE)", reply)),
        }
    }
    tx.commit().await?;
    for (statement, reply) in outside {
        let done = sqlx::query(statement).execute(&mut *connection).await;
        // The caller may have been cancelled.
        let _ = reply.send(done.map(|_| ()).map_err(unavailable));
    }
    Ok(tails)
}

async fn append(
    state: &State,
    tx: &mut Transaction<'_, Sqlite>,
    records: &[WireRecord],
    tails: &mut HashMap<i64, i64>,
) -> Result<(), sqlx::Error> {
    let count = i64::try_from(records.len()).unwrap_or(i64::MAX);
    let last: i64 = sqlx::query_scalar("UPDATE counters SET value = value + ? WHERE name = 'seq' RETURNING value")
        .bind(count)
        .fetch_one(&mut **tx)
        .await?;
    let stamp = state.clock.now().as_millisecond();
    for (seq, record) in (last - count + 1..).zip(records) {
        let topic = state.number(record.channel);
        sqlx::query("INSERT INTO records (topic, seq, part, stamp, key, value, headers) VALUES (?, ?, ?, ?, ?, ?, ?)")
            .bind(topic)
            .bind(seq)
            .bind(partition(record.key.as_deref()))
            .bind(stamp)
            .bind(record.key.as_deref())
            .bind(record.value.as_deref())
            .bind(codec::encode(&record.headers))
            .execute(&mut **tx)
            .await?;
        tails.insert(topic, seq);
    }
    Ok(())
}

/// The same for a key in every process and version.
fn partition(key: Option<&[u8]>) -> i64 {
    key.map_or(0, |key| i64::from(sha2::Sha256::digest(key)[0]) % PARTITIONS)
}

async fn trim(
    tx: &mut Transaction<'_, Sqlite>,
    topic: i64,
    before: i64,
    tombstones: bool,
    done: Positions,
) -> Result<u64, sqlx::Error> {
    let trimmed = sqlx::query(
        "DELETE FROM records WHERE topic = ?1 AND seq IN
         (SELECT seq FROM records WHERE topic = ?1 AND stamp < ?2 AND (NOT ?3 OR value IS NULL)
          AND seq <= CASE part WHEN 0 THEN ?4 WHEN 1 THEN ?5 WHEN 2 THEN ?6 ELSE ?7 END ORDER BY stamp LIMIT 500)",
    );
    let [first, second, third, fourth] = done;
    let trimmed = trimmed
        .bind(topic)
        .bind(before)
        .bind(tombstones)
        .bind(first)
        .bind(second)
        .bind(third)
        .bind(fourth)
        .execute(&mut **tx)
        .await?;
    Ok(trimmed.rows_affected())
}
