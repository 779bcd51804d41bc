//! Likes.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::{PRIMARY, StoreError, retrying};
use sqlx::Row as _;

use super::{FOR_SHARE, Query, SqlStore, date, engine, erasures, public};
use crate::domain::{Day, PostDate, Writer};
use crate::store::{Likes, Notice, WriteError};

#[async_trait]
impl Likes for SqlStore {
    async fn toggle(
        &self,
        liker: &Writer,
        author: &Account,
        day: Day,
        notice: Notice<'_>,
        now: Timestamp,
    ) -> Result<Option<bool>, WriteError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let Some((post, date)) = likable(&mut tx, &liker.account, author, day, now).await? else {
                // A like is taken back also when the post has become private since.
                let removed = take_back(&mut tx, &liker.account, author, day).await?;
                tx.commit().await.map_err(StoreError::from)?;
                return Ok(removed.then_some(false));
            };
            let given = toggle(&mut tx, liker, post, now).await?;
            if given {
                erasures::still_here(&mut tx, liker).await?;
                if let Some(record) = notice(date) {
                    engine::enqueue(&mut tx, &record, now).await?;
                }
            }
            tx.commit().await.map_err(StoreError::from)?;
            Ok(Some(given))
        })
        .await
    }
}

/// The post, kept from going or becoming private until the transaction ends; others may like it meanwhile.
async fn likable(
    tx: &mut engine::Tx,
    liker: &Account,
    author: &Account,
    day: Day,
    now: Timestamp,
) -> Result<Option<(i64, PostDate)>, StoreError> {
    if liker != author && day > Day::first_today(now) {
        return Ok(None);
    }
    let mut query = Query::new("SELECT q.id, q.date FROM post q WHERE q.account = ");
    query
        .push_bind(author.as_str())
        .push(" AND q.day = ")
        .push_bind(i32::from(day));
    if liker != author {
        query.push(" AND q.is_public = 1");
        public::push_not_blocked(&mut query, liker, "q.account");
    }
    query.push(FOR_SHARE);
    let row = query.build().fetch_optional(&mut **tx).await?;
    row.map(|row| Ok((row.try_get("id")?, date(&row)?))).transpose()
}

/// False when the liker does not like that post, or one of the two blocks the other: a block hides the like, and keeps it.
async fn take_back(tx: &mut engine::Tx, liker: &Account, author: &Account, day: Day) -> Result<bool, StoreError> {
    let mut query = Query::new("DELETE FROM post_like WHERE account = ");
    query
        .push_bind(liker.as_str())
        .push(" AND post_id = (SELECT q.id FROM post q WHERE q.account = ")
        .push_bind(author.as_str())
        .push(" AND q.day = ")
        .push_bind(i32::from(day));
    public::push_not_blocked(&mut query, liker, "q.account");
    let removed = query.push(")").build().execute(&mut **tx).await?;
    Ok(removed.rows_affected() > 0)
}

async fn toggle(tx: &mut engine::Tx, liker: &Writer, post: i64, now: Timestamp) -> Result<bool, StoreError> {
    let removed = sqlx::query("DELETE FROM post_like WHERE post_id = ? AND account = ?")
        .bind(post)
        .bind(liker.account.as_str())
        .execute(&mut **tx)
        .await?;
    if removed.rows_affected() > 0 {
        return Ok(false);
    }
    sqlx::query("INSERT INTO post_like (post_id, account, liked_at, made_at) VALUES (?, ?, ?, ?)")
        .bind(post)
        .bind(liker.account.as_str())
        .bind(now.as_millisecond())
        .bind(liker.authorized_at.as_millisecond())
        .execute(&mut **tx)
        .await
        .map_err(|error| match StoreError::from(error) {
            // The same person's other tap came first: seen again, this one takes the like back.
            StoreError::Conflict(rule) if rule == PRIMARY => {
                StoreError::Retry(anyhow::anyhow!("conflicts with {rule}"))
            }
            other => other,
        })?;
    Ok(true)
}
