//! A reader of every record: all partitions of its topics, on the client that the readers of a process share.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use backon::Retryable as _;
use futures::future::select_all;
use futures::{FutureExt as _, StreamExt as _};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
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
use crate::port::MOST_BYTES;
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

impl Found {
    fn of(item: KafkaResult<BorrowedMessage<'_>>, topic: Topic) -> Self {
        match item {
            Ok(message) => Self::Record(client::record(&message, topic)),
            Err(KafkaError::PartitionEOF(_)) => Self::End,
            Err(error) => Self::Error(error),
        }
    }
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
    /// The error that was found behind the records of the last batch.
    fatal: Option<BusError>,
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
            fatal: None,
        })
    }

    async fn wait(&mut self) -> Came {
        let (partitions, follows) = (&self.partitions, &self.follows);
        let failures = follows.iter().map(|follow| Box::pin(follow.assigned.failed()));
        tokio::select! {
            (index, message) = first(partitions.iter().map(|partition| &partition.queue), self.turn) => {
                Came::Found(index, Found::of(message, follows[partitions[index].follow].topic))
            }
            Some(partition) = self.added.recv() => Came::Added(partition),
            _ = select_all(failures) => Came::Failed,
        }
    }

    /// Takes what was found in a partition, and what was read ahead behind it. Waits for nothing.
    fn take(&mut self, index: usize, first: Found, most: usize) -> Vec<Record> {
        self.turn = (index + 1) % self.partitions.len();
        let Partition { follow, queue, target } = &mut self.partitions[index];
        let Follow { topic, assigned, .. } = &self.follows[*follow];
        let mut ahead = queue.stream();
        let (mut records, mut bytes, mut next) = (Vec::new(), 0, Some(first));
        while let Some(found) = next {
            match found {
                Found::Record(record) => {
                    *target = target.filter(|target| record.offset + 1 < *target);
                    bytes += record.size();
                    records.push(record);
                }
                // Compaction may have removed the last record before the target: the end is the end.
                Found::End => *target = None,
                Found::Error(error @ KafkaError::MessageConsumptionFatal(_)) => {
                    self.fatal = Some(unavailable(error));
                    break;
                }
                // librdkafka recovers by itself.
                Found::Error(error) => assigned.consumer().client().context().warn(&error, "reader"),
            }
            let has_room = records.len() < most && bytes < MOST_BYTES;
            let read_ahead = has_room.then(|| ahead.next().now_or_never().flatten()).flatten();
            next = read_ahead.map(|item| Found::of(item, *topic));
        }
        records
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
    async fn next_batch(&mut self, most: usize) -> Result<Vec<Record>, BusError> {
        if self.follows.is_empty() {
            return std::future::pending().await;
        }
        loop {
            if let Some(error) = self.fatal.take() {
                return Err(error);
            }
            match self.wait().await {
                // Nothing is awaited once a record was taken, so that none is lost when this call is cancelled.
                Came::Found(index, found) => {
                    let records = self.take(index, found, most);
                    if !records.is_empty() {
                        return Ok(records);
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
