//! Likes.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
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
            let found = find(&mut tx, &liker.account, marked.author, marked.day, now).await?;
            // A like is taken back whatever has become of the post since.
            let Some(post) = found.filter(|post| post.is_liked || (post.is_seen && !marked.is_suspended)) else {
                tx.rollback().await.map_err(StoreError::from)?;
                return Ok(None);
            };
            let is_given = !post.is_liked;
            if is_given {
                insert(&mut tx, liker, post.id, now).await?;
            } else {
                take_back(&mut tx, &liker.account, post.id).await?;
            }
            let (change, difference) = if is_given {
                (PostChange::Liked, 1)
            } else {
                (PostChange::Unliked, -1)
            };
            let state = PostChanged {
                change,
                actor: Some(liker.account.clone()),
                likes: post.state.likes + difference * post.weight,
                ..post.state
            };
            self.publish_counted(
                &mut tx,
                state,
                post.weight,
                is_given.then_some(liker),
                notice(post.date, is_given),
                now,
            )
            .await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(Some(is_given))
        })
        .await
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Found {
    pub(super) id: i64,
    pub(super) date: PostDate,
    /// Whether the account that looks for it sees it; suspensions are not among the reasons.
    pub(super) is_seen: bool,
    pub(super) takes_comments: bool,
    /// Whether the account that looks for it likes it.
    pub(super) is_liked: bool,
    /// Whether the account that looks for it has saved it.
    pub(super) is_bookmarked: bool,
    /// As an event without an actor, with likes and bookmarks counted.
    pub(super) state: PostChanged,
    /// How much a mark or comment of the account that looks for it adds to a count: 0 if it was suspended a moment ago, else 1.
    pub(super) weight: i64,
}

/// Finds a post, seen or not, and locks it until the transaction ends: likes, bookmarks and comments of one post are counted one after the other.
pub(super) async fn find(
    tx: &mut engine::Tx,
    who: &Account,
    author: &Account,
    day: Day,
    now: Timestamp,
) -> Result<Option<Found>, StoreError> {
    match read(tx, who, author, day, now).await? {
        // Another transaction has changed the post while this one waited for the lock. It changes no more from now on.
        Some((_, IsLatest(false))) => Ok(read(tx, who, author, day, now).await?.map(|(post, _)| post)),
        found => Ok(found.map(|(post, _)| post)),
    }
}

/// Whether what was read of other tables is of the locked row's revision.
struct IsLatest(bool);

async fn read(
    tx: &mut engine::Tx,
    who: &Account,
    author: &Account,
    day: Day,
    now: Timestamp,
) -> Result<Option<(Found, IsLatest)>, StoreError> {
    let mut query = Query::new("SELECT ");
    // The row is read as it is locked. Subqueries see what was committed when the first of them was evaluated, and so does `read_revision`. Each
    // names a column of the row, so that MySQL evaluates none before it has the lock.
    query.push(post_events::STATE).push(
        ", (SELECT COUNT(*) FROM post_like l WHERE l.post_id = q.id) \
         - (SELECT COUNT(*) FROM post_like l JOIN account_state a ON a.account = l.account \
         WHERE l.post_id = q.id AND a.suspended = 1) AS likes, q.takes_comments, \
         (SELECT s.revision FROM post s WHERE s.id = q.id) AS read_revision, \
         EXISTS (SELECT 1 FROM post_like l WHERE l.post_id = q.id AND l.account = ",
    );
    query
        .push_bind(who.as_str())
        .push(") AS is_liked, EXISTS (SELECT 1 FROM post_bookmark m WHERE m.post_id = q.id AND m.account = ")
        .push_bind(who.as_str())
        .push(") AS is_bookmarked, EXISTS (SELECT 1 FROM account_state a WHERE a.suspended = 1 AND a.account = ")
        .push_bind(who.as_str())
        .push(" AND q.id > 0) AS is_suspended, (");
    public::push_seen_by(&mut query, who, "q");
    public::push_not_blocked(&mut query, who, "q.account");
    query
        .push(") AS is_seen FROM post q WHERE q.account = ")
        .push_bind(author.as_str())
        .push(" AND q.day = ")
        .push_bind(i32::from(day));
    query.push(engine::FOR_UPDATE);
    let row = query.build().fetch_optional(&mut **tx).await?;
    row.map(|row| {
        let is = |column: &str| row.try_get::<i64, _>(column).map(|value| value != 0);
        let state = post_events::state(&row)?;
        let read_revision: i64 = row.try_get("read_revision")?;
        let is_latest = IsLatest(read_revision == state.revision);
        let found = Found {
            id: state.post,
            date: date(&row)?,
            is_seen: who == author || (is("is_seen")? && day <= Day::first_today(now)),
            takes_comments: row.try_get("takes_comments")?,
            is_liked: is("is_liked")?,
            is_bookmarked: is("is_bookmarked")?,
            state,
            weight: i64::from(!is("is_suspended")?),
        };
        Ok((found, is_latest))
    })
    .transpose()
}

async fn insert(tx: &mut engine::Tx, liker: &Writer, post: i64, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO post_like (post_id, account, liked_at, made_at) VALUES (?, ?, ?, ?)")
        .bind(post)
        .bind(liker.account.as_str())
        .bind(now.as_millisecond())
        .bind(liker.authorized_at.as_millisecond())
        .execute(&mut **tx)
        .await
        // A replica of the first release does not lock the post.
        .map_err(|error| StoreError::from(error).retry_if_taken(&[PRIMARY]))?;
    Ok(())
}

async fn take_back(tx: &mut engine::Tx, liker: &Account, post: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM post_like WHERE post_id = ? AND account = ?")
        .bind(post)
        .bind(liker.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes the number of likes into these posts. Counted anew rather than added to, so that the number is right again also where a
/// replica of the release before, which does not know it, has written likes.
pub(super) async fn recount(tx: &mut engine::Tx, posts: &[i64]) -> Result<(), StoreError> {
    for batch in posts.chunks(BATCH) {
        let mut query = Query::new(
            "UPDATE post SET likes = (SELECT COUNT(*) FROM post_like l WHERE l.post_id = post.id) \
             - (SELECT COUNT(*) FROM post_like l JOIN account_state a ON a.account = l.account \
             WHERE l.post_id = post.id AND a.suspended = 1) WHERE id IN (",
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
