//! A member of a consumer group.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::Retryable as _;
use futures::future::BoxFuture;
use prometheus::IntGauge;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio_util::task::AbortOnDropHandle;

use super::group::Subscription;
use super::queue::{Consumer, Owner, Queue, first};
use super::{ASK, Inner, blocking, client, retries, unavailable};
use crate::names::Channel;
use crate::{BusError, Member, dead_letter};
use sosohappy_events::{Record, Topic};

const MEASURE_LAG: Duration = Duration::from_secs(5);

/// How often a group that has not caught up is asked again: members commit twice a second.
const ASK_AGAIN: Duration = Duration::from_millis(250);

pub(super) struct KafkaMember {
    inner: Arc<Inner>,
    // Before the subscription, so that queues are dropped before the client ends.
    partitions: Vec<Partition>,
    subscription: Subscription,
    lag: Option<Lag>,
    /// All partitions of the topics, whichever member has them, by topic and number.
    numbers: Vec<(String, i32)>,
    /// Index of the queue that is polled first next time.
    turn: usize,
}

/// A gauge of a member's lag, set to 0 when the member leaves.
struct Lag {
    gauge: IntGauge,
    _measuring: AbortOnDropHandle<()>,
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.gauge.set(0);
    }
}

/// A partition that this member may be assigned.
struct Partition {
    topic: Topic,
    queue: Queue,
}

impl KafkaMember {
    pub(super) async fn join(inner: &Arc<Inner>, group: &str, topics: &[Topic]) -> Result<Self, BusError> {
        let wire = |topic: &Topic| inner.names.wire(Channel::live(*topic));
        let names = topics.iter().map(wire).collect();
        let subscription = inner.groups.reserve(inner, &inner.names.group(group), names)?;
        // Each partition gets a queue of its own before the subscription: records that arrive earlier would be in the client's queue, where
        // the server of the group takes them for those of a new partition.
        let (mut known, mut all) = (Vec::new(), Vec::new());
        for topic in topics {
            let ask = || {
                let (producer, name) = (inner.producer.current(), wire(topic));
                blocking(move || super::topics::partitions(&producer, &name))
            };
            let numbers = ask.retry(retries()).await?;
            all.extend(numbers.iter().map(|number| (wire(topic), *number)));
            let queues = subscription.split(&wire(topic), &numbers)?;
            known.extend(queues.into_iter().map(|queue| Partition { topic: *topic, queue }));
        }
        subscription.subscribe();
        Ok(Self {
            inner: inner.clone(),
            partitions: known,
            subscription,
            lag: None,
            numbers: all,
            turn: 0,
        })
    }
}

#[async_trait]
impl Member for KafkaMember {
    async fn next(&mut self) -> Result<Record, BusError> {
        loop {
            // Starts after the partition that was read last, so that a busy one holds up no other.
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
        // Stored only: librdkafka commits stored offsets twice a second, and when the partition is revoked.
        let mut offsets = TopicPartitionList::with_capacity(1);
        offsets
            .add_partition_offset(&topic, record.partition, Offset::Offset(record.offset + 1))
            .map_err(unavailable)?;
        match self.subscription.consumer().store_offsets(&offsets) {
            Ok(()) => Ok(()),
            // The partition was reassigned to another member, which may handle the record again.
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
                let Some(consumer) = Owner::upgrade(&consumer) else {
                    return;
                };
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

    fn group_caught_up(&self) -> BoxFuture<'static, Result<(), BusError>> {
        // Weak: this must not keep a client that its last member has left.
        let consumer = Arc::downgrade(self.subscription.consumer());
        let numbers = self.numbers.clone();
        Box::pin(async move {
            let client = || Owner::upgrade(&consumer).ok_or_else(|| unavailable("the member has left"));
            let mut known: Option<Arc<Vec<End>>> = None;
            loop {
                let (asked, numbers, ends) = (client()?, numbers.clone(), known.clone());
                let look = move || {
                    // The ends are those of the first answer: a topic that is written all the time is caught up with, too.
                    let ends = ends.map_or_else(|| ends_of(&asked, &numbers).map(Arc::new), Ok);
                    ends.map(|ends| {
                        let done = has_done(&asked, &ends);
                        (ends, done)
                    })
                };
                match blocking(look).await {
                    Ok((_, Ok(true))) => return Ok(()),
                    Ok((ends, done)) => {
                        known = Some(ends);
                        if let Err(error) = done {
                            tracing::debug!(%error, "reading committed offsets failed; retrying");
                        }
                    }
                    Err(error) => tracing::debug!(%error, "reading the ends of partitions failed; retrying"),
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        })
    }

    async fn leave(self: Box<Self>) {
        let Self {
            partitions,
            subscription,
            lag,
            ..
        } = *self;
        // The queues refer to the client: dropped later, they would keep it from ending.
        drop((lag, partitions));
        subscription.end().await;
    }
}

/// Where a partition began and ended when it was asked.
struct End {
    topic: String,
    partition: i32,
    low: i64,
    high: i64,
}

fn ends_of(consumer: &Consumer, partitions: &[(String, i32)]) -> Result<Vec<End>, BusError> {
    let end = |(topic, partition): &(String, i32)| {
        let (low, high) = consumer.fetch_watermarks(topic, *partition, ASK).map_err(unavailable)?;
        Ok(End {
            topic: topic.clone(),
            partition: *partition,
            low,
            high,
        })
    };
    partitions.iter().map(end).collect()
}

/// Returns whether the group has committed everything up to these ends, in its own partitions and those of other members.
fn has_done(consumer: &Consumer, ends: &[End]) -> Result<bool, BusError> {
    let mut partitions = TopicPartitionList::with_capacity(ends.len());
    for end in ends.iter().filter(|end| end.high > end.low) {
        partitions.add_partition(&end.topic, end.partition);
    }
    if partitions.count() == 0 {
        return Ok(true);
    }
    let committed = consumer.committed_offsets(partitions, ASK).map_err(unavailable)?;
    Ok(ends.iter().filter(|end| end.high > end.low).all(|end| {
        committed
            .find_partition(&end.topic, end.partition)
            .is_some_and(|known| matches!(known.offset(), Offset::Offset(done) if done >= end.high))
    }))
}

/// Returns the records in this process's partitions of these topics that are not acknowledged.
fn measure(consumer: &Consumer, topics: &[String]) -> Result<i64, BusError> {
    let assignment = consumer.assignment().map_err(unavailable)?;
    let mut partitions = TopicPartitionList::new();
    for partition in topics.iter().flat_map(|topic| assignment.elements_for_topic(topic)) {
        partitions.add_partition(partition.topic(), partition.partition());
    }
    let committed = consumer.committed_offsets(partitions, ASK).map_err(unavailable)?;
    // Counted from the committed offset, or from the first retained record where retention is ahead of the group.
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
