//! Documents `(account, instance)` that expire.

use async_trait::async_trait;
use jiff::Timestamp;
use mongodb::bson::{Bson, Document, doc};
use sosohappy_common::Account;

use super::{Database, index};
use crate::{Presence, StoreError};

const COLLECTION: &str = "presence";

/// The most statements of one command; the server accepts 100,000.
const BATCH: usize = 1000;

pub(super) async fn make_indexes(database: &Database) -> Result<(), StoreError> {
    let indexes = [
        index("presence_account", doc! { "account": 1, "held_until": 1 }),
        index("presence_held_until", doc! { "held_until": 1 }),
    ];
    database.collection(COLLECTION).create_indexes(indexes).await?;
    Ok(())
}

#[derive(Debug)]
pub(super) struct MongoPresence(pub Database);

#[async_trait]
impl Presence for MongoPresence {
    async fn hold(&self, instance: &str, accounts: &[Account], until: Timestamp) -> Result<(), StoreError> {
        let mut failed = None;
        for accounts in accounts.chunks(BATCH) {
            let updates: Vec<Document> = accounts
                .iter()
                .map(|account| {
                    let fields = doc! {
                        "account": account.as_str(),
                        "instance": instance,
                        "held_until": until.as_millisecond(),
                    };
                    doc! { "q": { "_id": id(account, instance) }, "u": { "$set": fields }, "upsert": true }
                })
                .collect();
            // A raw command, because the driver's bulk write needs a server of version 8.
            let command = doc! {
                "update": COLLECTION,
                "updates": updates,
                "ordered": false,
                "writeConcern": { "w": "majority", "j": true },
            };
            // A failed command must not stop the next batches.
            match self.0.database().run_command(command).await {
                Ok(answer) => failed = failed.or(refused(&answer)),
                Err(error) => failed = Some(error.into()),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn release(&self, instance: &str, account: &Account) -> Result<(), StoreError> {
        self.0
            .collection(COLLECTION)
            .delete_one(doc! { "_id": id(account, instance) })
            .await?;
        Ok(())
    }

    async fn online(&self, account: &Account, now: Timestamp) -> Result<bool, StoreError> {
        let held = doc! { "account": account.as_str(), "held_until": { "$gt": now.as_millisecond() } };
        Ok(self.0.collection(COLLECTION).find_one(held).await?.is_some())
    }
}

/// Returns the first failed write. Two concurrent upserts of one document are no failure: one of them has inserted it.
fn refused(answer: &Document) -> Option<StoreError> {
    const DUPLICATE_KEY: i32 = 11000;
    let errors = answer.get_array("writeErrors").map_or(&[][..], Vec::as_slice);
    let code = |error: &Bson| error.as_document().and_then(|error| error.get_i32("code").ok());
    let codes: Vec<Option<i32>> = errors
        .iter()
        .map(code)
        .filter(|code| *code != Some(DUPLICATE_KEY))
        .collect();
    if codes.is_empty() && !answer.contains_key("writeConcernError") {
        return None;
    }
    Some(StoreError::Unavailable(anyhow::anyhow!(
        "presence was not written for {} accounts (codes {:?})",
        codes.len(),
        codes.first()
    )))
}

/// Returns the `_id`; accounts have no control characters, so the separator is unambiguous.
fn id(account: &Account, instance: &str) -> String {
    format!("{}\u{1f}{instance}", account.as_str())
}

pub(super) async fn sweep(database: &Database, before: i64) -> Result<(), StoreError> {
    database
        .collection(COLLECTION)
        .delete_many(doc! { "held_until": { "$lt": before } })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_written_is_a_failure() {
        let duplicate = doc! { "index": 0, "code": 11000, "errmsg": "E11000" };
        let other = doc! { "index": 1, "code": 64, "errmsg": "waiting for replication timed out" };
        assert!(refused(&doc! { "ok": 1.0, "n": 2 }).is_none());
        assert!(refused(&doc! { "ok": 1.0, "writeErrors": [duplicate.clone()] }).is_none());
        assert!(refused(&doc! { "ok": 1.0, "writeErrors": [duplicate, other.clone()] }).is_some());
        assert!(refused(&doc! { "ok": 1.0, "writeConcernError": other }).is_some());
    }
}
