//! Gives messages with text ids an `ObjectId`, for a Spring dm: it answers 500 for a conversation that has any other id.

use std::time::Duration;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use sha2::{Digest as _, Sha256};
use sosohappy_store::StoreError;
use sosohappy_store::mongo::OUTBOX;

use super::MongoStore;
use super::fields::{
    CLIENT_KEY, EDITED_AT, HIDDEN_AT, MESSAGE_ID, MESSAGES, MODERATED_AT, NEWEST_OF, PLACE, POSITION, REACTIONS,
    REPEAT_KEY, RETRACTED_AT, REVISION, UNNUMBERED, UNREAD,
};
use crate::domain::MessageId;

/// The lease of the replica that rewrites ids, and how many messages it rewrites within it.
const LEASE: &str = "message-ids";
const LEASE_TIME: Duration = Duration::from_secs(30);
const BATCH: i64 = 100;

/// In a copy, until it has them: the unique fields of its original.
pub(super) const MOVED: &str = "moved";

/// Fields that are set in a message after it was written.
const ADDED_LATER: [&str; 13] = [
    OUTBOX,
    POSITION,
    NEWEST_OF,
    UNNUMBERED,
    UNREAD,
    REVISION,
    EDITED_AT,
    RETRACTED_AT,
    REACTIONS,
    HIDDEN_AT,
    MODERATED_AT,
    "pushDueAt",
    "deliveredAt",
];

impl MongoStore {
    /// Rewrites a batch; false when there are no more, or another replica has the lease. What waits for the relay or for a push is left
    /// for a later round, so that its event is published once.
    pub(super) async fn rewrite_some_ids(&self, holder: &str) -> Result<bool, StoreError> {
        if !self.mixed.stores_object_ids() || !self.database.lease(LEASE, holder, LEASE_TIME).await? {
            return Ok(false);
        }
        self.remember_spring_dm().await?;
        self.finish_copies().await?;
        let texts = doc! { "_id": { "$type": "string" }, OUTBOX: null, "pushDueAt": null };
        let messages = self.collection(MESSAGES);
        let found = messages.find(texts).sort(doc! { "_id": 1 }).limit(BATCH).await?;
        let originals: Vec<Document> = found.try_collect().await?;
        let is_empty = originals.is_empty();
        for original in originals {
            self.rewrite_id(original).await?;
        }
        Ok(!is_empty)
    }

    /// Writes the copy first and deletes the original then, so that a kill in between loses nothing. The original is deleted only as it
    /// was copied: a change that came in between is copied too. The lease keeps other replicas from this.
    async fn rewrite_id(&self, mut original: Document) -> Result<(), StoreError> {
        let messages = self.collection(MESSAGES);
        let id = original
            .get_str("_id")
            .context("no text")
            .map_err(StoreError::Corrupt)?
            .to_owned();
        let made = MessageId::stored(id.clone()).object_id();
        let object_id = ObjectId::from_bytes(made.unwrap_or_else(|| digest_of(&id)));
        loop {
            let mut copy = original.clone();
            copy.insert("_id", object_id);
            copy.insert(MESSAGE_ID, &id);
            // Unique, and the original has them still.
            let mut moved = Document::new();
            for field in [CLIENT_KEY, PLACE] {
                if let Some(value) = copy.remove(field) {
                    moved.insert(field, value);
                }
            }
            copy.remove(REPEAT_KEY);
            copy.insert(MOVED, moved.clone());
            // A process that was killed may have left an older copy.
            messages
                .replace_one(doc! { "_id": object_id }, &copy)
                .upsert(true)
                .await?;
            let mut unchanged = original;
            for field in ADDED_LATER {
                unchanged.entry(field.to_owned()).or_insert(Bson::Null);
            }
            if messages.delete_one(unchanged).await?.deleted_count > 0 {
                return self.finish_copy(object_id, moved).await;
            }
            let changed = messages.find_one(doc! { "_id": &id }).await?;
            match changed {
                Some(changed) if !is_waiting(&changed) => original = changed,
                // Erased, or left for a later round: the copy must not be a second message.
                _ => {
                    messages.delete_one(doc! { "_id": object_id }).await?;
                    return Ok(());
                }
            }
        }
    }
}

impl MongoStore {
    /// Finishes the copies of a process that was killed after it had deleted their originals.
    pub(super) async fn finish_copies(&self) -> Result<(), StoreError> {
        let messages = self.collection(MESSAGES);
        let copies = messages.find(doc! { MOVED: { "$exists": true } }).limit(BATCH);
        let copies: Vec<Document> = copies
            .projection(doc! { MESSAGE_ID: 1, MOVED: 1 })
            .await?
            .try_collect()
            .await?;
        for copy in &copies {
            let (Ok(key), Ok(id), Ok(moved)) = (
                copy.get_object_id("_id"),
                copy.get_str(MESSAGE_ID),
                copy.get_document(MOVED),
            ) else {
                continue;
            };
            // One whose original is still there is copied again.
            if messages.find_one(doc! { "_id": id }).await?.is_none() {
                self.finish_copy(key, moved.clone()).await?;
            }
        }
        Ok(())
    }

