//! Messages in SQLite.

/// The columns of [`stored_of`].
macro_rules! stored_columns {
    () => {
        "id, sender, receiver, sender_nickname, receiver_nickname, date, text, number, stored_at, reply_to, \
         message.revision, edited_at, retracted_at, reactions, hidden_at, held"
    };
}

mod changes;
mod receipts;
mod reports;
mod requests;
mod rooms;
mod schedule;
mod stream;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::clock::Clock;
use sosohappy_common::settings::SecretUrl;
use sosohappy_common::{Account, Context, crash_point};
use sosohappy_events::Outgoing;
use sosohappy_store::sqlite::{Database, Engine, Tx, enqueue, erased_accounts, first_time, note_erasure};
use sosohappy_store::{Ping, StoreError, retrying};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _};

use super::{Newest, OnStored, Opened, Outcome, Range, Store, UnclaimedPage, WriteError, is_full};
use crate::domain::{
    ChangeKind, Changed, Claim, ClientKey, ConversationId, Erasure, Message, MessageDate, MessageId, MessageState,
    MessageText, NewMessage, Party, Position, RepeatKey, Stored, Undelivered,
};
use reports::delete_reported;
use requests::check_request;
use rooms::forget_former_members;
use stream::{add_frames, delete_frames, kept_frames};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// In the inbox of applied events.
const CONSUMER: &str = "resigned";

/// How many messages one statement names, and one transaction deletes.
const BATCH: usize = 500;

#[derive(Debug)]
struct SqliteStore {
    database: Database,
    clock: Arc<dyn Clock>,
    /// Frames that are kept for each account.
    frames: i64,
}

pub async fn open(url: &SecretUrl, max_connections: u32, frames: i64, context: &Context) -> Result<Opened, StoreError> {
    let database = Database::open(url, max_connections, &MIGRATIONS, context).await?;
    database.spawn_sweeper(context);
    Ok(Opened {
        outbox: database.outbox(),
        directory: database.directory(),
        store: Arc::new(SqliteStore {
            database,
            clock: context.clock.clone(),
            frames: kept_frames(frames),
        }),
    })
}

