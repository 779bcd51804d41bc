//! Comments.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::Envelope;
use sosohappy_events::types::{NoticeRaised, PostChange, PostChanged};
use sosohappy_store::{StoreError, retrying};
use sqlx::Row as _;

use super::{BATCH, Query, Row, SqlStore, account, engine, instant, last_id, likes, post_events, public};
use crate::domain::{Comment, Cursor, Day, PageFrom, Writer};
use crate::store::{CommentError, CommentNotice, Comments, NewComment, WriteError};

#[async_trait]
impl Comments for SqlStore {
    async fn comment(
        &self,
        writer: &Writer,
        author: &Account,
        day: Day,
        comment: NewComment<'_>,
        notice: CommentNotice<'_>,
        now: Timestamp,
    ) -> Result<i64, CommentError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let post = likes::find(&mut tx, &writer.account, author, day, now).await?;
            let Some(post) = post.filter(|post| post.is_seen) else {
                return Err(CommentError::NoSuchPost);
            };
            if !post.takes_comments {
                return Err(CommentError::Closed);
            }
            let inserted = sqlx::query(
                "INSERT INTO post_comment (post_id, account, text, written_at, made_at) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(post.id)
            .bind(writer.account.as_str())
            .bind(comment.text)
            .bind(now.as_millisecond())
            .bind(writer.authorized_at.as_millisecond())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::from)?;
            let id = last_id(&inserted);
            if comment.is_held {
                hold(&mut tx, id, now).await?;
            }
            let state = PostChanged {
                change: PostChange::Commented,
                actor: Some(writer.account.clone()),
                comment: Some(id),
                comments: post.state.comments + if comment.is_held { 0 } else { post.weight },
                ..post.state
            };
            // The author hears of a held one when it is released.
            let notice = notice(id, post.date).filter(|_| !comment.is_held);
            self.publish_counted(&mut tx, state, post.weight, Some(writer), notice, now)
                .await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(id)
        })
        .await
    }

    async fn comments(
        &self,
        viewer: &Account,
        author: &Account,
        day: Day,
        today: Day,
        from: PageFrom,
        rows: i64,
    ) -> Result<Option<Vec<Comment>>, StoreError> {
        let mut query = Query::new("SELECT q.id FROM post q WHERE q.account = ");
        query
            .push_bind(author.as_str())
            .push(" AND q.day = ")
            .push_bind(i32::from(day));
        if viewer != author {
            query.push(" AND q.day <= ").push_bind(i32::from(today)).push(" AND ");
            public::push_seen_by(&mut query, viewer, "q");
            public::push_not_blocked(&mut query, viewer, "q.account");
        }
        let post: Option<i64> = query
            .build_query_scalar()
            .fetch_optional(self.database.reader())
            .await?;
        let Some(post) = post else {
            return Ok(None);
        };
        let mut query = Query::new("");
        push_comments(&mut query, viewer, post, from, rows);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        rows.iter().map(comment).collect::<Result<_, _>>().map(Some)
    }

    #[cfg(test)]
    async fn comments_plan(&self, viewer: &Account, post: i64, from: PageFrom) -> Vec<String> {
        let mut query = Query::new(super::super::EXPLAIN);
        push_comments(&mut query, viewer, post, from, 8);
        super::plan(self.database.reader(), &mut query).await
    }

    async fn delete_comment(&self, by: &Account, id: i64, now: Timestamp) -> Result<bool, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let row = sqlx::query(
                "SELECT c.post_id, c.account AS writer, p.account AS author \
                 FROM post_comment c JOIN post p ON p.id = c.post_id \
                 WHERE c.id = ? AND (c.account = ? OR p.account = ?)",
            )
            .bind(id)
            .bind(by.as_str())
            .bind(by.as_str())
            .fetch_optional(&mut *tx)
            .await?;
            let Some(row) = row else {
                tx.rollback().await?;
                return Ok(false);
            };
            let post: i64 = row.try_get("post_id")?;
            likes::lock(&mut tx, &[post]).await?;
            let deleted = sqlx::query("DELETE FROM post_comment WHERE id = ?")
                .bind(id)
                .execute(&mut *tx)
                .await?;
            if deleted.rows_affected() == 0 {
                tx.rollback().await?;
                return Ok(false);
            }
            recount(&mut tx, &[post]).await?;
            let told = post_events::Told {
                change: PostChange::CommentDeleted,
                actor: Some(by),
                comment: Some(id),
            };
            self.tell(&mut tx, &[post], &told, now).await?;
            let (writer, author) = (account(&row, "writer")?, account(&row, "author")?);
            self.withdraw_notice(&mut tx, &writer, author, id, now).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    async fn toggle_comments(&self, author: &Account, day: Day, now: Timestamp) -> Result<Option<bool>, WriteError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let mut query = Query::new("SELECT id, takes_comments FROM post WHERE account = ");
            query
                .push_bind(author.as_str())
                .push(" AND day = ")
                .push_bind(i32::from(day));
            query.push(engine::FOR_UPDATE);
            let row = query.build().fetch_optional(&mut *tx).await.map_err(StoreError::from)?;
            let Some(row) = row else {
                return Ok(None);
            };
            let id: i64 = row.try_get("id").map_err(StoreError::from)?;
            let takes: bool = row.try_get("takes_comments").map_err(StoreError::from)?;
            sqlx::query("UPDATE post SET takes_comments = ? WHERE id = ?")
                .bind(!takes)
                .bind(id)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::from)?;
            self.tell(&mut tx, &[id], &PostChange::Changed.into(), now).await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(Some(!takes))
        })
        .await
    }
}

