//! The numbered frames of each account.

use async_trait::async_trait;
use sosohappy_common::Account;
use sosohappy_store::StoreError;
use sosohappy_store::sqlite::Tx;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{BATCH, SqliteStore, changed_of, stored_of};
use crate::domain::{ConversationId, MOST_MISSED, MessageId, Position};
use crate::store::{FrameContent, Frames, Streams, is_full};

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
            "SELECT seq, stream_frame.message AS frame_message, stream_frame.revision AS change_revision, kind, message_change.account AS account, content, changed_at, ",
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
        // Messages that are gone, or in rooms.
        let mut others = Vec::new();
        for row in &rows {
            if row.try_get::<Option<String>, _>("id")?.is_none() {
                others.push(row.try_get("frame_message")?);
            }
        }
        let in_rooms = self.room_messages(&others).await?;
        for row in &rows {
            let seq: i64 = row.try_get("seq")?;
            frames.until = Some(seq);
            if row.try_get::<Option<String>, _>("id")?.is_some() {
                frames.push(seq, content_of(row));
            } else if let Some(Some(message)) = in_rooms.get(&MessageId::stored(row.try_get("frame_message")?)) {
                let message = Box::new(message.clone());
                let content = match row.try_get::<i64, _>("change_revision")? {
                    0 => Ok(Some(FrameContent::RoomMessage(message))),
                    _ => changed_of(row).map(|change| Some(FrameContent::RoomChange(message, change?))),
                };
                frames.push(seq, content);
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

    async fn seq_in_room(&self, account: &Account, message: &MessageId) -> Result<Option<i64>, StoreError> {
        self.seq_of(account, message).await
    }

    async fn last_seen(
        &self,
        account: &Account,
        conversation: &ConversationId,
        seq: i64,
    ) -> Result<Option<Position>, StoreError> {
        // From the newest on: passes as many messages as the account has frames after `seq`.
        let position: Option<String> = sqlx::query_scalar(
            "SELECT position FROM message WHERE conversation = ? AND held IS NULL AND NOT EXISTS (\
                 SELECT 1 FROM stream_frame WHERE stream_frame.message = message.id AND account = ? AND revision = 0 AND seq > ?\
             ) ORDER BY position DESC LIMIT 1",
        )
        .bind(conversation.as_str())
        .bind(account.as_str())
        .bind(seq)
        .fetch_optional(self.database.reader())
        .await?;
        Ok(position.map(Position::stored))
    }

    async fn last_seen_in_room(&self, account: &Account, room: &str, seq: i64) -> Result<Option<i64>, StoreError> {
        let number = sqlx::query_scalar(
            "SELECT number FROM room_message WHERE room = ? AND NOT EXISTS (\
                 SELECT 1 FROM stream_frame WHERE stream_frame.message = room_message.id AND account = ? AND revision = 0 AND seq > ?\
             ) ORDER BY number DESC LIMIT 1",
        )
        .bind(room)
        .bind(account.as_str())
        .bind(seq)
        .fetch_optional(self.database.reader())
        .await?;
        Ok(number)
    }
}

fn content_of(row: &SqliteRow) -> Result<Option<FrameContent>, StoreError> {
    let revision: i64 = row.try_get("change_revision")?;
    let stored = Box::new(stored_of(row)?);
    Ok(match revision {
        0 => Some(FrameContent::Message(stored)),
        _ => changed_of(row)?.map(|change| FrameContent::Change(stored, change)),
    })
}

/// Returns the number of frames that are kept for each account: more than a client may miss.
pub(super) fn kept_frames(frames: i64) -> i64 {
    frames.max(MOST_MISSED + TRIMMED)
}

/// Older frames are deleted when an account gets a frame with a number that this divides.
const TRIMMED: i64 = 100;

/// Gives a message, or a change of it, its frame in the stream of each of the accounts, by one statement, and deletes frames beyond those that are
/// kept.
pub(super) async fn add_frames(
    tx: &mut Tx,
    accounts: impl Iterator<Item = &Account>,
    message: &MessageId,
    revision: i64,
    kept: i64,
) -> Result<(), StoreError> {
    let accounts: Vec<&str> = accounts.map(Account::as_str).collect();
    let accounts = serde_json::to_string(&accounts).expect("texts are JSON");
    let added: Vec<(String, i64)> = sqlx::query_as(
        "INSERT INTO stream_frame (account, seq, message, revision) \
         SELECT people.value, \
         COALESCE((SELECT MAX(own.seq) FROM stream_frame AS own WHERE own.account = people.value), 0) + 1, ?2, ?3 \
         FROM json_each(?1) AS people RETURNING account, seq",
    )
    .bind(accounts)
    .bind(message.as_str())
    .bind(revision)
    .fetch_all(&mut **tx)
    .await?;
    for (account, seq) in added {
        if seq % TRIMMED == 0 {
            sqlx::query("DELETE FROM stream_frame WHERE account = ? AND seq <= ?")
                .bind(account)
                .bind(seq - kept)
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(())
}

/// Deletes some of an account's frames whose messages are gone, or in rooms that it is not a member of. False when there are no more.
pub(super) async fn delete_frames(tx: &mut Tx, account: &Account) -> Result<bool, StoreError> {
    let deleted = sqlx::query(
        "DELETE FROM stream_frame WHERE account = ?1 AND seq IN (\
             SELECT seq FROM stream_frame AS own WHERE own.account = ?1 \
             AND NOT EXISTS (SELECT 1 FROM message WHERE message.id = own.message) \
             AND NOT EXISTS (SELECT 1 FROM room_message JOIN room_member USING (room) \
                 WHERE room_message.id = own.message AND room_member.account = ?1 AND joined_after < number) LIMIT ?2)",
    )
    .bind(account.as_str())
    .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
    .execute(&mut **tx)
    .await?;
    Ok(deleted.rows_affected() > 0)
}
