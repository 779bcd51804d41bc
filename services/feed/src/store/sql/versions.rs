//! Earlier versions of edited posts.

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::{StoreError, retrying};
use sqlx::Row as _;

use super::{Query, Row, SqlStore, date, engine, instant, read_list};
use crate::domain::post::PostVersion;
use crate::domain::{Cursor, Day, PageFrom};

/// Keeps the present state of a post before it is written anew, and of its versions the newest ones.
pub(super) async fn keep(tx: &mut engine::Tx, post: i64, most: usize, now: Timestamp) -> Result<(), StoreError> {
    if most > 0 {
        sqlx::query(
            "INSERT INTO post_version (post_id, account, date, weather, happiness, text, is_public, categories, replaced_at, made_at) \
             SELECT id, account, date, weather, happiness, text, is_public, categories, ?, made_at FROM post WHERE id = ?",
        )
        .bind(now.as_millisecond())
        .bind(post)
        .execute(&mut **tx)
        .await?;
    }
    // The inner table is derived: MySQL deletes from no table that the statement also selects from.
    sqlx::query(
        "DELETE FROM post_version WHERE post_id = ? AND id <= \
         (SELECT id FROM (SELECT id FROM post_version WHERE post_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?) oldest)",
    )
    .bind(post)
    .bind(post)
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

impl SqlStore {
    pub(super) async fn versions(
        &self,
        author: &Account,
        day: Day,
        from: PageFrom,
        rows: i64,
    ) -> Result<Option<Vec<PostVersion>>, StoreError> {
        let post: Option<i64> = sqlx::query_scalar("SELECT id FROM post WHERE account = ? AND day = ?")
            .bind(author.as_str())
            .bind(i32::from(day))
            .fetch_optional(self.database.reader())
            .await?;
        let Some(post) = post else {
            return Ok(None);
        };
        let mut query = Query::new("");
        push_page(&mut query, post, from, rows);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        rows.iter().map(version).collect::<Result<_, _>>().map(Some)
    }

    /// Erases some versions that were written with tokens issued up to `until`; returns whether there may be more. Of a post that was
    /// written anew with a later token.
    pub(super) async fn erase_versions(
        &self,
        account: &Account,
        until: Timestamp,
        step: i64,
    ) -> Result<bool, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let ids: Vec<i64> =
                sqlx::query_scalar("SELECT id FROM post_version WHERE account = ? AND made_at <= ? LIMIT ?")
                    .bind(account.as_str())
                    .bind(until.as_millisecond())
                    .bind(step)
                    .fetch_all(&mut *tx)
                    .await?;
            if ids.is_empty() {
                tx.rollback().await?;
                return Ok(false);
            }
            let mut query = Query::new("DELETE FROM post_version WHERE id IN (");
            let mut list = query.separated(", ");
            for id in &ids {
                list.push_bind(*id);
            }
            query.push(")").build().execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }
}

/// Versions of a post behind the cursor, newest first.
pub(super) fn push_page(query: &mut Query, post: i64, from: PageFrom, rows: i64) {
    let before = match from {
        PageFrom::After(Cursor { id, .. }) => id,
        PageFrom::Offset(_) => i64::MAX,
    };
    query.push(
        "SELECT id, date, weather, happiness, text, is_public, categories, replaced_at FROM post_version WHERE post_id = ",
    );
    query.push_bind(post).push(" AND id < ").push_bind(before);
    query.push(" ORDER BY id DESC LIMIT ").push_bind(rows);
}

fn version(row: &Row) -> Result<PostVersion, StoreError> {
    Ok(PostVersion {
        id: row.try_get("id")?,
        date: date(row)?,
        weather: row.try_get("weather")?,
        happiness: row.try_get("happiness")?,
        text: row.try_get("text")?,
        is_public: row.try_get("is_public")?,
        categories: read_list(row, "categories")?,
        replaced_at: instant(row, "replaced_at")?,
    })
}
