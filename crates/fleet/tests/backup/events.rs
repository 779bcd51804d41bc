//! The events that Kafka has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers as _;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use sosohappy_events::Topic;
use sosohappy_testkit::PATIENCE;

const WAIT: Duration = Duration::from_secs(10);

/// What a record says: topic, key and value.
type Content = (String, Vec<u8>, Vec<u8>);

/// Returns the records of the topics that were published under several ids, with these ids.
pub async fn published_under_several_ids(
    brokers: &str,
    prefix: &str,
    topics: &[Topic],
) -> Vec<(Content, BTreeSet<String>)> {
    let (brokers, prefix, topics) = (brokers.to_owned(), prefix.to_owned(), topics.to_vec());
    let reading = tokio::task::spawn_blocking(move || ids(&brokers, &prefix, &topics));
    let mut ids = reading.await.expect("Kafka can be read");
    ids.retain(|_, ids| ids.len() > 1);
    ids.into_iter().collect()
}

/// Returns the ids of the events with each content. Blocks until all topics are read.
fn ids(brokers: &str, prefix: &str, topics: &[Topic]) -> BTreeMap<Content, BTreeSet<String>> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{prefix}backup-test"))
        .set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("the settings are valid");
    let (mut assignment, mut unread) = (TopicPartitionList::new(), BTreeMap::new());
    for topic in topics {
        let name = format!("{prefix}{}", topic.default_name());
        let metadata = consumer
            .fetch_metadata(Some(name.as_str()), WAIT)
            .expect("Kafka answers");
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions().iter()) {
            let (first, end) = consumer
                .fetch_watermarks(&name, partition.id(), WAIT)
                .expect("Kafka answers");
            if first < end {
                let added = assignment.add_partition_offset(&name, partition.id(), Offset::Beginning);
                added.expect("the beginning is an offset");
                unread.insert((name.clone(), partition.id()), end);
            }
        }
    }
    consumer.assign(&assignment).expect("partitions can be assigned");
    let (mut ids, deadline) = (BTreeMap::<Content, BTreeSet<String>>::new(), Instant::now() + PATIENCE);
    while !unread.is_empty() {
        assert!(Instant::now() < deadline, "not read: {unread:?}");
        let Some(Ok(record)) = consumer.poll(Duration::from_millis(500)) else {
            continue;
        };
        let at = (record.topic().to_owned(), record.partition());
        if unread.get(&at).is_some_and(|end| record.offset() + 1 >= *end) {
            unread.remove(&at);
        }
        let headers = record.headers().expect("an event has headers");
        let id = headers.iter().find(|header| header.key == "event-id");
        let id = id.and_then(|header| header.value).expect("an event has an id");
        let bytes = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
        let content = (at.0, bytes(record.key()), bytes(record.payload()));
        ids.entry(content)
            .or_default()
            .insert(String::from_utf8_lossy(id).into_owned());
    }
    ids
}
