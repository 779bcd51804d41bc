//! Posts and comments with a word of the list, which wait for a moderator.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::PostChange;
use sosohappy_store::{StoreError, retrying};
use sqlx::Row as _;

use super::post_events::Told;
use super::{Query, Row, SqlStore, account, comments, date, engine, instant, likes, read_list};
use crate::domain::{Cursor, PageFrom};
use crate::store::{Held, HeldComment, HeldPost, Release, ReleaseEvents, Reviewed, Reviews};

#[async_trait]
impl Reviews for SqlStore {
    async fn held_posts(&self, from: PageFrom, rows: i64) -> Result<Vec<HeldPost>, StoreError> {
        let mut query = Query::new("");
        push_held_posts(&mut query, from, rows);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        rows.iter()
            .map(|row| {
                Ok(HeldPost {
                    id: row.try_get("id")?,
                    author: account(row, "account")?,
                    date: date(row)?,
                    text: row.try_get("text")?,
                    weather: row.try_get("weather")?,
                    categories: read_list(row, "categories")?,
                    images: read_list(row, "images")?,
                    version: row.try_get("version")?,
                    held_at: instant(row, "waiting_since")?,
                })
            })
            .collect()
    }

    async fn held_comments(&self, from: PageFrom, rows: i64) -> Result<Vec<HeldComment>, StoreError> {
        let mut query = Query::new("");
        push_held_comments(&mut query, from, rows);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        rows.iter().map(held_comment).collect()
    }

    async fn held(&self, late_before: Timestamp) -> Result<Held, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS waiting, COUNT(CASE WHEN held_since < ? THEN 1 END) AS late FROM ( \
             SELECT r.waiting_since AS held_since FROM post_review r JOIN post p ON p.id = r.post_id \
             WHERE r.waiting_since IS NOT NULL AND p.friend_date IS NOT NULL \
             UNION ALL SELECT waiting_since FROM comment_review WHERE waiting_since IS NOT NULL) held",
        )
        .bind(late_before.as_millisecond())
        .fetch_one(self.database.reader())
        .await?;
        Ok(Held {
            waiting: row.try_get("waiting")?,
            late: row.try_get("late")?,
        })
    }

    async fn held_comment_writer(&self, comment: i64) -> Result<Option<Account>, StoreError> {
        let row = sqlx::query(
            "SELECT c.account FROM comment_review r JOIN post_comment c ON c.id = r.comment_id \
             WHERE r.comment_id = ? AND r.waiting_since IS NOT NULL",
        )
        .bind(comment)
        .fetch_optional(self.database.reader())
        .await?;
        row.map(|row| account(&row, "account")).transpose()
    }

    async fn decide_post(
        &self,
        post: i64,
        version: &[u8],
        release: &Release<'_>,
        events: ReleaseEvents<'_>,
        now: Timestamp,
    ) -> Result<Reviewed, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            likes::lock(&mut tx, &[post]).await?;
            let row = sqlx::query(
                "SELECT p.account, p.date, r.version FROM post_review r JOIN post p ON p.id = r.post_id \
                 WHERE r.post_id = ? AND r.waiting_since IS NOT NULL",
            )
            .bind(post)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(row) = row else {
                return Ok(Reviewed::NothingHeld);
            };
            let author = account(&row, "account")?;
            if author == *release.moderator {
                return Ok(Reviewed::OwnContent);
            }
            if row.try_get::<Vec<u8>, _>("version")? != version {
                return Ok(Reviewed::Changed);
            }
            decide(&mut tx, "post_review", "post_id", post, release, now).await?;
            if release.is_released {
                self.tell(&mut tx, &[post], &PostChange::Restored.into(), now).await?;
            }
            for record in events(&author, date(&row)?, None) {
                engine::enqueue(&mut tx, &record, now).await?;
            }
            tx.commit().await?;
            Ok(Reviewed::Decided)
        })
        .await
    }

    async fn decide_comment(
        &self,
        comment: i64,
        release: &Release<'_>,
        events: ReleaseEvents<'_>,
        now: Timestamp,
    ) -> Result<Reviewed, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let post: Option<i64> = sqlx::query_scalar("SELECT post_id FROM post_comment WHERE id = ?")
                .bind(comment)
                .fetch_optional(&mut *tx)
                .await?;
            let Some(post) = post else {
                return Ok(Reviewed::NothingHeld);
            };
            likes::lock(&mut tx, &[post]).await?;
            let row = sqlx::query(
                "SELECT c.id, c.account, c.made_at, c.text, p.account AS author, p.date, r.waiting_since FROM comment_review r \
                 JOIN post_comment c ON c.id = r.comment_id JOIN post p ON p.id = c.post_id \
                 WHERE r.comment_id = ? AND r.waiting_since IS NOT NULL",
            )
            .bind(comment)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(held) = row.as_ref().map(held_comment).transpose()? else {
                return Ok(Reviewed::NothingHeld);
            };
            if held.writer == *release.moderator {
                return Ok(Reviewed::OwnContent);
            }
            decide(&mut tx, "comment_review", "comment_id", comment, release, now).await?;
            if release.is_released {
                comments::recount(&mut tx, &[post]).await?;
                let told = Told {
                    change: PostChange::CommentChanged,
                    actor: None,
                    comment: Some(comment),
                };
                self.tell(&mut tx, &[post], &told, now).await?;
            }
            for record in events(&held.writer, held.date, Some(&held)) {
                engine::enqueue(&mut tx, &record, now).await?;
            }
            tx.commit().await?;
            Ok(Reviewed::Decided)
        })
        .await
    }
}

