//! A bus whose topics are created when it is used first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sosohappy_bus::{Bus, BusError, Member, Reader, Start};
use sosohappy_common::settings::Events;
use sosohappy_events::{Outgoing, Topic};
use tokio::sync::{OnceCell, watch};

use crate::{PATIENCE, engines};

/// Delegates to another bus, on which it first creates all topics at once. The tests of a store use none: no broker makes topics for them, and
/// deletes them again.
#[derive(Debug)]
pub(crate) struct LazyBus {
    bus: Arc<dyn Bus>,
    /// On Kafka: its topics get few partitions.
    few: Option<Events>,
    created: OnceCell<()>,
    is_used: watch::Sender<bool>,
}

impl LazyBus {
    /// `few`: the settings of a bus on Kafka whose topics get few partitions.
    pub(crate) fn new(bus: Arc<dyn Bus>, few: Option<Events>) -> Arc<Self> {
        Arc::new(Self {
            bus,
            few,
            created: OnceCell::new(),
            is_used: watch::Sender::new(false),
        })
    }

    /// Waits until the topics are there because something has used the bus.
    pub(crate) async fn wait_until_used(&self) {
        // The sender lives as long as this bus.
        let _ = self.is_used.subscribe().wait_for(|is_used| *is_used).await;
    }

    /// Returns the bus with all topics.
    async fn used(&self) -> Result<&dyn Bus, BusError> {
        self.created.get_or_try_init(|| self.create()).await?;
        Ok(&*self.bus)
    }

    async fn create(&self) -> Result<(), BusError> {
        let deadline = Instant::now() + PATIENCE;
        // A broker that many tests ask at once may not know all of them in time.
        while let Err(error) = self.try_to_create().await {
            if Instant::now() > deadline {
                return Err(error);
            }
            eprintln!("topics are not created yet: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.is_used.send_replace(true);
        Ok(())
    }

    async fn try_to_create(&self) -> Result<(), BusError> {
        if let Some(events) = &self.few {
            let created = engines::create_topics(events).await;
            created.map_err(|error| BusError::Unavailable(error.to_string()))?;
        }
        // Also waits until they are known.
        self.bus.create_topics(&Topic::ALL).await
    }
}

#[async_trait]
impl Bus for LazyBus {
    async fn publish(&self, records: &[Outgoing]) -> Result<(), BusError> {
        self.used().await?.publish(records).await
    }

    async fn publish_reports(&self, records: &[Outgoing]) -> Result<(), BusError> {
        self.used().await?.publish_reports(records).await
    }

    async fn join(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Member>, BusError> {
        self.used().await?.join(group, topics).await
    }

    async fn read(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Reader>, BusError> {
        self.used().await?.read(topics, start).await
    }

    async fn read_dead_letters(&self, topics: &[Topic]) -> Result<Box<dyn Reader>, BusError> {
        self.used().await?.read_dead_letters(topics).await
    }

    async fn create_topics(&self, topics: &[Topic]) -> Result<(), BusError> {
        self.used().await?.create_topics(topics).await
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.bus.ping().await
    }
}
