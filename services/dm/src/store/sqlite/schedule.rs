//! Messages that are sent later.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use sosohappy_common::Account;
use sosohappy_store::{StoreError, retrying};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{SqliteStore, account_of, timestamp};
use crate::domain::{MOST_SCHEDULED, MessageText, Scheduled};
use crate::store::Schedule;

/// The columns of [`scheduled_of`].
macro_rules! columns {
    () => {
        "id, sender, receiver, receiver_nickname, text, send_at, authorized_at, failure"
    };
}

#[async_trait]
impl Schedule for SqliteStore {
    async fn schedule(&self, scheduled: &Scheduled) -> Result<bool, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let added = sqlx::query(
                "INSERT INTO scheduled_message (id, sender, receiver, receiver_nickname, text, send_at, authorized_at, due_at) \
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6 WHERE (SELECT COUNT(*) FROM scheduled_message WHERE sender = ?2) < ?8",
            )
            .bind(&scheduled.id)
            .bind(scheduled.sender.as_str())
            .bind(scheduled.receiver.as_str())
            .bind(&scheduled.receiver_nickname)
            .bind(scheduled.text.as_str())
            .bind(scheduled.send_at.as_millisecond())
            .bind(scheduled.authorized_at.as_millisecond())
            .bind(MOST_SCHEDULED)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(added.rows_affected() > 0)
        })
        .await
    }

    async fn scheduled(&self, sender: &Account) -> Result<Vec<Scheduled>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM scheduled_message WHERE sender = ? ORDER BY send_at, id"
        ))
        .bind(sender.as_str())
        .fetch_all(self.database.reader())
        .await?;
        rows.iter().map(scheduled_of).collect()
    }

    async fn reschedule(
        &self,
        sender: &Account,
        id: &str,
        text: Option<&MessageText>,
        send_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let edited = sqlx::query(
                "UPDATE scheduled_message SET text = COALESCE(?4, text), send_at = COALESCE(?3, send_at), \
                 due_at = COALESCE(?3, send_at), failure = NULL WHERE id = ?1 AND sender = ?2 AND is_taken = 0",
            )
            .bind(id)
            .bind(sender.as_str())
            .bind(send_at.map(Timestamp::as_millisecond))
            .bind(text.map(MessageText::as_str))
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(edited.rows_affected() > 0)
        })
        .await
    }

    async fn unschedule(&self, sender: &Account, id: &str) -> Result<bool, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let deleted = sqlx::query("DELETE FROM scheduled_message WHERE id = ? AND sender = ? AND is_taken = 0")
                .bind(id)
                .bind(sender.as_str())
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(deleted.rows_affected() > 0)
        })
        .await
    }

    async fn take_due(&self, now: Timestamp, lease: SignedDuration, limit: u32) -> Result<Vec<Scheduled>, StoreError> {
        // Most rounds find none, and write nothing.
        let next: Option<i64> =
            sqlx::query_scalar("SELECT MIN(due_at) FROM scheduled_message WHERE due_at IS NOT NULL")
                .fetch_one(self.database.reader())
                .await?;
        if next.is_none_or(|due| due > now.as_millisecond()) {
            return Ok(Vec::new());
        }
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let rows = sqlx::query(concat!(
                "UPDATE scheduled_message SET is_taken = 1, due_at = ? WHERE id IN (SELECT id FROM scheduled_message \
                 WHERE due_at <= ? ORDER BY due_at LIMIT ?) RETURNING ",
                columns!()
            ))
            .bind((now + lease).as_millisecond())
            .bind(now.as_millisecond())
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(readable(&rows))
        })
        .await
    }

    async fn finish(&self, id: &str, failure: Option<&str>) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            match failure {
                None => sqlx::query("DELETE FROM scheduled_message WHERE id = ?").bind(id),
                Some(failure) => {
                    sqlx::query("UPDATE scheduled_message SET due_at = NULL, is_taken = 0, failure = ? WHERE id = ?")
                        .bind(failure)
                        .bind(id)
                }
            }
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// A message that cannot be read keeps no other from being sent.
fn readable(rows: &[SqliteRow]) -> Vec<Scheduled> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        match scheduled_of(row) {
            Ok(scheduled) => found.push(scheduled),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "scheduled message corrupt; not sent"
                );
            }
        }
    }
    found
}

fn scheduled_of(row: &SqliteRow) -> Result<Scheduled, StoreError> {
    Ok(Scheduled {
        id: row.try_get("id")?,
        sender: account_of(row, "sender")?,
        receiver: account_of(row, "receiver")?,
        receiver_nickname: row.try_get("receiver_nickname")?,
        text: MessageText::stored(row.try_get("text")?),
        send_at: timestamp(row.try_get("send_at")?)?,
        authorized_at: timestamp(row.try_get("authorized_at")?)?,
        failure: row.try_get("failure")?,
    })
}
