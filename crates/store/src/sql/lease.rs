//! Leases: one replica at a time does a job. All times are the database's.

use std::time::Duration;

use sqlx::Row as _;

use super::{Database, dialect};
use crate::retry::retrying;
use crate::time::{lease_is_void_beyond, millis};
use crate::{PRIMARY, StoreError};

pub(super) async fn take(database: &Database, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
    let ttl = millis(ttl);
    retrying(|| async {
        // Each statement reads the database's clock once, so both comparisons see the same moment.
        let renewed = sqlx::query(dialect::TAKE_LEASE)
            .bind(holder)
            .bind(ttl)
            .bind(name)
            .bind(holder)
            .bind(lease_is_void_beyond(ttl))
            .execute(database.writer())
            .await?;
        if renewed.rows_affected() > 0 {
            return Ok(true);
        }
        let taken = sqlx::query(dialect::INSERT_LEASE)
            .bind(name)
            .bind(holder)
            .bind(ttl)
            .execute(database.writer())
            .await;
        match taken.map_err(StoreError::from) {
            Ok(_) => Ok(true),
            // The row exists, so the update has found it held.
            Err(StoreError::Conflict(rule)) if rule == PRIMARY => Ok(false),
            Err(error) => Err(error),
        }
    })
    .await
}

pub(super) async fn release(database: &Database, name: &str, holder: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM lease WHERE name = ? AND holder = ?")
        .bind(name)
        .bind(holder)
        .execute(database.writer())
        .await?;
    Ok(())
}

/// Reads without a check of the column type: `MySQL` reports text of a binary collation as bytes.
pub(super) async fn holder(database: &Database, name: &str) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT holder FROM lease WHERE name = ?")
        .bind(name)
        .fetch_optional(database.reader())
        .await?;
    Ok(row.map(|row| row.try_get_unchecked("holder")).transpose()?)
}
