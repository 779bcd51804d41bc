//! Messages that are sent later.

use anyhow::Context as _;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use mongodb::bson::{Bson, Document, doc};
use sosohappy_common::Account;
use sosohappy_store::StoreError;

use super::MongoStore;
use super::documents::timestamp;
use super::indexes::{index, sparse};
use crate::domain::{MOST_SCHEDULED, MessageText, Scheduled};
use crate::store::{CORRUPT, Due, Schedule, ScheduleOutcome, WriteError};

/// `_id`, `sender`, `receiver`, `accounts` (SHA-256 of both), `receiverNickname`, `text`, `sendAt`, `madeAt`, `authorizedAt`; `dueAt` is `sendAt`, or while a
/// replica sends the message (`taken`, since [`TAKEN_AT`]) the end of its lease, and absent when it was not sent, for the reason `failure`.
const SCHEDULED: &str = "scheduled_message";
const TAKEN_AT: &str = "takenAt";

impl MongoStore {
    pub(super) async fn make_schedule_indexes(&self) -> Result<(), StoreError> {
        let indexes = [
            index("scheduled_message_sender", doc! { "sender": 1, "sendAt": 1 }),
            index("scheduled_message_accounts", doc! { "accounts": 1 }),
            sparse("scheduled_message_due_at", doc! { "dueAt": 1 }),
        ];
        self.collection(SCHEDULED).create_indexes(indexes).await?;
        Ok(())
    }

    /// Deletes the scheduled messages that a person (SHA-256 of the account) made or was to receive, up to the resignation.
    pub(super) async fn forget_scheduled(
        &self,
        person: &str,
        account: &str,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let up_to = doc! { "$lte": until.as_millisecond() };
        let theirs = doc! {
            "accounts": person,
            "$or": [
                { "sender": account, "authorizedAt": up_to.clone() },
                { "madeAt": up_to },
                // Of an earlier release.
                { "madeAt": null },
            ],
        };
        self.collection(SCHEDULED).delete_many(theirs).await?;
        Ok(())
    }

    /// Deletes what a process left that was killed between the insert of a message and its second look at resignations.
    pub(super) async fn sweep_scheduled(&self, person: &str, until: Timestamp) -> Result<(), StoreError> {
        let sent = doc! {
            "accounts": person,
            "accounts.0": person,
            "authorizedAt": { "$lte": until.as_millisecond() },
        };
        self.collection(SCHEDULED).delete_many(sent).await?;
        Ok(())
    }

    /// Keeps a message that cannot be decoded from being taken again, so that it delays no other.
    async fn quarantine(&self, document: &Document, error: &StoreError) -> Result<(), StoreError> {
        let id = document.get("_id").cloned().unwrap_or(Bson::Null);
        tracing::error!(
            error = error as &dyn std::error::Error,
            %id,
            "scheduled message corrupt; quarantined"
        );
        let kept = doc! { "$set": { "failure": CORRUPT }, "$unset": { "dueAt": "", "taken": "" } };
        self.collection(SCHEDULED).update_one(doc! { "_id": id }, kept).await?;
        Ok(())
    }
}

fn waiting(sender: &Account, id: &str) -> Document {
    doc! { "_id": id, "sender": sender.as_str(), "taken": { "$ne": true } }
}

