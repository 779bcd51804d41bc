//! Changes of stored messages: documents of their own, with their event in them, which are then applied to the message.
//!
//! The document is inserted first, under the number after the one that the message's document names. So one of two changes at once is
//! made first, and the other looks again; what a crash leaves between the two steps is applied by the next change of the message, and
//! by every replica that reads the event.
//!
//! What deletes a message deletes its changes before and after it ([`MongoStore::delete_messages`]), and a replica that applies a change to a
//! message that is gone deletes the change.

use anyhow::Context as _;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use sosohappy_common::Account;
use sosohappy_events::Outgoing;
use sosohappy_store::mongo::{ID_INDEX, OUTBOX, outbox_field};
use sosohappy_store::{StoreError, retrying};

use super::MongoStore;
use super::documents::{id_of, ids_of, stored_of, timestamp};
use super::fields::{
    CHANGES, EDITED_AT, MESSAGE_ID, MESSAGES, REACTIONS, RETRACTED_AT, REVISION, ROOM, ROOM_MESSAGES, UNNUMBERED,
    UNREAD,
};
use super::indexes::sparse;
use crate::domain::{Change, ChangeKind, Changed, MOST_CHANGES, MessageId, MessageState, NewChange, Stored};
use crate::store::{ChangeError, Changes, Rooms as _, changed, check, check_in_room};

/// Messages that are deleted at once.
const AT_ONCE: i64 = 500;

fn id(message: &MessageId, revision: i64) -> String {
    format!("{message}:{revision:09}")
}

impl MongoStore {
    pub(super) async fn make_change_indexes(&self) -> Result<(), StoreError> {
        let indexes = [
            sparse("message_change_message", doc! { "message": 1 }),
            sparse("message_change_accounts", doc! { "accounts": 1 }),
            sparse("message_change_unnumbered", doc! { UNNUMBERED: 1 }),
        ];
        self.collection(CHANGES).create_indexes(indexes).await?;
        Ok(())
    }

    async fn change_once(&self, change: &NewChange, event: &Outgoing) -> Result<Option<Changed>, ChangeError> {
        self.complete(&change.message).await?;
        let owned = doc! { "_id": ids_of([&change.message]), "conversation": { "$gt": "" } };
        let found = self
            .collection(MESSAGES)
            .find_one(owned)
            .await
            .map_err(StoreError::from)?;
        let stored = found.as_ref().map(stored_of).transpose()?.ok_or(ChangeError::Unknown)?;
        if !check(&stored, change, self.made(&stored.state, change).await?)? {
            return Ok(None);
        }
        let changed = changed(&stored.message.text, &stored.state, change);
        let document = document(&stored, change, &changed, event);
        let inserted = self
            .collection(CHANGES)
            .insert_one(&document)
            .await
            .map_err(StoreError::from);
        // Another change of the message came first: look again.
        inserted.map_err(|error| error.retry_if_taken(&[ID_INDEX]))?;
        if !self.apply(&document).await? {
            return Err(ChangeError::Unknown);
        }
        Ok(Some(changed))
    }

    /// Returns how often the person has changed the message; for few changes in all, the number of all.
    async fn made(&self, state: &MessageState, change: &NewChange) -> Result<i64, StoreError> {
        if state.revision < MOST_CHANGES {
            return Ok(state.revision);
        }
        let theirs = doc! { "message": change.message.as_str(), "account": change.by.as_str() };
        let made = self.collection(CHANGES).count_documents(theirs).await?;
        Ok(i64::try_from(made).unwrap_or(i64::MAX))
    }

