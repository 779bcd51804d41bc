//! Messages in MongoDB. A message is one document with its event in it.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{Collection, IndexModel};
use sosohappy_common::settings::SecretUrl;
use sosohappy_common::{Account, Context};
use sosohappy_events::Outgoing;
use sosohappy_store::mongo::{Database, OUTBOX, outbox_field};
use sosohappy_store::{StoreError, retrying};

use super::{Opened, Store, WriteError, fingerprint};
use crate::domain::{ConversationId, Erasure, Message, MessageDate, MessageId, MessageText, NewMessage, Party};

/// `messageRoomId`, `date`, `sender`, `receiver`, `text` as the first fleet had them, and what it did not have: the accounts,
/// the hash that names the two of them, times.
const MESSAGES: &str = "message";

/// One document an applied resignation, `_id` its event: keeps the receipt until it is published and the event from being applied
/// again.
const RESIGNATIONS: &str = "resignation";

/// `_id` (SHA-256 of the account), `erasedUntil`.
const ERASED: &str = "erased_account";

#[derive(Debug)]
struct MongoStore {
    database: Database,
}

pub async fn open(url: &SecretUrl, context: &Context) -> Result<Opened, StoreError> {
    let database = Database::open(url, context).await?;
    let store = MongoStore {
        database: database.clone(),
    };
    store.make_indexes().await?;
    database.spawn_sweeper(context);
    Ok(Opened {
        outbox: database.outbox(&[MESSAGES, RESIGNATIONS]),
        directory: database.directory(),
        presence: database.presence(),
        store: Arc::new(store),
    })
}

impl MongoStore {
    fn collection(&self, name: &str) -> Collection<Document> {
        self.database.database().collection(name)
    }

    async fn make_indexes(&self) -> Result<(), StoreError> {
        let index = |name: &str, keys: Document| {
            IndexModel::builder()
                .keys(keys)
                .options(IndexOptions::builder().name(name.to_owned()).build())
                .build()
        };
        let messages = [
            index(
                "message_conversation",
                doc! { "conversation": 1, "date": -1, "_id": -1 },
            ),
            index(
                "message_newest",
                doc! { "accounts": 1, "conversation": 1, "date": -1, "_id": -1 },
            ),
        ];
        self.collection(MESSAGES).create_indexes(messages).await?;
        let erased = index("erased_account_erased_until", doc! { "erasedUntil": 1 });
        self.collection(ERASED).create_index(erased).await?;
        let resignations = index("resignation_applied_at", doc! { "appliedAt": 1 });
        self.collection(RESIGNATIONS).create_index(resignations).await?;
        Ok(())
    }

