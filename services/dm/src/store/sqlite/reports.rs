//! Copies of reported messages.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_events::types::ModerationOutcome;
use sosohappy_store::sqlite::{Tx, note_erasure};
use sosohappy_store::{StoreError, retrying};
use sqlx::Row as _;

use super::rooms::{former_viewers, message_and_viewers};
use super::{SqliteStore, stored_of};
use crate::domain::{Erasure, MessageId};
use crate::store::reports::{Moderation, NewReport, Reportable, ReportedMessage, Reports};

#[async_trait]
impl Reports for SqliteStore {
    async fn reportable(&self, message: &MessageId) -> Result<Option<Reportable>, StoreError> {
        let mut tx = self.database.begin().await?;
        reportable_in(&mut tx, message).await
    }

    async fn keep_reported(&self, report: &NewReport) -> Result<bool, StoreError> {
        retrying(async || {
            // One transaction: a resignation deletes the message before or its copy after.
            let mut tx = self.database.begin().await?;
            let message = reportable_in(&mut tx, &report.message).await?;
            let Some((date, text)) = message.and_then(|message| report.copy_of(message)) else {
                return Ok(false);
            };
            sqlx::query(
                "INSERT INTO reported_message (report, sender, receiver, date, text, reported_at) VALUES (?, ?, ?, ?, ?, ?) \
                 ON CONFLICT (report) DO NOTHING",
            )
            .bind(report.report)
            .bind(report.author.as_str())
            .bind(report.reporter.as_str())
            .bind(i64::from(date))
            .bind(text.as_str())
            .bind(report.at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    async fn moderate(&self, moderation: &Moderation) -> Result<ModerationOutcome, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let message = reportable_in(&mut tx, &moderation.message).await?;
            let (present, update) = match message.filter(|message| moderation.is_about(message)) {
                // A hidden message gets no push.
                Some(Reportable::Direct(_)) => (
                    "SELECT hidden_at, moderated_at FROM message WHERE id = ?",
                    "UPDATE message SET hidden_at = CASE WHEN ?1 THEN ?2 END, moderated_at = ?2, \
                     push_due_at = CASE WHEN ?1 THEN NULL ELSE push_due_at END WHERE id = ?3",
                ),
                Some(Reportable::InRoom { .. }) => (
                    "SELECT hidden_at, moderated_at FROM room_message WHERE id = ?",
                    "UPDATE room_message SET hidden_at = CASE WHEN ?1 THEN ?2 END, moderated_at = ?2 WHERE id = ?3",
                ),
                None => return Ok(ModerationOutcome::NotFound),
            };
            let (hidden_at, moderated_at): (Option<i64>, Option<i64>) = sqlx::query_as(present)
                .bind(moderation.message.as_str())
                .fetch_one(&mut *tx)
                .await?;
            let at = moderation.at.as_millisecond();
            if moderated_at.is_some_and(|later| later > at) {
                return Ok(ModerationOutcome::in_force(hidden_at.is_some(), moderation.hidden));
            }
            sqlx::query(update)
                .bind(moderation.hidden)
                .bind(at)
                .bind(moderation.message.as_str())
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(ModerationOutcome::Applied)
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

async fn reportable_in(tx: &mut Tx, id: &MessageId) -> Result<Option<Reportable>, StoreError> {
    let row = sqlx::query(concat!("SELECT ", stored_columns!(), " FROM message WHERE id = ?"))
        .bind(id.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    if let Some(row) = row {
        return Ok(Some(Reportable::Direct(stored_of(&row)?)));
    }
    let Some((message, members)) = message_and_viewers(tx, id).await? else {
        return Ok(None);
    };
    Ok(Some(Reportable::InRoom {
        former: former_viewers(tx, &message).await?,
        message,
        members,
    }))
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
