//! Offsets of consumer groups on Kafka, as an operator reads and sets them with `kafka-consumer-groups.sh`.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::MetadataPartition;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sosohappy_events::Topic;

use crate::{Bed, eventually};

/// The next offset of each partition. A partition without one begins at its first record.
pub type Offsets = BTreeMap<(Topic, i32), i64>;

/// How long one request may take.
const WAIT: Duration = Duration::from_secs(10);

impl Bed {
    /// Returns the offsets that the consumer group of a service (`feed-service`, …) has committed on the topics.
    ///
    /// # Panics
    /// On the embedded engines, or if Kafka does not answer.
    pub async fn offsets(&self, service: &'static str, topics: &[Topic]) -> Offsets {
        eventually("offsets are read", async || {
            let (group, prefix, topics) = (self.group(service), self.topic_prefix(), topics.to_vec());
            blocking(move || read(&group, &prefix, &topics)).await
        })
        .await
    }

    /// Returns the offsets behind the last records of the topics.
    ///
    /// # Panics
    /// As [`Bed::offsets`].
    pub async fn end_offsets(&self, service: &'static str, topics: &[Topic]) -> Offsets {
        eventually("the ends of topics are read", async || {
            let (group, prefix, topics) = (self.group(service), self.topic_prefix(), topics.to_vec());
            blocking(move || ends(&group, &prefix, &topics)).await
        })
        .await
    }

    /// Sets the offsets of the consumer group of a service on all partitions of the topics. The service must be stopped.
    ///
    /// # Panics
    /// As [`Bed::offsets`].
    pub async fn set_offsets(&self, service: &'static str, topics: &[Topic], offsets: &Offsets) {
        eventually("offsets are set", async || {
            let (group, prefix, topics) = (self.group(service), self.topic_prefix(), topics.to_vec());
            let offsets = offsets.clone();
            blocking(move || write(&group, &prefix, &topics, &offsets)).await
        })
        .await;
    }

    fn group(&self, service: &str) -> ClientConfig {
        let (brokers, prefix) = self.kafka().expect("the real engines");
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("group.id", format!("{prefix}{service}.consumers"));
        config
    }

    fn topic_prefix(&self) -> String {
        self.kafka().expect("the real engines").1.to_owned()
    }
}

/// Runs requests of librdkafka, which block. The members of a stopped service may not have left their group yet: `None` then.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> KafkaResult<T> + Send + 'static) -> Option<T> {
    let done = tokio::task::spawn_blocking(work).await.expect("no panic");
    done.inspect_err(|error| eprintln!("offsets: {error}")).ok()
}

/// Returns all partitions of a topic.
fn partitions(client: &BaseConsumer, name: &str) -> KafkaResult<Vec<i32>> {
    let metadata = client.fetch_metadata(Some(name), WAIT)?;
    let topics = metadata.topics().iter();
    let partitions = topics.flat_map(|topic| topic.partitions().iter().map(MetadataPartition::id));
    Ok(partitions.collect())
}

fn read(group: &ClientConfig, prefix: &str, topics: &[Topic]) -> KafkaResult<Offsets> {
    let client: BaseConsumer = group.create()?;
    let mut offsets = Offsets::new();
    for topic in topics {
        let name = format!("{prefix}{}", topic.default_name());
        let mut list = TopicPartitionList::new();
        for partition in partitions(&client, &name)? {
            list.add_partition(&name, partition);
        }
        for element in client.committed_offsets(list, WAIT)?.elements() {
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert((*topic, element.partition()), offset);
            }
        }
    }
    Ok(offsets)
}

fn ends(group: &ClientConfig, prefix: &str, topics: &[Topic]) -> KafkaResult<Offsets> {
    let client: BaseConsumer = group.create()?;
    let mut offsets = Offsets::new();
    for topic in topics {
        let name = format!("{prefix}{}", topic.default_name());
        for partition in partitions(&client, &name)? {
            let (_, end) = client.fetch_watermarks(&name, partition, WAIT)?;
            offsets.insert((*topic, partition), end);
        }
    }
    Ok(offsets)
}

fn write(group: &ClientConfig, prefix: &str, topics: &[Topic], offsets: &Offsets) -> KafkaResult<()> {
    let client: BaseConsumer = group.create()?;
    let mut list = TopicPartitionList::new();
    for topic in topics {
        let name = format!("{prefix}{}", topic.default_name());
        for partition in partitions(&client, &name)? {
            let offset = offsets.get(&(*topic, partition)).copied().unwrap_or_default();
            list.add_partition_offset(&name, partition, Offset::Offset(offset))?;
        }
    }
    client.commit(&list, CommitMode::Sync)
}