/// Posts that wait for a moderator, behind the cursor. Private posts are not reviewed.
pub(super) fn push_held_posts(query: &mut Query, from: PageFrom, rows: i64) {
    query.push(
        "SELECT p.id, p.account, p.date, p.text, p.weather, p.categories, p.images, r.version, r.waiting_since \
         FROM post_review r JOIN post p ON p.id = r.post_id WHERE p.friend_date IS NOT NULL",
    );
    push_waiting(query, "r.post_id", from, rows);
}

/// Comments that wait for a moderator, behind the cursor.
pub(super) fn push_held_comments(query: &mut Query, from: PageFrom, rows: i64) {
    query.push(
        "SELECT c.id, c.account, c.made_at, c.text, p.account AS author, p.date, r.waiting_since FROM comment_review r \
         JOIN post_comment c ON c.id = r.comment_id JOIN post p ON p.id = c.post_id WHERE 1 = 1",
    );
    push_waiting(query, "r.comment_id", from, rows);
}

/// The oldest first, behind the cursor.
fn push_waiting(query: &mut Query, id: &'static str, from: PageFrom, rows: i64) {
    let cursor = match from {
        PageFrom::After(cursor) => cursor,
        PageFrom::Offset(_) => Cursor {
            rank: 0,
            date: i64::MIN,
            id: i64::MIN,
        },
    };
    query.push(" AND r.waiting_since >= ").push_bind(cursor.date);
    query.push(" AND (r.waiting_since > ").push_bind(cursor.date);
    query.push(" OR ").push(id).push(" > ").push_bind(cursor.id);
    query
        .push(") ORDER BY r.waiting_since, ")
        .push(id)
        .push(" LIMIT ")
        .push_bind(rows);
}

fn held_comment(row: &Row) -> Result<HeldComment, StoreError> {
    Ok(HeldComment {
        id: row.try_get("id")?,
        writer: account(row, "account")?,
        authorized_at: instant(row, "made_at")?,
        text: row.try_get("text")?,
        author: account(row, "author")?,
        date: date(row)?,
        held_at: instant(row, "waiting_since")?,
    })
}

/// A refused one stays held.
async fn decide(
    tx: &mut engine::Tx,
    table: &'static str,
    key: &'static str,
    id: i64,
    release: &Release<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut query = Query::new("UPDATE ");
    query.push(table).push(" SET waiting_since = NULL, held = ");
    query.push_bind(!release.is_released).push(", decided_by = ");
    query.push_bind(release.moderator.as_str()).push(", decided_at = ");
    query.push_bind(now.as_millisecond()).push(" WHERE ").push(key);
    query.push(" = ").push_bind(id);
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Holds a post of this version; without a version, ends its hold. A decision about the same version stays in force.
pub(super) async fn hold_post(
    tx: &mut engine::Tx,
    post: i64,
    version: Option<&[u8; 32]>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let known: Option<Vec<u8>> = sqlx::query_scalar("SELECT version FROM post_review WHERE post_id = ?")
        .bind(post)
        .fetch_optional(&mut **tx)
        .await?;
    if known.as_deref() == version.map(|version| &version[..]) {
        return Ok(());
    }
    if known.is_some() {
        sqlx::query("DELETE FROM post_review WHERE post_id = ?")
            .bind(post)
            .execute(&mut **tx)
            .await?;
    }
    if let Some(version) = version {
        sqlx::query("INSERT INTO post_review (post_id, version, held, waiting_since) VALUES (?, ?, ?, ?)")
            .bind(post)
            .bind(&version[..])
            .bind(true)
            .bind(now.as_millisecond())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}
