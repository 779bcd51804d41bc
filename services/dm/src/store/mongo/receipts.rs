//! Watermarks and unread messages.

use std::collections::HashMap;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Bson, Document, doc};
use sosohappy_common::Account;
use sosohappy_events::Outgoing;
use sosohappy_store::StoreError;
use sosohappy_store::mongo::{ID_INDEX, OUTBOX, outbox_field};

use super::MongoStore;
use super::documents::{ids_of, message_of, stored_of};
use super::fields::{CLIENT_KEY, HELD, HIDDEN_AT, MESSAGES, NUMBER, POSITION, UNREAD, unread};
use super::indexes::{index, partial, sparse};
use crate::domain::{ConversationId, Marks, MessageId, Position, Progress, Receipt, Stored};
use crate::store::{EventOf, Receipts};

/// `_id` (conversation, a colon, SHA-256 of the reader), `accounts` (SHA-256 of both), `delivered`, `read`: numbers in the conversation.
const WATERMARKS: &str = "watermark";

/// One document for each raise of `read`, with its event: `_id` (that of the watermark, a colon, the number with 12 digits), `accounts`
/// (SHA-256 of both), `readAt`. Of a room the `_id` begins with the room's, and `accounts` has the reader only.
pub(super) const READS: &str = "message_read";

fn watermark(conversation: &ConversationId, reader: &Account) -> String {
    format!("{}:{}", conversation.as_str(), reader.fingerprint())
}

impl MongoStore {
    pub(super) async fn make_receipt_indexes(&self) -> Result<(), StoreError> {
        self.collection(MESSAGES)
            .create_index(sparse("message_unread", doc! { UNREAD: 1 }))
            .await?;
        let hidden = doc! { HIDDEN_AT: { "$exists": true } };
        self.collection(MESSAGES)
            .create_index(partial(
                "message_unread_hidden",
                doc! { UNREAD: 1, HIDDEN_AT: 1 },
                hidden,
            ))
            .await?;
        self.collection(WATERMARKS)
            .create_index(sparse("watermark_accounts", doc! { "accounts": 1 }))
            .await?;
        let reads = [
            index("message_read_accounts", doc! { "accounts": 1 }),
            index("message_read_read_at", doc! { "readAt": 1 }),
        ];
        self.collection(READS).create_indexes(reads).await?;
        Ok(())
    }

