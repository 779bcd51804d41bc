//! A reader of every record: one client a topic, all partitions assigned by hand.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable as _};
use futures::FutureExt as _;
use futures::future::select_all;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio_util::task::AbortOnDropHandle;

use super::client::{self, Client};
use super::{ASK, Inner, blocking, unavailable};
use crate::names::Channel;
use crate::{BusError, Reader, Start};
use sosohappy_events::{Record, Topic};

/// How often a topic is asked whether it has got more partitions.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(5);

/// One topic of a reader.
struct Follow {
    topic: Topic,
    consumer: Arc<StreamConsumer<Client>>,
    /// Partitions that have not caught up: the offset each has to come to.
    behind: BTreeMap<i32, i64>,
    _new_partitions: AbortOnDropHandle<()>,
}

/// What a client came up with.
enum Found {
    Record(Record),
    End(i32),
    Error(KafkaError),
}

pub(super) struct KafkaReader {
    follows: Vec<Follow>,
    /// Asked first next time, so that a busy topic does not hold up the others.
    turn: usize,
}

impl KafkaReader {
    pub(super) async fn begin(inner: &Arc<Inner>, channels: &[Channel], start: Start) -> Result<Self, BusError> {
        let mut follows = Vec::new();
        for channel in channels {
            let wire = inner.names.wire(*channel);
            // librdkafka looks for the coordinator of the group though none is joined, so that the name is one of the service's own.
            let group = inner.names.group(&format!("{}.reader", inner.service));
            let config = inner.settings.reader(&group);
            let consumer: StreamConsumer<Client> = config
                .create_with_context(inner.settings.client())
                .map_err(|error| BusError::Settings(error.to_string()))?;
            let consumer = Arc::new(consumer);
            // Brokers that have just made a topic, or come back, refuse questions for a moment.
            let ask = || {
                if inner.settings.needs_events() {
                    // Nothing is assigned yet, so that no record is lost.
                    let _ = consumer.recv().now_or_never();
                }
                let (consumer, wire) = (consumer.clone(), wire.clone());
                blocking(move || position(&consumer, &wire, start))
            };
            let retries = ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(20))
                .with_max_times(6);
            let behind = ask.retry(retries).await?;
            let known = behind.len();
            let behind = behind
                .into_iter()
                .filter_map(|(partition, target)| Some((partition, target?)))
                .collect();
            let watch = tokio::spawn(watch_partitions(Arc::downgrade(&consumer), wire, known));
            follows.push(Follow {
                topic: channel.topic,
                consumer,
                behind,
                _new_partitions: AbortOnDropHandle::new(watch),
            });
        }
        Ok(Self { follows, turn: 0 })
    }
}

/// Assigns every partition from where `start` says. Answers for each the offset at which it has caught up, if it has not.
fn position(
    consumer: &StreamConsumer<Client>,
    topic: &str,
    start: Start,
) -> Result<BTreeMap<i32, Option<i64>>, BusError> {
    let mut ends = BTreeMap::new();
    for partition in partitions(consumer, topic)? {
        ends.insert(
            partition,
            consumer.fetch_watermarks(topic, partition, ASK).map_err(unavailable)?,
        );
    }
    // Asked after the ends: where it finds nothing, the end of before is where the reader begins, and misses nothing.
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
    let mut behind = BTreeMap::new();
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
        behind.insert(partition, (first < high).then_some(high));
    }
    consumer.assign(&assignment).map_err(unavailable)?;
    Ok(behind)
}

fn partitions(consumer: &StreamConsumer<Client>, topic: &str) -> Result<Vec<i32>, BusError> {
    let metadata = consumer.fetch_metadata(Some(topic), ASK).map_err(unavailable)?;
    let found = metadata
        .topics()
        .iter()
        .find(|found| found.name() == topic && found.error().is_none());
    let found = found.ok_or_else(|| unavailable(format!("the topic {topic} is not there")))?;
    Ok(found
        .partitions()
        .iter()
        .map(rdkafka::metadata::MetadataPartition::id)
        .collect())
}

/// Reads partitions that are added later from their beginning.
async fn watch_partitions(consumer: Weak<StreamConsumer<Client>>, topic: String, mut known: usize) {
    loop {
        tokio::time::sleep(LOOK_FOR_PARTITIONS).await;
        let Some(consumer) = consumer.upgrade() else { return };
        let name = topic.clone();
        let grown = blocking(move || {
            let there = partitions(&consumer, &name)?;
            let mut added = TopicPartitionList::new();
            for partition in there
                .iter()
                .filter(|partition| usize::try_from(**partition).is_ok_and(|number| number >= known))
            {
                added
                    .add_partition_offset(&name, *partition, Offset::Beginning)
                    .map_err(unavailable)?;
            }
            if added.count() > 0 {
                consumer.incremental_assign(&added).map_err(unavailable)?;
            }
            Ok(known.max(there.len()))
        });
        match grown.await {
            Ok(count) => known = count,
            Err(error) => tracing::debug!(%error, topic, "looking for new partitions failed"),
        }
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self) -> Result<Record, BusError> {
        loop {
            if self.follows.is_empty() {
                return std::future::pending().await;
            }
            let count = self.follows.len();
            let order = (0..count).map(|step| (self.turn + step) % count);
            let waits = order.map(|index| {
                let follow = &self.follows[index];
                follow.consumer.recv().map(move |message| {
                    let found = match message {
                        Ok(message) => Found::Record(client::record(&message, follow.topic)),
                        Err(KafkaError::PartitionEOF(partition)) => Found::End(partition),
                        Err(error) => Found::Error(error),
                    };
                    (index, found)
                })
            });
            let ((index, found), ..) = select_all(waits.map(Box::pin)).await;
            self.turn = (index + 1) % count;
            let behind = &mut self.follows[index].behind;
            match found {
                Found::Record(record) => {
                    if behind
                        .get(&record.partition)
                        .is_some_and(|target| record.offset + 1 >= *target)
                    {
                        behind.remove(&record.partition);
                    }
                    return Ok(record);
                }
                // Compaction may have taken the last record before the target: the end is the end.
                Found::End(partition) => {
                    behind.remove(&partition);
                }
                Found::Error(error @ KafkaError::MessageConsumptionFatal(_)) => return Err(unavailable(error)),
                // librdkafka recovers by itself.
                Found::Error(error) => self.follows[index].consumer.client().context().warn(&error, "reader"),
            }
        }
    }

    fn caught_up(&self) -> bool {
        self.follows.iter().all(|follow| follow.behind.is_empty())
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        for follow in self.follows.drain(..) {
            // Ending a client blocks; outside of a runtime nothing else is held up.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn_blocking(move || drop(follow));
            }
        }
    }
}
