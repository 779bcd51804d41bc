//! Deduplication of consumed events.

use jiff::Timestamp;
use sosohappy_events::EventId;

use super::Tx;
use crate::{PRIMARY, StoreError};

/// Records in this transaction that `consumer` applies the event; returns false when it has been applied before. Of two concurrent replicas
/// the second waits for the first. `consumer` has at most 100 bytes. Rows are kept for 8 days.
pub async fn first_time(tx: &mut Tx, consumer: &str, id: EventId, now: Timestamp) -> Result<bool, StoreError> {
    // An insert, because an upsert does not distinguish a new row from a known one on MySQL: sqlx asks for rows found, not rows changed.
    let inserted = sqlx::query("INSERT INTO event_inbox (consumer, event_id, applied_at) VALUES (?, ?, ?)")
        .bind(consumer)
        .bind(id.0.as_bytes().as_slice())
        .bind(now.as_millisecond())
        .execute(&mut **tx)
        .await;
    match inserted.map_err(StoreError::from) {
        Ok(_) => Ok(true),
        Err(StoreError::Conflict(rule)) if rule == PRIMARY => Ok(false),
        Err(error) => Err(error),
    }
}
