//! A reader of every record: all partitions of its topics, on the client that the readers of a process share.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use backon::Retryable as _;
use futures::future::select_all;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::broadcast::Assigned;
use super::producer::{Producer, Publisher};
use super::queue::{Queue, first};
use super::topics::partitions;
use super::{ASK, Inner, blocking, client, retries, unavailable};
use crate::names::Channel;
use crate::{BusError, Reader, Start};
use sosohappy_events::{Record, Topic};

/// How often a topic is asked whether it has got more partitions.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(5);

/// One topic of a reader.
struct Follow {
    topic: Topic,
    assigned: Arc<Assigned>,
    _new_partitions: AbortOnDropHandle<()>,
}

/// One partition of a reader.
struct Partition {
    /// Index of its topic.
    follow: usize,
    queue: Queue,
    /// The offset at which it has caught up, until it has.
    target: Option<i64>,
}

/// The next item of a partition's queue.
enum Found {
    Record(Record),
    End,
    Error(KafkaError),
}

/// The events that a reader waits for.
enum Came {
    /// By the index of the partition.
    Found(usize, Found),
    Added(Partition),
    /// The client is of no use any more.
    Failed,
}

pub(super) struct KafkaReader {
    // Before the topics, so that queues are dropped before their partitions are unassigned.
    partitions: Vec<Partition>,
    follows: Vec<Follow>,
    /// Partitions that topics have got since.
    added: mpsc::UnboundedReceiver<Partition>,
    /// Asked first next time, so that a busy partition does not hold up the others.
    turn: usize,
}

impl KafkaReader {
    pub(super) async fn begin(inner: &Arc<Inner>, channels: &[Channel], start: Start) -> Result<Self, BusError> {
        let (sender, added) = mpsc::unbounded_channel();
        let (mut partitions, mut follows) = (Vec::new(), Vec::new());
        for (follow, channel) in channels.iter().enumerate() {
            let assigned = Arc::new(inner.broadcasts.reserve(inner, inner.names.wire(*channel))?);
            let ask = || {
                let (assigned, producer) = (assigned.clone(), inner.producer.current());
                blocking(move || position(&producer, &assigned, start))
            };
            let positions = ask.retry(retries()).await?;
            let known = positions.len();
            partitions.extend(
                positions
                    .into_iter()
                    .map(|(target, queue)| Partition { follow, queue, target }),
            );
            let watch = tokio::spawn(watch_partitions(
                inner.producer.clone(),
                Arc::downgrade(&assigned),
                follow,
                known,
                sender.clone(),
            ));
            follows.push(Follow {
                topic: channel.topic,
                assigned,
                _new_partitions: AbortOnDropHandle::new(watch),
            });
        }
        Ok(Self {
            partitions,
            follows,
            added,
            turn: 0,
        })
    }

    async fn wait(&mut self) -> Came {
        let (partitions, follows) = (&self.partitions, &self.follows);
        let failures = follows.iter().map(|follow| Box::pin(follow.assigned.failed()));
        tokio::select! {
            (index, message) = first(partitions.iter().map(|partition| &partition.queue), self.turn) => {
                let found = match message {
                    Ok(message) => Found::Record(client::record(&message, follows[partitions[index].follow].topic)),
                    Err(KafkaError::PartitionEOF(_)) => Found::End,
                    Err(error) => Found::Error(error),
                };
                Came::Found(index, found)
            }
            Some(partition) = self.added.recv() => Came::Added(partition),
            _ = select_all(failures) => Came::Failed,
        }
    }

    fn take(&mut self, index: usize, found: Found) -> Result<Option<Record>, BusError> {
        self.turn = (index + 1) % self.partitions.len();
        let partition = &mut self.partitions[index];
        match found {
            Found::Record(record) => {
                partition.target = partition.target.filter(|target| record.offset + 1 < *target);
                return Ok(Some(record));
            }
            // Compaction may have removed the last record before the target: the end is the end.
            Found::End => partition.target = None,
            Found::Error(error @ KafkaError::MessageConsumptionFatal(_)) => return Err(unavailable(error)),
            // librdkafka recovers by itself.
            Found::Error(error) => {
                let consumer = self.follows[partition.follow].assigned.consumer();
                consumer.client().context().warn(&error, "reader");
            }
        }
        Ok(None)
    }
}

