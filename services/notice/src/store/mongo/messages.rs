use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::doc;
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::StoreError;
use sosohappy_store::mongo::ID_INDEX;

use super::pushes::parse_event;
use super::{MESSAGE_READS, MESSAGES, MongoStore, text};
use crate::store::{Conversation, Messages, ReceivedMessage};

#[async_trait]
impl Messages for MongoStore {
    /// The message is inserted as unread, and then the marks are looked up: either a mark is seen here, or what set it sees the message.
    async fn add_message(&self, message: &ReceivedMessage) -> Result<bool, StoreError> {
        let Conversation { account, sender } = &message.conversation;
        let id = message.id.to_string();
        let document = doc! {
            "_id": &id,
            "account": account.as_str(),
            "sender": sender.as_str(),
            "occurred_at": message.occurred_at.as_millisecond(),
            "unread": account.as_str(),
        };
        let messages = self.collection(MESSAGES);
        match messages.insert_one(document).await.map_err(StoreError::from) {
            Ok(_) => {}
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX => {}
            Err(error) => return Err(error),
        }
        if self
            .is_erased([Some(account), Some(sender)], message.occurred_at)
            .await?
        {
            messages.delete_one(doc! { "_id": id }).await?;
            return Ok(false);
        }
        let read = doc! { "_id": read_id(&message.conversation), "read_until": { "$gte": &id } };
        let is_read = self.collection(MESSAGE_READS).find_one(read).await?.is_some();
        if is_read || self.is_withdrawn(&[message.id], message.occurred_at).await? {
            self.handle_messages(&[message.id]).await?;
            return Ok(false);
        }
        let unread = doc! { "_id": id, "unread": account.as_str() };
        Ok(messages.find_one(unread).await?.is_some())
    }

    async fn raise_read(&self, conversation: &Conversation, up_to: EventId, at: Timestamp) -> Result<(), StoreError> {
        let Conversation { account, sender } = conversation;
        let raised = doc! {
            "$max": { "read_until": up_to.to_string(), "read_at": at.as_millisecond() },
            "$setOnInsert": { "account": account.as_str(), "sender": sender.as_str() },
        };
        let id = doc! { "_id": read_id(conversation) };
        self.upsert(MESSAGE_READS, id.clone(), raised).await?;
        // An erasure marks first: either the mark is seen here, or the erasure sees the document.
        if self.is_erased([Some(account), Some(sender)], at).await? {
            self.collection(MESSAGE_READS).delete_one(id).await?;
        }
        Ok(())
    }

    async fn unread_until(&self, conversation: &Conversation, up_to: EventId) -> Result<Vec<EventId>, StoreError> {
        let unread = doc! {
            "unread": conversation.account.as_str(),
            "sender": conversation.sender.as_str(),
            "_id": { "$lte": up_to.to_string() },
        };
        let mut found = self
            .collection(MESSAGES)
            .find(unread)
            .projection(doc! { "_id": 1 })
            .await?;
        let mut messages = Vec::new();
        while let Some(message) = found.try_next().await? {
            messages.push(parse_event(text(&message, "_id")?)?);
        }
        Ok(messages)
    }

    async fn handle_messages(&self, messages: &[EventId]) -> Result<(), StoreError> {
        let ids: Vec<String> = messages.iter().map(ToString::to_string).collect();
        self.collection(MESSAGES)
            .update_many(doc! { "_id": { "$in": ids } }, doc! { "$unset": { "unread": "" } })
            .await?;
        Ok(())
    }

    async fn unread_messages(&self, account: &Account, since: Option<Timestamp>) -> Result<u64, StoreError> {
        let mut unread = doc! { "unread": account.as_str() };
        if let Some(since) = since {
            unread.insert("occurred_at", doc! { "$gt": since.as_millisecond() });
        }
        Ok(self.collection(MESSAGES).count_documents(unread).await?)
    }
}

fn read_id(conversation: &Conversation) -> String {
    format!(
        "{}\u{1f}{}",
        conversation.account.as_str(),
        conversation.sender.as_str()
    )
}
