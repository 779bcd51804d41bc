//! The one task of this process that writes. What is asked for while a commit is on its way goes together into the next
//! one, so that many publishers share one wait for the disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sha2::Digest as _;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::member::{Share, Who};
use super::{Group, PARTITIONS, Part, State, codec, process, share, unavailable};
use crate::BusError;
use crate::names::Parcel;

/// How long what was done may wait to be written: half of what the bus promises.
const FLUSH: Duration = Duration::from_millis(400);

/// Commands of one commit.
const BATCH: usize = 512;

type Reply<T> = oneshot::Sender<Result<T, BusError>>;

#[derive(Debug)]
pub(super) enum Command {
    Publish {
        parcels: Vec<Parcel>,
        reply: Reply<()>,
    },
    /// Brings a member's claims in line with who is there.
    Share {
        who: Who,
        joining: bool,
        reply: Reply<Share>,
    },
    Leave {
        who: Who,
        reply: Option<Reply<()>>,
    },
    /// Removes processes that have ended.
    Bury {
        processes: Vec<String>,
    },
    /// Removes records stamped before a time, a bounded number of them; answers how many.
    Trim {
        topic: i64,
        before: i64,
        tombstones: bool,
        reply: Reply<u64>,
    },
    /// Removes these records.
    Remove {
        topic: i64,
        seqs: Vec<i64>,
        reply: Reply<()>,
    },
}

/// What to tell whom once the transaction is on the disk.
type Answer = Box<dyn FnOnce(Result<(), &BusError>) + Send>;

/// What a transaction has changed that others in this process wait for.
#[derive(Default)]
struct Changes {
    tails: HashMap<i64, i64>,
    generations: HashMap<String, i64>,
}

pub(super) async fn run(
    state: Arc<State>,
    mut connection: SqliteConnection,
    mut orders: mpsc::Receiver<Command>,
    lock: process::Lock,
) {
    let mut flush = interval(FLUSH);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            received = orders.recv_many(&mut batch, BATCH) => if received == 0 { break },
            _ = flush.tick() => if state.done.lock().is_empty() { continue },
        }
        write(&state, &mut connection, std::mem::take(&mut batch)).await;
    }
    let bury = Command::Bury {
        processes: vec![state.process.clone()],
    };
    write(&state, &mut connection, vec![bury]).await;
    state.pool.close().await;
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "journal close failed");
    }
    lock.release();
}

/// One transaction. What was done goes along; when it fails it waits for the next.
async fn write(state: &State, connection: &mut SqliteConnection, commands: Vec<Command>) {
    let done = std::mem::take(&mut *state.done.lock());
    let mut answers: Vec<Answer> = Vec::with_capacity(commands.len());
    match transact(state, connection, commands, &done, &mut answers).await {
        Ok(changes) => {
            for (topic, seq) in changes.tails {
                state.advance(topic, seq);
            }
            for (group, generation) in changes.generations {
                state.learn_generation(group, generation);
            }
            for answer in answers {
                answer(Ok(()));
            }
        }
        Err(error) => {
            let error = unavailable(error);
            tracing::warn!(%error, "journal write failed");
            for ((group, part), seq) in done {
                state.note_done(&group, part, seq);
            }
            for answer in answers {
                answer(Err(&error));
            }
        }
    }
}

/// An answer that waits for the commit.
fn answer<T: Send + 'static>(reply: Reply<T>, value: T) -> Answer {
    Box::new(move |committed| {
        // Whoever asked may have stopped waiting.
        let _ = reply.send(
            committed
                .map(|()| value)
                .map_err(|error| BusError::Unavailable(error.to_string())),
        );
    })
}

async fn transact(
    state: &State,
    connection: &mut SqliteConnection,
    commands: Vec<Command>,
    done: &BTreeMap<(Group, Part), i64>,
    answers: &mut Vec<Answer>,
) -> Result<Changes, sqlx::Error> {
    if connection.is_in_transaction() {
        // SQLite has ended the last one by itself, as it does when the disk is full, and sqlx goes on taking it for open.
        *connection = super::options(&state.path).connect().await?;
    }
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut changes = Changes::default();
    // First, so that a partition that is given up below is given up with its offset.
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
            Command::Publish { parcels, reply } => {
                answers.push(answer(reply, ()));
                append(state, &mut tx, &parcels, &mut changes.tails).await?;
            }
            Command::Share { who, joining, reply } => {
                let share = share::give(state, &mut tx, &who, joining).await?;
                changes.generations.insert(who.group.to_string(), share.generation);
                answers.push(answer(reply, share));
            }
            Command::Leave { who, reply } => {
                let generation = share::leave(&mut tx, &who).await?;
                changes.generations.insert(who.group.to_string(), generation);
                answers.extend(reply.map(|reply| answer(reply, ())));
            }
            Command::Bury { processes } => {
                for process in processes {
                    changes.generations.extend(share::bury(&mut tx, &process).await?);
                }
            }
            Command::Trim {
                topic,
                before,
                tombstones,
                reply,
            } => {
                let removed = trim(&mut tx, topic, before, tombstones).await?;
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
        }
    }
    tx.commit().await?;
    Ok(changes)
}

async fn append(
    state: &State,
    tx: &mut Transaction<'_, Sqlite>,
    parcels: &[Parcel],
    tails: &mut HashMap<i64, i64>,
) -> Result<(), sqlx::Error> {
    let count = i64::try_from(parcels.len()).unwrap_or(i64::MAX);
    let last: i64 = sqlx::query_scalar("UPDATE counters SET value = value + ? WHERE name = 'seq' RETURNING value")
        .bind(count)
        .fetch_one(&mut **tx)
        .await?;
    let stamp = state.clock.now().as_millisecond();
    for (seq, parcel) in (last - count + 1..).zip(parcels) {
        let topic = state.number(parcel.channel);
        sqlx::query("INSERT INTO records (topic, seq, part, stamp, key, value, headers) VALUES (?, ?, ?, ?, ?, ?, ?)")
            .bind(topic)
            .bind(seq)
            .bind(partition(parcel.key.as_deref()))
            .bind(stamp)
            .bind(parcel.key.as_deref())
            .bind(parcel.value.as_deref())
            .bind(codec::encode(&parcel.headers))
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

async fn trim(tx: &mut Transaction<'_, Sqlite>, topic: i64, before: i64, tombstones: bool) -> Result<u64, sqlx::Error> {
    let trimmed = sqlx::query(
        "DELETE FROM records WHERE topic = ?1 AND seq IN
         (SELECT seq FROM records WHERE topic = ?1 AND stamp < ?2 AND (NOT ?3 OR value IS NULL) ORDER BY stamp LIMIT 500)",
    );
    let trimmed = trimmed
        .bind(topic)
        .bind(before)
        .bind(tombstones)
        .execute(&mut **tx)
        .await?;
    Ok(trimmed.rows_affected())
}
