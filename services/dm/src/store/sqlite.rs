//! Messages in SQLite.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::settings::SecretUrl;
use sosohappy_common::{Account, Context};
use sosohappy_events::Outgoing;
use sosohappy_store::sqlite::{Database, Engine, Tx, enqueue, first_time};
use sosohappy_store::{StoreError, retrying};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _};

use super::{Opened, Store, WriteError, fingerprint};
use crate::domain::{ConversationId, Erasure, Message, MessageDate, MessageId, MessageText, NewMessage, Party};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// In the inbox of applied events.
const CONSUMER: &str = "resigned";

/// How many messages one statement names.
const BATCH: usize = 500;

#[derive(Debug)]
struct SqliteStore {
    database: Database,
}

pub async fn open(url: &SecretUrl, max_connections: u32, context: &Context) -> Result<Opened, StoreError> {
    let database = Database::open(url, max_connections, &MIGRATIONS, context).await?;
    database.spawn_sweeper(context);
    Ok(Opened {
        outbox: database.outbox(),
        directory: database.directory(),
        presence: database.presence(),
        store: Arc::new(SqliteStore { database }),
    })
}

#[async_trait]
impl Store for SqliteStore {
    async fn keep(&self, message: &NewMessage, event: &Outgoing) -> Result<(), WriteError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            still_here(&mut tx, message).await?;
            insert(&mut tx, message).await?;
            enqueue(&mut tx, event, message.stored_at).await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(())
        })
        .await
    }

    async fn conversation(
        &self,
        one: &Account,
        other: &Account,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, sender, receiver, sender_nickname, receiver_nickname, date, text FROM message \
             WHERE conversation = ? AND date < ? ORDER BY date DESC, id DESC LIMIT ?",
        )
        .bind(ConversationId::between(one, other).as_str())
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(self.database.reader())
        .await?;
        rows.iter().rev().map(message_of).collect()
    }

    async fn newest(&self, account: &Account, limit: u32) -> Result<Vec<Message>, StoreError> {
        let rows = sqlx::query(
            "SELECT message.id, sender, receiver, sender_nickname, receiver_nickname, date, text \
             FROM conversation JOIN message ON message.id = (\
                 SELECT newest.id FROM message AS newest WHERE newest.conversation = conversation.id \
                 ORDER BY newest.date DESC, newest.id DESC LIMIT 1) \
             WHERE account = ? ORDER BY date DESC, message.id DESC LIMIT ?",
        )
        .bind(account.as_str())
        .bind(limit)
        .fetch_all(self.database.reader())
        .await?;
        rows.iter().map(message_of).collect()
    }

    async fn delivered(&self, messages: &[MessageId], at: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            for messages in messages.chunks(BATCH) {
                let mut update = QueryBuilder::<Engine>::new("UPDATE message SET delivered_at = ");
                update
                    .push_bind(at.as_millisecond())
                    .push(" WHERE delivered_at IS NULL AND id IN (");
                let mut ids = update.separated(", ");
                for message in messages {
                    ids.push_bind(message.as_str());
                }
                update.push(")").build().execute(&mut *tx).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn waits(&self, message: &MessageId) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM message WHERE id = ? AND delivered_at IS NULL")
            .bind(message.as_str())
            .fetch_optional(self.database.reader())
            .await?;
        Ok(found.is_some())
    }

    async fn erase(&self, erasure: &Erasure, receipt: &Outgoing) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            if !first_time(&mut tx, CONSUMER, erasure.event, erasure.now).await? {
                return Ok(tx.rollback().await?);
            }
            close(&mut tx, erasure).await?;
            erase_messages(&mut tx, erasure).await?;
            enqueue(&mut tx, receipt, erasure.now).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn forget_erasures(&self, before: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let forget = sqlx::query("DELETE FROM erased_account WHERE erased_until < ?").bind(before.as_millisecond());
            forget.execute(&mut *tx).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}

/// Whether the sender's token is from after their last resignation. A write transaction locks the database: no resignation crosses it.
async fn still_here(tx: &mut Tx, message: &NewMessage) -> Result<(), WriteError> {
    let erased: Option<i64> = sqlx::query_scalar("SELECT erased_until FROM erased_account WHERE account = ?")
        .bind(fingerprint(&message.message.sender.account))
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::from)?;
    match erased {
        Some(until) if message.authorized_at.as_millisecond() <= until => Err(WriteError::Resigned),
        Some(_) | None => Ok(()),
    }
}

async fn insert(
    tx: &mut Tx,
    NewMessage {
        message,
        authorized_at,
        stored_at,
    }: &NewMessage,
) -> Result<(), StoreError> {
    let conversation = message.conversation();
    for account in [&message.sender.account, &message.receiver.account] {
        sqlx::query("INSERT INTO conversation (account, id) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(account.as_str())
            .bind(conversation.as_str())
            .execute(&mut **tx)
            .await?;
    }
    sqlx::query(
        "INSERT INTO message (id, conversation, sender, receiver, sender_nickname, receiver_nickname, date, text, made_at, \
         stored_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// From here on nothing is stored that is sent with the account's older tokens.
async fn close(tx: &mut Tx, erasure: &Erasure) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO erased_account (account, erased_until) VALUES (?, ?) \
         ON CONFLICT (account) DO UPDATE SET erased_until = max(erased_account.erased_until, excluded.erased_until)",
    )
    .bind(fingerprint(&erasure.account))
    .bind(erasure.until.as_millisecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn erase_messages(tx: &mut Tx, erasure: &Erasure) -> Result<(), StoreError> {
    let (account, until) = (erasure.account.as_str(), erasure.until.as_millisecond());
    sqlx::query("DELETE FROM message WHERE sender = ? AND (stored_at <= ? OR made_at <= ?)")
        .bind(account)
        .bind(until)
        .bind(until)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM message WHERE receiver = ? AND stored_at <= ?")
        .bind(account)
        .bind(until)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "DELETE FROM conversation WHERE id IN (SELECT id FROM conversation WHERE account = ?) \
         AND NOT EXISTS (SELECT 1 FROM message WHERE message.conversation = conversation.id)",
    )
    .bind(account)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn message_of(row: &SqliteRow) -> Result<Message, StoreError> {
    let party = |account: &str, nickname: &str| -> Result<Party, StoreError> {
        let text: &str = row.try_get(account)?;
        let account = text
            .parse()
            .context("an account in the database is not one")
            .map_err(StoreError::Failed)?;
        Ok(Party {
            account,
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
            .map_err(StoreError::Failed)?,
        text: MessageText::stored(row.try_get("text")?),
    })
}
