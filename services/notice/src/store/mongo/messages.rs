use std::collections::HashSet;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::mongo::ID_INDEX;
use sosohappy_store::{StoreError, retrying};

use super::pushes::parse_event;
use super::{MESSAGE_READS, MESSAGES, MongoStore, ROOM_READS, text};
use crate::store::{Added, Conversation, Messages, OwnRoom, Reading, ReceivedMessage, RoomMessage};

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
            "authorized_at": message.authorized_at.map(Timestamp::as_millisecond),
            "unread": account.as_str(),
        };
        let messages = self.collection(MESSAGES);
        match messages.insert_one(document).await.map_err(StoreError::from) {
            Ok(_) => {}
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX => {}
            Err(error) => return Err(error),
        }
        if self.is_erased(message.people()).await? {
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

    async fn raise_read(
        &self,
        conversation: &Conversation,
        up_to: EventId,
        reading: Reading,
    ) -> Result<(), StoreError> {
        let Conversation { account, sender } = conversation;
        let mut later = moments_of(reading);
        later.insert("read_until", up_to.to_string());
        let raised = doc! {
            "$max": later,
            "$setOnInsert": { "account": account.as_str(), "sender": sender.as_str() },
        };
        let id = doc! { "_id": read_id(conversation) };
        self.upsert(MESSAGE_READS, id.clone(), raised).await?;
        // An erasure marks first: either the mark is seen here, or the erasure sees the document.
        let people = [Some((account, reading.authorized_at)), Some((sender, reading.at))];
        if self.is_erased(people).await? {
            self.collection(MESSAGE_READS)
                .delete_one(up_to_reading(id, reading))
                .await?;
        }
        Ok(())
    }

    async fn unread_until(&self, conversation: &Conversation, up_to: EventId) -> Result<Vec<EventId>, StoreError> {
        let unread = doc! {
            "unread": conversation.account.as_str(),
            "sender": conversation.sender.as_str(),
            "_id": { "$lte": up_to.to_string() },
            "room": null,
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

    /// As [`Messages::add_message`]: the message is inserted as unread, and then the marks are looked up.
    async fn add_room_message(&self, message: &RoomMessage) -> Result<HashSet<EventId>, StoreError> {
        retrying(|| self.insert_of_room(message)).await?;
        let subjects = message.subjects();
        let marks = self.marks(&subjects).await?;
        let read = doc! { "room": &message.room, "read_until": { "$gte": message.number } };
        let readers: Vec<Document> = self.collection(ROOM_READS).find(read).await?.try_collect().await?;
        let readers: HashSet<&str> = readers.iter().filter_map(|read| read.get_str("account").ok()).collect();
        let (mut erased, mut handled) = (Vec::new(), Vec::new());
        for ((id, account), subject) in message.receivers.iter().zip(&subjects) {
            let exclusion = marks.exclusion(subject);
            if exclusion == Some(Added::Erased) {
                erased.push(id.to_string());
            } else if exclusion.is_some() || readers.contains(account.as_str()) {
                handled.push(*id);
            }
        }
        let messages = self.collection(MESSAGES);
        if !erased.is_empty() {
            messages.delete_many(doc! { "_id": { "$in": erased } }).await?;
        }
        if !handled.is_empty() {
            self.handle_messages(&handled).await?;
        }
        let unread = doc! { "_id": { "$in": ids(message) }, "unread": { "$exists": true } };
        let mut found = messages.find(unread).projection(doc! { "_id": 1 }).await?;
        let mut unread = HashSet::new();
        while let Some(message) = found.try_next().await? {
            unread.insert(parse_event(text(&message, "_id")?)?);
        }
        Ok(unread)
    }

    async fn raise_room_read(&self, room: &OwnRoom, up_to: i64, reading: Reading) -> Result<(), StoreError> {
        let (account, room) = (&room.account, &room.room);
        let mut later = moments_of(reading);
        later.insert("read_until", up_to);
        let raised = doc! {
            "$max": later,
            "$setOnInsert": { "account": account.as_str(), "room": room },
        };
        let id = doc! { "_id": format!("{}\u{1f}{room}", account.as_str()) };
        self.upsert(ROOM_READS, id.clone(), raised).await?;
        // An erasure marks first: either the mark is seen here, or the erasure sees the document.
        if self.is_erased([Some((account, reading.authorized_at)), None]).await? {
            self.collection(ROOM_READS)
                .delete_one(up_to_reading(id, reading))
                .await?;
        }
        Ok(())
    }

    async fn unread_in_room(&self, room: &OwnRoom, up_to: i64) -> Result<Vec<EventId>, StoreError> {
        let unread = doc! { "unread": room.account.as_str(), "room": &room.room, "number": { "$lte": up_to } };
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

    async fn unread_messages(
        &self,
        account: &Account,
        hidden: &[Account],
        since: Option<Timestamp>,
    ) -> Result<u64, StoreError> {
        let mut unread = doc! { "unread": account.as_str() };
        if !hidden.is_empty() {
            let hidden: Vec<&str> = hidden.iter().map(AsRef::as_ref).collect();
            unread.insert("sender", doc! { "$nin": hidden });
        }
        if let Some(since) = since {
            unread.insert("occurred_at", doc! { "$gt": since.as_millisecond() });
        }
        Ok(self.collection(MESSAGES).count_documents(unread).await?)
    }
}

fn ids(message: &RoomMessage) -> Vec<String> {
    message.receivers.iter().map(|(id, _)| id.to_string()).collect()
}

impl MongoStore {
    /// Inserts a message of a room for those of its receivers who do not have it.
    async fn insert_of_room(&self, message: &RoomMessage) -> Result<(), StoreError> {
        let messages = self.collection(MESSAGES);
        let known = messages
            .find(doc! { "_id": { "$in": ids(message) } })
            .projection(doc! { "_id": 1 })
            .await?;
        let known: Vec<Document> = known.try_collect().await?;
        let known: HashSet<&str> = known.iter().filter_map(|known| known.get_str("_id").ok()).collect();
        let new = message
            .receivers
            .iter()
            .filter(|(id, _)| !known.contains(id.to_string().as_str()));
        let documents = new.map(|(id, account)| {
            doc! {
                "_id": id.to_string(),
                "account": account.as_str(),
                "sender": message.sender.as_str(),
                "room": &message.room,
                "number": message.number,
                "occurred_at": message.occurred_at.as_millisecond(),
                "authorized_at": message.authorized_at.map(Timestamp::as_millisecond),
                "unread": account.as_str(),
            }
        });
        let documents: Vec<Document> = documents.collect();
        if !documents.is_empty() {
            let inserted = messages.insert_many(documents).ordered(false).await;
            // Another replica has inserted one of them since: look again.
            inserted.map_err(|error| StoreError::from(error).retry_if_taken(&[ID_INDEX]))?;
        }
        Ok(())
    }
}

/// Returns the fields that say when messages were read.
fn moments_of(reading: Reading) -> Document {
    doc! { "read_at": reading.at.as_millisecond(), "authorized_at": reading.authorized_at.as_millisecond() }
}

/// Returns the condition that nothing was read there later, or with a newer access token: that is of the next account of the address.
fn up_to_reading(mut id: Document, reading: Reading) -> Document {
    for (field, moment) in moments_of(reading) {
        id.insert(field, doc! { "$lte": moment });
    }
    id
}

fn read_id(conversation: &Conversation) -> String {
    format!(
        "{}\u{1f}{}",
        conversation.account.as_str(),
        conversation.sender.as_str()
    )
}
