//! Messages that are sent later.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use sosohappy_common::Account;
use sosohappy_store::sqlite::{Engine, Tx};
use sosohappy_store::{StoreError, retrying};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _};

use super::{SqliteStore, account_of, timestamp};
use crate::domain::{MOST_SCHEDULED, MessageText, Scheduled};
use crate::store::{CORRUPT, Due, Schedule, ScheduleOutcome, WriteError};

/// The columns of [`scheduled_of`].
macro_rules! columns {
    () => {
        "id, sender, receiver, receiver_nickname, text, send_at, made_at, authorized_at, failure"
    };
}

#[async_trait]
impl Schedule for SqliteStore {
    async fn server_time(&self) -> Result<Timestamp, StoreError> {
        self.database.server_time().await
    }

    async fn schedule(&self, scheduled: &Scheduled) -> Result<ScheduleOutcome, WriteError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            self.still_here(&mut tx, &scheduled.sender, &scheduled.receiver, scheduled.authorized_at)
                .await?;
            let added = sqlx::query(
                "INSERT INTO scheduled_message (id, sender, receiver, receiver_nickname, text, send_at, authorized_at, due_at, made_at) \
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6, ?9 WHERE (SELECT COUNT(*) FROM scheduled_message WHERE sender = ?2) < ?8",
            )
            .bind(&scheduled.id)
            .bind(scheduled.sender.as_str())
            .bind(scheduled.receiver.as_str())
            .bind(&scheduled.receiver_nickname)
            .bind(scheduled.text.as_str())
            .bind(scheduled.send_at.as_millisecond())
            .bind(scheduled.authorized_at.as_millisecond())
            .bind(MOST_SCHEDULED)
            .bind(scheduled.made_at.as_millisecond())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::from)?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(match added.rows_affected() {
                0 => ScheduleOutcome::TooMany,
                _ => ScheduleOutcome::Scheduled,
            })
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
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            match scheduled_of(row) {
                Ok(scheduled) => found.push(scheduled),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "scheduled message corrupt; not listed"
                ),
            }
        }
        Ok(found)
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

    async fn take_due(&self, now: Timestamp, lease: SignedDuration, limit: u32) -> Result<Due, StoreError> {
        // Most rounds find none, and write nothing.
        let next: Option<i64> =
            sqlx::query_scalar("SELECT MIN(due_at) FROM scheduled_message WHERE due_at IS NOT NULL")
                .fetch_one(self.database.reader())
                .await?;
        if next.is_none_or(|due| due > now.as_millisecond()) {
            return Ok(Due::default());
        }
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let rows = sqlx::query(concat!(
                "UPDATE scheduled_message SET is_taken = 1, taken_at = ?, due_at = ? WHERE id IN (\
                 SELECT id FROM scheduled_message WHERE due_at <= ? ORDER BY due_at LIMIT ?) RETURNING ",
                columns!()
            ))
            .bind(now.as_millisecond())
            .bind((now + lease).as_millisecond())
            .bind(now.as_millisecond())
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?;
            let mut due = Due::default();
            for row in &rows {
                match scheduled_of(row) {
                    Ok(scheduled) => due.messages.push(scheduled),
                    Err(error) => {
                        quarantine(&mut tx, row, &error).await?;
                        due.quarantined += 1;
                    }
                }
            }
            tx.commit().await?;
            Ok(due)
        })
        .await
    }

    async fn postpone(&self, id: &str, taken: Timestamp, until: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query(
                "UPDATE scheduled_message SET due_at = ?, is_taken = 0 WHERE id = ? AND is_taken = 1 AND taken_at = ?",
            )
            .bind(until.as_millisecond())
            .bind(id)
            .bind(taken.as_millisecond())
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn renew(&self, ids: &[&str], until: Timestamp) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let mut renew = QueryBuilder::<Engine>::new("UPDATE scheduled_message SET due_at = ");
            renew
                .push_bind(until.as_millisecond())
                .push(" WHERE is_taken = 1 AND id IN (");
            let mut list = renew.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            renew.push(")").build().execute(&mut *tx).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn finish(&self, id: &str) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query("DELETE FROM scheduled_message WHERE id = ?")
                .bind(id)
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn fail(&self, id: &str, taken: Timestamp, failure: &str) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query(
                "UPDATE scheduled_message SET due_at = NULL, is_taken = 0, failure = ? \
                 WHERE id = ? AND is_taken = 1 AND taken_at = ?",
            )
            .bind(failure)
            .bind(id)
            .bind(taken.as_millisecond())
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// Keeps a row that cannot be decoded from being taken again, so that it delays no other.
async fn quarantine(tx: &mut Tx, row: &SqliteRow, error: &StoreError) -> Result<(), StoreError> {
    let id: String = row.try_get("id")?;
    tracing::error!(
        error = error as &dyn std::error::Error,
        id,
        "scheduled message corrupt; quarantined"
    );
    sqlx::query("UPDATE scheduled_message SET due_at = NULL, is_taken = 0, failure = ? WHERE id = ?")
        .bind(CORRUPT)
        .bind(&id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn scheduled_of(row: &SqliteRow) -> Result<Scheduled, StoreError> {
    Ok(Scheduled {
        id: row.try_get("id")?,
        sender: account_of(row, "sender")?,
        receiver: account_of(row, "receiver")?,
        receiver_nickname: row.try_get("receiver_nickname")?,
        text: MessageText::stored(row.try_get("text")?),
        send_at: timestamp(row.try_get("send_at")?)?,
        made_at: timestamp(row.try_get("made_at")?)?,
        authorized_at: timestamp(row.try_get("authorized_at")?)?,
        failure: row.try_get("failure")?,
    })
}
