//! Which accounts are suspended, and the counts without what they do.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::PostChange;
use sosohappy_store::{PRIMARY, StoreError, retrying};
use sqlx::Row as _;

use super::{Query, SqlStore, account, comments, engine, instant, likes};
use crate::store::{AccountStates, StateChange};

/// Rows that one step reads: their posts are counted well within the half minute that an attempt may take.
const STEP: i64 = 200;

/// Changes that one read returns.
const CHANGES: i64 = 100;

/// What accounts do at posts, by `account` and `post_id`.
const TABLES: [&str; 3] = ["post_like", "post_bookmark", "post_comment"];

#[async_trait]
impl AccountStates for SqlStore {
    async fn set_suspended(&self, account: &Account, is_suspended: bool, at: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let mut query = Query::new("SELECT changed_at, suspended FROM account_state WHERE account = ");
            query.push_bind(account.as_str()).push(engine::FOR_UPDATE);
            let known: Option<(i64, bool)> = query.build_query_as().fetch_optional(&mut *tx).await?;
            // Of two states at the same moment the stricter.
            if known.is_some_and(|known| known >= (at.as_millisecond(), is_suspended)) {
                tx.rollback().await?;
                return Ok(());
            }
            sqlx::query("DELETE FROM account_state WHERE account = ?")
                .bind(account.as_str())
                .execute(&mut *tx)
                .await?;
            sqlx::query("INSERT INTO account_state (account, suspended, changed_at, counted) VALUES (?, ?, ?, ?)")
                .bind(account.as_str())
                .bind(is_suspended)
                .bind(at.as_millisecond())
                .bind(false)
                .execute(&mut *tx)
                .await
                .map_err(|error| StoreError::from(error).retry_if_taken(&[PRIMARY]))?;
            // Delivered late: the row would outlive the erasure.
            let erased = engine::erased_accounts::erased_until(&mut tx, account).await?;
            if erased.is_some_and(|until| until >= at) {
                tx.rollback().await?;
                return Ok(());
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn uncounted(&self) -> Result<Vec<StateChange>, StoreError> {
        let rows =
            sqlx::query("SELECT account, changed_at FROM account_state WHERE counted = 0 ORDER BY changed_at LIMIT ?")
                .bind(CHANGES)
                .fetch_all(self.database.reader())
                .await?;
        let changes = rows.iter().map(|row| {
            Ok(StateChange {
                account: account(row, "account")?,
                changed_at: instant(row, "changed_at")?,
            })
        });
        changes.collect()
    }

    async fn recount(&self, change: &StateChange, now: Timestamp) -> Result<(), StoreError> {
        self.recount_all(&change.account, now).await?;
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query("UPDATE account_state SET counted = 1 WHERE account = ? AND changed_at = ?")
                .bind(change.account.as_str())
                .bind(change.changed_at.as_millisecond())
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

impl SqlStore {
    /// Counts all posts with something of the account anew, step by step.
    pub(super) async fn recount_all(&self, account: &Account, now: Timestamp) -> Result<(), StoreError> {
        for table in TABLES {
            let mut next = Some(0);
            while let Some(after) = next {
                next = retrying(async || self.recount_some(table, account, after, now).await).await?;
            }
        }
        Ok(())
    }

    /// Counts the posts of one step behind a post anew; returns the last of them.
    async fn recount_some(
        &self,
        table: &'static str,
        account: &Account,
        after: i64,
        now: Timestamp,
    ) -> Result<Option<i64>, StoreError> {
        let mut tx = self.database.begin().await?;
        let mut query = Query::new("SELECT post_id FROM ");
        query.push(table).push(" WHERE account = ").push_bind(account.as_str());
        query.push(" AND post_id > ").push_bind(after);
        query.push(" ORDER BY post_id LIMIT ").push_bind(STEP);
        // Locked: a row whose transaction has not seen the new state, and is not committed yet, is waited for.
        query.push(engine::FOR_UPDATE);
        let rows = query.build().fetch_all(&mut *tx).await?;
        let posts = rows.iter().map(|row| row.try_get("post_id"));
        let posts: BTreeSet<i64> = posts.collect::<Result<_, sqlx::Error>>()?;
        let posts: Vec<i64> = posts.into_iter().collect();
        let Some(last) = posts.last().copied() else {
            tx.rollback().await?;
            return Ok(None);
        };
        likes::lock(&mut tx, &posts).await?;
        likes::recount(&mut tx, &posts).await?;
        comments::recount(&mut tx, &posts).await?;
        self.tell(&mut tx, &posts, &PostChange::Changed.into(), now).await?;
        tx.commit().await?;
        Ok(Some(last))
    }
}
