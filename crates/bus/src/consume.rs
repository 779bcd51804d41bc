//! Runs consumers: decode, handle, retry with backoff, dead letters, offsets after the work.

mod group;
mod handling;
mod reading;

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_common::Context;
use sosohappy_common::correlation::Correlation;
use sosohappy_common::lifecycle::{Gate, Stage};

use crate::metrics::Consuming;
use crate::{Bus, Start};
use handling::{CONSUMER, Handling};
use sosohappy_events::{Envelope, Event, Meta};
use sosohappy_store::StoreError;

/// Why a consumer could not apply an event.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// A dependency (the database, the bus) is unavailable: the record is retried, with backoff, for as long as it takes.
    #[error("{0}")]
    Unavailable(#[source] anyhow::Error),
    /// Stored data cannot be read, or a statement is wrong: the record is retried for about two seconds and then sent to
    /// the dead-letter topic, so that it never blocks its partition. The text is logged: no personal data.
    #[error("{0}")]
    Corrupt(#[source] anyhow::Error),
    /// This event can never be applied: it is sent to the dead-letter topic at once. The text is logged: no personal data.
    #[error("{0}")]
    Rejected(String),
}

impl From<StoreError> for HandleError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(_) => Self::Rejected(error.to_string()),
            // A conflict that the consumer did not expect is a bug like wrong SQL; a race may resolve it.
            StoreError::Corrupt(_) | StoreError::Conflict(_) => Self::Corrupt(error.into()),
            StoreError::Settings(_) | StoreError::Retry(_) | StoreError::Unavailable(_) => {
                Self::Unavailable(error.into())
            }
        }
    }
}

/// Applies one kind of event. Applying the same event again must change nothing: remember its id in the same
/// transaction, or make the change idempotent. An attempt may be dropped at any await.
#[async_trait]
pub trait Consumer<E: Event>: Send + Sync + 'static {
    /// The most records that [`Consumer::handle_all`] gets at once. With 1, each record is handled by itself.
    const MOST_AT_ONCE: usize = 1;

    async fn handle(&self, event: Envelope<E>) -> Result<(), HandleError>;

    /// Applies records that wait in the partitions of a group's member, or for a reader, in their order. No record waits for others to come. The
    /// request that caused each is [`correlation_of`] its meta.
    ///
    /// After any error, also one after a part was applied, the records are handled again in smaller parts and in the same order, in the end each
    /// by itself by [`Consumer::handle`], whose error decides about retry and dead letter.
    async fn handle_all(&self, events: Vec<Envelope<E>>) -> Result<(), HandleError> {
        for event in events {
            correlation_of(&event.meta).scope(self.handle(event)).await?;
        }
        Ok(())
    }
}

/// Returns the request that caused an event, for events and log lines that follow from it.
#[must_use]
pub fn correlation_of(meta: &Meta) -> Correlation {
    let id = meta.correlation_id.clone().unwrap_or_else(|| meta.id.to_string());
    Correlation {
        id: id.into(),
        traceparent: meta.traceparent.clone().map(Into::into),
    }
}

/// Spawns a member of the group `<service>.consumers` for this event: one of the replicas gets each record. On Kafka the members of a
/// process share one client; each has queues of its own, so that one consumer's long retry does not stop the others.
///
/// Of a compacted topic, which is the state that requests are answered from, a gate named after the topic holds readiness back until
/// the group has applied every record that was there when this member joined.
///
/// # Panics
/// When the service has a consumer of this event already: the two would share the records out between them.
///
/// An attempt that panics is [`HandleError::Rejected`], one that takes longer than half a minute
/// [`HandleError::Unavailable`].
pub fn spawn_consumer<E: Event>(context: &Context, bus: Arc<dyn Bus>, consumer: impl Consumer<E>) {
    let handling = Handling::new(context, consumer, CONSUMER);
    assert!(
        handling.metrics.groups.lock().insert(E::TOPIC),
        "{} has two consumers of {}",
        context.service,
        E::TYPE
    );
    let name = E::TOPIC.consumer_name();
    let gate = E::TOPIC.is_compacted().then(|| context.lifecycle.gate(name));
    context
        .lifecycle
        .spawn_at(Stage::Consuming, name, group::run(context.clone(), bus, gate, handling));
}

/// Spawns a reader that gives **every replica** every record. The gate named after the topic holds readiness
/// back until it has caught up. A record that cannot be handled is logged, counted and passed over; one whose handling is
/// unavailable is retried as in [`spawn_consumer`].
///
/// With [`Start::Latest`] the gate opens as soon as the positions are fixed: nothing published from then on is missed.
///
/// # Panics
/// When the service has a reader of this event already: a replica reads a topic once, and shares what it has read.
pub fn spawn_reader<E: Event>(context: &Context, bus: Arc<dyn Bus>, start: Start, consumer: impl Consumer<E>) {
    let readers = Consuming::of(context).readers;
    assert!(
        readers.lock().insert(E::TOPIC),
        "{} has two readers of {}",
        context.service,
        E::TYPE
    );
    let gate = context.lifecycle.gate(E::TOPIC.reader_name());
    read::<E>(context, bus, start, Some(gate), consumer);
}

/// As [`spawn_reader`], for records without which a service can be ready.
pub fn spawn_listener<E: Event>(context: &Context, bus: Arc<dyn Bus>, start: Start, consumer: impl Consumer<E>) {
    read::<E>(context, bus, start, None, consumer);
}

fn read<E: Event>(context: &Context, bus: Arc<dyn Bus>, start: Start, gate: Option<Gate>, consumer: impl Consumer<E>) {
    let handling = Handling::new(context, consumer, "reader");
    context.lifecycle.spawn_at(
        Stage::Consuming,
        E::TOPIC.reader_name(),
        reading::run(context.clone(), bus, start, gate, handling),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_store_is_retried_sent_to_the_dead_letters_or_rejected() {
        let cause = || anyhow::anyhow!("cause");
        let is_unavailable = |error: StoreError| matches!(HandleError::from(error), HandleError::Unavailable(_));
        let is_corrupt = |error: StoreError| matches!(HandleError::from(error), HandleError::Corrupt(_));
        assert!(is_unavailable(StoreError::Unavailable(cause())));
        assert!(is_unavailable(StoreError::Retry(cause())));
        assert!(is_corrupt(StoreError::Corrupt(cause())));
        assert!(is_corrupt(StoreError::Conflict("account_email".to_owned())));
        let rejected = HandleError::from(StoreError::Invalid(cause()));
        assert!(matches!(rejected, HandleError::Rejected(_)));
    }
}
