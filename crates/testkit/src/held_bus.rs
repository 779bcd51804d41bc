//! A bus on which a topic cannot be read, or not be published to, for a while.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::{Bus, BusError, Member, Reader, Start};
use sosohappy_events::{Outgoing, Topic};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Reading,
    Publishing,
}

/// Delegates to another bus, except for one topic until [`HeldBus::release`].
#[derive(Debug)]
pub struct HeldBus {
    bus: Arc<dyn Bus>,
    topic: Topic,
    held: Held,
    released: watch::Sender<bool>,
}

impl HeldBus {
    /// Readers and members of the topic wait, as those of a service that starts and has not read it yet.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, topic: Topic) -> Arc<Self> {
        Self::holding(bus, topic, Held::Reading)
    }

    /// Records of the topic wait, with the others of their call, as if the broker were unavailable.
    #[must_use]
    pub fn unpublished(bus: Arc<dyn Bus>, topic: Topic) -> Arc<Self> {
        Self::holding(bus, topic, Held::Publishing)
    }

    fn holding(bus: Arc<dyn Bus>, topic: Topic, held: Held) -> Arc<Self> {
        Arc::new(Self {
            bus,
            topic,
            held,
            released: watch::Sender::new(false),
        })
    }

    pub fn release(&self) {
        self.released.send_replace(true);
    }

    async fn wait(&self, to: Held, is_of_topic: bool) {
        if to == self.held && is_of_topic {
            // The sender lives as long as this bus.
            let _ = self.released.subscribe().wait_for(|released| *released).await;
        }
    }
}

#[async_trait]
impl Bus for HeldBus {
    async fn publish(&self, records: &[Outgoing]) -> Result<(), BusError> {
        let topic = self.topic.default_name();
        self.wait(Held::Publishing, records.iter().any(|record| record.topic == topic))
            .await;
        self.bus.publish(records).await
    }

    async fn publish_reports(&self, records: &[Outgoing]) -> Result<(), BusError> {
        self.bus.publish_reports(records).await
    }

    async fn join(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Member>, BusError> {
        self.wait(Held::Reading, topics.contains(&self.topic)).await;
        self.bus.join(group, topics).await
    }

    async fn read(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Reader>, BusError> {
        self.wait(Held::Reading, topics.contains(&self.topic)).await;
        self.bus.read(topics, start).await
    }

    async fn read_dead_letters(&self, topics: &[Topic]) -> Result<Box<dyn Reader>, BusError> {
        self.bus.read_dead_letters(topics).await
    }

    async fn create_topics(&self, topics: &[Topic]) -> Result<(), BusError> {
        self.bus.create_topics(topics).await
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.bus.ping().await
    }
}