    /// Gives a copy the unique fields of its original, which is deleted.
    async fn finish_copy(&self, copy: ObjectId, moved: Document) -> Result<(), StoreError> {
        let mut update = doc! { "$unset": { MOVED: "" } };
        if !moved.is_empty() {
            update.insert("$set", moved);
        }
        let messages = self.collection(MESSAGES);
        let finished = messages.update_one(doc! { "_id": copy }, update).await;
        match finished.map_err(StoreError::from) {
            Ok(_) => Ok(()),
            // Its client has sent it again meanwhile, or another message has taken its number.
            Err(StoreError::Conflict(rule)) => {
                tracing::warn!(rule, %copy, "rewritten message not unique; keys dropped");
                let dropped = doc! { "$unset": { MOVED: "" } };
                messages.update_one(doc! { "_id": copy }, dropped).await?;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether the relay or a push has yet to do with a message.
fn is_waiting(message: &Document) -> bool {
    [OUTBOX, "pushDueAt"].iter().any(|field| message.contains_key(field))
}

/// The id of a document whose own was made by no release of ours, the same each time.
fn digest_of(id: &str) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes.copy_from_slice(&Sha256::digest(id)[..12]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use sosohappy_common::Service;
    use sosohappy_common::settings::Live;
    use sosohappy_events::{Mixed, mixed};
    use sosohappy_store::mongo::Database;
    use sosohappy_testkit::{Bed, EngineSet};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_change_while_an_id_is_rewritten_is_kept() {
        if !EngineSet::real_is_there() {
            return;
        }
        let bed = Bed::new(EngineSet::Real).await;
        let url = bed.mongodb_url("dm").as_str().into();
        let store = MongoStore {
            database: Database::open(&url, &bed.context(crate::SERVICE)).await.unwrap(),
            mixed: Mixed::new(Live::new(mixed::spring(&[Service::Dm]))),
            frames: 10_000,
            object_ids: AtomicBool::new(true),
            remembered: AtomicBool::new(false),
        };
        let messages = store.collection(MESSAGES);
        let read = |name: &str| doc! { "_id": name, "text": "hello", "accounts": ["a", "b"], REPEAT_KEY: name };
        let name = |name: &str| doc! { MESSAGE_ID: name };

        // Each was changed after the batch was read.
        for field in ["deliveredAt", HIDDEN_AT, MODERATED_AT] {
            let mut changed = read(field);
            changed.insert(field, 7_i64);
            messages.insert_one(&changed).await.unwrap();
            store.rewrite_id(read(field)).await.unwrap();
            let copy = messages.find_one(name(field)).await.unwrap().unwrap();
            assert_eq!(copy.get_i64(field).ok(), Some(7), "{field}");
        }

        let mut waiting = read("waiting");
        waiting.insert("pushDueAt", 7_i64);
        messages.insert_one(&waiting).await.unwrap();
        store.rewrite_id(read("waiting")).await.unwrap();
        assert_eq!(messages.find_one(name("waiting")).await.unwrap(), None);
        let original = messages.find_one(doc! { "_id": "waiting" }).await.unwrap();
        assert_eq!(original, Some(waiting));

        store.rewrite_id(read("erased")).await.unwrap();
        assert_eq!(messages.count_documents(doc! {}).await.unwrap(), 4);

        // The process is killed between the deletion of the original and the end of the copy.
        let copy = doc! {
            "_id": ObjectId::new(), MESSAGE_ID: "killed", "text": "hello",
            MOVED: { CLIENT_KEY: "key", PLACE: "conversation:7" },
        };
        messages.insert_one(&copy).await.unwrap();
        store.finish_copies().await.unwrap();
        let finished = messages.find_one(name("killed")).await.unwrap().unwrap();
        assert_eq!(finished.get_str(CLIENT_KEY).unwrap(), "key");
        assert_eq!(finished.get_str(PLACE).unwrap(), "conversation:7");
        assert!(!finished.contains_key(MOVED));
        messages.delete_one(name("killed")).await.unwrap();

        // A pass ends when only what waits is left.
        let many = (0..250).map(|number| read(&format!("older{number}")));
        messages.insert_many(many).await.unwrap();
        while store.rewrite_some_ids("holder").await.unwrap() {}
        let texts = doc! { "_id": { "$type": "string" } };
        assert_eq!(messages.count_documents(texts).await.unwrap(), 1);
        assert_eq!(messages.count_documents(doc! {}).await.unwrap(), 254);
    }
}
