//! A bus that counts the readers of each topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use sosohappy_bus::{Bus, BusError, Member, Reader, Start};
use sosohappy_events::{Outgoing, Topic};

/// Delegates to another bus, and counts the readers that were opened on each topic.
#[derive(Debug)]
pub struct CountingBus {
    bus: Arc<dyn Bus>,
    reads: Mutex<BTreeMap<Topic, usize>>,
}

impl CountingBus {
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>) -> Arc<Self> {
        let reads = Mutex::default();
        Arc::new(Self { bus, reads })
    }

    /// Returns the number of readers opened so far, by topic.
    #[must_use]
    pub fn readers(&self) -> BTreeMap<Topic, usize> {
        self.reads.lock().clone()
    }
}

#[async_trait]
impl Bus for CountingBus {
    async fn publish(&self, records: &[Outgoing]) -> Result<(), BusError> {
        self.bus.publish(records).await
    }

    async fn publish_reports(&self, records: &[Outgoing]) -> Result<(), BusError> {
        self.bus.publish_reports(records).await
    }

    async fn join(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Member>, BusError> {
        self.bus.join(group, topics).await
    }

    async fn read(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Reader>, BusError> {
        let reader = self.bus.read(topics, start).await?;
        let mut reads = self.reads.lock();
        for topic in topics {
            *reads.entry(*topic).or_default() += 1;
        }
        Ok(reader)
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