    /// Raises a watermark; false if it is as high already.
    async fn raise(&self, receipt: &Receipt) -> Result<bool, StoreError> {
        let conversation = ConversationId::between(&receipt.reader, &receipt.sender);
        let (field, raised) = match receipt.progress {
            Progress::Delivered => ("delivered", doc! { "delivered": receipt.number }),
            Progress::Read => ("read", doc! { "delivered": receipt.number, "read": receipt.number }),
        };
        let lower = doc! {
            "_id": watermark(&conversation, &receipt.reader),
            "$or": [{ field: null }, { field: { "$lt": receipt.number } }],
        };
        let accounts = [receipt.reader.fingerprint(), receipt.sender.fingerprint()];
        let update = doc! { "$max": raised, "$setOnInsert": { "accounts": accounts.as_slice() } };
        let written = self
            .collection(WATERMARKS)
            .update_one(lower.clone(), update.clone())
            .upsert(true)
            .await;
        match written.map_err(StoreError::from) {
            Ok(_) => Ok(true),
            // It is there: as high, or inserted meanwhile.
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX => {
                let raised = self.collection(WATERMARKS).update_one(lower, update).await?;
                Ok(raised.matched_count > 0)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the event of a read receipt, unless the watermark is as high already.
    async fn write_event(&self, receipt: &Receipt, event_of: EventOf<'_>) -> Result<(), StoreError> {
        let conversation = ConversationId::between(&receipt.reader, &receipt.sender);
        let watermark = watermark(&conversation, &receipt.reader);
        let raised = doc! { "_id": &watermark, "read": { "$gte": receipt.number } };
        if self.collection(WATERMARKS).find_one(raised).await?.is_some() {
            return Ok(());
        }
        let accounts = [receipt.reader.fingerprint(), receipt.sender.fingerprint()];
        let document = doc! {
            "_id": format!("{watermark}:{:012}", receipt.number),
            "accounts": accounts.as_slice(),
            "readAt": receipt.at.as_millisecond(),
            OUTBOX: outbox_field(&event_of(receipt)),
        };
        let written = self.collection(READS).insert_one(document).await;
        match written.map_err(StoreError::from) {
            // Another call for the same message has written it.
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX => Ok(()),
            written => written.map(|_| ()),
        }
    }

    /// Writes the event of a member's reading a room up to a number, once.
    pub(super) async fn write_room_read(
        &self,
        room: &str,
        person: &str,
        number: i64,
        at: Timestamp,
        event: &Outgoing,
    ) -> Result<(), StoreError> {
        let document = doc! {
            "_id": format!("{room}:{person}:{number:012}"),
            "accounts": [person],
            "readAt": at.as_millisecond(),
            OUTBOX: outbox_field(event),
        };
        let written = self.collection(READS).insert_one(document).await;
        match written.map_err(StoreError::from) {
            // Another call for the same message has written it.
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX => Ok(()),
            written => written.map(|_| ()),
        }
    }

    /// Deletes published events of read receipts from before a moment.
    pub(super) async fn forget_reads(&self, before: i64) -> Result<(), StoreError> {
        let published = doc! { "readAt": { "$lt": before }, OUTBOX: null };
        self.collection(READS).delete_many(published).await?;
        Ok(())
    }

    pub(super) async fn forget_watermarks(&self, person: &str) -> Result<(), StoreError> {
        self.collection(READS).delete_many(doc! { "accounts": person }).await?;
        self.collection(WATERMARKS)
            .delete_many(doc! { "accounts": person })
            .await?;
        Ok(())
    }
}

#[async_trait]
impl Receipts for MongoStore {
    async fn delivered(&self, messages: &[MessageId], at: Timestamp) -> Result<Vec<Receipt>, StoreError> {
        let collection = self.collection(MESSAGES);
        let waiting = doc! { "_id": ids_of(messages), "deliveredAt": null };
        let shown = doc! { "$set": { "deliveredAt": at.as_millisecond() }, "$unset": { "pushDueAt": "" } };
        collection.update_many(waiting, shown).await?;
        let numbered = doc! { "_id": ids_of(messages), NUMBER: { "$gt": 0 } };
        let found: Vec<Document> = collection
            .find(numbered)
            .sort(doc! { NUMBER: 1 })
            .await?
            .try_collect()
            .await?;
        let mut newest = HashMap::new();
        for document in &found {
            let message = message_of(document)?;
            let receipt = Receipt {
                reader: message.receiver.account,
                sender: message.sender.account,
                progress: Progress::Delivered,
                message: message.id,
                number: document.get_i64(NUMBER).unwrap_or_default(),
                at,
            };
            let key = (receipt.sender.clone(), receipt.reader.clone());
            newest.insert(key, (receipt, document.contains_key(CLIENT_KEY)));
        }
        let raise = newest.into_values().map(async |(receipt, is_awaited)| {
            let told = self.raise(&receipt).await? && is_awaited;
            Ok::<_, StoreError>(told.then_some(receipt))
        });
        let receipts = futures::future::try_join_all(raise).await?;
        Ok(receipts.into_iter().flatten().collect())
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
        let messages = self.collection(MESSAGES);
        let mut received = doc! { "conversation": conversation.as_str(), "receiverAccount": reader.as_str() };
        let mut unread = doc! { UNREAD: unread(reader, &conversation) };
        if let Some(up_to) = up_to {
            let up_to = doc! { "$lte": up_to.as_str() };
            received.insert(POSITION, up_to.clone());
            unread.insert(POSITION, up_to);
        }
        received.insert(NUMBER, doc! { "$gt": 0 });
        received.insert(HELD, Bson::Null);
        // The watermark first: after a crash in between, the call is made again for the messages that are still unread.
        let newest = messages.find_one(received).sort(doc! { POSITION: -1 }).await?;
        let mut receipt = None;
        if let Some(newest) = newest {
            let found = Receipt {
                reader: reader.clone(),
                sender: sender.clone(),
                progress: Progress::Read,
                message: message_of(&newest)?.id,
                number: newest.get_i64(NUMBER).unwrap_or_default(),
                at,
            };
            // Before the watermark: a call after a crash in between writes the event again, which changes nothing.
            self.write_event(&found, event_of).await?;
            receipt = self.raise(&found).await?.then_some(found);
        }
        let undelivered = {
            let mut undelivered = unread.clone();
            undelivered.insert("deliveredAt", Bson::Null);
            undelivered
        };
        let delivered = doc! { "$set": { "deliveredAt": at.as_millisecond() } };
        messages.update_many(undelivered, delivered).await?;
        let read = doc! { "$unset": { UNREAD: "", "pushDueAt": "" } };
        messages.update_many(unread, read).await?;
        Ok(receipt)
    }

    async fn unread(&self, account: &Account, hidden: &[Account]) -> Result<u64, StoreError> {
        let person = account.fingerprint();
        // The character after the colon.
        let mut theirs = doc! { "$gt": format!("{person}:"), "$lt": format!("{person};") };
        if !hidden.is_empty() {
            let hidden = hidden
                .iter()
                .map(|sender| unread(account, &ConversationId::between(account, sender)));
            theirs.insert("$nin", hidden.collect::<Vec<_>>());
        }
        // Two counts, each of an index alone: no index says of a message that it has no `hiddenAt`, so that each would be read.
        let messages = self.collection(MESSAGES);
        let all = messages.count_documents(doc! { UNREAD: theirs.clone() });
        let moderated = messages.count_documents(doc! { UNREAD: theirs, HIDDEN_AT: { "$gt": i64::MIN } });
        let (all, moderated) = futures::try_join!(all.into_future(), moderated.into_future())?;
        Ok(all.saturating_sub(moderated))
    }

    async fn sent(
        &self,
        account: &Account,
        before: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<(Stored, bool)>, StoreError> {
        let mut sent = doc! { "from": account.fingerprint() };
        if let Some(before) = before {
            sent.insert(POSITION, doc! { "$lt": before.as_str() });
        }
        let found: Vec<Document> = self
            .collection(MESSAGES)
            .find(sent)
            .sort(doc! { POSITION: -1 })
            .limit(limit.into())
            .await?
            .try_collect()
            .await?;
        let delivered = |document: &Document| document.contains_key("deliveredAt");
        found
            .iter()
            .map(|document| Ok((stored_of(document)?, delivered(document))))
            .collect()
    }

    async fn own(&self, account: &Account, before: Option<&Position>, limit: u32) -> Result<Vec<Stored>, StoreError> {
        let mut own = doc! { "accounts": account.fingerprint() };
        if let Some(before) = before {
            own.insert(POSITION, doc! { "$lt": before.as_str() });
        }
        let messages = self.collection(MESSAGES);
        let found = messages
            .find(own)
            .sort(doc! { POSITION: -1 })
            .limit(limit.into())
            .await?;
        let found: Vec<Document> = found.try_collect().await?;
        found.iter().map(stored_of).collect()
    }

    async fn marks(
        &self,
        account: &Account,
        others: &[&Account],
    ) -> Result<HashMap<ConversationId, Marks>, StoreError> {
        let conversations: Vec<_> = others
            .iter()
            .map(|other| (ConversationId::between(account, other), *other))
            .collect();
        let keys: Vec<String> = conversations.iter().map(|(id, _)| unread(account, id)).collect();
        let counts = [
            doc! { "$match": { UNREAD: { "$in": &keys }, HIDDEN_AT: null } },
            doc! { "$group": { "_id": format!("${UNREAD}"), "count": { "$sum": 1_i64 } } },
        ];
        let (messages, collection) = (self.collection(MESSAGES), self.collection(WATERMARKS));
        let counts = messages.aggregate(counts);
        let ids: Vec<String> = conversations.iter().map(|(id, other)| watermark(id, other)).collect();
        let watermarks = collection.find(doc! { "_id": { "$in": &ids } });
        let (counts, watermarks) =
            futures::try_join!(async { counts.await?.try_collect::<Vec<Document>>().await }, async {
                watermarks.await?.try_collect::<Vec<Document>>().await
            })?;
        let by_id = |documents: Vec<Document>| -> HashMap<String, Document> {
            let named = documents
                .into_iter()
                .filter_map(|it| Some((it.get_str("_id").ok()?.to_owned(), it)));
            named.collect()
        };
        let (counts, watermarks) = (by_id(counts), by_id(watermarks));
        // A server may answer a small sum as a 32-bit number. A field that is missing is a mark that was not set.
        let number = |document: Option<&Document>, field: &str| match document.and_then(|found| found.get(field)) {
            Some(Bson::Int64(number)) => *number,
            Some(Bson::Int32(number)) => (*number).into(),
            _ => 0,
        };
        let marks = conversations
            .into_iter()
            .zip(keys)
            .zip(ids)
            .map(|(((id, _), key), watermark)| {
                let watermark = watermarks.get(&watermark);
                let marks = Marks {
                    unread: u64::try_from(number(counts.get(&key), "count")).unwrap_or_default(),
                    delivered: number(watermark, "delivered"),
                    read: number(watermark, "read"),
                };
                (id, marks)
            });
        Ok(marks.collect())
    }
}
