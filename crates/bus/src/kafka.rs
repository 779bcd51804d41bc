//! Apache Kafka through librdkafka. Runs beside Spring services on the same brokers: same names, same bytes, and the
//! same partition for a key as Java's clients choose.

mod broadcast;
mod client;
mod compare;
mod connection;
mod group;
mod member;
mod oauth;
mod outage;
mod probe;
mod producer;
mod queue;
mod reader;
mod recovery;
mod security;
mod topics;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use backon::ExponentialBuilder;
use prometheus::IntGauge;
use rdkafka::producer::Producer as _;
use serde_json::Map;
use sosohappy_common::Context;
use sosohappy_common::clock::Clock;
use sosohappy_common::settings::Events;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

pub use compare::{Comparison, Difference, State, compare};

use crate::metrics::Consuming;
use crate::names::{Channel, Names, WireRecord};
use crate::{Bus, BusError, Member, Reader, Start};
use producer::Delivery;
use sosohappy_events::{Outgoing, Topic};

/// How long a question to the broker (metadata, offsets) may take.
const ASK: Duration = Duration::from_secs(5);

/// How often the groups are counted that this process is out of.
const COUNT_GROUPS: Duration = Duration::from_secs(5);

pub(super) struct Kafka {
    inner: Arc<Inner>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

struct Inner {
    names: Names,
    settings: Arc<client::Settings>,
    clock: Arc<dyn Clock>,
    service: &'static str,
    producer: Arc<producer::Publisher>,
    report_producer: Arc<producer::Publisher>,
    topics: topics::Made,
    broadcasts: broadcast::Broadcasts,
    groups: group::Groups,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("names", &self.inner.names)
            .finish_non_exhaustive()
    }
}

fn unavailable(error: impl fmt::Display) -> BusError {
    BusError::Unavailable(format!("kafka: {error}"))
}

/// Runs a call of librdkafka that blocks its thread, for ever if the client hangs: in a thread that no runtime waits for.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, BusError> + Send + 'static,
) -> Result<T, BusError> {
    let (sender, answer) = oneshot::channel();
    std::thread::spawn(move || {
        // Fails when the caller does not wait any more.
        let _ = sender.send(call());
    });
    answer.await.map_err(unavailable)?
}

/// Brokers that have just created a topic, or come back, refuse requests for a moment.
fn retries() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_times(6)
}

impl Kafka {
    /// Opens the bus on the brokers of `events.url`. None of them needs to answer yet.
    pub(super) async fn open(events: &Events, names: Names, context: &Context) -> Result<Self, BusError> {
        let brokers = events.url.rest().trim_start_matches('/');
        let settings = Arc::new(client::Settings::new(brokers, &events.security, context).await?);
        let inner = Inner {
            names,
            producer: Arc::new(producer::Publisher::new(&settings, Delivery::Durable)?),
            report_producer: Arc::new(producer::Publisher::new(&settings, Delivery::BestEffort)?),
            settings,
            clock: context.clock.clone(),
            service: context.service,
            topics: topics::Made::default(),
            broadcasts: broadcast::Broadcasts::default(),
            groups: group::Groups::default(),
        };
        let inner = Arc::new(inner);
        inner.register_health(context);
        let recover = |publisher: &Arc<producer::Publisher>| producer::Publisher::recover(Arc::downgrade(publisher));
        let recovering = [&inner.producer, &inner.report_producer].map(|publisher| tokio::spawn(recover(publisher)));
        let missing = Consuming::of(context).missing_groups;
        let counting = tokio::spawn(Inner::count_missing(Arc::downgrade(&inner), missing));
        let tasks = recovering.into_iter().chain([counting]);
        Ok(Self {
            _tasks: tasks.map(AbortOnDropHandle::new).collect(),
            inner,
        })
    }

    async fn read_channels(&self, channels: Vec<Channel>, start: Start) -> Result<Box<dyn Reader>, BusError> {
        self.inner.make(channels.iter().copied()).await?;
        Ok(Box::new(
            reader::KafkaReader::begin(&self.inner, &channels, start).await?,
        ))
    }
}

impl Inner {
    /// Registers the check `events`: down while this process has been out of a consumer group for longer than a restart of the broker takes.
    fn register_health(self: &Arc<Self>, context: &Context) {
        let inner = Arc::downgrade(self);
        context.health.register("events", move || {
            let missing = inner.upgrade().map(|inner| inner.groups.missing());
            async move {
                let missing = missing.unwrap_or_default();
                if missing.is_empty() {
                    return Ok(Map::new());
                }
                let out = |(name, time): &(String, Duration)| format!("out of group {name} for {} s", time.as_secs());
                Err(missing.iter().map(out).collect::<Vec<_>>().join(", "))
            }
        });
    }

    /// Keeps the gauge of the groups that this process has been out of for too long.
    async fn count_missing(this: Weak<Self>, gauge: IntGauge) {
        while let Some(missing) = this.upgrade().map(|inner| inner.groups.missing()) {
            gauge.set(i64::try_from(missing.len()).unwrap_or(i64::MAX));
            tokio::time::sleep(COUNT_GROUPS).await;
        }
    }

    /// Publishes records whose topics exist.
    async fn publish(&self, publisher: &producer::Publisher, records: &[WireRecord]) -> Result<(), BusError> {
        let timestamp = self.clock.now().as_millisecond();
        let outcome = publisher.publish(&self.names, records, timestamp).await;
        if outcome.is_err() {
            // A topic may have been deleted: it is looked up, and created, before the next attempt.
            self.topics.forget();
        }
        outcome
    }
}

#[async_trait]
impl Bus for Kafka {
    async fn publish(&self, records: &[Outgoing]) -> Result<(), BusError> {
        let records = records.iter().map(WireRecord::of).collect::<Result<Vec<_>, _>>()?;
        self.inner.make(records.iter().map(|record| record.channel)).await?;
        self.inner.publish(&self.inner.producer, &records).await
    }

    async fn publish_reports(&self, records: &[Outgoing]) -> Result<(), BusError> {
        let records = records.iter().map(WireRecord::of).collect::<Result<Vec<_>, _>>()?;
        self.inner.make(records.iter().map(|record| record.channel)).await?;
        self.inner.publish(&self.inner.report_producer, &records).await
    }

    async fn join(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Member>, BusError> {
        self.inner.groups.expect(&self.inner.names.group(group));
        self.create_topics(topics).await?;
        Ok(Box::new(member::KafkaMember::join(&self.inner, group, topics).await?))
    }

    async fn read(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Reader>, BusError> {
        self.read_channels(topics.iter().copied().map(Channel::live).collect(), start)
            .await
    }

    async fn read_dead_letters(&self, topics: &[Topic]) -> Result<Box<dyn Reader>, BusError> {
        self.read_channels(topics.iter().copied().map(Channel::dead).collect(), Start::Earliest)
            .await
    }

    async fn create_topics(&self, topics: &[Topic]) -> Result<(), BusError> {
        self.inner
            .make(
                topics
                    .iter()
                    .flat_map(|topic| [Channel::live(*topic), Channel::dead(*topic)]),
            )
            .await
    }

    async fn ping(&self) -> Result<(), BusError> {
        let producer = self.inner.producer.current();
        blocking(move || {
            producer
                .client()
                .fetch_metadata(None, ASK)
                .map(|_| ())
                .map_err(unavailable)
        })
        .await
    }
}
