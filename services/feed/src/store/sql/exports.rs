//! Posts for their author to keep, and back.

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::{PRIMARY, StoreError, retrying};
use sqlx::Row as _;

use super::posts::{Drafts, ONE_A_DAY};
use super::{BATCH, Query, SqlStore, date, read_list, visibility};
use crate::domain::{Day, NewPost};
use crate::store::{ExportedPost, Exports, Saved, WriteError};

#[async_trait]
impl Exports for SqlStore {
    async fn posts_to_export(&self, author: &Account, after: i64, rows: u32) -> Result<Vec<ExportedPost>, StoreError> {
        let mut query = Query::new("");
        push_page(&mut query, author, after, rows);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        rows.iter()
            .map(|row| {
                let edited_at: Option<i64> = row.try_get("edited_at")?;
                Ok(ExportedPost {
                    date: date(row)?,
                    weather: row.try_get("weather")?,
                    happiness: row.try_get("happiness")?,
                    text: row.try_get("text")?,
                    visibility: visibility(row)?,
                    categories: read_list(row, "categories")?,
                    images: read_list(row, "images")?,
                    edited_at: edited_at
                        .map(Timestamp::from_millisecond)
                        .transpose()
                        .map_err(|_| StoreError::corrupt("a time in the database is not one"))?,
                    likes: row.try_get("likes")?,
                    comments: row.try_get("comments")?,
                })
            })
            .collect()
    }

    async fn days_with_posts(&self, author: &Account, days: &[Day]) -> Result<HashSet<Day>, StoreError> {
        let mut taken = HashSet::new();
        for batch in days.chunks(BATCH) {
            let mut query = Query::new("SELECT day FROM post WHERE account = ");
            query.push_bind(author.as_str()).push(" AND day IN (");
            let mut list = query.separated(", ");
            for day in batch {
                list.push_bind(i32::from(*day));
            }
            let rows = query.push(")").build().fetch_all(self.database.reader()).await?;
            for row in &rows {
                let day = Day::try_from(row.try_get::<i32, _>("day")?);
                taken.insert(day.map_err(|_| StoreError::corrupt("a day in the database is not one"))?);
            }
        }
        Ok(taken)
    }

    async fn save_new(&self, post: &NewPost, now: Timestamp) -> Result<bool, WriteError> {
        retrying(async || match self.insert(post, Drafts::Kept, now).await {
            Ok(Saved::Stored) => Ok(true),
            Ok(Saved::Repeated) => Ok(false),
            Err(WriteError::Store(StoreError::Conflict(rule))) if rule == ONE_A_DAY => Ok(false),
            Err(error) => Err(error),
        })
        .await
    }

    async fn export_key(&self, fresh: [u8; 32], now: Timestamp) -> Result<[u8; 32], StoreError> {
        retrying(async || {
            let known: Option<Vec<u8>> = sqlx::query_scalar("SELECT secret FROM export_key WHERE id = 1")
                .fetch_optional(self.database.reader())
                .await?;
            if let Some(known) = known {
                let key = known.try_into();
                return key.map_err(|_| StoreError::corrupt("the key of exports is not one"));
            }
            let mut tx = self.database.begin().await?;
            sqlx::query("INSERT INTO export_key (id, secret, made_at) VALUES (1, ?, ?)")
                .bind(&fresh[..])
                .bind(now.as_millisecond())
                .execute(&mut *tx)
                .await
                // Another replica was quicker: the next try reads its key.
                .map_err(|error| StoreError::from(error).retry_if_taken(&[PRIMARY]))?;
            tx.commit().await?;
            Ok(fresh)
        })
        .await
    }
}

/// The posts of an author after a day, in the order of their days.
pub(super) fn push_page(query: &mut Query, author: &Account, after: i64, rows: u32) {
    query.push(
        "SELECT date, weather, happiness, text, is_public, friend_date, categories, images, edited_at, likes, comments \
         FROM post WHERE account = ",
    );
    query.push_bind(author.as_str()).push(" AND day > ").push_bind(after);
    query.push(" ORDER BY day LIMIT ").push_bind(i64::from(rows));
}
