//! Likes.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::Envelope;
use sosohappy_events::types::{PostChange, PostChanged};
use sosohappy_store::{PRIMARY, StoreError, retrying};
use sqlx::Row as _;

use super::{BATCH, Query, SqlStore, date, engine, post_events, public};
use crate::domain::{Day, PostDate, Writer};
use crate::store::{Likes, Marked, Notice, WriteError};

#[async_trait]
impl Likes for SqlStore {
    async fn toggle(
        &self,
        liker: &Writer,
        marked: Marked<'_>,
        notice: Notice<'_>,
        now: Timestamp,
    ) -> Result<Option<bool>, WriteError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let given = match find(&mut tx, &liker.account, marked.author, marked.day, now).await? {
                None => None,
                Some(post) if post.is_seen && !marked.is_suspended => {
                    let given = toggle(&mut tx, liker, post.id, now).await?;
                    if given {
                        super::still_here(&mut tx, liker).await?;
                    }
                    self.publish_like(&mut tx, &post, &liker.account, given, notice, now)
                        .await?;
                    Some(given)
                }
                // A like is taken back whatever has become of the post since.
                Some(post) => {
                    let removed = take_back(&mut tx, &liker.account, post.id).await?;
                    if removed {
                        self.publish_like(&mut tx, &post, &liker.account, false, notice, now)
                            .await?;
                    }
                    removed.then_some(false)
                }
            };
            tx.commit().await.map_err(StoreError::from)?;
            Ok(given)
        })
        .await
    }
}

impl SqlStore {
    /// Counts the likes of a post that has got or lost one, and writes both events of the change at once: a like waits for each statement.
    async fn publish_like(
        &self,
        tx: &mut engine::Tx,
        post: &Found,
        liker: &Account,
        given: bool,
        notice: Notice<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE post SET revision = revision + 1,
            likes = (SELECT COUNT(*) FROM post_like l WHERE l.post_id = post.id) WHERE id = ?",
        )
        .bind(post.id)
        .execute(&mut **tx)
        .await?;
        let mut records = Vec::with_capacity(2);
        records.extend(notice(post.date, given));
        for state in post_events::states(tx, &[post.id]).await? {
            let event = PostChanged {
                change: if given { PostChange::Liked } else { PostChange::Unliked },
                actor: Some(liker.clone()),
                ..state
            };
            records.push(Envelope::new(event, &self.context).to_outgoing());
        }
        engine::enqueue_all(tx, &records, now).await
    }
}

pub(super) struct Found {
    pub(super) id: i64,
    pub(super) date: PostDate,
    /// Whether the account that looks for it sees it; suspensions are not among the reasons.
    pub(super) is_seen: bool,
    pub(super) takes_comments: bool,
}

/// Finds a post, seen or not, and locks it until the transaction ends: likes and comments of one post are counted one after the other.
pub(super) async fn find(
    tx: &mut engine::Tx,
    liker: &Account,
    author: &Account,
    day: Day,
    now: Timestamp,
) -> Result<Option<Found>, StoreError> {
    let mut query = Query::new("SELECT q.id, q.date, q.takes_comments, (");
    public::push_seen_by(&mut query, liker, "q");
    public::push_not_blocked(&mut query, liker, "q.account");
    query
        .push(") AS is_seen FROM post q WHERE q.account = ")
        .push_bind(author.as_str())
        .push(" AND q.day = ")
        .push_bind(i32::from(day));
    query.push(engine::FOR_UPDATE);
    let row = query.build().fetch_optional(&mut **tx).await?;
    row.map(|row| {
        let is_seen: i64 = row.try_get("is_seen")?;
        Ok(Found {
            id: row.try_get("id")?,
            date: date(&row)?,
            is_seen: liker == author || (is_seen != 0 && day <= Day::first_today(now)),
            takes_comments: row.try_get("takes_comments")?,
        })
    })
    .transpose()
}

/// Returns whether the liker liked that post.
async fn take_back(tx: &mut engine::Tx, liker: &Account, post: i64) -> Result<bool, StoreError> {
    let removed = sqlx::query("DELETE FROM post_like WHERE post_id = ? AND account = ?")
        .bind(post)
        .bind(liker.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(removed.rows_affected() > 0)
}

async fn toggle(tx: &mut engine::Tx, liker: &Writer, post: i64, now: Timestamp) -> Result<bool, StoreError> {
    if take_back(tx, &liker.account, post).await? {
        return Ok(false);
    }
    sqlx::query("INSERT INTO post_like (post_id, account, liked_at, made_at) VALUES (?, ?, ?, ?)")
        .bind(post)
        .bind(liker.account.as_str())
        .bind(now.as_millisecond())
        .bind(liker.authorized_at.as_millisecond())
        .execute(&mut **tx)
        .await
        // The same person's other tap came first: retried, this one takes the like back.
        .map_err(|error| StoreError::from(error).retry_if_taken(&[PRIMARY]))?;
    Ok(true)
}

/// Writes the number of likes into these posts. Counted anew rather than added to, so that the number is right again also where a
/// replica of the release before, which does not know it, has written likes.
pub(super) async fn recount(tx: &mut engine::Tx, posts: &[i64]) -> Result<(), StoreError> {
    for batch in posts.chunks(BATCH) {
        let mut query = Query::new(
            "UPDATE post SET likes = (SELECT COUNT(*) FROM post_like l WHERE l.post_id = post.id) WHERE id IN (",
        );
        let mut ids = query.separated(", ");
        for post in batch {
            ids.push_bind(*post);
        }
        query.push(")").build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Locks posts in the order of their ids before likes of theirs are deleted: a toggle locks the post first, too.
pub(super) async fn lock(tx: &mut engine::Tx, posts: &[i64]) -> Result<(), StoreError> {
    for batch in posts.chunks(BATCH) {
        let mut query = Query::new("SELECT id FROM post WHERE id IN (");
        let mut ids = query.separated(", ");
        for post in batch {
            ids.push_bind(*post);
        }
        query.push(") ORDER BY id").push(engine::FOR_UPDATE);
        query.build().fetch_all(&mut **tx).await?;
    }
    Ok(())
}