/// Returns the condition on a message that no replica has taken since that moment.
fn still_taken(id: &str, taken: Timestamp) -> Document {
    doc! { "_id": id, "taken": true, TAKEN_AT: taken.as_millisecond() }
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
            // Of an earlier release.
            made_at: if document.contains_key("madeAt") {
                timestamp(document, "madeAt")?
            } else {
                Timestamp::UNIX_EPOCH
            },
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
    async fn server_time(&self) -> Result<Timestamp, StoreError> {
        self.database.server_time().await
    }

    /// As [`crate::store::Store::keep`]: a resignation that crosses this either marks the account before the second look, which then deletes
    /// the message, or deletes it itself.
    async fn schedule(&self, scheduled: &Scheduled) -> Result<ScheduleOutcome, WriteError> {
        let still_here = || self.still_here(&scheduled.sender, &scheduled.receiver, scheduled.authorized_at);
        still_here().await?;
        let messages = self.collection(SCHEDULED);
        let sender = doc! { "sender": scheduled.sender.as_str() };
        // Two calls at once may add one beyond the limit.
        let count = messages.count_documents(sender).await.map_err(StoreError::from)?;
        if count >= u64::from(MOST_SCHEDULED) {
            return Ok(ScheduleOutcome::TooMany);
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
            "madeAt": scheduled.made_at.as_millisecond(),
            "authorizedAt": scheduled.authorized_at.as_millisecond(),
            "dueAt": send_at,
        };
        messages.insert_one(document).await.map_err(StoreError::from)?;
        match still_here().await {
            Ok(()) => Ok(ScheduleOutcome::Scheduled),
            Err(WriteError::Store(error)) => {
                // It is stored, and checked again when it is sent.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "checking scheduled message against resignation failed"
                );
                Ok(ScheduleOutcome::Scheduled)
            }
            Err(refused) => {
                let ours = doc! { "_id": &scheduled.id };
                messages.delete_one(ours).await.map_err(StoreError::from)?;
                Err(refused)
            }
        }
    }

    async fn scheduled(&self, sender: &Account) -> Result<Vec<Scheduled>, StoreError> {
        let messages = self.collection(SCHEDULED);
        let found = messages
            .find(doc! { "sender": sender.as_str() })
            .sort(doc! { "sendAt": 1, "_id": 1 })
            .await?;
        let found: Vec<Document> = found.try_collect().await?;
        let read = found.iter().filter_map(|document| {
            scheduled_of(document)
                .inspect_err(|error| {
                    tracing::error!(
                        error = error as &dyn std::error::Error,
                        "scheduled message corrupt; not listed"
                    );
                })
                .ok()
        });
        Ok(read.collect())
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

    async fn take_due(&self, now: Timestamp, lease: SignedDuration, limit: u32) -> Result<Due, StoreError> {
        let messages = self.collection(SCHEDULED);
        let is_due = doc! { "dueAt": { "$lte": now.as_millisecond() } };
        let until = (now + lease).as_millisecond();
        let mut due = Due::default();
        // One by one: each is taken by one replica.
        while due.messages.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            let take = doc! { "$set": { "taken": true, TAKEN_AT: now.as_millisecond(), "dueAt": until } };
            let found = messages
                .find_one_and_update(is_due.clone(), take)
                .sort(doc! { "dueAt": 1 })
                .await?;
            let Some(found) = found else { break };
            match scheduled_of(&found) {
                Ok(scheduled) => due.messages.push(scheduled),
                Err(error) => {
                    self.quarantine(&found, &error).await?;
                    due.quarantined += 1;
                }
            }
        }
        Ok(due)
    }

    async fn postpone(&self, id: &str, taken: Timestamp, until: Timestamp) -> Result<(), StoreError> {
        let postponed = doc! { "$set": { "dueAt": until.as_millisecond() }, "$unset": { "taken": "" } };
        self.collection(SCHEDULED)
            .update_one(still_taken(id, taken), postponed)
            .await?;
        Ok(())
    }

    async fn renew(&self, ids: &[&str], until: Timestamp) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let taken = doc! { "_id": { "$in": ids }, "taken": true };
        let renewed = doc! { "$set": { "dueAt": until.as_millisecond() } };
        self.collection(SCHEDULED).update_many(taken, renewed).await?;
        Ok(())
    }

    async fn finish(&self, id: &str) -> Result<(), StoreError> {
        self.collection(SCHEDULED).delete_one(doc! { "_id": id }).await?;
        Ok(())
    }

    async fn fail(&self, id: &str, taken: Timestamp, failure: &str) -> Result<(), StoreError> {
        let kept = doc! { "$set": { "failure": failure }, "$unset": { "dueAt": "", "taken": "" } };
        self.collection(SCHEDULED)
            .update_one(still_taken(id, taken), kept)
            .await?;
        Ok(())
    }
}
