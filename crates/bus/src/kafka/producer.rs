//! Publishing: acknowledged by all replicas, in order per key, and where it must arrive idempotent.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::RwLock;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::producer::{Producer as _, PurgeConfig};

use super::client::{Client, Settings};
use super::connection::Connection;
use super::queue;
use super::recovery::{Role, stuck};
use super::unavailable;
use crate::BusError;
use crate::names::{Names, WireRecord};

/// Pause before another attempt when librdkafka's queue is full.
const FULL: Duration = Duration::from_millis(10);

/// Interval of the check whether the producer in use is another one.
const LOOK_FOR_ANOTHER: Duration = Duration::from_secs(5);

pub(super) type Producer = FutureProducer<Client>;

/// The guarantee of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Each record arrives once and in order, however long the broker is unavailable.
    Durable,
    /// Records that the broker does not take in a few seconds are given up.
    BestEffort,
}

/// The producer of one kind of records, replaced when it has failed for good.
pub(super) struct Publisher {
    settings: Arc<Settings>,
    delivery: Delivery,
    current: RwLock<Connected>,
}

/// A producer with its connection, which no other one has.
#[derive(Clone)]
struct Connected {
    producer: Producer,
    connection: Weak<Connection>,
}

fn create(settings: &Settings, delivery: Delivery) -> Result<Connected, BusError> {
    let config = match delivery {
        Delivery::Durable => settings.producer(),
        Delivery::BestEffort => settings.report_producer(),
    };
    let client = settings.client();
    let connection = client.connection();
    let producer = config
        .create_with_context(client)
        .map_err(|error| BusError::Settings(error.to_string()))?;
    Ok(Connected { producer, connection })
}

impl Publisher {
    pub(super) fn new(settings: &Arc<Settings>, delivery: Delivery) -> Result<Self, BusError> {
        Ok(Self {
            settings: settings.clone(),
            delivery,
            current: RwLock::new(create(settings, delivery)?),
        })
    }

    pub(super) fn current(&self) -> Producer {
        self.current.read().producer.clone()
    }

    /// Replaces producers that do not recover from an outage, for as long as it is polled. Records that wait in one are taken back: their
    /// callers get [`BusError::Unavailable`], and use the next one when they retry.
    pub(super) async fn recover(this: Weak<Self>) {
        loop {
            let Some((settings, connection)) = this.upgrade().map(|publisher| publisher.watched()) else {
                return;
            };
            let reason = tokio::select! {
                reason = stuck(settings, connection.clone(), Role::Independent) => reason,
                // For another reason.
                () = Self::replaced(&this, &connection) => continue,
            };
            let Some(publisher) = this.upgrade() else { return };
            if let Some(producer) = publisher.replace(&connection) {
                tracing::warn!(%reason, delivery = ?publisher.delivery, "Kafka client does not recover; replacing it");
                publisher.settings.count_replaced();
                let takes_back = publisher.delivery == Delivery::Durable;
                // It may hang, and so ends in a thread that no runtime waits for.
                std::thread::spawn(move || {
                    if takes_back {
                        take_back(&producer);
                    }
                    drop(producer);
                });
            }
        }
    }

    fn watched(&self) -> (Arc<Settings>, Weak<Connection>) {
        (self.settings.clone(), self.current.read().connection.clone())
    }

    /// Resolves when the producer with this connection is no longer the one in use.
    async fn replaced(this: &Weak<Self>, connection: &Weak<Connection>) {
        while this.upgrade().is_some_and(|publisher| publisher.uses(connection)) {
            tokio::time::sleep(LOOK_FOR_ANOTHER).await;
        }
    }

    /// Returns whether the producer in use has this connection.
    fn uses(&self, connection: &Weak<Connection>) -> bool {
        self.current.read().connection.ptr_eq(connection)
    }

    /// Replaces the producer that has this connection. Returns it, or `None` if another one is in use already, or none can be created.
    fn replace(&self, connection: &Weak<Connection>) -> Option<Producer> {
        let mut current = self.current.write();
        if !current.connection.ptr_eq(connection) {
            return None;
        }
        match create(&self.settings, self.delivery) {
            Ok(next) => Some(std::mem::replace(&mut *current, next).producer),
            Err(error) => {
                tracing::error!(%error, delivery = ?self.delivery, "replacing the Kafka producer failed");
                None
            }
        }
    }

    /// Queues all in order, then waits until all are acknowledged. Dropped while it waits, a durable batch is taken back as far as the
    /// broker does not have it: a late copy would overtake what another relay has published since.
    pub(super) async fn publish(&self, names: &Names, records: &[WireRecord], timestamp: i64) -> Result<(), BusError> {
        let mut batch = self.batch();
        let outcome = self.send(batch.used(), names, records, timestamp).await;
        batch.settled = true;
        outcome
    }

