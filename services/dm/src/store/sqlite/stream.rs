//! The numbered frames of each account.

use async_trait::async_trait;
use sosohappy_common::Account;
use sosohappy_store::StoreError;
use sosohappy_store::sqlite::Tx;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::changes::changed_of;
use super::{BATCH, SqliteStore, stored_of};
use crate::domain::{Changed, Message, MessageId, Stored};
use crate::store::{Frames, Streams, is_full};

#[async_trait]
impl Streams for SqliteStore {
    async fn enlist(&self, _message: &MessageId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn kept(&self, account: &Account) -> Result<Option<(i64, i64)>, StoreError> {
        let (oldest, newest): (Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT (SELECT MIN(seq) FROM stream_frame WHERE account = ?1), (SELECT MAX(seq) FROM stream_frame WHERE account = ?1)",
        )
        .bind(account.as_str())
        .fetch_one(self.database.reader())
        .await?;
        Ok(oldest.zip(newest))
    }

    async fn frames_after(&self, account: &Account, seq: i64, limit: u32) -> Result<Frames, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT seq, stream_frame.revision AS change_revision, kind, message_change.account AS account, content, changed_at, ",
            stored_columns!(),
            " FROM stream_frame LEFT JOIN message ON message.id = stream_frame.message \
             LEFT JOIN message_change ON message_change.message = stream_frame.message \
             AND message_change.revision = stream_frame.revision \
             WHERE stream_frame.account = ? AND seq > ? ORDER BY seq LIMIT ?"
        ))
        .bind(account.as_str())
        .bind(seq)
        .bind(limit)
        .fetch_all(self.database.reader())
        .await?;
        let mut frames = Frames {
            more: is_full(rows.len(), limit),
            ..Frames::default()
        };
        for row in &rows {
            let seq: i64 = row.try_get("seq")?;
            frames.until = Some(seq);
            let message: Option<String> = row.try_get("id")?;
            if message.is_some() {
                frames.push(seq, framed_of(row));
            }
        }
        Ok(frames)
    }

    async fn seq_of(&self, account: &Account, message: &MessageId) -> Result<Option<i64>, StoreError> {
        let seq = sqlx::query_scalar("SELECT seq FROM stream_frame WHERE message = ? AND account = ? AND revision = 0")
            .bind(message.as_str())
            .bind(account.as_str())
            .fetch_optional(self.database.reader())
            .await?;
        Ok(seq)
    }
}

fn framed_of(row: &SqliteRow) -> Result<(Stored, Option<Changed>), StoreError> {
    let revision: i64 = row.try_get("change_revision")?;
    let change = (revision > 0).then(|| changed_of(row)).transpose()?;
    Ok((stored_of(row)?, change))
}

/// Gives a message, or a change of it, its frame in the stream of each of its people.
pub(super) async fn add_frames(tx: &mut Tx, message: &Message, revision: i64) -> Result<(), StoreError> {
    for account in message.people() {
        sqlx::query(
            "INSERT INTO stream_frame (account, seq, message, revision) \
             SELECT ?1, COALESCE(MAX(seq), 0) + 1, ?2, ?3 FROM stream_frame WHERE account = ?1",
        )
        .bind(account.as_str())
        .bind(message.id.as_str())
        .bind(revision)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Deletes some of an account's frames whose messages are gone. False when there are no more.
pub(super) async fn delete_frames(tx: &mut Tx, account: &Account) -> Result<bool, StoreError> {
    let deleted = sqlx::query(
        "DELETE FROM stream_frame WHERE account = ?1 AND seq IN (\
             SELECT seq FROM stream_frame AS own WHERE own.account = ?1 \
             AND NOT EXISTS (SELECT 1 FROM message WHERE message.id = own.message) LIMIT ?2)",
    )
    .bind(account.as_str())
    .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
    .execute(&mut **tx)
    .await?;
    Ok(deleted.rows_affected() > 0)
}
