//! Settles conversations: one message of each, the newest, is listed. Gives messages of earlier releases their place.

use std::collections::HashSet;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use mongodb::bson::{Bson, Document, doc};
use sosohappy_store::StoreError;

use super::documents::id_of;
use super::fields::{MESSAGE_ID, MESSAGES, NEWEST_OF, POSITION, UNNUMBERED};
use super::{Batches, MARKERS, MongoStore, SETTLED};
use crate::domain::ConversationId;

/// `_id`, `conversations`: the newest messages of these are to be flagged. A document that stays is of a process that was killed.
const UNSETTLED: &str = "unsettled";
/// Messages of a conversation that settling reads: more than one stores at the same time.
const LATEST: i64 = 50;
/// Messages that are given a position at once.
const FILLED: i64 = 500;
/// Conversations whose newest messages are flagged at the same time.
const SETTLED_AT_ONCE: usize = 8;

impl MongoStore {
    /// Settles the conversations of a database of an earlier release, once.
    pub(super) async fn settle_all(&self) -> Result<(), StoreError> {
        let markers = self.collection(MARKERS);
        if markers.find_one(doc! { "_id": SETTLED }).await?.is_some() {
            return Ok(());
        }
        let mut last = String::new();
        // Loose index scan: seeks a message of each conversation in turn.
        while let Some(found) = self
            .collection(MESSAGES)
            .find_one(doc! { "conversation": { "$gt": &last } })
            .sort(doc! { "conversation": 1, POSITION: -1 })
            .projection(doc! { "conversation": 1 })
            .await?
        {
            found
                .get_str("conversation")
                .map_err(|error| StoreError::Corrupt(error.into()))?
                .clone_into(&mut last);
            self.settle_named(&last).await?;
        }
        let known = doc! { "$set": { "known": true } };
        markers.update_one(doc! { "_id": SETTLED }, known).upsert(true).await?;
        Ok(())
    }

    pub(super) async fn settle_named(&self, conversation: &str) -> Result<(), StoreError> {
        for person in self.flag_newest(conversation).await? {
            let numbered = self.number_frames(&person).await?;
            self.take_out(MESSAGES, &person, numbered).await?;
        }
        Ok(())
    }

    /// Updates messages, and flags the newest of their conversations. [`MongoStore::flag_unsettled`] continues it after a crash.
    pub(super) async fn update_and_flag(
        &self,
        updates: Batches,
        conversations: HashSet<ConversationId>,
    ) -> Result<(), StoreError> {
        if conversations.is_empty() {
            return Ok(());
        }
        let unsettled = self.collection(UNSETTLED);
        let names: Vec<&str> = conversations.iter().map(ConversationId::as_str).collect();
        let noted = unsettled.insert_one(doc! { "conversations": names }).await?;
        self.update_messages(updates).await?;
        self.flag_newest_of(conversations).await?;
        unsettled.delete_one(doc! { "_id": noted.inserted_id }).await?;
        Ok(())
    }

    /// Flags the newest messages of the conversations in [`UNSETTLED`], and deletes its documents that were made before that moment: the
    /// process of a younger one may still update messages.
    pub(super) async fn flag_unsettled(&self, before: Option<Timestamp>) -> Result<(), StoreError> {
        let unsettled = self.collection(UNSETTLED);
        let mut found = unsettled.find(doc! {}).await?;
        while let Some(noted) = found.try_next().await? {
            for conversation in noted.get_array("conversations").into_iter().flatten() {
                if let Some(conversation) = conversation.as_str() {
                    self.flag_newest(conversation).await?;
                }
            }
            let Ok(id) = noted.get_object_id("_id") else { continue };
            if before.is_some_and(|before| id.timestamp().timestamp_millis() <= before.as_millisecond()) {
                unsettled.delete_one(doc! { "_id": id }).await?;
            }
        }
        Ok(())
    }

    /// Flags the newest message of each of the conversations. Messages of the legacy Spring services have no frames, so there are none to
    /// number.
    pub(super) async fn flag_newest_of(&self, conversations: HashSet<ConversationId>) -> Result<(), StoreError> {
        futures::stream::iter(conversations)
            .map(async |conversation: ConversationId| self.flag_newest(conversation.as_str()).await)
            .buffer_unordered(SETTLED_AT_ONCE)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
    }

    /// Gives [`NEWEST_OF`] to the newest message of a conversation alone, and returns the people who lack frames of the latest ones.
    async fn flag_newest(&self, conversation: &str) -> Result<HashSet<String>, StoreError> {
        let messages = self.collection(MESSAGES);
        let latest: Vec<Document> = messages
            .find(doc! { "conversation": conversation })
            .sort(doc! { POSITION: -1 })
            .limit(LATEST)
            .projection(doc! { "accounts": 1, NEWEST_OF: 1, UNNUMBERED: 1 })
            .await?
            .try_collect()
            .await?;
        let id = |document: &Document| document.get("_id").cloned().unwrap_or(Bson::Null);
        let Some((newest, older)) = latest.split_first() else {
            return Ok(HashSet::new());
        };
        if let Some(accounts) = newest.get("accounts")
            && newest.get(NEWEST_OF) != Some(accounts)
        {
            let flag = doc! { "$set": { NEWEST_OF: accounts.clone() } };
            messages.update_one(doc! { "_id": id(newest) }, flag).await?;
        }
        let flagged: Vec<Bson> = older.iter().filter(|it| it.contains_key(NEWEST_OF)).map(id).collect();
        if !flagged.is_empty() {
            let unflag = doc! { "$unset": { NEWEST_OF: "" } };
            messages.update_many(doc! { "_id": { "$in": flagged } }, unflag).await?;
        }
        let people = latest.iter().filter_map(|message| message.get_array(UNNUMBERED).ok());
        Ok(people.flatten().filter_map(Bson::as_str).map(str::to_owned).collect())
    }

    /// Gives messages without a position theirs.
    pub(super) async fn fill_some_positions(&self) -> Result<(), StoreError> {
        let messages = self.collection(MESSAGES);
        loop {
            let without = doc! { "conversation": { "$gt": "" }, POSITION: null };
            let found = messages.find(without).projection(doc! { MESSAGE_ID: 1 }).limit(FILLED);
            let found: Vec<Document> = found.await?.try_collect().await?;
            if found.is_empty() {
                return Ok(());
            }
            for document in &found {
                let id = document.get("_id").cloned().unwrap_or(Bson::Null);
                let position = match id_of(document) {
                    Ok(id) => id.position().as_str().to_owned(),
                    // Before all others, so that it stops neither them nor the start of the service.
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), %id, "message id corrupt; message stands first");
                        String::new()
                    }
                };
                let place = doc! { "$set": { POSITION: position } };
                messages.update_one(doc! { "_id": id }, place).await?;
            }
        }
    }
}
