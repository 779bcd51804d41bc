//! The connection log.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_store::{StoreError, retrying};

use super::transaction::SqlTransaction;
use super::{SqlStore, engine, rows};
use crate::store::connections::{ConnectionTransaction, Connections, SealedConnection};

#[async_trait]
impl Connections for SqlStore {
    async fn connections_of(
        &self,
        account_hash: &[u8; 32],
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let found = sqlx::query(
            "SELECT sealed FROM connection_log WHERE account_hash = ? AND expires_at > ? ORDER BY expires_at DESC LIMIT ?",
        )
        .bind(account_hash.as_slice())
        .bind(now.as_millisecond())
        .bind(i64::from(limit))
        .fetch_all(self.0.reader())
        .await?;
        found.iter().map(|row| rows::text(row, "sealed")).collect()
    }

    async fn forget_connections(&self, now: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            let forgotten = sqlx::query("DELETE FROM connection_log WHERE expires_at <= ?")
                .bind(now.as_millisecond())
                .execute(&mut *tx)
                .await?;
            if forgotten.rows_affected() > 0 {
                engine::note_erasure(&mut tx, now).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }
}

#[async_trait]
impl ConnectionTransaction for SqlTransaction {
    async fn insert_connection(&mut self, connection: &SealedConnection) -> Result<(), StoreError> {
        let insert =
            sqlx::query("INSERT INTO connection_log (entry, account_hash, sealed, expires_at) VALUES (?, ?, ?, ?)")
                .bind(&connection.entry)
                .bind(connection.account_hash.as_slice())
                .bind(&connection.sealed)
                .bind(connection.expires_at.as_millisecond());
        self.run(insert).await?;
        Ok(())
    }
}
