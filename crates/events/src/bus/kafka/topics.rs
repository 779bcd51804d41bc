//! Making the topics that are missing, as the table says. Those that are there stay as they are: in a cluster where topics
//! are somebody else's business, no right to make any is needed.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;

use super::client::OVERHEAD;
use super::{ASK, Inner, blocking, unavailable};
use crate::bus::BusError;
use crate::bus::names::Channel;
use crate::topic::{PARTITIONS, Retention, TOMBSTONE_RETENTION};

/// Dead letters are few, and looked at in the order they came.
const DEAD_LETTER_PARTITIONS: i32 = 1;

/// The broker's own default; in a cluster that is 3.
const REPLICAS: TopicReplication<'static> = TopicReplication::Fixed(-1);

/// How long a new topic may take until every broker knows of it.
const SPREAD: Duration = Duration::from_secs(10);

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
            .copied()
            .filter(|channel| !there.contains(&self.names.wire(*channel)))
            .collect();
        if !new.is_empty() {
            self.create(&new).await?;
            self.spread(&new).await?;
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

    async fn create(&self, channels: &[Channel]) -> Result<(), BusError> {
        let plans: Vec<_> = channels
            .iter()
            .map(|channel| Plan::of(*channel, self.names.wire(*channel)))
            .collect();
        let topics: Vec<_> = plans.iter().map(Plan::topic).collect();
        let admin: AdminClient<DefaultClientContext> = self.settings.admin().create().map_err(unavailable)?;
        let options = AdminOptions::new()
            .request_timeout(Some(ASK))
            .operation_timeout(Some(ASK));
        for result in admin.create_topics(&topics, &options).await.map_err(unavailable)? {
            match result {
                Ok(topic) => tracing::info!(topic, "made a topic"),
                // Another replica was first.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(unavailable(format!("the topic {topic} cannot be made: {code}"))),
            }
        }
        Ok(())
    }

    /// Waits until the new topics are known; a producer would hold their messages back for longer than that.
    async fn spread(&self, channels: &[Channel]) -> Result<(), BusError> {
        let deadline = tokio::time::Instant::now() + SPREAD;
        loop {
            let there = self.topic_names().await?;
            if channels
                .iter()
                .all(|channel| there.contains(&self.names.wire(*channel)))
            {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err(unavailable("a new topic does not appear"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// How a topic is made.
struct Plan {
    name: String,
    partitions: i32,
    settings: Vec<(&'static str, String)>,
}

impl Plan {
    fn of(channel: Channel, name: String) -> Self {
        let mut settings = match channel.retention() {
            Retention::For(time) => vec![
                ("cleanup.policy", "delete".to_owned()),
                ("retention.ms", time.as_millis().to_string()),
            ],
            Retention::Compacted => {
                vec![
                    ("cleanup.policy", "compact".to_owned()),
                    ("delete.retention.ms", TOMBSTONE_RETENTION.as_millis().to_string()),
                ]
            }
        };
        settings.push(("max.message.bytes", (channel.max_bytes() + OVERHEAD).to_string()));
        Self {
            name,
            partitions: if channel.dead {
                DEAD_LETTER_PARTITIONS
            } else {
                PARTITIONS
            },
            settings,
        }
    }

    fn topic(&self) -> NewTopic<'_> {
        let topic = NewTopic::new(&self.name, self.partitions, REPLICAS);
        self.settings
            .iter()
            .fold(topic, |topic, (key, value)| topic.set(key, value))
    }
}
