//! Messages that are sent later.

use anyhow::Context as _;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use sosohappy_common::Account;
use sosohappy_store::StoreError;

use super::MongoStore;
use super::documents::timestamp;
use crate::domain::{MOST_SCHEDULED, MessageText, Scheduled};
use crate::store::Schedule;

/// `_id`, `sender`, `receiver`, `accounts` (SHA-256 of both), `receiverNickname`, `text`, `sendAt`, `authorizedAt`; `dueAt` is `sendAt`, or while a
/// replica sends the message (`taken`) the end of its lease, and absent when it was not sent, for the reason `failure`.
const SCHEDULED: &str = "scheduled_message";

impl MongoStore {
    pub(super) async fn make_schedule_indexes(&self) -> Result<(), StoreError> {
        let index = |name: &str, keys: Document| {
            let options = IndexOptions::builder().name(name.to_owned()).build();
            IndexModel::builder().keys(keys).options(options).build()
        };
        let indexes = [
            index("scheduled_message_sender", doc! { "sender": 1, "sendAt": 1 }),
            index("scheduled_message_accounts", doc! { "accounts": 1 }),
            super::sparse(index("scheduled_message_due_at", doc! { "dueAt": 1 })),
        ];
        self.collection(SCHEDULED).create_indexes(indexes).await?;
        Ok(())
    }

    pub(super) async fn forget_scheduled(&self, person: &str) -> Result<(), StoreError> {
        self.collection(SCHEDULED)
            .delete_many(doc! { "accounts": person })
            .await?;
        Ok(())
    }
}

fn waiting(sender: &Account, id: &str) -> Document {
    doc! { "_id": id, "sender": sender.as_str(), "taken": { "$ne": true } }
}

fn scheduled_of(document: &Document) -> Result<Scheduled, StoreError> {
    let read = || -> anyhow::Result<Scheduled> {
        let text = |field: &str| -> anyhow::Result<String> { Ok(document.get_str(field)?.to_owned()) };
        Ok(Scheduled {
            id: text("_id")?,
            sender: text("sender")?.parse()?,
            receiver: text("receiver")?.parse()?,
            receiver_nickname: text("receiverNickname")?,
            text: MessageText::stored(text("text")?),
            send_at: timestamp(document, "sendAt")?,
            authorized_at: timestamp(document, "authorizedAt")?,
            failure: document.get_str("failure").ok().map(str::to_owned),
        })
    };
    read()
        .context("a scheduled message in the database is not one")
        .map_err(StoreError::Corrupt)
}

#[async_trait]
impl Schedule for MongoStore {
    async fn schedule(&self, scheduled: &Scheduled) -> Result<bool, StoreError> {
        let messages = self.collection(SCHEDULED);
        let sender = doc! { "sender": scheduled.sender.as_str() };
        // Two calls at once may add one beyond the limit.
        if messages.count_documents(sender).await? >= u64::from(MOST_SCHEDULED) {
            return Ok(false);
        }
        let accounts = [scheduled.sender.fingerprint(), scheduled.receiver.fingerprint()];
        let send_at = scheduled.send_at.as_millisecond();
        let document = doc! {
            "_id": &scheduled.id,
            "sender": scheduled.sender.as_str(),
            "receiver": scheduled.receiver.as_str(),
            "accounts": accounts.as_slice(),
            "receiverNickname": &scheduled.receiver_nickname,
            "text": scheduled.text.as_str(),
            "sendAt": send_at,
            "authorizedAt": scheduled.authorized_at.as_millisecond(),
            "dueAt": send_at,
        };
        messages.insert_one(document).await?;
        Ok(true)
    }

    async fn scheduled(&self, sender: &Account) -> Result<Vec<Scheduled>, StoreError> {
        let messages = self.collection(SCHEDULED);
        let found = messages
            .find(doc! { "sender": sender.as_str() })
            .sort(doc! { "sendAt": 1, "_id": 1 })
            .await?;
        let found: Vec<Document> = found.try_collect().await?;
        found.iter().map(scheduled_of).collect()
    }

    async fn reschedule(
        &self,
        sender: &Account,
        id: &str,
        text: Option<&MessageText>,
        send_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        let messages = self.collection(SCHEDULED);
        let waiting = waiting(sender, id);
        let Some(known) = messages.find_one(waiting.clone()).await? else {
            return Ok(false);
        };
        let send_at = send_at
            .map_or_else(|| timestamp(&known, "sendAt"), Ok)?
            .as_millisecond();
        let mut set = doc! { "sendAt": send_at, "dueAt": send_at };
        if let Some(text) = text {
            set.insert("text", text.as_str());
        }
        let edit = doc! { "$set": set, "$unset": { "failure": "" } };
        Ok(messages.update_one(waiting, edit).await?.matched_count > 0)
    }

    async fn unschedule(&self, sender: &Account, id: &str) -> Result<bool, StoreError> {
        let deleted = self.collection(SCHEDULED).delete_one(waiting(sender, id)).await?;
        Ok(deleted.deleted_count > 0)
    }

    async fn take_due(&self, now: Timestamp, lease: SignedDuration, limit: u32) -> Result<Vec<Scheduled>, StoreError> {
        let messages = self.collection(SCHEDULED);
        let due = doc! { "dueAt": { "$lte": now.as_millisecond() } };
        let until = (now + lease).as_millisecond();
        let mut taken = Vec::new();
        // One by one: each is taken by one replica.
        while taken.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            let take = doc! { "$set": { "taken": true, "dueAt": until } };
            let found = messages
                .find_one_and_update(due.clone(), take)
                .sort(doc! { "dueAt": 1 })
                .await?;
            let Some(found) = found else { break };
            match scheduled_of(&found) {
                Ok(scheduled) => taken.push(scheduled),
                // It keeps no other from being sent.
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "scheduled message corrupt; not sent"
                    );
                }
            }
        }
        Ok(taken)
    }

    async fn finish(&self, id: &str, failure: Option<&str>) -> Result<(), StoreError> {
        let messages = self.collection(SCHEDULED);
        match failure {
            None => {
                messages.delete_one(doc! { "_id": id }).await?;
            }
            Some(failure) => {
                let kept = doc! { "$set": { "failure": failure }, "$unset": { "dueAt": "", "taken": "" } };
                messages.update_one(doc! { "_id": id }, kept).await?;
            }
        }
        Ok(())
    }
}
