//! The numbered frames of each account.

use async_trait::async_trait;
use sosohappy_common::Account;
use sosohappy_store::StoreError;
use sosohappy_store::sqlite::Tx;
use sqlx::Row as _;

use super::{BATCH, SqliteStore, stored_of};
use crate::domain::{Message, MessageId};
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
        let rows = sqlx::query(
            "SELECT seq, id, sender, receiver, sender_nickname, receiver_nickname, date, text, number, stored_at, reply_to \
             FROM stream_frame LEFT JOIN message ON message.id = stream_frame.message \
             WHERE account = ? AND seq > ? ORDER BY seq LIMIT ?",
        )
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
                frames.push(seq, stored_of(row));
            }
        }
        Ok(frames)
    }

    async fn seq_of(&self, account: &Account, message: &MessageId) -> Result<Option<i64>, StoreError> {
        let seq = sqlx::query_scalar("SELECT seq FROM stream_frame WHERE message = ? AND account = ?")
            .bind(message.as_str())
            .bind(account.as_str())
            .fetch_optional(self.database.reader())
            .await?;
        Ok(seq)
    }
}

/// Gives a message its frame in the stream of each of its people.
pub(super) async fn add_frames(tx: &mut Tx, message: &Message) -> Result<(), StoreError> {
    for account in message.people() {
        sqlx::query(
            "INSERT INTO stream_frame (account, seq, message) \
             SELECT ?1, COALESCE(MAX(seq), 0) + 1, ?2 FROM stream_frame WHERE account = ?1",
        )
        .bind(account.as_str())
        .bind(message.id.as_str())
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
