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
use super::recovery::{Role, stuck};
use super::unavailable;
use crate::BusError;
use crate::names::{Names, WireRecord};

/// Pause before another attempt when librdkafka's queue is full.
const FULL: Duration = Duration::from_millis(10);

/// Interval of the check whether the producer in use is another one.
const LOOK_FOR_END: Duration = Duration::from_secs(5);

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
    current: RwLock<Current>,
}

struct Current {
    producer: Producer,
    connection: Weak<Connection>,
}

fn create(settings: &Settings, delivery: Delivery) -> Result<Current, BusError> {
    let config = match delivery {
        Delivery::Durable => settings.producer(),
        Delivery::BestEffort => settings.report_producer(),
    };
    let client = settings.client();
    let connection = client.connection();
    let producer = config
        .create_with_context(client)
        .map_err(|error| BusError::Settings(error.to_string()))?;
    Ok(Current { producer, connection })
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
                // Replaced meanwhile, for another reason.
                () = ended(&connection) => continue,
            };
            let Some(publisher) = this.upgrade() else { return };
            tracing::warn!(%reason, delivery = ?publisher.delivery, "Kafka client does not recover; replacing it");
            match publisher.replace(&connection) {
                Ok(Some(Current { producer, .. })) => {
                    publisher.settings.count_replaced();
                    let takes_back = publisher.delivery == Delivery::Durable;
                    // It may hang, and so ends in a thread that no runtime waits for.
                    std::thread::spawn(move || {
                        if takes_back {
                            producer.purge(PurgeConfig::default().queue().inflight());
                        }
                        drop(producer);
                    });
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "replacing the Kafka producer failed"),
            }
        }
    }

    fn watched(&self) -> (Arc<Settings>, Weak<Connection>) {
        (self.settings.clone(), self.current.read().connection.clone())
    }

    /// Replaces the producer that has this connection. Returns it, or `None` if it was replaced already.
    fn replace(&self, connection: &Weak<Connection>) -> Result<Option<Current>, BusError> {
        let mut current = self.current.write();
        if !current.connection.ptr_eq(connection) {
            return Ok(None);
        }
        let next = create(&self.settings, self.delivery)?;
        Ok(Some(std::mem::replace(&mut *current, next)))
    }

    /// Queues all in order, then waits until all are acknowledged. Dropped while it waits, a durable batch is taken back as far as the
    /// broker does not have it: a late copy would overtake what another relay has published since.
    pub(super) async fn publish(&self, names: &Names, records: &[WireRecord], timestamp: i64) -> Result<(), BusError> {
        let mut batch = InFlightBatch {
            publisher: self,
            producer: self.current(),
            settled: false,
        };
        let outcome = self.send(&batch.producer, names, records, timestamp).await;
        batch.settled = true;
        outcome
    }

    async fn send(
        &self,
        producer: &Producer,
        names: &Names,
        records: &[WireRecord],
        timestamp: i64,
    ) -> Result<(), BusError> {
        // Queued before any is waited for, so that they travel in one request.
        let mut deliveries = Vec::with_capacity(records.len());
        for record in records {
            let delivery = enqueue(producer, &names.wire(record.channel), record, timestamp).await;
            deliveries.push(delivery.map_err(|error| self.failed(producer, &error))?);
        }
        // Replaced meanwhile: its records may have been taken back before these were queued, which would wait in it for good.
        if self.delivery == Delivery::Durable && !self.is_current(producer) {
            producer.purge(PurgeConfig::default().queue().inflight());
        }
        for delivery in deliveries {
            let delivered = delivery.await.map_err(unavailable)?;
            delivered.map_err(|(error, _)| self.failed(producer, &error))?;
        }
        Ok(())
    }

    fn is_current(&self, producer: &Producer) -> bool {
        let current = self.current.read();
        std::ptr::eq(current.producer.client().native_ptr(), producer.client().native_ptr())
    }

    fn failed(&self, producer: &Producer, error: &KafkaError) -> BusError {
        if let Some((code, reason)) = producer.client().fatal_error() {
            tracing::error!(?code, reason, "Kafka producer failed; replacing it");
            let mut current = self.current.write();
            // Another caller that saw the same failure may have replaced it already.
            if current.producer.client().fatal_error().is_some() {
                match create(&self.settings, self.delivery) {
                    Ok(next) => *current = next,
                    Err(error) => return error,
                }
            }
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

/// Resolves when a client has ended.
async fn ended(connection: &Weak<Connection>) {
    while connection.strong_count() > 0 {
        tokio::time::sleep(LOOK_FOR_END).await;
    }
}

/// Records that a producer has accepted and not yet acknowledged or failed.
struct InFlightBatch<'a> {
    publisher: &'a Publisher,
    producer: Producer,
    settled: bool,
}

impl Drop for InFlightBatch<'_> {
    /// A purge leaves gaps in an idempotent producer's sequence numbers, which ends its use. Other callers that wait for it get
    /// [`BusError::Unavailable`], and use the next one when they retry.
    fn drop(&mut self) {
        // Reports give up by themselves.
        if self.settled || self.publisher.delivery == Delivery::BestEffort {
            return;
        }
        match create(&self.publisher.settings, self.publisher.delivery) {
            Ok(next) => *self.publisher.current.write() = next,
            Err(error) => tracing::error!(%error, "replacing the Kafka producer failed"),
        }
        self.producer.purge(PurgeConfig::default().queue().inflight());
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
                value: Some(value.as_ref()),
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
