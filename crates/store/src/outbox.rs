//! The port to an outbox: events that were committed with the change that caused them and wait to be published.

use std::time::Duration;

use async_trait::async_trait;
use sosohappy_events::Outgoing;

use crate::StoreError;

/// An unpublished record and the row (or document) that holds it.
#[derive(Debug, Clone)]
pub struct Pending {
    pub row: String,
    pub record: Outgoing,
    /// Time since it was written.
    pub age: Duration,
}

/// The port to a store's outbox; each engine has an adapter.
#[async_trait]
pub trait Outbox: std::fmt::Debug + Send + Sync {
    /// Takes or renews the relay's lease for `holder`; false while another holds it.
    async fn lease(&self, holder: &str, ttl: Duration) -> Result<bool, StoreError>;

    /// Releases the relay's lease before it expires, if `holder` still has it.
    async fn release(&self, holder: &str) -> Result<(), StoreError>;

    /// Returns the oldest unpublished records, in the order they were written.
    async fn pending(&self, limit: usize) -> Result<Vec<Pending>, StoreError>;

    /// Deletes rows that were published.
    async fn published(&self, rows: &[String]) -> Result<(), StoreError>;
}
