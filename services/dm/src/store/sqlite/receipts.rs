//! Watermarks and unread messages.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::sqlite::{Engine, Tx, enqueue};
use sosohappy_store::{StoreError, retrying};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _};

use super::{BATCH, SqliteStore, account_of, stored_of};
use crate::domain::{ConversationId, Marks, MessageId, Position, Progress, Receipt, Stored};
use crate::store::{EventOf, Receipts};

/// Behind every position.
const END: &str = "~";

#[async_trait]
impl Receipts for SqliteStore {
    async fn delivered(&self, messages: &[MessageId], at: Timestamp) -> Result<Vec<Receipt>, StoreError> {
        retrying(async || {
            let mut receipts = Vec::new();
            let mut tx = self.database.begin().await?;
            for messages in messages.chunks(BATCH) {
                let mut update = QueryBuilder::<Engine>::new("UPDATE message SET push_due_at = NULL, delivered_at = ");
                update
                    .push_bind(at.as_millisecond())
                    .push(" WHERE delivered_at IS NULL AND id IN (");
                push_ids(&mut update, messages);
                update.build().execute(&mut *tx).await?;
                receipts.extend(raise_delivered(&mut tx, messages, at).await?);
            }
            tx.commit().await?;
            Ok(receipts)
        })
        .await
    }

    async fn read(
        &self,
        reader: &Account,
        sender: &Account,
        up_to: Option<&Position>,
        at: Timestamp,
        event_of: EventOf<'_>,
    ) -> Result<Option<Receipt>, StoreError> {
        let conversation = ConversationId::between(reader, sender);
        let up_to = up_to.map_or(END, Position::as_str);
        retrying(async || {
            let mut tx = self.database.begin().await?;
            sqlx::query(
                "UPDATE message SET unread = NULL, push_due_at = NULL, delivered_at = COALESCE(delivered_at, ?) \
                 WHERE receiver = ? AND conversation = ? AND unread IS NOT NULL AND position <= ?",
            )
            .bind(at.as_millisecond())
            .bind(reader.as_str())
            .bind(conversation.as_str())
            .bind(up_to)
            .execute(&mut *tx)
            .await?;
            let newest: Option<(String, i64)> = sqlx::query_as(
                "SELECT id, number FROM message WHERE conversation = ? AND number IS NOT NULL AND receiver = ? \
                 AND held IS NULL AND position <= ? ORDER BY number DESC LIMIT 1",
            )
            .bind(conversation.as_str())
            .bind(reader.as_str())
            .bind(up_to)
            .fetch_optional(&mut *tx)
            .await?;
            let Some((message, number)) = newest else {
                tx.commit().await?;
                return Ok(None);
            };
            let raised = sqlx::query(
                "INSERT INTO watermark (conversation, reader, delivered, read) VALUES (?1, ?2, ?3, ?3) \
                 ON CONFLICT (conversation, reader) DO UPDATE SET read = excluded.read, \
                 delivered = MAX(delivered, excluded.delivered) WHERE read < excluded.read",
            )
            .bind(conversation.as_str())
            .bind(reader.as_str())
            .bind(number)
            .execute(&mut *tx)
            .await?;
            let receipt = (raised.rows_affected() > 0).then(|| Receipt {
                reader: reader.clone(),
                sender: sender.clone(),
                progress: Progress::Read,
                message: MessageId::stored(message),
                number,
                at,
            });
            if let Some(receipt) = &receipt {
                enqueue(&mut tx, &event_of(receipt), at).await?;
            }
            tx.commit().await?;
            Ok(receipt)
        })
        .await
    }

