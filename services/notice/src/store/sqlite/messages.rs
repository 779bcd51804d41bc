use std::collections::HashSet;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::sqlite::{Engine, Tx};
use sosohappy_store::{StoreError, retrying};
use sqlx::QueryBuilder;

use super::pushes::event;
use super::{SqliteStore, is_erased, is_withdrawn, marks, push_events};
use crate::store::{Conversation, Messages, OwnRoom, Reading, ReceivedMessage, RoomMessage, STORED_AT_ONCE};

#[async_trait]
impl Messages for SqliteStore {
    async fn add_message(&self, message: &ReceivedMessage) -> Result<bool, StoreError> {
        let Conversation { account, sender } = &message.conversation;
        let id = message.id.0.as_bytes().as_slice();
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            if is_erased(&mut tx, message.people()).await?
                || is_withdrawn(&mut tx, &[message.id], message.occurred_at).await?
            {
                return Ok(false);
            }
            let read: Option<i64> =
                sqlx::query_scalar("SELECT 1 FROM message_read WHERE account = ? AND sender = ? AND read_until >= ?")
                    .bind(account.as_str())
                    .bind(sender.as_str())
                    .bind(id)
                    .fetch_optional(&mut *tx)
                    .await?;
            sqlx::query(
                "INSERT INTO message (event_id, account, sender, occurred_at, authorized_at, handled) VALUES (?, ?, ?, ?, ?, ?)
                ON CONFLICT (event_id) DO NOTHING",
            )
            .bind(id)
            .bind(account.as_str())
            .bind(sender.as_str())
            .bind(message.occurred_at.as_millisecond())
            .bind(message.authorized_at.map(Timestamp::as_millisecond))
            .bind(read.is_some())
            .execute(&mut *tx)
            .await?;
            let handled: bool = sqlx::query_scalar("SELECT handled FROM message WHERE event_id = ?")
                .bind(id)
                .fetch_one(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok::<_, StoreError>(!handled)
        })
        .await
    }

    async fn raise_read(
        &self,
        conversation: &Conversation,
        up_to: EventId,
        reading: Reading,
    ) -> Result<(), StoreError> {
        let Conversation { account, sender } = conversation;
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            let people = [Some((account, reading.authorized_at)), Some((sender, reading.at))];
            if is_erased(&mut tx, people).await? {
                return Ok(());
            }
            sqlx::query(
                "INSERT INTO message_read (account, sender, read_until, read_at, authorized_at) VALUES (?, ?, ?, ?, ?)
                ON CONFLICT (account, sender) DO UPDATE SET
                    read_until = MAX(message_read.read_until, excluded.read_until),
                    read_at = MAX(message_read.read_at, excluded.read_at),
                    authorized_at = MAX(COALESCE(message_read.authorized_at, 0), excluded.authorized_at)",
            )
            .bind(account.as_str())
            .bind(sender.as_str())
            .bind(up_to.0.as_bytes().as_slice())
            .bind(reading.at.as_millisecond())
            .bind(reading.authorized_at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn unread_until(&self, conversation: &Conversation, up_to: EventId) -> Result<Vec<EventId>, StoreError> {
        let unread: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT event_id FROM message WHERE account = ? AND sender = ? AND event_id <= ? AND handled = 0 AND room IS NULL",
        )
        .bind(conversation.account.as_str())
        .bind(conversation.sender.as_str())
        .bind(up_to.0.as_bytes().as_slice())
        .fetch_all(self.database.reader())
        .await?;
        unread.into_iter().map(event).collect()
    }

    async fn add_room_message(&self, message: &RoomMessage) -> Result<HashSet<EventId>, StoreError> {
        let subjects = message.subjects();
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            let known = marks(&mut tx, &subjects).await?;
            let receivers = message.receivers.iter().zip(&subjects);
            let wanted: Vec<&(EventId, Account)> = receivers
                .filter(|(_, subject)| known.exclusion(subject).is_none())
                .map(|(receiver, _)| receiver)
                .collect();
            if wanted.is_empty() {
                return Ok(HashSet::new());
            }
            insert_of_room(&mut tx, message, &wanted).await?;
            let ids: Vec<EventId> = wanted.iter().map(|(id, _)| *id).collect();
            let mut query =
                QueryBuilder::<Engine>::new("SELECT event_id FROM message WHERE handled = 0 AND event_id IN (");
            push_events(&mut query, &ids);
            let unread: Vec<Vec<u8>> = query.push(")").build_query_scalar().fetch_all(&mut *tx).await?;
            tx.commit().await?;
            unread
                .into_iter()
                .map(event)
                .collect::<Result<HashSet<EventId>, StoreError>>()
        })
        .await
    }

    async fn raise_room_read(&self, room: &OwnRoom, up_to: i64, reading: Reading) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            if is_erased(&mut tx, [Some((&room.account, reading.authorized_at)), None]).await? {
                return Ok(());
            }
            sqlx::query(
                "INSERT INTO room_read (room, account, read_until, read_at, authorized_at) VALUES (?, ?, ?, ?, ?)
                ON CONFLICT (room, account) DO UPDATE SET
                    read_until = MAX(room_read.read_until, excluded.read_until),
                    read_at = MAX(room_read.read_at, excluded.read_at),
                    authorized_at = MAX(COALESCE(room_read.authorized_at, 0), excluded.authorized_at)",
            )
            .bind(&room.room)
            .bind(room.account.as_str())
            .bind(up_to)
            .bind(reading.at.as_millisecond())
            .bind(reading.authorized_at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn unread_in_room(&self, room: &OwnRoom, up_to: i64) -> Result<Vec<EventId>, StoreError> {
        let unread: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT event_id FROM message WHERE account = ? AND room = ? AND number <= ? AND handled = 0",
        )
        .bind(room.account.as_str())
        .bind(&room.room)
        .bind(up_to)
        .fetch_all(self.database.reader())
        .await?;
        unread.into_iter().map(event).collect()
    }

    async fn handle_messages(&self, messages: &[EventId]) -> Result<(), StoreError> {
        if messages.is_empty() {
            return Ok(());
        }
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            for messages in messages.chunks(STORED_AT_ONCE) {
                let mut query = QueryBuilder::<Engine>::new("UPDATE message SET handled = 1 WHERE event_id IN (");
                push_events(&mut query, messages);
                query.push(")").build().execute(&mut *tx).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn unread_messages(
        &self,
        account: &Account,
        hidden: &[Account],
        since: Option<Timestamp>,
    ) -> Result<u64, StoreError> {
        let mut query = QueryBuilder::<Engine>::new("SELECT COUNT(*) FROM message WHERE handled = 0 AND account = ");
        query.push_bind(account.as_str().to_owned());
        if let Some(since) = since {
            query.push(" AND occurred_at > ").push_bind(since.as_millisecond());
        }
        if !hidden.is_empty() {
            query.push(" AND sender NOT IN (");
            let mut senders = query.separated(", ");
            for account in hidden {
                senders.push_bind(account.as_str().to_owned());
            }
            query.push(")");
        }
        let count: i64 = query.build_query_scalar().fetch_one(self.database.reader()).await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }
}

/// Inserts a message of a room for these receivers. Those who have read the room so far have it as handled.
async fn insert_of_room(
    tx: &mut Tx,
    message: &RoomMessage,
    receivers: &[&(EventId, Account)],
) -> Result<(), StoreError> {
    let readers: Vec<String> = sqlx::query_scalar("SELECT account FROM room_read WHERE room = ? AND read_until >= ?")
        .bind(&message.room)
        .bind(message.number)
        .fetch_all(&mut **tx)
        .await?;
    let mut query = QueryBuilder::<Engine>::new(
        "INSERT INTO message (event_id, account, sender, occurred_at, authorized_at, handled, room, number) ",
    );
    query.push_values(receivers, |mut row, (id, account)| {
        row.push_bind(id.0.as_bytes().to_vec())
            .push_bind(account.as_str().to_owned())
            .push_bind(message.sender.as_str().to_owned())
            .push_bind(message.occurred_at.as_millisecond())
            .push_bind(message.authorized_at.map(Timestamp::as_millisecond))
            .push_bind(readers.iter().any(|reader| reader == account.as_str()))
            .push_bind(message.room.clone())
            .push_bind(message.number);
    });
    query.push(" ON CONFLICT (event_id) DO NOTHING");
    query.build().execute(&mut **tx).await?;
    Ok(())
}
