//! Leases: one of the replicas does it.

use std::time::Duration;

use super::Database;
use crate::StoreError;
use crate::retry::retrying;
use crate::time::millis;

pub(super) async fn take(database: &Database, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
    let now = database.now().as_millisecond();
    let until = now.saturating_add(millis(ttl));
    retrying(|| async {
        let renewed = sqlx::query(
            "UPDATE lease SET holder = ?, expires_at = ? WHERE name = ? AND (holder = ? OR expires_at <= ?)",
        )
        .bind(holder)
        .bind(until)
        .bind(name)
        .bind(holder)
        .bind(now)
        .execute(database.writer())
        .await?;
        if renewed.rows_affected() > 0 {
            return Ok(true);
        }
        let taken = sqlx::query("INSERT INTO lease (name, holder, expires_at) VALUES (?, ?, ?)")
            .bind(name)
            .bind(holder)
            .bind(until)
            .execute(database.writer())
            .await;
        match taken.map_err(StoreError::from) {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict(_)) => Ok(false),
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
