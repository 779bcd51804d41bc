//! Reading the log.

use std::collections::HashMap;

use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use sqlx::sqlite::{SqliteExecutor, SqlitePool, SqliteRow};
use sqlx::{Executor as _, Row as _};

use super::state::State;
use super::{Group, Part, codec, unavailable};
use crate::{BusError, Start};
use sosohappy_events::Record;

/// Records of one query, and the bytes of values after which it stops early.
const BATCH: i64 = 256;
const BATCH_BYTES: usize = 1 << 20;

/// A place in the log of one topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    pub topic: i64,
    /// Everything up to here was read.
    pub seq: i64,
}

/// The records behind the cursor, at most a batch of them; the cursor moves behind what was read.
pub(super) async fn read_on(state: &State, cursor: &mut Cursor) -> Result<Vec<Record>, BusError> {
    // Taken before the query: all records up to here are committed, so a query that finds fewer has seen them all.
    let tail = *state.tails[&cursor.topic].borrow();
    let channel = state.channels[&cursor.topic];
    let query = sqlx::query(
        "SELECT seq, part, stamp, key, value, headers FROM records WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?",
    );
    let mut rows = query.bind(cursor.topic).bind(cursor.seq).bind(BATCH).fetch(&state.pool);
    let (mut records, mut bytes, mut all) = (Vec::new(), 0, true);
    while let Some(row) = rows.try_next().await.map_err(unavailable)? {
        let record = record(&row, channel.topic).map_err(unavailable)?;
        bytes += record.value.as_ref().map_or(0, Bytes::len);
        records.push(record);
        if bytes >= BATCH_BYTES || records.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX) {
            all = false;
            break;
        }
    }
    if let Some(last) = records.last() {
        cursor.seq = last.offset;
    }
    if all {
        cursor.seq = cursor.seq.max(tail);
    }
    Ok(records)
}

fn record(row: &SqliteRow, topic: sosohappy_events::Topic) -> Result<Record, sqlx::Error> {
    let wrong = |what: &str| sqlx::Error::Decode(format!("a record's {what} cannot be read").into());
    // By the order of the columns: looking up their names takes longer than reading the values.
    let [seq, part, stamp, key, value, headers] = [0, 1, 2, 3, 4, 5];
    let bytes =
        |column: usize| Ok::<_, sqlx::Error>(row.try_get::<Option<&[u8]>, _>(column)?.map(Bytes::copy_from_slice));
    let stamp: i64 = row.try_get(stamp)?;
    Ok(Record {
        topic,
        partition: row.try_get(part)?,
        offset: row.try_get(seq)?,
        key: bytes(key)?,
        value: bytes(value)?,
        headers: codec::decode(row.try_get(headers)?).ok_or_else(|| wrong("headers"))?,
        timestamp: Timestamp::from_millisecond(stamp).map_err(|_| wrong("stamp"))?,
    })
}

/// Where a reader begins, and the record it has to come to before it has caught up.
pub(super) async fn begin(state: &State, topic: i64, start: Start) -> Result<(Cursor, i64), BusError> {
    // First the end of the log: records that are published after this have later offsets.
    let end: i64 = sqlx::query_scalar("SELECT value FROM counters WHERE name = 'seq'")
        .fetch_one(&state.pool)
        .await
        .map_err(unavailable)?;
    let last = tail(&state.pool, topic).await.map_err(unavailable)?;
    let seq = match start {
        Start::Earliest => 0,
        Start::Latest => end,
        Start::At(time) => {
            let first: Option<i64> = sqlx::query_scalar("SELECT MIN(seq) FROM records WHERE topic = ? AND stamp >= ?")
                .bind(topic)
                .bind(time.as_millisecond())
                .fetch_one(&state.pool)
                .await
                .map_err(unavailable)?;
            first.map_or(end, |first| first - 1)
        }
    };
    Ok((Cursor { topic, seq }, last.min(end)))
}

/// The last record of a topic; 0 when there is none.
pub(super) async fn tail(reading: impl SqliteExecutor<'_>, topic: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM records WHERE topic = ?")
        .bind(topic)
        .fetch_one(reading)
        .await
}

/// Reads the acknowledged offsets of all groups.
pub(super) async fn offsets(pool: &SqlitePool) -> Result<HashMap<(Group, Part), i64>, sqlx::Error> {
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as("SELECT grp, topic, part, done FROM offsets")
        .fetch_all(pool)
        .await?;
    let offsets = rows.into_iter();
    Ok(offsets
        .map(|(group, topic, part, done)| ((group.into(), (topic, part)), done))
        .collect())
}

/// How many records lie behind `done` in a partition, at most `most`.
pub(super) async fn count_after(pool: &SqlitePool, part: Part, done: i64, most: i64) -> Result<i64, sqlx::Error> {
    let (topic, part) = part;
    sqlx::query_scalar("SELECT COUNT(*) FROM (SELECT 1 FROM records WHERE topic = ? AND part = ? AND seq > ? LIMIT ?)")
        .bind(topic)
        .bind(part)
        .bind(done)
        .bind(most)
        .fetch_one(pool)
        .await
}

/// Returns the last record of a partition, 0 if there is none.
pub(super) async fn last(pool: &SqlitePool, (topic, part): Part) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM records WHERE topic = ? AND part = ?")
        .bind(topic)
        .bind(part)
        .fetch_one(pool)
        .await
}

pub(super) async fn ping(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    pool.fetch_one("SELECT value FROM counters WHERE name = 'seq'")
        .await
        .map(|_| ())
}
