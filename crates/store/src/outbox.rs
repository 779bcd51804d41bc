//! The port to an outbox: events that were committed together with the change that caused them, and are not yet published.

use std::time::Duration;

use async_trait::async_trait;
use sosohappy_events::Outgoing;

use crate::StoreError;

/// An unpublished record and its row (or document).
#[derive(Debug, Clone)]
pub struct Pending {
    pub row: String,
    pub record: Outgoing,
    /// Time since the row was written.
    pub age: Duration,
}

/// A row (or document) that could not be read and was moved out of the outbox, so that it does not block the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    pub row: String,
    /// Why the row is invalid. Logged: no personal data.
    pub reason: String,
}

/// The result of one read of the outbox.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// In the order in which they were written.
    pub pending: Vec<Pending>,
    /// Rows between them that this read has quarantined.
    pub quarantined: Vec<Quarantined>,
}

/// The port to a store's outbox; each engine has an adapter.
#[async_trait]
pub trait Outbox: std::fmt::Debug + Send + Sync {
    /// Takes or renews the relay's lease for `holder`; false while another holds it.
    async fn lease(&self, holder: &str, ttl: Duration) -> Result<bool, StoreError>;

    /// Releases the relay's lease before it expires, if `holder` still has it.
    async fn release(&self, holder: &str) -> Result<(), StoreError>;

    /// Returns the holder of the relay's lease, which may have expired.
    async fn leader(&self) -> Result<Option<String>, StoreError>;

    /// Returns the oldest unpublished records. Moves rows that cannot be decoded to the quarantine of the engine (a table, or a field of
    /// the document), unchanged, with the reason and the time.
    async fn pending(&self, limit: usize) -> Result<Batch, StoreError>;

    /// Deletes rows that were published.
    async fn published(&self, rows: &[String]) -> Result<(), StoreError>;
}
