//! Recommendations as they were shown, which stay the same for a day.

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use sosohappy_common::Account;
use sosohappy_store::{PRIMARY, StoreError, retrying};
use sqlx::Row as _;

use super::{Query, SqlStore, read_list, text, write_list};
use crate::domain::{Day, Writer};
use crate::store::{Recommendations, WriteError};

/// Rows that one transaction deletes: well within the half minute that an attempt may take.
const STEP: i64 = 1000;

#[async_trait]
impl Recommendations for SqlStore {
    async fn recommended(
        &self,
        account: &Account,
        day: Day,
        best: &[String],
    ) -> Result<Option<Vec<String>>, StoreError> {
        let best = digest(best);
        let row = sqlx::query("SELECT sentences FROM recommendation WHERE day = ? AND account = ? AND best = ?")
            .bind(i32::from(day))
            .bind(account.as_str())
            .bind(&best[..])
            .fetch_optional(self.database.reader())
            .await?;
        row.map(|row| read_list(&row, "sentences")).transpose()
    }

    async fn keep_recommended(
        &self,
        writer: &Writer,
        day: Day,
        best: &[String],
        sentences: &[String],
    ) -> Result<Vec<String>, WriteError> {
        let (key, list) = (digest(best), write_list(sentences));
        retrying(async || {
            if let Some(shown) = self.recommended(&writer.account, day, best).await? {
                return Ok(shown);
            }
            let mut tx = self.database.begin().await?;
            sqlx::query("INSERT INTO recommendation (day, account, best, sentences, made_at) VALUES (?, ?, ?, ?, ?)")
                .bind(i32::from(day))
                .bind(writer.account.as_str())
                .bind(&key[..])
                .bind(&list)
                .bind(writer.authorized_at.as_millisecond())
                .execute(&mut *tx)
                .await
                // Another request was quicker: the next try reads its sentences.
                .map_err(|error| StoreError::from(error).retry_if_taken(&[PRIMARY]))?;
            super::still_here(&mut tx, writer).await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(sentences.to_vec())
        })
        .await
    }

    async fn forget_recommended(&self, before: Day) -> Result<(), StoreError> {
        while retrying(async || self.forget_some_recommended(before).await).await? {}
        Ok(())
    }
}

impl SqlStore {
    /// Deletes the oldest rows; returns whether there may be more.
    async fn forget_some_recommended(&self, before: Day) -> Result<bool, StoreError> {
        let mut tx = self.database.begin().await?;
        let last =
            sqlx::query("SELECT day, account FROM recommendation WHERE day < ? ORDER BY day, account LIMIT 1 OFFSET ?")
                .bind(i32::from(before))
                .bind(STEP)
                .fetch_optional(&mut *tx)
                .await?;
        let mut query = Query::new("DELETE FROM recommendation WHERE day < ");
        match &last {
            Some(row) => {
                let day: i32 = row.try_get("day")?;
                query.push_bind(day).push(" OR (day = ").push_bind(day);
                query
                    .push(" AND account <= ")
                    .push_bind(text(row, "account")?)
                    .push(")");
            }
            None => _ = query.push_bind(i32::from(before)),
        }
        query.build().execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(last.is_some())
    }
}

fn digest(best: &[String]) -> [u8; 32] {
    Sha256::digest(write_list(best)).into()
}
