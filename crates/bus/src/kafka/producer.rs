//! Publishing: idempotent, acknowledged by all replicas, in order per key.

use std::time::Duration;

use parking_lot::RwLock;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::producer::{Producer as _, PurgeConfig};

use super::client::{Client, Settings};
use super::unavailable;
use crate::BusError;
use crate::names::{Names, Parcel};

/// How long to wait for room in librdkafka's queue before trying again.
const FULL: Duration = Duration::from_millis(10);

pub(super) type Producer = FutureProducer<Client>;

/// The producer, and the next one when it has failed for good.
pub(super) struct Publisher {
    current: RwLock<Producer>,
}

fn create(settings: &Settings) -> Result<Producer, BusError> {
    settings
        .producer()
        .create_with_context(settings.client())
        .map_err(|error| BusError::Settings(error.to_string()))
}

impl Publisher {
    pub(super) fn new(settings: &Settings) -> Result<Self, BusError> {
        Ok(Self {
            current: RwLock::new(create(settings)?),
        })
    }

    pub(super) fn current(&self) -> Producer {
        self.current.read().clone()
    }

    /// Queues all in order, then waits until all are acknowledged, however long the broker is away. Dropped, it takes back what the
    /// broker has not been given yet: a late copy would overtake what somebody else has published meanwhile.
    pub(super) async fn publish(
        &self,
        settings: &Settings,
        names: &Names,
        parcels: &[Parcel],
        stamp: i64,
    ) -> Result<(), BusError> {
        let mut given = Given {
            publisher: self,
            settings,
            producer: self.current(),
            settled: false,
        };
        let outcome = self.send(settings, &given.producer, names, parcels, stamp).await;
        given.settled = true;
        outcome
    }

    async fn send(
        &self,
        settings: &Settings,
        producer: &Producer,
        names: &Names,
        parcels: &[Parcel],
        stamp: i64,
    ) -> Result<(), BusError> {
        let mut deliveries = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let delivery = enqueue(producer, &names.wire(parcel.channel), parcel, stamp).await;
            deliveries.push(delivery.map_err(|error| self.failed(settings, producer, &error))?);
        }
        for delivery in deliveries {
            let delivered = delivery.await.map_err(unavailable)?;
            delivered.map_err(|(error, _)| self.failed(settings, producer, &error))?;
        }
        Ok(())
    }

    fn failed(&self, settings: &Settings, producer: &Producer, error: &KafkaError) -> BusError {
        if let Some((code, reason)) = producer.client().fatal_error() {
            tracing::error!(?code, reason, "the Kafka producer has failed for good and is replaced");
            let mut current = self.current.write();
            // Somebody else who saw the same failure may have been first.
            if current.client().fatal_error().is_some() {
                match create(settings) {
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

/// What was given to a producer and is not settled yet.
struct Given<'a> {
    publisher: &'a Publisher,
    settings: &'a Settings,
    producer: Producer,
    settled: bool,
}

impl Drop for Given<'_> {
    /// A purge leaves gaps in an idempotent producer's numbers, so that it is of no use any more. Whoever else waits for it is told that
    /// the bus is away, and tries again with the next one.
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        match create(self.settings) {
            Ok(next) => *self.publisher.current.write() = next,
            Err(error) => tracing::error!(%error, "the Kafka producer cannot be replaced"),
        }
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }
}

async fn enqueue(producer: &Producer, topic: &str, parcel: &Parcel, stamp: i64) -> Result<DeliveryFuture, KafkaError> {
    let headers = parcel.headers.iter().fold(
        OwnedHeaders::new_with_capacity(parcel.headers.len()),
        |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value.as_ref()),
            })
        },
    );
    let mut record = FutureRecord::<[u8], [u8]>::to(topic).timestamp(stamp).headers(headers);
    record.key = parcel.key.as_deref();
    record.payload = parcel.value.as_deref();
    loop {
        match producer.send_result(record) {
            Ok(delivery) => return Ok(delivery),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => record = again,
            Err((error, _)) => return Err(error),
        }
        tokio::time::sleep(FULL).await;
    }
}
