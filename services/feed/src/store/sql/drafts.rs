//! Drafts.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::{PRIMARY, StoreError, retrying};

use super::{Query, Row, SqlStore, engine, instant, text};
use crate::domain::draft::{Draft, SavedDraft};
use crate::domain::{Cursor, Day, PageFrom, Writer};
use crate::store::{Drafts, WriteError};

#[async_trait]
impl Drafts for SqlStore {
    async fn save_draft(
        &self,
        writer: &Writer,
        draft: &Draft,
        most: usize,
        now: Timestamp,
    ) -> Result<bool, WriteError> {
        let json = serde_json::to_string(draft).expect("texts and numbers are JSON");
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let updated =
                sqlx::query("UPDATE post_draft SET draft = ?, saved_at = ?, made_at = ? WHERE account = ? AND day = ?")
                    .bind(&json)
                    .bind(now.as_millisecond())
                    .bind(writer.authorized_at.as_millisecond())
                    .bind(writer.account.as_str())
                    .bind(i32::from(draft.date.day()))
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::from)?;
            if updated.rows_affected() == 0 {
                let drafts: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM post_draft WHERE account = ?")
                    .bind(writer.account.as_str())
                    .fetch_one(&mut *tx)
                    .await
                    .map_err(StoreError::from)?;
                if usize::try_from(drafts).is_ok_and(|drafts| drafts >= most) {
                    tx.rollback().await.map_err(StoreError::from)?;
                    return Ok(false);
                }
                insert(&mut tx, writer, draft.date.day(), &json, now).await?;
            }
            super::still_here(&mut tx, writer).await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(true)
        })
        .await
    }

    async fn drafts(
        &self,
        account: &Account,
        day: Option<Day>,
        from: PageFrom,
        rows: i64,
    ) -> Result<Vec<SavedDraft>, StoreError> {
        let mut query = Query::new("");
        push_page(&mut query, account, day, from, rows);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        rows.iter().map(saved_draft).collect()
    }

    async fn delete_draft(&self, account: &Account, day: Day) -> Result<bool, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let deleted = delete(&mut tx, account, day).await?;
            tx.commit().await?;
            Ok(deleted)
        })
        .await
    }
}

/// Returns whether there was a draft of that day.
pub(super) async fn delete(tx: &mut engine::Tx, account: &Account, day: Day) -> Result<bool, StoreError> {
    let deleted = sqlx::query("DELETE FROM post_draft WHERE account = ? AND day = ?")
        .bind(account.as_str())
        .bind(i32::from(day))
        .execute(&mut **tx)
        .await?;
    Ok(deleted.rows_affected() > 0)
}

async fn insert(tx: &mut engine::Tx, writer: &Writer, day: Day, json: &str, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO post_draft (account, day, draft, saved_at, made_at) VALUES (?, ?, ?, ?, ?)")
        .bind(writer.account.as_str())
        .bind(i32::from(day))
        .bind(json)
        .bind(now.as_millisecond())
        .bind(writer.authorized_at.as_millisecond())
        .execute(&mut **tx)
        .await
        .map_err(|error| match StoreError::from(error) {
            // Another device saved a draft of the day first: this one takes its place.
            StoreError::Conflict(rule) if rule == PRIMARY => {
                StoreError::Retry(anyhow::anyhow!("conflicts with {rule}"))
            }
            other => other,
        })?;
    Ok(())
}

fn saved_draft(row: &Row) -> Result<SavedDraft, StoreError> {
    let draft = serde_json::from_str(&text(row, "draft")?);
    Ok(SavedDraft {
        draft: draft.map_err(|_| StoreError::corrupt("a draft in the database is not one"))?,
        saved_at: instant(row, "saved_at")?,
    })
}

/// Drafts of an account behind the cursor, those of the latest days first.
pub(super) fn push_page(query: &mut Query, account: &Account, day: Option<Day>, from: PageFrom, rows: i64) {
    query
        .push("SELECT draft, saved_at FROM post_draft WHERE account = ")
        .push_bind(account.as_str());
    if let Some(day) = day {
        query.push(" AND day = ").push_bind(i32::from(day));
    }
    if let PageFrom::After(Cursor { date: day, .. }) = from {
        query.push(" AND day < ").push_bind(day);
    }
    query.push(" ORDER BY day DESC LIMIT ").push_bind(rows);
}