    /// Applies a change to its message, once; not one of a kind that only a later release knows. Deletes the changes of a message that is gone:
    /// false.
    async fn apply(&self, change: &Document) -> Result<bool, StoreError> {
        let corrupt = |error: mongodb::bson::error::Error| StoreError::Corrupt(error.into());
        let message = MessageId::stored(change.get_str("message").map_err(corrupt)?.to_owned());
        let revision = change.get_i64(REVISION).map_err(corrupt)?;
        let at = change.get_i64("at").map_err(corrupt)?;
        let account = change.get_str("account").map_err(corrupt)?;
        let is_in_room = change.contains_key(ROOM);
        let messages = self.collection(if is_in_room { ROOM_MESSAGES } else { MESSAGES });
        let Some(kind) = kind_of(change)? else {
            // A replica of that release applies it. Until then another change of the message would have the same revision, and is not made.
            tracing::warn!(id = %message, revision, "message change of a later release; not applied");
            return self.is_there(&messages, &message).await;
        };
        let mut set = doc! { REVISION: revision };
        let mut unset = Document::new();
        match kind {
            ChangeKind::Retracted => {
                set.extend(doc! { RETRACTED_AT: at, "text": "" });
                // The text of an event that was not published yet.
                unset.insert(OUTBOX, "");
                if !is_in_room {
                    unset.extend(doc! { UNREAD: "", "pushDueAt": "" });
                }
            }
            ChangeKind::Edited => {
                set.extend(doc! { EDITED_AT: at, "text": change.get_str("text").map_err(corrupt)? });
            }
            ChangeKind::Reacted => {
                let account: Account = account.parse().context("no account").map_err(StoreError::Corrupt)?;
                let field = format!("{REACTIONS}.{}", account.fingerprint());
                match change.get_str("content") {
                    Ok(reaction) => {
                        set.insert(field, doc! { "account": account.as_str(), "reaction": reaction });
                    }
                    Err(_) => {
                        unset.insert(field, "");
                    }
                }
            }
        }
        let earlier = doc! {
            "_id": ids_of([&message]),
            "$or": [{ REVISION: null }, { REVISION: { "$lt": revision } }],
        };
        let mut update = doc! { "$set": set };
        if !unset.is_empty() {
            update.insert("$unset", unset);
        }
        // A message without a match has the change already, or is gone.
        if messages.update_one(earlier, update).await?.matched_count == 0 && !self.is_there(&messages, &message).await?
        {
            return Ok(false);
        }
        if is_in_room && kind == ChangeKind::Reacted {
            self.take_back_if_deleted(change, &message, account).await?;
        }
        if kind == ChangeKind::Retracted {
            let texts = doc! { "$unset": { "content": "", "text": "" } };
            let of = doc! { "message": message.as_str() };
            self.collection(CHANGES).update_many(of, texts).await?;
        }
        Ok(true)
    }

    /// Returns whether a message is there, and deletes the changes of one that is gone.
    async fn is_there(&self, messages: &Collection<Document>, message: &MessageId) -> Result<bool, StoreError> {
        let found = messages.find_one(doc! { "_id": ids_of([message]) }).await?;
        if found.is_none() {
            self.delete_changes_of(&[message.as_str()]).await?;
        }
        Ok(found.is_some())
    }

    /// Takes an applied reaction of an account back if a resignation has deleted it meanwhile.
    async fn take_back_if_deleted(
        &self,
        change: &Document,
        message: &MessageId,
        account: &str,
    ) -> Result<(), StoreError> {
        let id = change.get("_id").cloned().unwrap_or(Bson::Null);
        if self.collection(CHANGES).find_one(doc! { "_id": id }).await?.is_none() {
            let account: Account = account.parse().context("no account").map_err(StoreError::Corrupt)?;
            let taken_back = doc! { "$unset": { format!("{REACTIONS}.{}", account.fingerprint()): "" } };
            let messages = self.collection(ROOM_MESSAGES);
            messages
                .update_one(doc! { "_id": message.as_str() }, taken_back)
                .await?;
        }
        Ok(())
    }