/// Comments of a post behind the cursor, oldest first, as far as the viewer sees them.
fn push_comments(query: &mut Query, viewer: &Account, post: i64, from: PageFrom, rows: i64) {
    let after = match from {
        PageFrom::After(Cursor { id, .. }) => id,
        PageFrom::Offset(_) => 0,
    };
    query.push("SELECT c.id, c.account, c.text, c.written_at FROM post_comment c WHERE c.post_id = ");
    query.push_bind(post).push(" AND c.id > ").push_bind(after);
    public::push_not_blocked(query, viewer, "c.account");
    query.push(" AND (c.account = ").push_bind(viewer.as_str()).push(
        " OR (NOT EXISTS (SELECT 1 FROM comment_moderation h WHERE h.hidden = 1 AND h.comment_id = c.id) \
         AND NOT EXISTS (SELECT 1 FROM comment_review r WHERE r.held = 1 AND r.comment_id = c.id)))",
    );
    query.push(" ORDER BY c.id LIMIT ").push_bind(rows);
    if let PageFrom::Offset(offset) = from {
        query.push(" OFFSET ").push_bind(offset);
    }
}

impl SqlStore {
    /// Withdraws the notice that the author of a post got of a comment; of their own they got none.
    pub(super) async fn withdraw_notice(
        &self,
        tx: &mut engine::Tx,
        writer: &Account,
        author: Account,
        comment: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if *writer == author {
            return Ok(());
        }
        let notice = NoticeRaised::comment_id(&author, comment);
        let withdrawal = NoticeRaised::withdrawn(author, notice);
        engine::enqueue(tx, &Envelope::new(withdrawal, &self.context).to_outgoing(), now).await
    }
}

/// Holds a comment that was just written.
async fn hold(tx: &mut engine::Tx, comment: i64, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO comment_review (comment_id, held, waiting_since) VALUES (?, ?, ?)")
        .bind(comment)
        .bind(true)
        .bind(now.as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes the number of comments that others see into these posts, counted anew as likes are.
pub(super) async fn recount(tx: &mut engine::Tx, posts: &[i64]) -> Result<(), StoreError> {
    for batch in posts.chunks(BATCH) {
        let mut query = Query::new(
            "UPDATE post SET comments = (SELECT COUNT(*) FROM post_comment c WHERE c.post_id = post.id \
             AND NOT EXISTS (SELECT 1 FROM comment_moderation h WHERE h.hidden = 1 AND h.comment_id = c.id) \
             AND NOT EXISTS (SELECT 1 FROM comment_review r WHERE r.held = 1 AND r.comment_id = c.id) \
             AND NOT EXISTS (SELECT 1 FROM account_state a WHERE a.suspended = 1 AND a.account = c.account)) WHERE id IN (",
        );
        let mut ids = query.separated(", ");
        for post in batch {
            ids.push_bind(*post);
        }
        query.push(")").build().execute(&mut **tx).await?;
    }
    Ok(())
}

fn comment(row: &Row) -> Result<Comment, StoreError> {
    Ok(Comment {
        id: row.try_get("id")?,
        writer: account(row, "account")?,
        text: row.try_get("text")?,
        written_at: instant(row, "written_at")?,
    })
}
