//! Erasure of the data of resigned accounts.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::{Account, crash_point};
use sosohappy_events::Outgoing;
use sosohappy_events::types::PostChange;
use sosohappy_store::{StoreError, retrying};
use sqlx::{AssertSqlSafe, Row as _};

use super::engine::erased_accounts;
use super::{Query, ROWS, Row, SqlStore, account, categories, comments, engine, images, likes, posts, text};
use crate::domain::companions::Change;
use crate::store::Erasures;

#[async_trait]
impl Erasures for SqlStore {
    async fn erase(
        &self,
        account: &Account,
        until: Timestamp,
        receipt: &Outgoing,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            // From here on nothing is written with the account's older tokens.
            erased_accounts::close(&mut tx, account, until).await?;
            sqlx::query("DELETE FROM account_state WHERE account = ? AND changed_at <= ?")
                .bind(account.as_str())
                .bind(until.as_millisecond())
                .execute(&mut *tx)
                .await?;
            Ok::<_, StoreError>(tx.commit().await?)
        })
        .await?;
        while retrying(async || self.erase_posts(account, until, now).await).await? {}
        crash_point("feed.posts-erased");
        while self.erase_versions(account, until, STEP).await? {}
        while retrying(async || self.erase_likes(&OWN_LIKES, account, until, now).await).await? {}
        while retrying(async || self.erase_likes(&LIKES_RECEIVED, account, until, now).await).await? {}
        while retrying(async || self.erase_bookmarks(&OWN_BOOKMARKS, account, until, now).await).await? {}
        while retrying(async || self.erase_bookmarks(&BOOKMARKS_RECEIVED, account, until, now).await).await? {}
        while retrying(async || self.erase_comments(OWN_COMMENTS, account, until, now).await).await? {}
        while retrying(async || self.erase_comments(COMMENTS_RECEIVED, account, until, now).await).await? {}
        // An account that has come back since then is not suspended any more.
        self.recount_all(account, now).await?;
        crash_point("feed.content-erased");
        retrying(async || {
            let mut tx = self.database.begin().await?;
            // An account has few of each.
            for statement in [
                "DELETE FROM idempotency_key WHERE account = ? AND made_at <= ?",
                "DELETE FROM post_draft WHERE account = ? AND made_at <= ?",
                "DELETE FROM recommendation WHERE account = ? AND made_at <= ?",
                "DELETE FROM reported_content WHERE author = ? AND reported_at <= ?",
                "DELETE FROM image_renewal WHERE account = ? AND requested_at <= ?",
            ] {
                sqlx::query(statement)
                    .bind(account.as_str())
                    .bind(until.as_millisecond())
                    .execute(&mut *tx)
                    .await?;
            }
            for statement in [
                "UPDATE post_review SET decided_by = NULL WHERE decided_by = ?",
                "UPDATE comment_review SET decided_by = NULL WHERE decided_by = ?",
            ] {
                sqlx::query(statement).bind(account.as_str()).execute(&mut *tx).await?;
            }
            engine::note_erasure(&mut tx, now).await?;
            engine::enqueue(&mut tx, receipt, now).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn forget_erasures(&self, before: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            erased_accounts::forget(&mut tx, before).await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// Rows that one step erases: well within the half minute that an attempt may take.
const STEP: i64 = 200;

/// Each erases some, and says whether there may be more.
impl SqlStore {
    async fn erase_posts(&self, account: &Account, until: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
        let mut tx = self.database.begin().await?;
        let mut query =
            Query::new("SELECT id, is_public, friend_date, happiness, categories, images FROM post WHERE account = ");
        query
            .push_bind(account.as_str())
            .push(" AND made_at <= ")
            .push_bind(until.as_millisecond())
            .push(" LIMIT ")
            .push_bind(STEP)
            .push(engine::FOR_UPDATE);
        let rows = query.build().fetch_all(&mut *tx).await?;
        if rows.is_empty() {
            tx.rollback().await?;
            return Ok(false);
        }
        let held = rows.iter().map(posts::held).collect::<Result<Vec<_>, _>>()?;
        let pictures: Vec<_> = held.iter().flat_map(|post| post.images.iter().copied()).collect();
        let ids: Vec<i64> = held.iter().map(|post| post.id).collect();
        self.tell(&mut tx, &ids, &PostChange::Deleted.into(), now).await?;
        let mut query = Query::new("DELETE FROM post WHERE id IN (");
        let mut ids = query.separated(", ");
        for post in &held {
            ids.push_bind(post.id);
        }
        query.push(")").build().execute(&mut *tx).await?;
        let went: Vec<_> = held
            .into_iter()
            .map(|post| Change::went(post.categories, post.happiness))
            .collect();
        categories::record(&mut tx, &went).await?;
        images::discard(&mut tx, &pictures, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn erase_likes(
        &self,
        erased: &Erased,
        account: &Account,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some((mut tx, rows)) = self.begin_step(erased.find, account, until).await? else {
            return Ok(false);
        };
        let posts = posts_of(&rows)?;
        likes::lock(&mut tx, &posts).await?;
        let keys = delete_rows(&mut tx, erased, until, &rows).await?;
        likes::recount(&mut tx, &posts).await?;
        self.tell_erased(&mut tx, &keys, PostChange::Unliked, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn erase_bookmarks(
        &self,
        erased: &Erased,
        account: &Account,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some((mut tx, rows)) = self.begin_step(erased.find, account, until).await? else {
            return Ok(false);
        };
        likes::lock(&mut tx, &posts_of(&rows)?).await?;
        let keys = delete_rows(&mut tx, erased, until, &rows).await?;
        self.tell_erased(&mut tx, &keys, PostChange::Unbookmarked, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn erase_comments(
        &self,
        found_by: &'static str,
        account: &Account,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some((mut tx, rows)) = self.begin_step(found_by, account, until).await? else {
            return Ok(false);
        };
        let posts = posts_of(&rows)?;
        likes::lock(&mut tx, &posts).await?;
        let mut query = Query::new("DELETE FROM post_comment WHERE id IN (");
        let mut ids = query.separated(", ");
        for row in &rows {
            ids.push_bind(row.try_get::<i64, _>("id")?);
        }
        query.push(")").build().execute(&mut *tx).await?;
        comments::recount(&mut tx, &posts).await?;
        self.tell(&mut tx, &posts, &PostChange::CommentDeleted.into(), now)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Begins a transaction with the rows of one step, which a statement finds by account, time and limit; none where no row is left.
    async fn begin_step(
        &self,
        found_by: &'static str,
        account: &Account,
        until: Timestamp,
    ) -> Result<Option<(engine::Tx, Vec<Row>)>, StoreError> {
        let mut tx = self.database.begin().await?;
        // Locked: a row whose transaction has read the ledger before the resignation was in it, and is not committed yet, is waited for.
        let rows = sqlx::query(AssertSqlSafe(format!("{found_by}{}", engine::FOR_UPDATE)))
            .bind(account.as_str())
            .bind(until.as_millisecond())
            .bind(STEP)
            .fetch_all(&mut *tx)
            .await?;
        if rows.is_empty() {
            tx.rollback().await?;
            return Ok(None);
        }
        Ok(Some((tx, rows)))
    }
}

/// Returns the posts of rows, each once, in the order in which they are locked.
fn posts_of(rows: &[Row]) -> Result<Vec<i64>, StoreError> {
    let posts: BTreeSet<i64> = rows
        .iter()
        .map(|row| row.try_get("post_id"))
        .collect::<Result<_, _>>()?;
    Ok(posts.into_iter().collect())
}

/// Deletes rows of posts that are locked, by their keys (post, account), and returns the keys. Rows that were written anew since they were
/// found are later than `until`, and stay.
async fn delete_rows(
    tx: &mut engine::Tx,
    erased: &Erased,
    until: Timestamp,
    rows: &[Row],
) -> Result<Vec<(i64, Account)>, StoreError> {
    let left = push_keys("SELECT post_id, account", erased, until, rows)?
        .build()
        .fetch_all(&mut **tx)
        .await?;
    push_keys("DELETE", erased, until, rows)?
        .build()
        .execute(&mut **tx)
        .await?;
    left.iter()
        .map(|row| Ok((row.try_get("post_id")?, account(row, "account")?)))
        .collect()
}

/// A statement on these rows, as far as they are not later than `until`.
fn push_keys(statement: &str, erased: &Erased, until: Timestamp, rows: &[Row]) -> Result<Query, StoreError> {
    let mut query = Query::new(statement);
    query
        .push(erased.up_to)
        .push_bind(until.as_millisecond())
        .push(" AND (post_id, account) IN (")
        .push(ROWS);
    let mut keys = query.separated(", ");
    for row in rows {
        keys.push("(").push_bind_unseparated(row.try_get::<i64, _>("post_id")?);
        keys.push_unseparated(", ").push_bind_unseparated(text(row, "account")?);
        keys.push_unseparated(")");
    }
    query.push(")");
    Ok(query)
}

/// Rows to erase that have the key (post, account).
struct Erased {
    /// Finds rows by account, time and limit.
    find: &'static str,
    /// The table, and the condition on the time.
    up_to: &'static str,
}

const OWN_LIKES: Erased = Erased {
    find: "SELECT post_id, account FROM post_like WHERE account = ? AND made_at <= ? LIMIT ?",
    up_to: " FROM post_like WHERE made_at <= ",
};

/// On a post that was there before and has been written anew since.
const LIKES_RECEIVED: Erased = Erased {
    find: "SELECT l.post_id, l.account FROM post p JOIN post_like l ON l.post_id = p.id WHERE p.account = ? AND l.liked_at <= ? LIMIT ?",
    up_to: " FROM post_like WHERE liked_at <= ",
};

const OWN_BOOKMARKS: Erased = Erased {
    find: "SELECT post_id, account FROM post_bookmark WHERE account = ? AND made_at <= ? LIMIT ?",
    up_to: " FROM post_bookmark WHERE made_at <= ",
};

/// On a post that was there before and has been written anew since.
const BOOKMARKS_RECEIVED: Erased = Erased {
    find: "SELECT m.post_id, m.account FROM post p JOIN post_bookmark m ON m.post_id = p.id WHERE p.account = ? AND m.saved_at <= ? LIMIT ?",
    up_to: " FROM post_bookmark WHERE saved_at <= ",
};

const OWN_COMMENTS: &str = "SELECT id, post_id FROM post_comment WHERE account = ? AND made_at <= ? LIMIT ?";

/// On a post that was there before and has been written anew since.
const COMMENTS_RECEIVED: &str = "SELECT c.id, c.post_id FROM post p JOIN post_comment c ON c.post_id = p.id \
    WHERE p.account = ? AND c.written_at <= ? LIMIT ?";
