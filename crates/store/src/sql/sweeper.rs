//! Deletes old rows in batches.

use sosohappy_common::Context;

use super::Database;
use crate::StoreError;
use crate::sweeper::{self, LEASE, LEASE_TTL, Limits};

/// About how many rows one statement deletes, so that other writers do not wait long.
const BATCH: i64 = 1000;

/// A table whose rows expire: the query for the time of the BATCH-th oldest expired row, and the statement that deletes up to that time.
struct Aging {
    nth: &'static str,
    delete: &'static str,
}

const APPLIED_EVENTS: Aging = Aging {
    nth: "SELECT applied_at FROM event_inbox WHERE applied_at < ? ORDER BY applied_at LIMIT 1 OFFSET ?",
    delete: "DELETE FROM event_inbox WHERE applied_at <= ?",
};

/// Rows of earlier releases, which kept here whose sockets a replica had.
const PRESENCE: Aging = Aging {
    nth: "SELECT held_until FROM presence WHERE held_until < ? ORDER BY held_until LIMIT 1 OFFSET ?",
    delete: "DELETE FROM presence WHERE held_until <= ?",
};

const TOMBSTONES: Aging = Aging {
    nth: "SELECT resigned_at FROM directory WHERE nickname IS NULL AND resigned_at < ?
        ORDER BY resigned_at LIMIT 1 OFFSET ?",
    delete: "DELETE FROM directory WHERE nickname IS NULL AND resigned_at <= ?",
};

pub(super) fn spawn(database: &Database, context: &Context) {
    let database = database.clone();
    sweeper::spawn(context, move || {
        let database = database.clone();
        async move {
            let ours = database.lease(LEASE, database.instance(), LEASE_TTL).await?;
            if ours { database.sweep().await } else { Ok(()) }
        }
    });
}

pub(super) async fn sweep(database: &Database) -> Result<(), StoreError> {
    let limits = Limits::at(database.server_time().await?);
    // A failure of one table must not stop the sweep of the others.
    let swept = [
        delete_before(database, &APPLIED_EVENTS, limits.applied_events).await,
        delete_before(database, &PRESENCE, limits.presence).await,
        delete_before(database, &TOMBSTONES, limits.tombstones).await,
        sqlx::query("DELETE FROM lease WHERE expires_at < ?")
            .bind(limits.leases)
            .execute(database.writer())
            .await
            .map(|_| ())
            .map_err(StoreError::from),
    ];
    swept.into_iter().collect()
}

async fn delete_before(database: &Database, table: &Aging, limit: i64) -> Result<(), StoreError> {
    loop {
        let nth: Option<i64> = sqlx::query_scalar(table.nth)
            .bind(limit)
            .bind(BATCH)
            .fetch_optional(database.reader())
            .await?;
        let up_to = nth.unwrap_or(limit - 1);
        sqlx::query(table.delete).bind(up_to).execute(database.writer()).await?;
        if nth.is_none() {
            return Ok(());
        }
    }
}
