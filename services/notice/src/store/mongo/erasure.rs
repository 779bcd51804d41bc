use async_trait::async_trait;
use jiff::Timestamp;
use mongodb::bson::doc;
use sosohappy_store::StoreError;
use sosohappy_store::mongo::{OUTBOX, outbox_field};

use super::{BIRTHS, DEVICES, MARKS, MongoStore, NOTICES, PUSHES, RECEIPTS, number};
use crate::store::{Erasure, Horizons, Store, broken, timestamp};

#[async_trait]
impl Store for MongoStore {
    /// The receipt comes last, and its `_id` is the resignation's: whatever crash or second consumer comes in between, everything is
    /// gone before it is written, and it is written once.
    async fn erase(&self, erasure: &Erasure, now: Timestamp) -> Result<(), StoreError> {
        let (account, at) = (erasure.account.as_str(), erasure.at.as_millisecond());
        self.mark(&erasure.account, "erased_until", erasure.at).await?;
        let up_to = doc! { "$lte": at };
        for collection in [NOTICES, PUSHES] {
            let either = [doc! { "account": account }, doc! { "actor": account }];
            let theirs = doc! { "$or": either.as_slice(), "occurred_at": up_to.clone() };
            self.collection(collection).delete_many(theirs).await?;
        }
        self.collection(DEVICES)
            .delete_many(doc! { "account": account, "changed_at": up_to })
            .await?;
        self.database.directory().erase(&erasure.account, erasure.at).await?;

        let mut receipt = doc! { "_id": erasure.event.to_string(), "written_at": now.as_millisecond() };
        receipt.insert(OUTBOX, outbox_field(&erasure.receipt));
        match self
            .collection(RECEIPTS)
            .insert_one(receipt)
            .await
            .map_err(StoreError::from)
        {
            Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn born(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let inbox = doc! { "_id": "inbox" };
        self.upsert(
            BIRTHS,
            inbox.clone(),
            doc! { "$setOnInsert": { "born_at": now.as_millisecond() } },
        )
        .await?;
        let born = self
            .collection(BIRTHS)
            .find_one(inbox)
            .await?
            .ok_or_else(|| broken("the birth is not there"))?;
        timestamp(number(&born, "born_at")?)
    }

    async fn sweep(&self, horizons: Horizons) -> Result<(), StoreError> {
        let memory = doc! { "$lt": horizons.memory.as_millisecond() };
        for (collection, old) in [
            (
                NOTICES,
                doc! { "stored_at": { "$lt": horizons.notices.as_millisecond() } },
            ),
            (PUSHES, doc! { "queued_at": memory.clone() }),
            (DEVICES, doc! { "token": null, "changed_at": memory.clone() }),
            (MARKS, doc! { "marked_at": memory.clone() }),
            (RECEIPTS, doc! { "written_at": memory, OUTBOX: { "$exists": false } }),
        ] {
            self.collection(collection).delete_many(old).await?;
        }
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}