    /// Whether the sender's token is from after their last resignation.
    async fn still_here(&self, message: &NewMessage) -> Result<(), WriteError> {
        let resigned = doc! {
            "_id": fingerprint(&message.message.sender.account),
            "erasedUntil": { "$gte": message.authorized_at.as_millisecond() },
        };
        match self
            .collection(ERASED)
            .find_one(resigned)
            .await
            .map_err(StoreError::from)?
        {
            Some(_) => Err(WriteError::Resigned),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Store for MongoStore {
    /// A resignation that crosses this either marks the account before the second look, which then takes the message back, or looks for
    /// messages after it and finds this one. Who resigns at the very moment a process of ours is killed between the insert and the second
    /// look leaves a message that only its receiver sees.
    async fn keep(&self, message: &NewMessage, event: &Outgoing) -> Result<(), WriteError> {
        self.still_here(message).await?;
        let document = document(message, event);
        let messages = self.collection(MESSAGES);
        match retrying(async || Ok::<_, StoreError>(messages.insert_one(&document).await?)).await {
            // The id is ours alone: an earlier attempt did it.
            Ok(_) | Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let here = self.still_here(message).await;
        if matches!(here, Err(WriteError::Resigned)) {
            let ours = doc! { "_id": message.message.id.as_str() };
            messages.delete_one(ours).await.map_err(StoreError::from)?;
        }
        here
    }

    async fn conversation(
        &self,
        one: &Account,
        other: &Account,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let between = doc! {
            "conversation": ConversationId::between(one, other).as_str(),
            "date": { "$lt": before.unwrap_or(i64::MAX) },
        };
        let found: Vec<Document> = self
            .collection(MESSAGES)
            .find(between)
            .sort(doc! { "date": -1, "_id": -1 })
            .limit(limit.into())
            .projection(doc! { OUTBOX: 0 })
            .await?
            .try_collect()
            .await?;
        found.iter().rev().map(message_of).collect()
    }

    async fn newest(&self, account: &Account, limit: u32) -> Result<Vec<Message>, StoreError> {
        let pipeline = [
            doc! { "$match": { "accounts": account.as_str() } },
            doc! { "$sort": { "conversation": 1, "date": -1, "_id": -1 } },
            doc! { "$group": { "_id": "$conversation", "newest": { "$first": "$$ROOT" } } },
            doc! { "$replaceRoot": { "newRoot": "$newest" } },
            doc! { "$sort": { "date": -1, "_id": -1 } },
            doc! { "$limit": i64::from(limit) },
        ];
        let found: Vec<Document> = self
            .collection(MESSAGES)
            .aggregate(pipeline)
            .await?
            .try_collect()
            .await?;
        found.iter().map(message_of).collect()
    }

    async fn delivered(&self, messages: &[MessageId], at: Timestamp) -> Result<(), StoreError> {
        let ids: Vec<&str> = messages.iter().map(MessageId::as_str).collect();
        let waiting = doc! { "_id": { "$in": ids }, "deliveredAt": null };
        let shown = doc! { "$set": { "deliveredAt": at.as_millisecond() } };
        self.collection(MESSAGES).update_many(waiting, shown).await?;
        Ok(())
    }

    async fn waits(&self, message: &MessageId) -> Result<bool, StoreError> {
        let waiting = doc! { "_id": message.as_str(), "deliveredAt": null };
        Ok(self.collection(MESSAGES).find_one(waiting).await?.is_some())
    }

    /// Step by step, each of which may be done again; the receipt is the last.
    async fn erase(&self, erasure: &Erasure, receipt: &Outgoing) -> Result<(), StoreError> {
        let until = erasure.until.as_millisecond();
        let event = erasure.event.to_string();
        let resignations = self.collection(RESIGNATIONS);
        if resignations.find_one(doc! { "_id": &event }).await?.is_some() {
            return Ok(());
        }
        let mark = doc! { "$max": { "erasedUntil": until } };
        let marked = retrying(async || {
            let erased = self.collection(ERASED);
            Ok::<_, StoreError>(
                erased
                    .update_one(doc! { "_id": fingerprint(&erasure.account) }, mark.clone())
                    .upsert(true)
                    .await?,
            )
        });
        marked.await?;
        let account = erasure.account.as_str();
        let theirs = doc! {
            "accounts": account,
            "$or": [{ "storedAt": { "$lte": until } }, { "senderAccount": account, "madeAt": { "$lte": until } }],
        };
        self.collection(MESSAGES).delete_many(theirs).await?;
        let applied = doc! { "_id": event, "appliedAt": erasure.now.as_millisecond(), OUTBOX: outbox_field(receipt) };
        match resignations.insert_one(applied).await.map_err(StoreError::from) {
            // Another replica was faster, with a receipt of its own.
            Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn forget_erasures(&self, before: Timestamp) -> Result<(), StoreError> {
        let before = before.as_millisecond();
        self.collection(ERASED)
            .delete_many(doc! { "erasedUntil": { "$lt": before } })
            .await?;
        let published = doc! { "appliedAt": { "$lt": before }, OUTBOX: null };
        self.collection(RESIGNATIONS).delete_many(published).await?;
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}

fn document(
    NewMessage {
        message,
        authorized_at,
        stored_at,
    }: &NewMessage,
    event: &Outgoing,
) -> Document {
    let (sender, receiver) = (&message.sender, &message.receiver);
    let mut nicknames = [sender.nickname.as_str(), receiver.nickname.as_str()];
    nicknames.sort_unstable();
    let mut accounts = vec![sender.account.as_str(), receiver.account.as_str()];
    accounts.dedup();
    doc! {
        "_id": message.id.as_str(),
        "messageRoomId": nicknames.join(","),
        "date": i64::from(message.date),
        "sender": &sender.nickname,
        "receiver": &receiver.nickname,
        "text": message.text.as_str(),
        "senderAccount": sender.account.as_str(),
        "receiverAccount": receiver.account.as_str(),
        "accounts": accounts,
        "conversation": message.conversation().as_str(),
        "madeAt": authorized_at.as_millisecond(),
        "storedAt": stored_at.as_millisecond(),
        OUTBOX: outbox_field(event),
    }
}

fn message_of(document: &Document) -> Result<Message, StoreError> {
    read(document)
        .context("a message in the database is not one")
        .map_err(StoreError::Failed)
}

fn read(document: &Document) -> anyhow::Result<Message> {
    let text = |field: &str| -> anyhow::Result<String> { Ok(document.get_str(field)?.to_owned()) };
    Ok(Message {
        id: MessageId::stored(text("_id")?),
        sender: Party {
            account: text("senderAccount")?.parse()?,
            nickname: text("sender")?,
        },
        receiver: Party {
            account: text("receiverAccount")?.parse()?,
            nickname: text("receiver")?,
        },
        date: MessageDate::try_from(document.get_i64("date")?)?,
        text: MessageText::stored(text("text")?),
    })
}
