//! A bus on which a topic cannot be read for a while.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::{Bus, BusError, Member, Reader, Start};
use sosohappy_events::{Outgoing, Topic};
use tokio::sync::watch;

/// Delegates to another bus. Readers and members of one topic wait until [`HeldBus::release`], as those of a service that starts and has
/// not read the topic yet.
#[derive(Debug)]
pub struct HeldBus {
    bus: Arc<dyn Bus>,
    held: Topic,
    released: watch::Sender<bool>,
}

impl HeldBus {
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, held: Topic) -> Arc<Self> {
        Arc::new(Self {
            bus,
            held,
            released: watch::Sender::new(false),
        })
    }

    pub fn release(&self) {
        self.released.send_replace(true);
    }

    async fn wait(&self, topics: &[Topic]) {
        if topics.contains(&self.held) {
            // The sender lives as long as this bus.
            let _ = self.released.subscribe().wait_for(|released| *released).await;
        }
    }
}

#[async_trait]
impl Bus for HeldBus {
    async fn publish(&self, records: &[Outgoing]) -> Result<(), BusError> {
        self.bus.publish(records).await
    }

    async fn publish_reports(&self, records: &[Outgoing]) -> Result<(), BusError> {
        self.bus.publish_reports(records).await
    }

    async fn join(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Member>, BusError> {
        self.wait(topics).await;
        self.bus.join(group, topics).await
    }

    async fn read(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Reader>, BusError> {
        self.wait(topics).await;
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
