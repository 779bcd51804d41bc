//! Overwrites what was erased.
//!
//! `secure_delete` overwrites a deleted row with zeros, but older copies of it stay in the write-ahead log and, where rows have moved between
//! pages, inside live pages. So the log is cut regularly, and after erasures the file is written anew. A mark in the database says that
//! it has to be: it survives a crash.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sosohappy_common::Context;

use super::sql::Database;
use super::sql::timers::{set_timer, take_timer};
use super::{Pool, Tx};
use crate::retry::retrying;
use crate::{StoreError, Timer};

/// The mark, a timer that the service itself never asks for; due at the last erasure.
const KIND: &str = "rewrite-after-erasure";
const KEY: &str = "database";

/// Steps of a deadline: rows are erased in the first, the file is rewritten after at most two more.
const STEPS: u32 = 8;

/// The shortest step.
const SHORTEST: Duration = Duration::from_millis(500);

/// Steps between two rewrites: erasures within them share one.
const APART: u32 = 3;

/// Notes in the transaction that erases the last of an account that the file has to be rewritten.
pub async fn note_erasure(tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
    let mark = Timer {
        kind: KIND.to_owned(),
        key: KEY.to_owned(),
        fire_at: now,
    };
    set_timer(tx, &mark).await
}

/// Spawns the task that cuts the log, and rewrites the file after erasures, until the service drains. A failure is logged; the next round
/// tries again.
pub(super) fn spawn(database: &Database, context: &Context) {
    let (database, clock, draining) = (database.clone(), context.clock.clone(), context.lifecycle.draining());
    let step = (context.erasure_deadline / STEPS).max(SHORTEST);
    context.lifecycle.spawn("store-eraser", async move {
        let mut rewritten = None::<tokio::time::Instant>;
        while draining.run_until_cancelled(tokio::time::sleep(step)).await.is_some() {
            // A step later, the outbox rows of the erasure are published and deleted as well.
            let settled = clock.now() - SignedDuration::try_from(step).unwrap_or(SignedDuration::MAX);
            let may_rewrite = rewritten.is_none_or(|at| at.elapsed() >= step * APART);
            let round = async {
                if may_rewrite && has_mark(&database, settled).await? {
                    rewrite(&database, settled).await?;
                    rewritten = Some(tokio::time::Instant::now());
                }
                cut_log(database.writer()).await
            };
            if let Err(error) = round.await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "rewriting erased database pages failed; retrying"
                );
            }
        }
        Ok(())
    });
}

async fn has_mark(database: &Database, until: Timestamp) -> Result<bool, StoreError> {
    Ok(!database.due_timers(KIND, until, 1).await?.is_empty())
}

/// Rewrites the file, then deletes the mark unless there was another erasure meanwhile. A crash in between rewrites it again.
async fn rewrite(database: &Database, until: Timestamp) -> Result<(), StoreError> {
    let began = tokio::time::Instant::now();
    sqlx::query("VACUUM").execute(database.writer()).await?;
    retrying(|| async {
        let mut tx = database.begin().await?;
        take_timer(&mut tx, KIND, KEY, until).await?;
        Ok::<_, StoreError>(tx.commit().await?)
    })
    .await?;
    tracing::info!(took = ?began.elapsed(), "database file rewritten after erasures");
    Ok(())
}

/// Writes the log back into the file and empties it. Fails while a reader still needs it.
async fn cut_log(writer: &Pool) -> Result<(), StoreError> {
    let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(writer)
        .await?;
    if busy == 0 {
        Ok(())
    } else {
        Err(StoreError::Retry(anyhow::anyhow!("a reader holds the write-ahead log")))
    }
}
