//! Leases: one of the replicas does it.

use std::time::Duration;

use mongodb::bson::doc;

use super::{Database, is_taken};
use crate::StoreError;
use crate::time::millis;

const COLLECTION: &str = "lease";

pub(super) async fn take(database: &Database, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
    let now = database.now().as_millisecond();
    let taken = database
        .collection(COLLECTION)
        .find_one_and_update(
            doc! { "_id": name, "$or": [{ "holder": holder }, { "expires_at": { "$lte": now } }] },
            doc! { "$set": { "holder": holder, "expires_at": now.saturating_add(millis(ttl)) } },
        )
        .upsert(true)
        .await
        .map_err(StoreError::from);
    if is_taken(&taken) {
        return Ok(false);
    }
    taken.map(|_| true)
}

pub(super) async fn release(database: &Database, name: &str, holder: &str) -> Result<(), StoreError> {
    database
        .collection(COLLECTION)
        .delete_one(doc! { "_id": name, "holder": holder })
        .await?;
    Ok(())
}

pub(super) async fn sweep(database: &Database, before: i64) -> Result<(), StoreError> {
    database
        .collection(COLLECTION)
        .delete_many(doc! { "expires_at": { "$lt": before } })
        .await?;
    Ok(())
}
