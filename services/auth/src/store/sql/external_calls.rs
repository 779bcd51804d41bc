//! Calls of other systems.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_events::EventId;
use sosohappy_store::{StoreError, retrying};
use sqlx::Row as _;
use uuid::Uuid;

use super::transaction::SqlTransaction;
use super::{Row, SqlStore, rows};
use crate::store::external_calls::{ExternalCall, ExternalCallTransaction, ExternalCalls, Kind};

#[async_trait]
impl ExternalCalls for SqlStore {
    async fn due_calls(&self, kind: Kind, now: Timestamp, limit: u32) -> Result<Vec<ExternalCall>, StoreError> {
        let found = sqlx::query(
            "SELECT id, kind, resignation, sealed, created_at, expires_at, due_at, attempts FROM external_call
            WHERE kind = ? AND due_at <= ? ORDER BY due_at LIMIT ?",
        )
        .bind(kind.as_str())
        .bind(now.as_millisecond())
        .bind(i64::from(limit))
        .fetch_all(self.0.reader())
        .await?;
        found.iter().map(call).collect()
    }

    async fn claim_call(&self, call: &ExternalCall, until: Timestamp) -> Result<bool, StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            let claimed =
                sqlx::query("UPDATE external_call SET due_at = ?, attempts = attempts + 1 WHERE id = ? AND due_at = ?")
                    .bind(until.as_millisecond())
                    .bind(call.id.to_string())
                    .bind(call.due_at.as_millisecond())
                    .execute(&mut *tx)
                    .await?;
            tx.commit().await?;
            Ok(claimed.rows_affected() > 0)
        })
        .await
    }

    async fn postpone_call(&self, call: &ExternalCall, due_at: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            sqlx::query("UPDATE external_call SET due_at = ? WHERE id = ? AND attempts = ?")
                .bind(due_at.as_millisecond())
                .bind(call.id.to_string())
                .bind(i64::from(call.attempts))
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

#[async_trait]
impl ExternalCallTransaction for SqlTransaction {
    async fn insert_call(&mut self, call: &ExternalCall) -> Result<(), StoreError> {
        let insert = sqlx::query(
            "INSERT INTO external_call (id, kind, resignation, sealed, created_at, expires_at, due_at, attempts)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(call.id.to_string())
        .bind(call.kind.as_str())
        .bind(call.resignation.map(|id| id.to_string()))
        .bind(&call.sealed)
        .bind(call.created_at.as_millisecond())
        .bind(call.expires_at.map(Timestamp::as_millisecond))
        .bind(call.due_at.as_millisecond())
        .bind(i64::from(call.attempts));
        insert.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn delete_call(&mut self, id: Uuid) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM external_call WHERE id = ?").bind(id.to_string());
        delete.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn pending_calls(&mut self, resignation: EventId) -> Result<Vec<String>, StoreError> {
        let found = sqlx::query("SELECT DISTINCT kind FROM external_call WHERE resignation = ?")
            .bind(resignation.to_string())
            .fetch_all(&mut *self.0)
            .await?;
        found.iter().map(|row| rows::text(row, "kind")).collect()
    }
}

fn call(row: &Row) -> Result<ExternalCall, StoreError> {
    let resignation: Option<String> = row.try_get_unchecked("resignation")?;
    let expires_at: Option<i64> = row.try_get("expires_at")?;
    let attempts: i64 = row.try_get_unchecked("attempts")?;
    Ok(ExternalCall {
        id: rows::text(row, "id")?.parse().map_err(|_| rows::broken("id"))?,
        kind: rows::text(row, "kind")?.parse().map_err(|()| rows::broken("kind"))?,
        resignation: resignation
            .map(|id| id.parse())
            .transpose()
            .map_err(|_| rows::broken("resignation"))?,
        sealed: rows::text(row, "sealed")?,
        created_at: rows::instant(row, "created_at")?,
        expires_at: expires_at.map(rows::from_millis).transpose()?,
        due_at: rows::instant(row, "due_at")?,
        attempts: u32::try_from(attempts).map_err(|_| rows::broken("attempts"))?,
    })
}