    async fn unread(&self, account: &Account, hidden: &[Account]) -> Result<u64, StoreError> {
        let mut query = QueryBuilder::<Engine>::new("SELECT COUNT(*) FROM message WHERE receiver = ");
        query
            .push_bind(account.as_str())
            .push(" AND unread IS NOT NULL AND hidden_at IS NULL");
        if !hidden.is_empty() {
            query.push(" AND sender NOT IN (");
            let mut senders = query.separated(", ");
            for sender in hidden {
                senders.push_bind(sender.as_str());
            }
            query.push(")");
        }
        let count: i64 = query.build_query_scalar().fetch_one(self.database.reader()).await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    async fn sent(
        &self,
        account: &Account,
        before: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<(Stored, bool)>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT delivered_at IS NOT NULL AS is_delivered, ",
            stored_columns!(),
            " FROM message WHERE sender = ? AND position < ? ORDER BY position DESC LIMIT ?"
        ))
        .bind(account.as_str())
        .bind(before.map_or(END, Position::as_str))
        .bind(limit)
        .fetch_all(self.database.reader())
        .await?;
        rows.iter()
            .map(|row| Ok((stored_of(row)?, row.try_get("is_delivered")?)))
            .collect()
    }

    async fn own(&self, account: &Account, before: Option<&Position>, limit: u32) -> Result<Vec<Stored>, StoreError> {
        // Each side from its index; a message to oneself is in both.
        let rows = sqlx::query(concat!(
            "SELECT ",
            stored_columns!(),
            " FROM message WHERE id IN (\
                 SELECT id FROM (SELECT id FROM message WHERE sender = ?1 AND position < ?2 ORDER BY position DESC LIMIT ?3) \
                 UNION \
                 SELECT id FROM (SELECT id FROM message WHERE receiver = ?1 AND held IS NULL AND position < ?2 ORDER BY position DESC LIMIT ?3)) \
             ORDER BY position DESC LIMIT ?3"
        ))
        .bind(account.as_str())
        .bind(before.map_or(END, Position::as_str))
        .bind(limit)
        .fetch_all(self.database.reader())
        .await?;
        rows.iter().map(stored_of).collect()
    }

    async fn marks(
        &self,
        account: &Account,
        others: &[&Account],
    ) -> Result<HashMap<ConversationId, Marks>, StoreError> {
        let mut marks = HashMap::new();
        for others in others.chunks(BATCH) {
            let mut query = QueryBuilder::<Engine>::new("WITH wanted (conversation, other) AS (");
            query.push_values(others, |mut row, other| {
                row.push_bind(ConversationId::between(account, other).as_str().to_owned())
                    .push_bind(other.as_str());
            });
            query
                .push(
                    ") SELECT wanted.other, COALESCE(delivered, 0) AS delivered, COALESCE(read, 0) AS read, \
                     (SELECT COUNT(*) FROM message WHERE receiver = ",
                )
                .push_bind(account.as_str())
                .push(
                    " AND message.conversation = wanted.conversation AND unread IS NOT NULL AND hidden_at IS NULL) AS unread \
                     FROM wanted LEFT JOIN watermark ON watermark.conversation = wanted.conversation AND reader = wanted.other",
                );
            for row in query.build().fetch_all(self.database.reader()).await? {
                let other = account_of(&row, "other")?;
                let unread: i64 = row.try_get("unread")?;
                let found = Marks {
                    unread: u64::try_from(unread).unwrap_or_default(),
                    delivered: row.try_get("delivered")?,
                    read: row.try_get("read")?,
                };
                marks.insert(ConversationId::between(account, &other), found);
            }
        }
        Ok(marks)
    }
}

fn push_ids(query: &mut QueryBuilder<Engine>, messages: &[MessageId]) {
    let mut ids = query.separated(", ");
    for message in messages {
        ids.push_bind(message.as_str().to_owned());
    }
    query.push(")");
}

/// Raises the watermarks of delivered messages; returns the receipts for senders on version 2.
async fn raise_delivered(tx: &mut Tx, messages: &[MessageId], at: Timestamp) -> Result<Vec<Receipt>, StoreError> {
    // Beside MAX, SQLite takes the other columns from the row that has it.
    let mut query = QueryBuilder::<Engine>::new(
        "SELECT id, conversation, sender, receiver, client_key IS NOT NULL AS is_awaited, MAX(number) AS number FROM message \
         WHERE number IS NOT NULL AND id IN (",
    );
    push_ids(&mut query, messages);
    query.push(" GROUP BY conversation, receiver");
    let newest = query.build().fetch_all(&mut **tx).await?;
    if newest.is_empty() {
        return Ok(Vec::new());
    }
    let mut raise = QueryBuilder::<Engine>::new("INSERT INTO watermark (conversation, reader, delivered) ");
    let mut rows = Vec::with_capacity(newest.len());
    for row in &newest {
        rows.push((
            text(row, "conversation")?,
            text(row, "receiver")?,
            row.try_get::<i64, _>("number")?,
        ));
    }
    raise.push_values(&rows, |mut values, (conversation, reader, number)| {
        values.push_bind(conversation).push_bind(reader).push_bind(number);
    });
    raise.push(
        " ON CONFLICT (conversation, reader) DO UPDATE SET delivered = excluded.delivered \
         WHERE delivered < excluded.delivered RETURNING conversation, reader",
    );
    let mut raised = std::collections::HashSet::new();
    for row in raise.build().fetch_all(&mut **tx).await? {
        raised.insert((text(&row, "conversation")?, text(&row, "reader")?));
    }
    let mut receipts = Vec::new();
    for row in &newest {
        let key = (text(row, "conversation")?, text(row, "receiver")?);
        if !raised.contains(&key) || !row.try_get::<bool, _>("is_awaited")? {
            continue;
        }
        receipts.push(Receipt {
            reader: account_of(row, "receiver")?,
            sender: account_of(row, "sender")?,
            progress: Progress::Delivered,
            message: MessageId::stored(text(row, "id")?),
            number: row.try_get("number")?,
            at,
        });
    }
    Ok(receipts)
}

fn text(row: &SqliteRow, column: &str) -> Result<String, StoreError> {
    Ok(row.try_get(column)?)
}