    fn batch(&self) -> InFlightBatch<'_> {
        InFlightBatch {
            publisher: self,
            used: Some(self.current.read().clone()),
            settled: false,
        }
    }

    async fn send(
        &self,
        used: &Connected,
        names: &Names,
        records: &[WireRecord],
        timestamp: i64,
    ) -> Result<(), BusError> {
        // Queued before any is waited for, so that they travel in one request.
        let mut deliveries = Vec::with_capacity(records.len());
        for record in records {
            let delivery = enqueue(&used.producer, &names.wire(record.channel), record, timestamp).await;
            deliveries.push(delivery.map_err(|error| self.failed(used, &error))?);
        }
        // Replaced meanwhile: its records may have been taken back before these were queued, which would wait in it for good.
        if self.delivery == Delivery::Durable && !self.uses(&used.connection) {
            take_back(&used.producer);
        }
        for delivery in deliveries {
            let delivered = delivery.await.map_err(unavailable)?;
            delivered.map_err(|(error, _)| self.failed(used, &error))?;
        }
        Ok(())
    }

    fn failed(&self, used: &Connected, error: &KafkaError) -> BusError {
        if let Some((code, reason)) = used.producer.client().fatal_error()
            && let Some(producer) = self.replace(&used.connection)
        {
            tracing::error!(?code, reason, "Kafka producer failed; replaced");
            queue::end(producer);
        }
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidTimestamp,
            ) => BusError::Refused(error.to_string()),
            _ => unavailable(error),
        }
    }
}

/// Takes back the records that the broker does not have yet: their callers get an error.
fn take_back(producer: &Producer) {
    producer.purge(PurgeConfig::default().queue().inflight());
}

/// Records that a producer has accepted and not yet acknowledged or failed.
struct InFlightBatch<'a> {
    publisher: &'a Publisher,
    /// `None` once it is dropped.
    used: Option<Connected>,
    settled: bool,
}

impl InFlightBatch<'_> {
    fn used(&self) -> &Connected {
        self.used.as_ref().expect("it is taken only when dropped")
    }
}

impl Drop for InFlightBatch<'_> {
    /// A purge leaves gaps in an idempotent producer's sequence numbers, which ends its use. Other callers that wait for it get
    /// [`BusError::Unavailable`], and use the next one when they retry.
    fn drop(&mut self) {
        let Some(Connected { producer, connection }) = self.used.take() else {
            return;
        };
        // Reports give up by themselves.
        if !self.settled && self.publisher.delivery == Delivery::Durable {
            // This one is another owner of it.
            drop(self.publisher.replace(&connection));
            take_back(&producer);
        }
        // The last owner of a producer that was replaced ends it, which takes a while.
        if !self.publisher.uses(&connection) {
            queue::end(producer);
        }
    }
}

async fn enqueue(
    producer: &Producer,
    topic: &str,
    wire_record: &WireRecord,
    timestamp: i64,
) -> Result<DeliveryFuture, KafkaError> {
    let headers = wire_record.headers.iter().fold(
        OwnedHeaders::new_with_capacity(wire_record.headers.len()),
        |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        },
    );
    let mut record = FutureRecord::<[u8], [u8]>::to(topic)
        .timestamp(timestamp)
        .headers(headers);
    record.key = wire_record.key.as_deref();
    record.payload = wire_record.value.as_deref();
    loop {
        match producer.send_result(record) {
            Ok(delivery) => return Ok(delivery),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => record = again,
            Err((error, _)) => return Err(error),
        }
        tokio::time::sleep(FULL).await;
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_common::Context;
    use sosohappy_common::settings::Security;

    use super::*;

    /// The records of other callers, which wait in the producer in use, would be overtaken by those in a next one.
    #[tokio::test]
    async fn a_batch_of_a_producer_that_was_replaced_leaves_the_next_one_in_use() {
        let context = Context::system("test-service", 0);
        let settings = Settings::new("127.0.0.1:9", &Security::default(), &context).await;
        let publisher = Publisher::new(&Arc::new(settings.unwrap()), Delivery::Durable).unwrap();
        let (one, another) = (publisher.batch(), publisher.batch());
        let first = one.used().connection.clone();
        drop(one);
        assert!(!publisher.uses(&first), "its records are taken back");
        let (_, second) = publisher.watched();
        drop(another);
        assert!(publisher.uses(&second));
    }
}
