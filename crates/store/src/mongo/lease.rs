//! Leases: one replica at a time does a job. All times are the server's.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::ReturnDocument;

use super::{Database, ID_INDEX};
use crate::StoreError;
use crate::time::{lease_is_void_beyond, millis};

const COLLECTION: &str = "lease";

pub(super) async fn take(database: &Database, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
    match update(database, name, holder, millis(ttl)).await {
        // Two replicas inserted the document concurrently: it exists now, so the update decides.
        Err(StoreError::Conflict(rule)) if rule == ID_INDEX => update(database, name, holder, millis(ttl)).await,
        taken => taken,
    }
}

/// Updates atomically, and leaves a lease of another holder unchanged. The condition is part of the update, not of the query: a server
/// refuses `$expr` in the query of an upsert.
async fn update(database: &Database, name: &str, holder: &str, ttl: i64) -> Result<bool, StoreError> {
    let now = doc! { "$toLong": "$$NOW" };
    let end = doc! { "$add": [now.clone(), ttl] };
    let void = doc! { "$add": [now.clone(), lease_is_void_beyond(ttl)] };
    let free = doc! { "$or": [
        // A new document has neither field; an absent field compares as less than any number.
        { "$lte": ["$expires_at", now] },
        { "$gt": ["$expires_at", void] },
        { "$eq": ["$holder", { "$literal": holder }] },
    ] };
    let taken = database
        .collection(COLLECTION)
        .find_one_and_update(
            doc! { "_id": name },
            vec![doc! { "$set": {
                "holder": { "$cond": [free.clone(), { "$literal": holder }, "$holder"] },
                "expires_at": { "$cond": [free, end, "$expires_at"] },
            } }],
        )
        .upsert(true)
        .return_document(ReturnDocument::After)
        .await?;
    Ok(taken.is_some_and(|lease: Document| lease.get_str("holder").is_ok_and(|name| name == holder)))
}

pub(super) async fn release(database: &Database, name: &str, holder: &str) -> Result<(), StoreError> {
    database
        .collection(COLLECTION)
        .delete_one(doc! { "_id": name, "holder": holder })
        .await?;
    Ok(())
}

pub(super) async fn holder(database: &Database, name: &str) -> Result<Option<String>, StoreError> {
    let lease = database.collection(COLLECTION).find_one(doc! { "_id": name }).await?;
    Ok(lease.and_then(|lease: Document| lease.get_str("holder").ok().map(str::to_owned)))
}

pub(super) async fn sweep(database: &Database, before: i64) -> Result<(), StoreError> {
    database
        .collection(COLLECTION)
        .delete_many(doc! { "expires_at": { "$lt": before } })
        .await?;
    Ok(())
}
