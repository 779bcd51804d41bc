//! Copies of reported messages.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::sqlite::{Tx, note_erasure};
use sosohappy_store::{StoreError, retrying};
use sqlx::Row as _;

use super::{SqliteStore, stored_of};
use crate::domain::Erasure;
use crate::store::reports::{Moderation, NewReport, ReportedMessage, Reports};

#[async_trait]
impl Reports for SqliteStore {
    async fn keep_reported(&self, report: &NewReport) -> Result<bool, StoreError> {
        retrying(async || {
            // One transaction: a resignation deletes the message before or its copy after.
            let mut tx = self.database.begin().await?;
            let row = sqlx::query(concat!("SELECT ", stored_columns!(), " FROM message WHERE id = ?"))
                .bind(report.message.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            let stored = row.as_ref().map(stored_of).transpose()?;
            let Some(stored) = stored.filter(|stored| report.is_about(stored)) else {
                return Ok(false);
            };
            sqlx::query(
                "INSERT INTO reported_message (report, sender, receiver, date, text, reported_at) VALUES (?, ?, ?, ?, ?, ?) \
                 ON CONFLICT (report) DO NOTHING",
            )
            .bind(report.report)
            .bind(report.author.as_str())
            .bind(report.reporter.as_str())
            .bind(i64::from(stored.message.date))
            .bind(stored.message.text.as_str())
            .bind(report.at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    async fn moderate(&self, moderation: &Moderation) -> Result<bool, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            // A hidden message gets no push.
            let moderated = sqlx::query(
                "UPDATE message SET hidden_at = CASE WHEN ?1 THEN ?2 END, moderated_at = ?2, \
                 push_due_at = CASE WHEN ?1 THEN NULL ELSE push_due_at END \
                 WHERE id = ?3 AND sender = ?4 AND (?5 IS NULL OR receiver = ?5) AND (moderated_at IS NULL OR moderated_at <= ?2)",
            )
            .bind(moderation.hidden)
            .bind(moderation.at.as_millisecond())
            .bind(moderation.message.as_str())
            .bind(moderation.author.as_str())
            .bind(moderation.reporter.as_ref().map(Account::as_str))
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(moderated.rows_affected() > 0)
        })
        .await
    }

    async fn close_reported(&self, report: i64, at: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query(
                "INSERT INTO reported_message (report, reported_at) VALUES (?, ?) ON CONFLICT (report) \
                 DO UPDATE SET sender = NULL, receiver = NULL, date = NULL, text = NULL",
            )
            .bind(report)
            .bind(at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn reported(&self, report: i64) -> Result<Option<ReportedMessage>, StoreError> {
        let row = sqlx::query("SELECT text, date FROM reported_message WHERE report = ? AND text IS NOT NULL")
            .bind(report)
            .fetch_optional(self.database.reader())
            .await?;
        row.map(|row| {
            Ok(ReportedMessage {
                text: row.try_get("text")?,
                date: row.try_get("date")?,
            })
        })
        .transpose()
    }

    async fn forget_reported(&self, before: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let forgotten = sqlx::query("DELETE FROM reported_message WHERE reported_at < ?")
                .bind(before.as_millisecond())
                .execute(&mut *tx)
                .await?;
            if forgotten.rows_affected() > 0 {
                note_erasure(&mut tx, self.clock.now()).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// Deletes the copies of an account that has resigned: those of its messages and of those to it.
pub(super) async fn delete_reported(tx: &mut Tx, erasure: &Erasure) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM reported_message WHERE (sender = ?1 OR receiver = ?1) AND reported_at <= ?2")
        .bind(erasure.account.as_str())
        .bind(erasure.until.as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
