//! The relay: publishes what transactions have written to an outbox, in order per key, and survives a kill anywhere.

mod relay;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sosohappy_common::Context;
use sosohappy_common::lifecycle::Stage;
use tokio::sync::Notify;

use crate::{Bus, Outgoing};

/// An error of the store behind an outbox.
#[derive(Debug, thiserror::Error)]
#[error("the outbox cannot be read: {0}")]
pub struct OutboxError(#[source] pub anyhow::Error);

/// An unpublished record and the row (or document) that holds it.
#[derive(Debug, Clone)]
pub struct Pending {
    pub row: String,
    pub record: Outgoing,
    /// Milliseconds since it was written.
    pub age: Duration,
}

/// The port to a store's outbox; adapters in `sosohappy-store` for each engine.
#[async_trait]
pub trait Outbox: std::fmt::Debug + Send + Sync {
    /// Takes or renews the relay's lease for `holder`; false while another holds it. A `ttl` of zero gives it back.
    async fn lease(&self, holder: &str, ttl: Duration) -> Result<bool, OutboxError>;

    /// The oldest unpublished records, in the order they were written.
    async fn pending(&self, limit: usize) -> Result<Vec<Pending>, OutboxError>;

    /// Forgets what was published.
    async fn published(&self, rows: &[String]) -> Result<(), OutboxError>;
}

/// Wakes the relay of this process; whoever commits an outbox row calls it after the commit.
#[derive(Debug, Clone, Default)]
pub struct RelayHandle(Arc<Notify>);

impl RelayHandle {
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Spawns the relay: one of the replicas leases it and publishes batches in order. Without a wake it looks every
/// 200 ms, which also finds rows of a replica that died after its commit. What the bus refuses for good goes to the
/// dead-letter topic, so that one record never stops the rest.
///
/// A record is published at least once: a relay that dies, or loses its lease, between publishing and forgetting leaves
/// rows that the next one publishes again under the same event ids. The first copies of a key are always in order.
#[must_use]
pub fn spawn_relay(context: &Context, bus: Arc<dyn Bus>, outbox: Arc<dyn Outbox>) -> RelayHandle {
    let handle = RelayHandle::default();
    let relay = relay::Relay::new(context, bus, outbox, handle.0.clone());
    context
        .lifecycle
        .spawn_at(Stage::Publishing, "outbox-relay", relay.run());
    handle
}
