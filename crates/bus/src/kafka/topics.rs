//! Making the topics that are missing, as the table says. Those that are there stay as they are: in a cluster where topics
//! are created by another principal, no right to create topics is needed.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;

use super::producer::Producer;
use super::{ASK, Inner, blocking, unavailable};
use crate::BusError;
use crate::declared::Declared;
use crate::names::Channel;

/// The broker's own default; in a cluster that is 3.
const REPLICAS: TopicReplication<'static> = TopicReplication::Fixed(-1);

/// How long a new topic may take until every broker knows of it; a busy one takes its time.
const SPREAD: Duration = Duration::from_secs(30);

/// The topics that were seen to be there.
#[derive(Debug, Default)]
pub(super) struct Made {
    seen: Mutex<HashSet<Channel>>,
    /// Held while topics are made: one asks for all who wait.
    making: tokio::sync::Mutex<()>,
}

impl Made {
    fn missing(&self, channels: &HashSet<Channel>) -> Vec<Channel> {
        let seen = self.seen.lock();
        channels
            .iter()
            .filter(|channel| !seen.contains(channel))
            .copied()
            .collect()
    }

    pub(super) fn forget(&self) {
        self.seen.lock().clear();
    }
}

impl Inner {
    pub(super) async fn make(&self, channels: impl Iterator<Item = Channel>) -> Result<(), BusError> {
        let wanted: HashSet<_> = channels.collect();
        if self.topics.missing(&wanted).is_empty() {
            return Ok(());
        }
        let _alone = self.topics.making.lock().await;
        let unseen = self.topics.missing(&wanted);
        let there = self.topic_names().await?;
        let new: Vec<_> = unseen
            .iter()
            .map(|channel| Declared::of(*channel, &self.names))
            .filter(|topic| !there.contains(&topic.name))
            .collect();
        if !new.is_empty() {
            self.create(&new).await?;
        }
        self.topics.seen.lock().extend(unseen);
        Ok(())
    }

    async fn topic_names(&self) -> Result<HashSet<String>, BusError> {
        let producer = self.producer.current();
        blocking(move || {
            let metadata = producer.client().fetch_metadata(None, ASK).map_err(unavailable)?;
            Ok(metadata
                .topics()
                .iter()
                .filter(|topic| topic.error().is_none())
                .map(|topic| topic.name().to_owned())
                .collect())
        })
        .await
    }

    /// Makes them, and waits until they are known.
    pub(super) async fn create(&self, declared: &[Declared]) -> Result<(), BusError> {
        let topics: Vec<_> = declared.iter().map(new_topic).collect();
        let admin = self.settings.admin()?;
        let options = AdminOptions::new()
            .request_timeout(Some(SPREAD))
            .operation_timeout(Some(SPREAD));
        for result in admin.create_topics(&topics, &options).await.map_err(unavailable)? {
            match result {
                Ok(topic) => tracing::info!(topic, "topic created"),
                // Another replica was first.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(unavailable(format!("creating topic {topic} failed: {code}"))),
            }
        }
        self.spread(declared).await
    }

    /// Waits until the new topics are known; a producer would hold their messages back for longer than that.
    async fn spread(&self, declared: &[Declared]) -> Result<(), BusError> {
        let deadline = tokio::time::Instant::now() + SPREAD;
        loop {
            let there = self.topic_names().await?;
            if declared.iter().all(|topic| there.contains(&topic.name)) {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err(unavailable("a new topic is not in the metadata"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn new_topic(declared: &Declared) -> NewTopic<'_> {
    let topic = NewTopic::new(&declared.name, declared.partitions, REPLICAS);
    declared
        .settings
        .iter()
        .fold(topic, |topic, (key, value)| topic.set(key, value))
}

/// Returns the numbers of a topic's partitions.
pub(super) fn partitions(producer: &Producer, topic: &str) -> Result<Vec<i32>, BusError> {
    let metadata = producer
        .client()
        .fetch_metadata(Some(topic), ASK)
        .map_err(unavailable)?;
    let found = metadata
        .topics()
        .iter()
        // A topic that is being created may be listed without partitions for a moment: that is no topic to read yet.
        .find(|found| found.name() == topic && found.error().is_none() && !found.partitions().is_empty());
    let found = found.ok_or_else(|| unavailable(format!("topic {topic} does not exist")))?;
    Ok(found
        .partitions()
        .iter()
        .map(rdkafka::metadata::MetadataPartition::id)
        .collect())
}
