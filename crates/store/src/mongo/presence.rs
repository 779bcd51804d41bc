//! Documents `(account, instance)` that run out.

use async_trait::async_trait;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_common::Account;

use super::{Database, index};
use crate::{Presence, StoreError};

const COLLECTION: &str = "presence";

/// How many statements one command carries; the server takes up to 100,000.
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
            // The driver's own bulk write needs a server of version 8.
            let command = doc! {
                "update": COLLECTION,
                "updates": updates,
                "ordered": false,
                "writeConcern": { "w": "majority", "j": true },
            };
            let answer = self.0.database().run_command(command).await?;
            if answer.contains_key("writeErrors") || answer.contains_key("writeConcernError") {
                return Err(StoreError::Failed(anyhow::anyhow!(
                    "presence was not written for all accounts"
                )));
            }
        }
        Ok(())
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

/// An account has no control characters.
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
