//! Durable timers.

use jiff::Timestamp;
use sqlx::Row as _;

use super::{Database, Tx, dialect};
use crate::retry::retrying;
use crate::timer::quarantined;
use crate::{DueTimer, PRIMARY, StoreError, Timer};

/// Sets the timer of a kind and key, or moves it.
pub async fn set_timer(tx: &mut Tx, timer: &Timer) -> Result<(), StoreError> {
    sqlx::query(dialect::SET_TIMER)
        .bind(&timer.kind)
        .bind(&timer.key)
        .bind(timer.fire_at.as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes a timer; a missing one is no error.
pub async fn clear_timer(tx: &mut Tx, kind: &str, key: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM timer WHERE kind = ? AND timer_key = ?")
        .bind(kind)
        .bind(key)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes a due timer; returns true for one caller only, whose work belongs into the same transaction.
pub async fn take_timer(tx: &mut Tx, kind: &str, key: &str, now: Timestamp) -> Result<bool, StoreError> {
    let taken = sqlx::query("DELETE FROM timer WHERE kind = ? AND timer_key = ? AND fire_at <= ?")
        .bind(kind)
        .bind(key)
        .bind(now.as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(taken.rows_affected() == 1)
}

/// Returns due timers of a kind, the earliest first. One whose key is not text is quarantined.
pub(super) async fn due(
    database: &Database,
    kind: &str,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<DueTimer>, StoreError> {
    let rows = sqlx::query(
        "SELECT timer_key, attempts FROM timer WHERE kind = ? AND fire_at <= ? ORDER BY fire_at, timer_key LIMIT ?",
    )
    .bind(kind)
    .bind(now.as_millisecond())
    .bind(i64::from(limit))
    .fetch_all(database.reader())
    .await?;
    let mut timers = Vec::with_capacity(rows.len());
    for row in rows {
        // Read as bytes: a key that is not UTF-8 must not stop the other timers.
        match String::from_utf8(row.try_get_unchecked(0)?) {
            Ok(key) => timers.push(DueTimer {
                key,
                attempts: u32::try_from(row.try_get_unchecked::<i64, _>(1)?).unwrap_or(0),
            }),
            Err(error) => quarantine(database, kind, error.as_bytes()).await?,
        }
    }
    Ok(timers)
}

pub(super) async fn postpone(
    database: &Database,
    kind: &str,
    key: &str,
    now: Timestamp,
    fire_at: Timestamp,
) -> Result<(), StoreError> {
    retrying(|| async {
        // The condition leaves a timer alone that was set anew meanwhile.
        sqlx::query(
            "UPDATE timer SET fire_at = ?, attempts = attempts + 1 WHERE kind = ? AND timer_key = ? AND fire_at <= ?",
        )
        .bind(fire_at.as_millisecond())
        .bind(kind)
        .bind(key)
        .bind(now.as_millisecond())
        .execute(database.writer())
        .await?;
        Ok(())
    })
    .await
}

pub(super) async fn quarantine(database: &Database, kind: &str, key: &[u8]) -> Result<(), StoreError> {
    tracing::error!(kind, "timer key invalid; timer quarantined");
    let quarantined = quarantined(kind);
    retrying(|| async {
        let moved = sqlx::query(dialect::QUARANTINE_TIMER)
            .bind(&quarantined)
            .bind(kind)
            .bind(key)
            .execute(database.writer())
            .await;
        match moved.map_err(StoreError::from) {
            Ok(_) => Ok(()),
            // The key has been quarantined before: the row is only deleted.
            Err(StoreError::Conflict(rule)) if rule == PRIMARY => {
                sqlx::query(dialect::DELETE_TIMER)
                    .bind(kind)
                    .bind(key)
                    .execute(database.writer())
                    .await?;
                Ok(())
            }
            Err(error) => Err(error),
        }
    })
    .await
}
