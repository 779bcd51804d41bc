//! A member of a consumer group.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus::IntGauge;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio_util::task::AbortOnDropHandle;

use super::client::{self, Client};
use super::{ASK, Inner, unavailable};
use crate::names::Channel;
use crate::{BusError, Member, dead_letter};
use sosohappy_events::{Record, Topic};

const MEASURE_LAG: Duration = Duration::from_secs(5);

pub(super) struct KafkaMember {
    inner: Arc<Inner>,
    group: String,
    topics: HashMap<String, Topic>,
    /// Taken when the group is left.
    consumer: Option<Arc<StreamConsumer<Client>>>,
    lag: Option<(IntGauge, AbortOnDropHandle<()>)>,
}

impl KafkaMember {
    pub(super) fn join(inner: Arc<Inner>, group: String, topics: &[Topic]) -> Result<Self, BusError> {
        let topics: HashMap<_, _> = topics
            .iter()
            .map(|topic| (inner.names.wire(Channel::live(*topic)), *topic))
            .collect();
        let consumer: StreamConsumer<Client> = inner
            .settings
            .member(&group)
            .create_with_context(inner.settings.client())
            .map_err(|error| BusError::Settings(error.to_string()))?;
        let names: Vec<_> = topics.keys().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(unavailable)?;
        Ok(Self {
            inner,
            group,
            topics,
            consumer: Some(Arc::new(consumer)),
            lag: None,
        })
    }

    fn consumer(&self) -> &Arc<StreamConsumer<Client>> {
        self.consumer.as_ref().expect("it is taken only when the member leaves")
    }

    /// Commits what was done, tells the group, and ends the client, on a thread that may block.
    fn close(&mut self) -> Option<tokio::task::JoinHandle<()>> {
        if let Some((gauge, _task)) = self.lag.take() {
            gauge.set(0);
        }
        let consumer = self.consumer.take()?;
        // Outside of a runtime nothing else is held up.
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        Some(runtime.spawn_blocking(move || drop(consumer)))
    }
}

#[async_trait]
impl Member for KafkaMember {
    async fn next(&mut self) -> Result<Record, BusError> {
        loop {
            match self.consumer().recv().await {
                Ok(message) => {
                    if let Some(topic) = self.topics.get(rdkafka::Message::topic(&message)) {
                        return Ok(client::record(&message, *topic));
                    }
                }
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => return Err(unavailable(error)),
                // librdkafka recovers by itself; after too long a hold it joins again.
                Err(error) => self.consumer().client().context().warn(&error, &self.group),
            }
        }
    }

    async fn done(&mut self, record: &Record) -> Result<(), BusError> {
        let topic = self.inner.names.wire(Channel::live(record.topic));
        let mut offsets = TopicPartitionList::with_capacity(1);
        offsets
            .add_partition_offset(&topic, record.partition, Offset::Offset(record.offset + 1))
            .map_err(unavailable)?;
        match self.consumer().store_offsets(&offsets) {
            Ok(()) => Ok(()),
            // The partition has gone to another member, which may handle the record once more.
            Err(KafkaError::StoreOffset(RDKafkaErrorCode::State | RDKafkaErrorCode::UnknownPartition)) => {
                tracing::info!(
                    group = self.group,
                    topic,
                    partition = record.partition,
                    "partition was reassigned; record may be handled twice"
                );
                Ok(())
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn dead_letter(&mut self, record: &Record, reason: &str) -> Result<(), BusError> {
        let letter = dead_letter::wire_record(record, &self.group, reason);
        self.inner.make(std::iter::once(letter.channel)).await?;
        self.inner.publish(&self.inner.producer, &[letter]).await
    }

    fn observe(&mut self, lag: IntGauge) {
        let (gauge, consumer) = (lag.clone(), Arc::downgrade(self.consumer()));
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(MEASURE_LAG).await;
                let Some(consumer) = consumer.upgrade() else { return };
                match super::blocking(move || measure(&consumer)).await {
                    Ok(records) => gauge.set(records),
                    Err(error) => tracing::debug!(%error, "reading consumer lag failed"),
                }
            }
        });
        self.lag = Some((lag, AbortOnDropHandle::new(task)));
    }

    async fn leave(mut self: Box<Self>) {
        if let Some(closing) = self.close()
            && let Err(error) = closing.await
        {
            tracing::warn!(%error, group = self.group, "leaving consumer group failed");
        }
    }
}

impl Drop for KafkaMember {
    fn drop(&mut self) {
        // Not waited for: ending the client blocks.
        drop(self.close());
    }
}

/// Returns the records in this member's partitions that are not done.
fn measure(consumer: &StreamConsumer<Client>) -> Result<i64, BusError> {
    let committed = consumer.committed(ASK).map_err(unavailable)?;
    let mut lag = 0;
    for partition in committed.elements() {
        let (low, high) = consumer
            .fetch_watermarks(partition.topic(), partition.partition(), ASK)
            .map_err(unavailable)?;
        let done = match partition.offset() {
            Offset::Offset(done) => done.max(low),
            _ => low,
        };
        lag += (high - done).max(0);
    }
    Ok(lag)
}