    /// As [`Self::change_once`].
    pub(super) async fn change_in_room_once(
        &self,
        change: &NewChange,
        event: &Outgoing,
    ) -> Result<Option<Changed>, ChangeError> {
        self.complete(&change.message).await?;
        let message = self.room_message(&change.message).await?.ok_or(ChangeError::Unknown)?;
        let room = self.room(&message.room).await?.ok_or(ChangeError::Unknown)?;
        let is_viewer = room.viewers(message.number).any(|viewer| *viewer == change.by);
        let made = self.made(&message.state, change).await?;
        if !check_in_room(&message, is_viewer, change, made)? {
            return Ok(None);
        }
        let changed = changed(&message.text, &message.state, change);
        let viewers: Vec<String> = room.viewers(message.number).map(Account::fingerprint).collect();
        let mut accounts = vec![message.sender.account.fingerprint(), change.by.fingerprint()];
        accounts.dedup();
        let mut document = document_of(change, &changed, message.stored_at, event);
        document.insert(ROOM, &message.room);
        document.insert("accounts", accounts);
        document.insert(UNNUMBERED, viewers);
        let inserted = self.collection(CHANGES).insert_one(&document).await;
        // Another change of the message came first: look again.
        inserted.map_err(|error| StoreError::from(error).retry_if_taken(&[ID_INDEX]))?;
        if !self.apply(&document).await? {
            return Err(ChangeError::Unknown);
        }
        Ok(Some(changed))
    }

    /// Deletes messages of a collection with their changes, some at a time. The changes go first, so that a crash leaves none of a message that
    /// is gone, and again after the messages: those that were inserted meanwhile.
    pub(super) async fn delete_messages(&self, collection: &str, which: &Document) -> Result<(), StoreError> {
        let messages = self.collection(collection);
        loop {
            let found: Vec<Document> = messages
                .find(which.clone())
                .limit(AT_ONCE)
                .projection(doc! { MESSAGE_ID: 1 })
                .await?
                .try_collect()
                .await?;
            if found.is_empty() {
                return Ok(());
            }
            let keys: Vec<Bson> = found.iter().filter_map(|message| message.get("_id").cloned()).collect();
            let ids: Vec<MessageId> = found.iter().filter_map(|message| id_of(message).ok()).collect();
            let ids: Vec<&str> = ids.iter().map(MessageId::as_str).collect();
            self.delete_changes_of(&ids).await?;
            messages.delete_many(doc! { "_id": { "$in": keys } }).await?;
            self.delete_changes_of(&ids).await?;
        }
    }

    /// Takes back the reactions of a person (SHA-256 of the account) to messages of others in rooms, up to a resignation.
    pub(super) async fn forget_reactions(&self, person: &str, until: Timestamp) -> Result<(), StoreError> {
        let changes = self.collection(CHANGES);
        let up_to = doc! { "$lte": until.as_millisecond() };
        let theirs = doc! {
            "accounts": person,
            "accounts.1": person,
            ROOM: { "$gt": "" },
            "$or": [{ "at": up_to.clone() }, { "madeAt": up_to }],
        };
        let taken_back = doc! { "$unset": { format!("{REACTIONS}.{person}"): "" } };
        loop {
            let found = changes
                .find(theirs.clone())
                .limit(AT_ONCE)
                .projection(doc! { "message": 1 });
            let found: Vec<Document> = found.await?.try_collect().await?;
            if found.is_empty() {
                return Ok(());
            }
            let ids = |field: &str| -> Vec<Bson> { found.iter().filter_map(|it| it.get(field).cloned()).collect() };
            let of_them = doc! { "_id": { "$in": ids("message") } };
            let messages = self.collection(ROOM_MESSAGES);
            messages.update_many(of_them.clone(), taken_back.clone()).await?;
            // Their frames are left out from then on.
            changes.delete_many(doc! { "_id": { "$in": ids("_id") } }).await?;
            // One that was applied meanwhile: one that is applied later finds it deleted.
            messages.update_many(of_them, taken_back.clone()).await?;
        }
    }

    async fn delete_changes_of(&self, messages: &[&str]) -> Result<(), StoreError> {
        let of_them = doc! { "message": { "$in": messages } };
        self.collection(CHANGES).delete_many(of_them).await?;
        Ok(())
    }