#[async_trait]
impl Store for SqliteStore {
    async fn keep(
        &self,
        message: &NewMessage,
        event: &Outgoing,
        on_stored: OnStored<'_>,
    ) -> Result<Outcome, WriteError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let (sender, receiver) = (&message.message.sender.account, &message.message.receiver.account);
            self.still_here(&mut tx, sender, receiver, message.authorized_at)
                .await?;
            if let Some(key) = &message.repeat_key {
                // The lock of the write transaction keeps others out from here to the insert.
                forget_older(&mut tx, key, message.stored_at).await?;
                if is_known(&mut tx, key).await? {
                    tx.rollback().await.map_err(StoreError::from)?;
                    return Ok(Outcome::Repeated);
                }
            }
            if let Some(key) = &message.client_key {
                forget_older_id(&mut tx, key, message.stored_at).await?;
                if is_known_id(&mut tx, key).await? {
                    tx.rollback().await.map_err(StoreError::from)?;
                    return Ok(Outcome::Repeated);
                }
            }
            check_request(&mut tx, message).await?;
            let number = next_number(&mut tx, &message.message).await?;
            insert(&mut tx, message, Some(number)).await?;
            let viewers = message.message.viewers(message.is_held);
            add_frames(&mut tx, viewers, &message.message.id, 0, self.frames).await?;
            enqueue(&mut tx, event, message.stored_at).await?;
            tx.commit().await.map_err(StoreError::from)?;
            on_stored();
            Ok(Outcome::Stored)
        })
        .await
    }

    async fn forget_repeat_keys(&self, now: Timestamp) -> Result<(), StoreError> {
        for (statement, window) in [
            (
                "UPDATE message SET repeat_key = NULL WHERE id IN (SELECT id FROM message \
                 WHERE repeat_key IS NOT NULL AND stored_at <= ? LIMIT ?)",
                RepeatKey::WINDOW,
            ),
            (
                "UPDATE message SET client_key = NULL WHERE id IN (SELECT id FROM message \
                 WHERE client_key IS NOT NULL AND stored_at <= ? LIMIT ?)",
                ClientKey::WINDOW,
            ),
        ] {
            while retrying(async || {
                let mut tx = self.database.begin().await?;
                let forgotten = sqlx::query(statement)
                    .bind((now - window).as_millisecond())
                    .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
                    .execute(&mut *tx)
                    .await?;
                tx.commit().await?;
                Ok::<_, StoreError>(forgotten.rows_affected() > 0)
            })
            .await?
            {}
        }
        while retrying(async || self.forget_room_keys(now).await).await? {}
        Ok(())
    }

    async fn with_client_key(&self, key: &ClientKey, now: Timestamp) -> Result<Option<Stored>, StoreError> {
        let row = sqlx::query(concat!(
            "SELECT ",
            stored_columns!(),
            " FROM message WHERE client_key = ? AND stored_at > ?"
        ))
        .bind(key.as_str())
        .bind((now - ClientKey::WINDOW).as_millisecond())
        .fetch_optional(self.database.reader())
        .await?;
        row.as_ref().map(stored_of).transpose()
    }

    async fn message(&self, id: &MessageId) -> Result<Option<Stored>, StoreError> {
        let row = sqlx::query(concat!("SELECT ", stored_columns!(), " FROM message WHERE id = ?"))
            .bind(id.as_str())
            .fetch_optional(self.database.reader())
            .await?;
        row.as_ref().map(stored_of).transpose()
    }

    async fn newest_within(
        &self,
        conversation: &ConversationId,
        viewer: &Account,
        range: &Range,
        limit: u32,
    ) -> Result<Vec<Stored>, StoreError> {
        let mut query = QueryBuilder::<Engine>::new(concat!(
            "SELECT ",
            stored_columns!(),
            " FROM message WHERE conversation = "
        ));
        query.push_bind(conversation.as_str());
        query
            .push(" AND (held IS NULL OR sender = ")
            .push_bind(viewer.as_str())
            .push(")");
        if let Some(from) = &range.from {
            query.push(" AND position >= ").push_bind(from.as_str());
        }
        if let Some(before) = &range.before {
            query.push(" AND position < ").push_bind(before.as_str());
        }
        if let Some(date) = range.before_date {
            // Without an index of its own: read in the server's order until there are enough.
            query.push(" AND +date < ").push_bind(date);
        }
        query.push(" ORDER BY position DESC LIMIT ").push_bind(limit);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        rows.iter().map(stored_of).collect()
    }

    async fn first_of_date(&self, conversation: &ConversationId, date: i64) -> Result<Option<Position>, StoreError> {
        let first: Option<String> = sqlx::query_scalar(
            "SELECT position FROM message WHERE conversation = ? AND date = ? ORDER BY position LIMIT 1",
        )
        .bind(conversation.as_str())
        .bind(date)
        .fetch_optional(self.database.reader())
        .await?;
        Ok(first.map(Position::stored))
    }

    async fn newest(&self, account: &Account, before: Option<&Position>, limit: u32) -> Result<Newest, StoreError> {
        let mut query = QueryBuilder::<Engine>::new(concat!(
            "SELECT position, message.",
            stored_columns!(),
            " FROM conversation JOIN message ON message.id = (\
                 SELECT newest.id FROM message AS newest WHERE newest.conversation = conversation.id \
                 ORDER BY newest.position DESC LIMIT 1) \
             WHERE account = "
        ));
        query.push_bind(account.as_str());
        if let Some(before) = before {
            query.push(" AND position < ").push_bind(before.as_str());
        }
        query.push(" ORDER BY position DESC LIMIT ").push_bind(limit);
        let rows = query.build().fetch_all(self.database.reader()).await?;
        let last = rows.last().filter(|_| is_full(rows.len(), limit));
        let next = last
            .map(|row| row.try_get("position").map(Position::stored))
            .transpose()?;
        Ok(Newest {
            messages: rows.iter().map(stored_of).collect::<Result<_, _>>()?,
            next,
        })
    }

    async fn settle(&self, _conversation: &ConversationId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn waits(&self, message: &MessageId) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM message WHERE id = ? AND delivered_at IS NULL")
            .bind(message.as_str())
            .fetch_optional(self.database.reader())
            .await?;
        Ok(found.is_some())
    }

    async fn undelivered(&self, now: Timestamp, limit: u32) -> Result<Vec<Undelivered>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, sender, receiver, sender_nickname, receiver_nickname, date, text, stored_at FROM message \
             WHERE push_due_at <= ? ORDER BY push_due_at LIMIT ?",
        )
        .bind(now.as_millisecond())
        .bind(limit)
        .fetch_all(self.database.reader())
        .await?;
        let mut undelivered = Vec::with_capacity(rows.len());
        for row in &rows {
            match undelivered_of(row) {
                Ok(found) => undelivered.push(found),
                Err(error) => self.give_up_push(row, &error).await?,
            }
        }
        Ok(undelivered)
    }

    async fn push(&self, message: &MessageId, event: &Outgoing, now: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let due = sqlx::query("UPDATE message SET push_due_at = NULL WHERE id = ? AND push_due_at IS NOT NULL")
                .bind(message.as_str())
                .execute(&mut *tx)
                .await?;
            if due.rows_affected() > 0 {
                enqueue(&mut tx, event, now).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn erase(&self, erasure: &Erasure, receipt: &Outgoing) -> Result<(), StoreError> {
        if !self.is_applied(erasure).await? {
            retrying(async || self.close(erasure).await).await?;
            while retrying(async || self.erase_some(erasure).await).await? {}
            while retrying(async || self.forget_conversations(erasure).await).await? {}
            retrying(async || self.forget_scheduled(erasure).await).await?;
            retrying(async || self.forget_requests(erasure).await).await?;
            while retrying(async || self.forget_rooms(erasure).await).await? {}
            // Last: a frame is deleted when its message is gone, or in a room that the account has left.
            while retrying(async || self.forget_frames(&erasure.account).await).await? {}
            crash_point("dm.content-erased");
        }
        retrying(async || {
            let mut tx = self.database.begin().await?;
            first_time(&mut tx, CONSUMER, erasure.event, erasure.now).await?;
            sqlx::query("DELETE FROM device WHERE account = ? AND changed_at <= ?")
                .bind(erasure.account.fingerprint())
                .bind(erasure.until.as_millisecond())
                .execute(&mut *tx)
                .await?;
            delete_reported(&mut tx, erasure).await?;
            note_erasure(&mut tx, erasure.now).await?;
            enqueue(&mut tx, receipt, erasure.now).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn sweep(&self, before: Timestamp, settled: Timestamp) -> Result<(), StoreError> {
        while retrying(async || self.erase_some_leftovers(settled).await).await? {}
        retrying(async || self.leave_rooms_without_name(settled).await).await?;
        retrying(async || self.clear_former_creators().await).await?;
        retrying(async || self.resume_requests().await).await?;
        retrying(async || {
            let mut tx = self.database.begin().await?;
            erased_accounts::forget(&mut tx, before).await?;
            forget_former_members(&mut tx, before).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn unclaimed(&self, _after: &MessageId, _of: Option<&str>, _limit: u32) -> Result<UnclaimedPage, StoreError> {
        Ok(UnclaimedPage::default())
    }

    async fn page(&self, after: &MessageId, limit: u32) -> Result<Vec<Message>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, sender, receiver, sender_nickname, receiver_nickname, date, \
             CASE WHEN hidden_at IS NULL THEN text ELSE '' END AS text FROM message \
             WHERE id > ? AND held IS NULL ORDER BY id LIMIT ?",
        )
        .bind(after.as_str())
        .bind(limit)
        .fetch_all(self.database.reader())
        .await?;
        rows.iter().map(message_of).collect()
    }

    async fn owned(&self, ids: &[MessageId]) -> Result<HashSet<MessageId>, StoreError> {
        let mut owned = HashSet::new();
        for batch in ids.chunks(BATCH) {
            let mut query = QueryBuilder::<Engine>::new("SELECT id FROM message WHERE id IN (");
            let mut list = query.separated(", ");
            for id in batch {
                list.push_bind(id.as_str());
            }
            query.push(")");
            for row in query.build().fetch_all(self.database.reader()).await? {
                owned.insert(MessageId::stored(row.try_get(0)?));
            }
        }
        Ok(owned)
    }

    async fn take_over(&self, messages: &[Message], dry_run: bool) -> Result<HashSet<MessageId>, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let people: HashSet<&Account> = messages
                .iter()
                .flat_map(|message| [&message.sender.account, &message.receiver.account])
                .collect();
            let people: Vec<Account> = people.into_iter().cloned().collect();
            let erased = erased_accounts::erased_moments(&mut tx, &people).await?;
            let (refused, new): (Vec<&Message>, Vec<&Message>) = messages.iter().partition(|message| {
                let written = message.id.legacy_time().unwrap_or(Timestamp::UNIX_EPOCH);
                let people = [&message.sender.account, &message.receiver.account];
                people
                    .iter()
                    .any(|account| erased.get(*account).is_some_and(|until| written <= *until))
            });
            insert_legacy(&mut tx, &new).await?;
            if !dry_run {
                tx.commit().await?;
            }
            Ok(refused.into_iter().map(|message| message.id.clone()).collect())
        })
        .await
    }

    async fn claim(&self, _claims: &[Claim]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn set_devices(&self, account: &Account, tokens: &[String], at: Timestamp) -> Result<(), StoreError> {
        let tokens = serde_json::to_string(tokens).map_err(|error| StoreError::Invalid(error.into()))?;
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query(
                "INSERT INTO device (account, tokens, changed_at) VALUES (?, ?, ?) ON CONFLICT (account) DO UPDATE SET \
                 tokens = excluded.tokens, changed_at = excluded.changed_at WHERE excluded.changed_at >= device.changed_at",
            )
            .bind(account.fingerprint())
            .bind(&tokens)
            .bind(at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn devices_of(&self, account: &Account) -> Result<Vec<String>, StoreError> {
        let tokens: Option<String> = sqlx::query_scalar("SELECT tokens FROM device WHERE account = ?")
            .bind(account.fingerprint())
            .fetch_optional(self.database.reader())
            .await?;
        let read = |tokens: String| serde_json::from_str(&tokens).map_err(|error| StoreError::Corrupt(error.into()));
        tokens.map_or_else(|| Ok(Vec::new()), read)
    }

    async fn rewrite_ids(&self, _holder: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn fill_positions(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Ping for SqliteStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}

impl SqliteStore {
    /// A message that cannot be read gets no push, so that it blocks none of the others.
    async fn give_up_push(&self, row: &SqliteRow, error: &StoreError) -> Result<(), StoreError> {
        let id: String = row.try_get("id")?;
        tracing::error!(
            error = error as &dyn std::error::Error,
            id,
            "message corrupt; push given up"
        );
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query("UPDATE message SET push_due_at = NULL WHERE id = ?")
                .bind(&id)
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Checks that the sender's token was issued after the sender's last resignation, and that the receiver has a name since the receiver's.
    /// A write transaction locks the database: no resignation is committed during it.
    async fn still_here(
        &self,
        tx: &mut Tx,
        sender: &Account,
        receiver: &Account,
        authorized_at: Timestamp,
    ) -> Result<(), WriteError> {
        if let Some(until) = erased_accounts::erased_until(tx, sender).await?
            && authorized_at <= until
        {
            return Err(WriteError::Resigned);
        }
        if receiver != sender
            && let Some(until) = erased_accounts::erased_until(tx, receiver).await?
            && self.database.directory().named_since(receiver, until).await?.is_none()
        {
            return Err(WriteError::ReceiverResigned);
        }
        Ok(())
    }

    async fn is_applied(&self, erasure: &Erasure) -> Result<bool, StoreError> {
        let applied: Option<i64> = sqlx::query_scalar("SELECT 1 FROM event_inbox WHERE consumer = ? AND event_id = ?")
            .bind(CONSUMER)
            .bind(erasure.event.0.as_bytes().as_slice())
            .fetch_optional(self.database.reader())
            .await?;
        Ok(applied.is_some())
    }

    /// From here on nothing is stored that is sent with the account's older tokens, or to it.
    async fn close(&self, erasure: &Erasure) -> Result<(), StoreError> {
        let mut tx = self.database.begin().await?;
        erased_accounts::close(&mut tx, &erasure.account, erasure.until).await?;
        Ok(tx.commit().await?)
    }

    /// Messages to go, and their events that have not gone out yet. False when there are no more.
    async fn erase_some(&self, erasure: &Erasure) -> Result<bool, StoreError> {
        let (account, until) = (erasure.account.as_str(), erasure.until.as_millisecond());
        let mut tx = self.database.begin().await?;
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM message WHERE sender = ? AND (stored_at <= ? OR made_at <= ?) \
             UNION SELECT id FROM message WHERE receiver = ? AND stored_at <= ? LIMIT ?",
        )
        .bind(account)
        .bind(until)
        .bind(until)
        .bind(account)
        .bind(until)
        .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await?;
        if ids.is_empty() {
            tx.rollback().await?;
            return Ok(false);
        }
        delete(&mut tx, &ids).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Returns the resignations up to that moment, in milliseconds, by the SHA-256 of their accounts.
    async fn marks_up_to(&self, settled: Timestamp) -> Result<HashMap<String, i64>, StoreError> {
        let marks: Vec<(String, i64)> =
            sqlx::query_as("SELECT account, erased_until FROM erased_account WHERE erased_until <= ?")
                .bind(settled.as_millisecond())
                .fetch_all(self.database.reader())
                .await?;
        Ok(marks.into_iter().collect())
    }

    /// Some of the messages that accounts without a name received after their resignation. False when there are no more.
    async fn erase_some_leftovers(&self, settled: Timestamp) -> Result<bool, StoreError> {
        let marks = self.marks_up_to(settled).await?;
        let Some(first) = marks.values().min().copied() else {
            return Ok(false);
        };
        let receivers: Vec<String> = sqlx::query_scalar("SELECT DISTINCT receiver FROM message WHERE stored_at > ?")
            .bind(first)
            .fetch_all(self.database.reader())
            .await?;
        let directory = self.database.directory();
        for receiver in receivers {
            let Ok(account) = receiver.parse::<Account>() else {
                continue;
            };
            let Some(&until) = marks.get(&account.fingerprint()) else {
                continue;
            };
            if directory.named_since(&account, timestamp(until)?).await?.is_some() {
                continue;
            }
            let mut tx = self.database.begin().await?;
            let ids: Vec<String> = sqlx::query_scalar("SELECT id FROM message WHERE receiver = ? LIMIT ?")
                .bind(&receiver)
                .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
                .fetch_all(&mut *tx)
                .await?;
            delete(&mut tx, &ids).await?;
            while delete_frames(&mut tx, &account).await? {}
            while delete_empty_conversations(&mut tx, &account).await? {}
            note_erasure(&mut tx, self.clock.now()).await?;
            tx.commit().await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Deletes the scheduled messages that the account made or was to receive, up to the resignation.
    async fn forget_scheduled(&self, erasure: &Erasure) -> Result<(), StoreError> {
        let mut tx = self.database.begin().await?;
        sqlx::query(
            "DELETE FROM scheduled_message WHERE (sender = ?1 AND (authorized_at <= ?2 OR made_at <= ?2)) \
             OR (receiver = ?1 AND made_at <= ?2)",
        )
        .bind(erasure.account.as_str())
        .bind(erasure.until.as_millisecond())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Some of the account's frames whose messages it does not have any more. False when there are no more.
    async fn forget_frames(&self, account: &Account) -> Result<bool, StoreError> {
        let mut tx = self.database.begin().await?;
        let deleted = delete_frames(&mut tx, account).await?;
        tx.commit().await?;
        Ok(deleted)
    }

    /// Some of the account's conversations that are empty now. False when there are no more.
    async fn forget_conversations(&self, erasure: &Erasure) -> Result<bool, StoreError> {
        let mut tx = self.database.begin().await?;
        let forgotten = delete_empty_conversations(&mut tx, &erasure.account).await?;
        tx.commit().await?;
        Ok(forgotten)
    }
}

/// Deletes some of an account's conversations without messages. False when there are no more.
async fn delete_empty_conversations(tx: &mut Tx, account: &Account) -> Result<bool, StoreError> {
    sqlx::query(
        "DELETE FROM watermark WHERE conversation IN (SELECT own.id FROM conversation AS own WHERE own.account = ? \
         AND NOT EXISTS (SELECT 1 FROM message WHERE message.conversation = own.id))",
    )
    .bind(account.as_str())
    .execute(&mut **tx)
    .await?;
    let forgotten = sqlx::query(
        "DELETE FROM conversation WHERE id IN (SELECT own.id FROM conversation AS own WHERE own.account = ? \
         AND NOT EXISTS (SELECT 1 FROM message WHERE message.conversation = own.id) LIMIT ?)",
    )
    .bind(account.as_str())
    .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
    .execute(&mut **tx)
    .await?;
    Ok(forgotten.rows_affected() > 0)
}

/// Deletes messages, and their events that have not gone out yet.
async fn delete(tx: &mut Tx, ids: &[String]) -> Result<(), StoreError> {
    let messages: Vec<&str> = ids.iter().map(String::as_str).collect();
    changes::delete_events(tx, &messages).await?;
    for statement in [
        "DELETE FROM message_change WHERE message IN (",
        "DELETE FROM message WHERE id IN (",
    ] {
        let mut delete = QueryBuilder::<Engine>::new(statement);
        let mut list = delete.separated(", ");
        for id in ids {
            list.push_bind(id);
        }
        delete.push(")").build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Frees a key whose message is too old to count.
async fn forget_older(tx: &mut Tx, key: &RepeatKey, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE message SET repeat_key = NULL WHERE repeat_key = ? AND stored_at <= ?")
        .bind(key.as_str())
        .bind((now - RepeatKey::WINDOW).as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn is_known(tx: &mut Tx, key: &RepeatKey) -> Result<bool, StoreError> {
    let known: Option<i64> = sqlx::query_scalar("SELECT 1 FROM message WHERE repeat_key = ?")
        .bind(key.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(known.is_some())
}

/// Frees the key of a frame with an id whose message is too old to count.
async fn forget_older_id(tx: &mut Tx, key: &ClientKey, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE message SET client_key = NULL WHERE client_key = ? AND stored_at <= ?")
        .bind(key.as_str())
        .bind((now - ClientKey::WINDOW).as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn is_known_id(tx: &mut Tx, key: &ClientKey) -> Result<bool, StoreError> {
    let known: Option<i64> = sqlx::query_scalar("SELECT 1 FROM message WHERE client_key = ?")
        .bind(key.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(known.is_some())
}

/// Returns the number of a new message in its conversation. The lock of the write transaction keeps others out until it is stored.
async fn next_number(tx: &mut Tx, message: &Message) -> Result<i64, WriteError> {
    let last: Option<(String, i64)> = sqlx::query_as(
        "SELECT id, number FROM message WHERE conversation = ? AND number IS NOT NULL ORDER BY number DESC LIMIT 1",
    )
    .bind(message.conversation().as_str())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::from)?;
    match last {
        Some((id, _)) if id.as_str() >= message.id.as_str() => Err(WriteError::Behind(MessageId::stored(id))),
        last => Ok(last.map_or(0, |(_, number)| number) + 1),
    }
}

/// Lists a conversation for one of its people.
async fn begin_conversation(tx: &mut Tx, account: &Account, conversation: &ConversationId) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO conversation (account, id) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(account.as_str())
        .bind(conversation.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn insert(
    tx: &mut Tx,
    NewMessage {
        message,
        repeat_key,
        client_key,
        reply_to,
        authorized_at,
        stored_at,
        push_due,
        is_held,
    }: &NewMessage,
    number: Option<i64>,
) -> Result<(), StoreError> {
    let conversation = message.conversation();
    let is_unread = number.is_some() && !is_held && message.sender.account != message.receiver.account;
    for account in message.viewers(*is_held) {
        begin_conversation(tx, account, &conversation).await?;
    }
    sqlx::query(
        "INSERT INTO message (id, conversation, sender, receiver, sender_nickname, receiver_nickname, date, text, made_at, \
         stored_at, push_due_at, position, repeat_key, client_key, reply_to, number, unread, held) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(message.id.as_str())
    .bind(conversation.as_str())
    .bind(message.sender.account.as_str())
    .bind(message.receiver.account.as_str())
    .bind(&message.sender.nickname)
    .bind(&message.receiver.nickname)
    .bind(i64::from(message.date))
    .bind(message.text.as_str())
    .bind(authorized_at.as_millisecond())
    .bind(stored_at.as_millisecond())
    .bind(push_due.map(Timestamp::as_millisecond))
    .bind(message.id.position().as_str())
    .bind(repeat_key.as_ref().map(RepeatKey::as_str))
    .bind(client_key.as_ref().map(ClientKey::as_str))
    .bind(reply_to.as_ref().map(MessageId::as_str))
    .bind(number)
    .bind(is_unread.then_some(1_i64))
    .bind(is_held.then_some(1_i64))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Inserts messages of the legacy Spring services, with times before those of all others, a statement for many of them.
async fn insert_legacy(tx: &mut Tx, messages: &[&Message]) -> Result<(), StoreError> {
    let before_all = Timestamp::UNIX_EPOCH.as_millisecond();
    for batch in messages.chunks(BATCH) {
        let people = batch.iter().flat_map(|message| {
            let id = message.conversation();
            [(&message.sender.account, id.clone()), (&message.receiver.account, id)]
        });
        let mut query = QueryBuilder::<Engine>::new("INSERT INTO conversation (account, id) ");
        query.push_values(people, |mut row, (account, conversation)| {
            row.push_bind(account.as_str())
                .push_bind(conversation.as_str().to_owned());
        });
        query.push(" ON CONFLICT DO NOTHING").build().execute(&mut **tx).await?;
        let mut query = QueryBuilder::<Engine>::new(
            "INSERT INTO message (id, conversation, sender, receiver, sender_nickname, receiver_nickname, date, text, made_at, \
             stored_at, position) ",
        );
        query.push_values(batch, |mut row, message| {
            row.push_bind(message.id.as_str())
                .push_bind(message.conversation().as_str().to_owned())
                .push_bind(message.sender.account.as_str())
                .push_bind(message.receiver.account.as_str())
                .push_bind(&message.sender.nickname)
                .push_bind(&message.receiver.nickname)
                .push_bind(i64::from(message.date))
                .push_bind(message.text.as_str())
                .push_bind(before_all)
                .push_bind(before_all)
                .push_bind(message.id.position().as_str().to_owned());
        });
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

fn stored_of(row: &SqliteRow) -> Result<Stored, StoreError> {
    let reply_to: Option<String> = row.try_get("reply_to")?;
    let hidden_at: Option<i64> = row.try_get("hidden_at")?;
    let held: Option<i64> = row.try_get("held")?;
    Ok(Stored {
        message: message_of(row)?,
        number: row.try_get("number")?,
        stored_at: timestamp(row.try_get("stored_at")?)?,
        reply_to: reply_to.map(MessageId::stored),
        state: state_of(row)?,
        is_held: held.is_some(),
    }
    .hidden_since(hidden_at.map(timestamp).transpose()?))
}

fn state_of(row: &SqliteRow) -> Result<MessageState, StoreError> {
    let time = |column: &str| -> Result<Option<Timestamp>, StoreError> {
        let millis: Option<i64> = row.try_get(column)?;
        millis.map(timestamp).transpose()
    };
    let reactions: Option<String> = row.try_get("reactions")?;
    let reactions: BTreeMap<String, String> = reactions
        .as_deref()
        .map_or_else(|| Ok(BTreeMap::new()), serde_json::from_str)
        .context("reactions in the database are none")
        .map_err(StoreError::Corrupt)?;
    let mut state = MessageState {
        revision: row.try_get("revision")?,
        edited_at: time("edited_at")?,
        retracted_at: time("retracted_at")?,
        ..MessageState::default()
    };
    for (account, reaction) in reactions {
        let account: Result<Account, _> = account.parse();
        let account = account
            .context("an account in the database is not one")
            .map_err(StoreError::Corrupt)?;
        state.reactions.insert(account, reaction);
    }
    Ok(state)
}

/// `None` of a change of a kind that only a later release knows.
fn changed_of(row: &SqliteRow) -> Result<Option<Changed>, StoreError> {
    let Some(kind) = ChangeKind::named(row.try_get("kind")?) else {
        return Ok(None);
    };
    Ok(Some(Changed {
        revision: row.try_get("change_revision")?,
        kind,
        by: account_of(row, "account")?,
        content: row.try_get("content")?,
        at: timestamp(row.try_get("changed_at")?)?,
    }))
}

fn undelivered_of(row: &SqliteRow) -> Result<Undelivered, StoreError> {
    Ok(Undelivered {
        message: message_of(row)?,
        stored_at: timestamp(row.try_get("stored_at")?)?,
    })
}

fn timestamp(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|_| StoreError::corrupt("a time in the database is not one"))
}

fn account_of(row: &SqliteRow, column: &str) -> Result<Account, StoreError> {
    let text: &str = row.try_get(column)?;
    text.parse()
        .context("an account in the database is not one")
        .map_err(StoreError::Corrupt)
}

fn message_of(row: &SqliteRow) -> Result<Message, StoreError> {
    let party = |account: &str, nickname: &str| -> Result<Party, StoreError> {
        Ok(Party {
            account: account_of(row, account)?,
            nickname: row.try_get(nickname)?,
        })
    };
    let date: i64 = row.try_get("date")?;
    Ok(Message {
        id: MessageId::stored(row.try_get("id")?),
        sender: party("sender", "sender_nickname")?,
        receiver: party("receiver", "receiver_nickname")?,
        date: MessageDate::try_from(date)
            .context("a date in the database is not one")
            .map_err(StoreError::Corrupt)?,
        text: MessageText::stored(row.try_get("text")?),
    })
}
