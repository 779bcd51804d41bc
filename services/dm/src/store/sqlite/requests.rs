//! Requests.

use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::Outgoing;
use sosohappy_store::sqlite::{Engine, Tx, enqueue};
use sosohappy_store::{StoreError, retrying};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _};

use super::stream::add_frames;
use super::{SqliteStore, account_of, begin_conversation, stored_of, timestamp};
use crate::domain::{ConversationId, Decision, Erasure, NewMessage, Party, Position, Request, RequestState, Stored};
use crate::store::{RequestPage, Requests, Unfinished, WriteError, is_full, push_held};

/// The columns of [`request_of`].
macro_rules! columns {
    () => {
        "id, asker, receiver, asker_nickname, receiver_nickname, introduction, state, asked_at, decided_at, is_completing"
    };
}

/// Behind every id.
const END: &str = "~";

#[async_trait]
impl Requests for SqliteStore {
    async fn request(&self, conversation: &ConversationId) -> Result<Option<Request>, StoreError> {
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM message_request WHERE conversation = ?"
        ))
        .bind(conversation.as_str())
        .fetch_optional(self.database.reader())
        .await?;
        row.as_ref().map(request_of).transpose()
    }

    async fn request_with_id(&self, id: &str) -> Result<Option<Request>, StoreError> {
        let row = sqlx::query(concat!("SELECT ", columns!(), " FROM message_request WHERE id = ?"))
            .bind(id)
            .fetch_optional(self.database.reader())
            .await?;
        row.as_ref().map(request_of).transpose()
    }

    async fn requests_to(
        &self,
        receiver: &Account,
        before: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<Request>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM message_request WHERE receiver = ? AND state = 'pending' AND id < ? ORDER BY id DESC LIMIT ?"
        ))
        .bind(receiver.as_str())
        .bind(before.map_or(END, Position::as_str))
        .bind(limit)
        .fetch_all(self.database.reader())
        .await?;
        rows.iter().map(request_of).collect()
    }

    async fn unfinished_requests(&self, kind: Unfinished, after: &str, limit: u32) -> Result<RequestPage, StoreError> {
        let statement = match kind {
            Unfinished::Pending => concat!(
                "SELECT ",
                columns!(),
                " FROM message_request WHERE state = 'pending' AND id > ? ORDER BY id LIMIT ?"
            ),
            Unfinished::Completing => concat!(
                "SELECT ",
                columns!(),
                " FROM message_request WHERE is_completing = 1 AND id > ? ORDER BY id LIMIT ?"
            ),
        };
        let rows = sqlx::query(statement)
            .bind(after)
            .bind(limit)
            .fetch_all(self.database.reader())
            .await?;
        let mut page = RequestPage::default();
        if is_full(rows.len(), limit) {
            page.next = rows.last().map(|row| row.try_get("id")).transpose()?;
        }
        for row in &rows {
            page.push(request_of(row));
        }
        Ok(page)
    }

    async fn ask(&self, request: &Request) -> Result<bool, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let added = sqlx::query(
                "INSERT INTO message_request (conversation, id, asker, receiver, asker_nickname, receiver_nickname, state, asked_at) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (conversation) DO NOTHING",
            )
            .bind(request.conversation().as_str())
            .bind(&request.id)
            .bind(request.asker.account.as_str())
            .bind(request.receiver.account.as_str())
            .bind(&request.asker.nickname)
            .bind(&request.receiver.nickname)
            .bind(request.state.name())
            .bind(request.asked_at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(added.rows_affected() > 0)
        })
        .await
    }

    async fn decide(&self, decision: &Decision, events: &[Outgoing]) -> Result<bool, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let mut decide = QueryBuilder::<Engine>::new("UPDATE message_request SET is_completing = 1, state = ");
            decide
                .push_bind(decision.verdict.state().name())
                .push(", decided_at = ")
                .push_bind(decision.at.as_millisecond())
                .push(" WHERE conversation = ")
                .push_bind(decision.conversation.as_str())
                .push(" AND state IN (");
            let mut states = decide.separated(", ");
            for state in decision.verdict.former_states() {
                states.push_bind(state.name());
            }
            let decided = decide.push(")").build().execute(&mut *tx).await?;
            if decided.rows_affected() == 0 {
                return Ok(false);
            }
            for event in events {
                enqueue(&mut tx, event, decision.at).await?;
            }
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    async fn repeat_events(&self, _request: &Request, _events: &[Outgoing]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn held(&self, conversation: &ConversationId, limit: u32) -> Result<Vec<Stored>, StoreError> {
        let mut rows = sqlx::query(concat!(
            "SELECT ",
            stored_columns!(),
            " FROM message WHERE conversation = ? AND held IS NOT NULL ORDER BY position"
        ))
        .bind(conversation.as_str())
        .fetch(self.database.reader());
        let mut held = Vec::new();
        while !is_full(held.len(), limit)
            && let Some(row) = rows.try_next().await?
        {
            push_held(&mut held, stored_of(&row));
        }
        Ok(held)
    }

    async fn release(
        &self,
        held: &Stored,
        push_due: Option<Timestamp>,
        event: &Outgoing,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let message = &held.message;
        retrying(async || {
            let mut tx = self.database.begin().await?;
            // A message that was retracted while it waited has no text to be read or pushed.
            let released = sqlx::query(
                "UPDATE message SET held = NULL, unread = CASE WHEN retracted_at IS NULL THEN 1 END, \
                 push_due_at = CASE WHEN retracted_at IS NULL THEN ? END WHERE id = ? AND held IS NOT NULL AND revision = ?",
            )
            .bind(push_due.map(Timestamp::as_millisecond))
            .bind(message.id.as_str())
            .bind(held.state.revision)
            .execute(&mut *tx)
            .await?;
            if released.rows_affected() == 0 {
                // Released by another replica, erased, or changed since it was read.
                let still = sqlx::query("SELECT 1 FROM message WHERE id = ? AND held IS NOT NULL")
                    .bind(message.id.as_str())
                    .fetch_optional(&mut *tx)
                    .await?;
                return Ok(still.is_none());
            }
            begin_conversation(&mut tx, &message.receiver.account, &message.conversation()).await?;
            let receiver = std::iter::once(&message.receiver.account);
            add_frames(&mut tx, receiver, &message.id, 0, self.frames).await?;
            enqueue(&mut tx, event, now).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    async fn completed(&self, request: &Request) -> Result<(), StoreError> {
        let conversation = request.conversation();
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query("UPDATE message_request SET is_completing = 0 WHERE conversation = ? AND decided_at IS ?")
                .bind(conversation.as_str())
                .bind(request.decided_at.map(Timestamp::as_millisecond))
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn set_introduction(
        &self,
        conversation: &ConversationId,
        nickname: &str,
        introduction: Option<&str>,
    ) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query("UPDATE message_request SET asker_nickname = ?, introduction = ? WHERE conversation = ?")
                .bind(nickname)
                .bind(introduction)
                .bind(conversation.as_str())
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// Checks that a message that is to wait finds its request pending, and that none waits in an accepted request before another message.
pub(super) async fn check_request(tx: &mut Tx, message: &NewMessage) -> Result<(), WriteError> {
    let statement = if message.is_held {
        "SELECT 1 FROM message_request WHERE conversation = ?1 AND state = 'pending'"
    } else {
        "SELECT 1 FROM message_request WHERE conversation = ?1 AND state = 'accepted' \
         AND EXISTS (SELECT 1 FROM message WHERE message.conversation = ?1 AND held IS NOT NULL)"
    };
    let conversation = message.message.conversation();
    let found: Option<i64> = sqlx::query_scalar(statement)
        .bind(conversation.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::from)?;
    match (message.is_held, found) {
        (true, None) => Err(WriteError::RequestDecided),
        (false, Some(_)) if one_waits(tx, &conversation).await? => Err(WriteError::Unreleased),
        (true, Some(_)) | (false, _) => Ok(()),
    }
}

/// Whether a message waits in a conversation that can be decoded.
async fn one_waits(tx: &mut Tx, conversation: &ConversationId) -> Result<bool, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        stored_columns!(),
        " FROM message WHERE conversation = ? AND held IS NOT NULL"
    ))
    .bind(conversation.as_str())
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.iter().any(|row| stored_of(row).is_ok()))
}

impl SqliteStore {
    /// Completes accepted requests of which messages wait: an earlier release ended the completing of some too early.
    pub(super) async fn resume_requests(&self) -> Result<(), StoreError> {
        let mut tx = self.database.begin().await?;
        sqlx::query(
            "UPDATE message_request SET is_completing = 1 WHERE state = 'accepted' AND is_completing = 0 \
             AND conversation IN (SELECT conversation FROM message WHERE held IS NOT NULL)",
        )
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Deletes the requests that an account made or received up to the resignation.
    pub(super) async fn forget_requests(&self, erasure: &Erasure) -> Result<(), StoreError> {
        let mut tx = self.database.begin().await?;
        sqlx::query("DELETE FROM message_request WHERE (asker = ?1 OR receiver = ?1) AND asked_at <= ?2")
            .bind(erasure.account.as_str())
            .bind(erasure.until.as_millisecond())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }
}

fn request_of(row: &SqliteRow) -> Result<Request, StoreError> {
    let party = |account: &str, nickname: &str| -> Result<Party, StoreError> {
        Ok(Party {
            account: account_of(row, account)?,
            nickname: row.try_get(nickname)?,
        })
    };
    let decided_at: Option<i64> = row.try_get("decided_at")?;
    Ok(Request {
        id: row.try_get("id")?,
        asker: party("asker", "asker_nickname")?,
        receiver: party("receiver", "receiver_nickname")?,
        introduction: row.try_get("introduction")?,
        state: RequestState::named(row.try_get("state")?),
        asked_at: timestamp(row.try_get("asked_at")?)?,
        decided_at: decided_at.map(timestamp).transpose()?,
        is_completing: row.try_get("is_completing")?,
    })
}