    pub(super) async fn documents_of_changes(&self, ids: Vec<String>) -> Result<Vec<Document>, StoreError> {
        let found = self.collection(CHANGES).find(doc! { "_id": { "$in": ids } }).await?;
        Ok(found.try_collect().await?)
    }

    /// Deletes the changes of a person's messages that are gone, or of the person in messages that are. Not its reactions to messages of others in
    /// rooms, which [`MongoStore::forget_reactions`] takes back.
    pub(super) async fn delete_changes(&self, person: &str, until: i64) -> Result<(), StoreError> {
        let theirs = doc! {
            "accounts": person,
            "storedAt": { "$lte": until },
            "$or": [{ ROOM: null }, { "accounts.0": person }],
        };
        self.collection(CHANGES).delete_many(theirs).await?;
        Ok(())
    }
}

fn document(stored: &Stored, change: &NewChange, changed: &Changed, event: &Outgoing) -> Document {
    let people: Vec<String> = stored.message.people().map(Account::fingerprint).collect();
    let viewers = stored.message.viewers(stored.is_held);
    let viewers: Vec<String> = viewers.map(Account::fingerprint).collect();
    let mut document = document_of(change, changed, stored.stored_at, event);
    document.insert("accounts", people);
    document.insert(UNNUMBERED, viewers);
    document
}

/// Returns the document of a change without the people whom it concerns. `stored_at`: of the message.
fn document_of(change: &NewChange, changed: &Changed, stored_at: Timestamp, event: &Outgoing) -> Document {
    let mut document = doc! {
        "_id": id(&change.message, changed.revision),
        "message": change.message.as_str(),
        REVISION: changed.revision,
        "kind": changed.kind.name(),
        "account": change.by.as_str(),
        "storedAt": stored_at.as_millisecond(),
        "at": changed.at.as_millisecond(),
        "madeAt": change.authorized_at.as_millisecond(),
        OUTBOX: outbox_field(event),
    };
    if let Some(content) = &changed.content {
        document.insert("content", content);
    }
    if let Change::Edit(text) = &change.change {
        document.insert("text", text.as_str());
    }
    document
}

/// `None` for a kind that only a later release knows.
fn kind_of(document: &Document) -> Result<Option<ChangeKind>, StoreError> {
    let kind = document.get_str("kind").map(ChangeKind::named);
    kind.map_err(|error| StoreError::Corrupt(error.into()))
}

/// `None` of a change of a kind that only a later release knows.
pub(super) fn changed_of(document: &Document) -> Result<Option<Changed>, StoreError> {
    let Some(kind) = kind_of(document)? else {
        return Ok(None);
    };
    let account = document.get_str("account").map_err(anyhow::Error::from);
    let by = account.and_then(|account| Ok(account.parse()?));
    Ok(Some(Changed {
        revision: document
            .get_i64(REVISION)
            .map_err(|error| StoreError::Corrupt(error.into()))?,
        kind,
        by: by.map_err(StoreError::Corrupt)?,
        content: document.get_str("content").ok().map(str::to_owned),
        at: timestamp(document, "at")?,
    }))
}

#[async_trait]
impl Changes for MongoStore {
    async fn change(&self, change: &NewChange, event: &Outgoing) -> Result<Option<Changed>, ChangeError> {
        retrying(|| self.change_once(change, event)).await
    }

    async fn complete(&self, message: &MessageId) -> Result<(), StoreError> {
        let last = self
            .collection(CHANGES)
            .find_one(doc! { "message": message.as_str() })
            .sort(doc! { "_id": -1 })
            .await?;
        // Those before it were applied when it was made.
        match last {
            Some(last) => self.apply(&last).await.map(|_| ()),
            None => Ok(()),
        }
    }

    async fn changes(&self, message: &MessageId) -> Result<Vec<Changed>, StoreError> {
        let found: Vec<Document> = self
            .collection(CHANGES)
            .find(doc! { "message": message.as_str() })
            .sort(doc! { "_id": 1 })
            .await?
            .try_collect()
            .await?;
        let found = found.iter().filter_map(|change| changed_of(change).transpose());
        found.collect()
    }
}
