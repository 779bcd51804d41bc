//! Rows `(account, instance)` that expire.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sqlx::QueryBuilder;

use super::{Database, Engine, dialect};
use crate::retry::retrying;
use crate::{Presence, StoreError};

/// The most rows of one statement.
const BATCH: usize = 500;

#[derive(Debug)]
pub(super) struct SqlPresence(pub Database);

#[async_trait]
impl Presence for SqlPresence {
    async fn hold(&self, instance: &str, accounts: &[Account], until: Timestamp) -> Result<(), StoreError> {
        for accounts in accounts.chunks(BATCH) {
            retrying(|| async {
                let mut insert = QueryBuilder::<Engine>::new("INSERT INTO presence (account, instance, held_until) ");
                insert.push_values(accounts, |mut row, account| {
                    row.push_bind(account.as_str())
                        .push_bind(instance)
                        .push_bind(until.as_millisecond());
                });
                insert
                    .push(dialect::HOLD_AGAIN)
                    .build()
                    .execute(self.0.writer())
                    .await?;
                Ok::<_, StoreError>(())
            })
            .await?;
        }
        Ok(())
    }

    async fn release(&self, instance: &str, account: &Account) -> Result<(), StoreError> {
        retrying(|| async {
            sqlx::query("DELETE FROM presence WHERE account = ? AND instance = ?")
                .bind(account.as_str())
                .bind(instance)
                .execute(self.0.writer())
                .await?;
            Ok(())
        })
        .await
    }

    async fn online(&self, account: &Account, now: Timestamp) -> Result<bool, StoreError> {
        let held = sqlx::query_scalar::<_, i64>("SELECT 1 FROM presence WHERE account = ? AND held_until > ? LIMIT 1")
            .bind(account.as_str())
            .bind(now.as_millisecond())
            .fetch_optional(self.0.reader())
            .await?;
        Ok(held.is_some())
    }
}
