//! Keys of saves that were stored.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::{PRIMARY, StoreError, retrying};

use super::{SqlStore, engine};
use crate::domain::{KeyedRequest, Writer};
use crate::store::{IdempotencyKeys, WriteError};

#[async_trait]
impl IdempotencyKeys for SqlStore {
    async fn forget_keys(&self, now: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let forget = sqlx::query("DELETE FROM idempotency_key WHERE expires_at <= ?").bind(now.as_millisecond());
            forget.execute(&mut *tx).await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// Returns whether a request under this key was stored; [`WriteError::KeyReused`] if it was another request. An expired key is deleted.
pub(super) async fn is_stored(
    tx: &mut engine::Tx,
    account: &Account,
    keyed: &KeyedRequest,
    now: Timestamp,
) -> Result<bool, WriteError> {
    let stored: Option<(Vec<u8>, i64)> =
        sqlx::query_as("SELECT request, expires_at FROM idempotency_key WHERE account = ? AND request_key = ?")
            .bind(account.as_str())
            .bind(keyed.key.as_str())
            .fetch_optional(&mut **tx)
            .await
            .map_err(StoreError::from)?;
    match stored {
        None => Ok(false),
        Some((_, expires_at)) if expires_at <= now.as_millisecond() => {
            sqlx::query("DELETE FROM idempotency_key WHERE account = ? AND request_key = ?")
                .bind(account.as_str())
                .bind(keyed.key.as_str())
                .execute(&mut **tx)
                .await
                .map_err(StoreError::from)?;
            Ok(false)
        }
        Some((request, _)) if request == keyed.request => Ok(true),
        Some(_) => Err(WriteError::KeyReused),
    }
}

/// Stores the key in the transaction of its save. A save under the same key that is not committed yet is waited for: the attempt that
/// follows finds the key.
pub(super) async fn store(tx: &mut engine::Tx, writer: &Writer, keyed: &KeyedRequest) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO idempotency_key (account, request_key, request, expires_at, made_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(writer.account.as_str())
    .bind(keyed.key.as_str())
    .bind(&keyed.request[..])
    .bind(keyed.expires_at.as_millisecond())
    .bind(writer.authorized_at.as_millisecond())
    .execute(&mut **tx)
    .await
    .map_err(|error| match StoreError::from(error) {
        StoreError::Conflict(rule) if rule == PRIMARY => StoreError::Retry(anyhow::anyhow!("the key was just stored")),
        other => other,
    })?;
    Ok(())
}