/// Assigns every partition from where `start` says. Returns for each its queue, and the offset at which it has caught up if it has not.
///
/// The producer asks for ends: on the connection of the client that reads, a request waits behind a fetch that waits for records.
fn position(producer: &Producer, assigned: &Assigned, start: Start) -> Result<Vec<(Option<i64>, Queue)>, BusError> {
    let (consumer, topic) = (assigned.consumer(), assigned.topic());
    let mut ends = BTreeMap::new();
    for partition in partitions(producer, topic)? {
        ends.insert(
            partition,
            producer
                .client()
                .fetch_watermarks(topic, partition, ASK)
                .map_err(unavailable)?,
        );
    }
    // Requested after the ends: where no record is that young, the reader begins at the end known before, and misses nothing.
    let found = match start {
        Start::At(time) => {
            let mut times = TopicPartitionList::with_capacity(ends.len());
            for partition in ends.keys() {
                let time = Offset::Offset(time.as_millisecond().max(0));
                times
                    .add_partition_offset(topic, *partition, time)
                    .map_err(unavailable)?;
            }
            Some(consumer.offsets_for_times(times, ASK).map_err(unavailable)?)
        }
        Start::Earliest | Start::Latest => None,
    };
    let mut assignment = TopicPartitionList::with_capacity(ends.len());
    let mut targets = BTreeMap::new();
    for (partition, (low, high)) in ends {
        let first = match (start, &found) {
            (Start::Earliest, _) => low,
            (_, None) => high,
            (_, Some(found)) => match found
                .find_partition(topic, partition)
                .map(|found| (found.error(), found.offset()))
            {
                Some((Ok(()), Offset::Offset(offset))) => offset,
                Some((Err(error), _)) => return Err(unavailable(error)),
                _ => high,
            },
        };
        assignment
            .add_partition_offset(topic, partition, Offset::Offset(first))
            .map_err(unavailable)?;
        targets.insert(partition, (first < high).then_some(high));
    }
    let queues = assigned.assign(&assignment)?;
    Ok(queues
        .into_iter()
        .map(|(number, queue)| (targets.get(&number).copied().flatten(), queue))
        .collect())
}

/// Reads partitions that are added later from their beginning.
async fn watch_partitions(
    publisher: Arc<Publisher>,
    assigned: Weak<Assigned>,
    follow: usize,
    mut known: usize,
    sender: mpsc::UnboundedSender<Partition>,
) {
    loop {
        tokio::time::sleep(LOOK_FOR_PARTITIONS).await;
        let Some(assigned) = assigned.upgrade() else { return };
        // The present one: a producer that has failed is replaced.
        let producer = publisher.current();
        let grown = blocking(move || {
            let numbers = partitions(&producer, assigned.topic())?;
            let mut added = TopicPartitionList::new();
            for number in numbers
                .iter()
                .filter(|number| usize::try_from(**number).is_ok_and(|number| number >= known))
            {
                added
                    .add_partition_offset(assigned.topic(), *number, Offset::Beginning)
                    .map_err(unavailable)?;
            }
            let queues = match added.count() {
                0 => Vec::new(),
                _ => assigned.assign(&added)?,
            };
            Ok((known.max(numbers.len()), queues))
        });
        match grown.await {
            Ok((count, queues)) => {
                known = count;
                for (_, queue) in queues {
                    let partition = Partition {
                        follow,
                        queue,
                        target: None,
                    };
                    // Fails only when the reader is gone.
                    let _ = sender.send(partition);
                }
            }
            Err(error) => tracing::debug!(%error, "looking for new partitions failed"),
        }
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self) -> Result<Record, BusError> {
        if self.follows.is_empty() {
            return std::future::pending().await;
        }
        loop {
            match self.wait().await {
                Came::Found(index, found) => {
                    if let Some(record) = self.take(index, found)? {
                        return Ok(record);
                    }
                }
                Came::Added(partition) => self.partitions.push(partition),
                Came::Failed => return Err(unavailable("the reading client failed")),
            }
        }
    }

    fn caught_up(&self) -> bool {
        self.partitions.iter().all(|partition| partition.target.is_none())
    }
}
