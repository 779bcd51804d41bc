//! A member of a consumer group.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::Retryable as _;
use prometheus::IntGauge;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio_util::task::AbortOnDropHandle;

use super::group::Subscription;
use super::queue::{Consumer, Queue, first};
use super::{ASK, Inner, blocking, client, retries, unavailable};
use crate::names::Channel;
use crate::{BusError, Member, dead_letter};
use sosohappy_events::{Record, Topic};

const MEASURE_LAG: Duration = Duration::from_secs(5);

pub(super) struct KafkaMember {
    inner: Arc<Inner>,
    // Before the subscription, so that queues are dropped before the client ends.
    partitions: Vec<Partition>,
    subscription: Subscription,
    lag: Option<Lag>,
    /// Asked first next time.
    turn: usize,
}

/// A gauge that is kept at the lag of a member, and is nothing when it leaves.
struct Lag {
    gauge: IntGauge,
    _measuring: AbortOnDropHandle<()>,
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.gauge.set(0);
    }
}

/// A partition that this member may be given.
struct Partition {
    topic: Topic,
    queue: Queue,
}

impl KafkaMember {
    pub(super) async fn join(inner: &Arc<Inner>, group: &str, topics: &[Topic]) -> Result<Self, BusError> {
        let wire = |topic: &Topic| inner.names.wire(Channel::live(*topic));
        let names = topics.iter().map(wire).collect();
        let subscription = inner.groups.reserve(inner, &inner.names.group(group), names)?;
        let mut known = Vec::new();
        for topic in topics {
            let ask = || {
                let (producer, name) = (inner.producer.current(), wire(topic));
                blocking(move || super::topics::partitions(&producer, &name))
            };
            let numbers = ask.retry(retries()).await?;
            let queues = subscription.split(&wire(topic), &numbers)?;
            known.extend(queues.into_iter().map(|queue| Partition { topic: *topic, queue }));
        }
        subscription.subscribe();
        Ok(Self {
            inner: inner.clone(),
            partitions: known,
            subscription,
            lag: None,
            turn: 0,
        })
    }
}

#[async_trait]
impl Member for KafkaMember {
    async fn next(&mut self) -> Result<Record, BusError> {
        loop {
            let (index, message) = tokio::select! {
                () = self.subscription.failed() => return Err(unavailable("the client of the group failed")),
                came = first(self.partitions.iter().map(|partition| &partition.queue), self.turn) => came,
            };
            self.turn = (index + 1) % self.partitions.len();
            match message {
                Ok(message) => return Ok(client::record(&message, self.partitions[index].topic)),
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => return Err(unavailable(error)),
                // librdkafka recovers by itself.
                Err(error) => {
                    let context = self.subscription.consumer().client().context();
                    context.warn(&error, self.subscription.name());
                }
            }
        }
    }

    async fn done(&mut self, record: &Record) -> Result<(), BusError> {
        let topic = self.inner.names.wire(Channel::live(record.topic));
        let mut offsets = TopicPartitionList::with_capacity(1);
        offsets
            .add_partition_offset(&topic, record.partition, Offset::Offset(record.offset + 1))
            .map_err(unavailable)?;
        match self.subscription.consumer().store_offsets(&offsets) {
            Ok(()) => Ok(()),
            // The partition has gone to another member, which may handle the record once more.
            Err(KafkaError::StoreOffset(RDKafkaErrorCode::State | RDKafkaErrorCode::UnknownPartition)) => {
                tracing::info!(
                    group = self.subscription.name(),
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
        let letter = dead_letter::wire_record(record, self.subscription.name(), reason);
        self.inner.make(std::iter::once(letter.channel)).await?;
        self.inner.publish(&self.inner.producer, &[letter]).await
    }

    fn observe(&mut self, lag: IntGauge) {
        let (gauge, consumer) = (lag.clone(), Arc::downgrade(self.subscription.consumer()));
        let topics = self.subscription.topics().to_vec();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(MEASURE_LAG).await;
                let Some(consumer) = consumer.upgrade() else { return };
                let topics = topics.clone();
                match blocking(move || measure(&consumer, &topics)).await {
                    Ok(records) => gauge.set(records),
                    Err(error) => tracing::debug!(%error, "reading consumer lag failed"),
                }
            }
        });
        self.lag = Some(Lag {
            gauge: lag,
            _measuring: AbortOnDropHandle::new(task),
        });
    }

    async fn leave(self: Box<Self>) {
        let Self {
            partitions,
            subscription,
            lag,
            ..
        } = *self;
        drop((lag, partitions));
        subscription.end().await;
    }
}

/// Returns the records in this process's partitions of these topics that are not done.
fn measure(consumer: &Consumer, topics: &[String]) -> Result<i64, BusError> {
    let assignment = consumer.assignment().map_err(unavailable)?;
    let mut partitions = TopicPartitionList::new();
    for partition in topics.iter().flat_map(|topic| assignment.elements_for_topic(topic)) {
        partitions.add_partition(partition.topic(), partition.partition());
    }
    let committed = consumer.committed_offsets(partitions, ASK).map_err(unavailable)?;
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
