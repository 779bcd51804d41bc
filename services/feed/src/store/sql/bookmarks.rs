//! Bookmarks: posts that a person has saved for themselves.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::{PostChange, PostChanged};
use sosohappy_store::{PRIMARY, StoreError, retrying};
use sqlx::Row as _;

use super::{Query, Row, SqlStore, engine, likes, public};
use crate::domain::{Cursor, Day, PageFrom, SeenPost, Writer};
use crate::store::{BookmarkNotice, Bookmarked, Bookmarks, Marked, WriteError};

#[async_trait]
impl Bookmarks for SqlStore {
    async fn toggle_bookmark(
        &self,
        saver: &Writer,
        marked: Marked<'_>,
        notice: BookmarkNotice<'_>,
        now: Timestamp,
    ) -> Result<Option<bool>, WriteError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let found = likes::find(&mut tx, &saver.account, marked.author, marked.day, now).await?;
            // One that is there is taken back whatever has become of the post since.
            let Some(post) = found.filter(|post| post.is_bookmarked || (post.is_seen && !marked.is_suspended)) else {
                tx.rollback().await.map_err(StoreError::from)?;
                return Ok(None);
            };
            let is_set = !post.is_bookmarked;
            if is_set {
                insert(&mut tx, saver, post.id, now).await?;
            } else {
                take_back(&mut tx, &saver.account, post.id).await?;
            }
            let (change, difference) = if is_set {
                (PostChange::Bookmarked, 1)
            } else {
                (PostChange::Unbookmarked, -1)
            };
            let state = PostChanged {
                change,
                actor: Some(saver.account.clone()),
                bookmarks: post.state.bookmarks + difference * post.weight,
                ..post.state
            };
            let notice = notice(is_set, post.date);
            self.publish_counted(&mut tx, state, post.weight, Some(saver), Some(notice), now)
                .await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(Some(is_set))
        })
        .await
    }

    async fn bookmarks(
        &self,
        saver: &Account,
        today: Day,
        from: PageFrom,
        rows: i64,
    ) -> Result<Vec<Bookmarked>, StoreError> {
        let mut query = Query::new("");
        push_bookmarks(&mut query, saver, today, from, rows);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        rows.iter().map(bookmarked).collect()
    }

    #[cfg(test)]
    async fn bookmarks_plan(&self, saver: &Account, today: Day, from: PageFrom) -> Vec<String> {
        let mut query = Query::new(super::super::EXPLAIN);
        push_bookmarks(&mut query, saver, today, from, 8);
        super::plan(self.database.reader(), &mut query).await
    }
}

/// Posts that the person has saved and still sees, behind the cursor, the one saved last first.
fn push_bookmarks(query: &mut Query, saver: &Account, today: Day, from: PageFrom, rows: i64) {
    let (_, latest) = today.dates();
    query.push(public::SEEN).push_bind(saver.as_str());
    query.push(") AS is_liked, m.saved_at FROM post_bookmark m JOIN post p ON p.id = m.post_id WHERE m.account = ");
    query.push_bind(saver.as_str());
    if let PageFrom::After(Cursor { date: saved_at, id, .. }) = from {
        query.push(" AND m.saved_at <= ").push_bind(saved_at);
        query.push(" AND (m.saved_at < ").push_bind(saved_at);
        query.push(" OR m.post_id < ").push_bind(id).push(")");
    }
    query.push(" AND (p.account = ").push_bind(saver.as_str());
    query.push(" OR (p.friend_date <= ").push_bind(latest).push(" AND ");
    public::push_seen_by(query, saver, "p");
    query.push("))");
    public::push_not_blocked(query, saver, "p.account");
    query
        .push(" ORDER BY m.saved_at DESC, m.post_id DESC LIMIT ")
        .push_bind(rows);
    if let PageFrom::Offset(offset) = from {
        query.push(" OFFSET ").push_bind(offset);
    }
}

async fn insert(tx: &mut engine::Tx, saver: &Writer, post: i64, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO post_bookmark (post_id, account, saved_at, made_at) VALUES (?, ?, ?, ?)")
        .bind(post)
        .bind(saver.account.as_str())
        .bind(now.as_millisecond())
        .bind(saver.authorized_at.as_millisecond())
        .execute(&mut **tx)
        .await
        .map_err(|error| StoreError::from(error).retry_if_taken(&[PRIMARY]))?;
    Ok(())
}

async fn take_back(tx: &mut engine::Tx, saver: &Account, post: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM post_bookmark WHERE post_id = ? AND account = ?")
        .bind(post)
        .bind(saver.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn bookmarked(row: &Row) -> Result<Bookmarked, StoreError> {
    let post: SeenPost = public::seen(row)?;
    Ok(Bookmarked {
        post,
        saved_at: row.try_get("saved_at")?,
    })
}
