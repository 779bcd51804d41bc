//! Documents `(account, instance)` that expire.

use async_trait::async_trait;
use jiff::Timestamp;
use mongodb::bson::doc;
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
            let updates = accounts.iter().map(|account| {
                let fields = doc! {
                    "account": account.as_str(),
                    "instance": instance,
                    "held_until": until.as_millisecond(),
                };
                doc! { "q": { "_id": id(account, instance) }, "u": { "$set": fields }, "upsert": true }
            });
            // A failed command must not stop the next batches.
            let written = self.0.update_each(COLLECTION, updates.collect()).await;
            failed = failed.or(written.err());
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
