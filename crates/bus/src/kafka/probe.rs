//! Looks at the cluster with a client that is made for each look: those in use may be stuck, and a broker that has just started makes a client
//! forget all brokers (see [`super::recovery`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{FutureProducer, Producer as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::oauth::Tokens;
use super::{ASK, blocking, unavailable};

/// How long a look is shared.
const FRESH: Duration = Duration::from_millis(250);

/// The partitions that have leaders, by topic.
#[derive(Debug)]
pub(super) struct Cluster {
    led: HashMap<String, BTreeSet<i32>>,
}

impl Cluster {
    /// Reads an answer. One that names no brokers is that of a broker that does not serve yet.
    fn of(metadata: &Metadata) -> Option<Self> {
        if metadata.brokers().is_empty() {
            return None;
        }
        let led = metadata.topics().iter().map(|topic| {
            let led = topic.partitions().iter().filter(|partition| partition.leader() >= 0);
            let numbers = led.map(rdkafka::metadata::MetadataPartition::id);
            (topic.name().to_owned(), numbers.collect())
        });
        Some(Self { led: led.collect() })
    }

    /// Returns whether all of the partitions have leaders.
    pub(super) fn leads(&self, partitions: &TopicPartitionList) -> bool {
        let has_leader = |topic: &str, number: i32| self.led.get(topic).is_some_and(|led| led.contains(&number));
        let elements = partitions.elements();
        elements
            .iter()
            .all(|partition| has_leader(partition.topic(), partition.partition()))
    }
}

/// The last look.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// Held while a client asks: it asks for all who wait.
    last: Mutex<Option<(Instant, Option<Arc<Cluster>>)>>,
}

impl Probe {
    /// Returns the cluster, or `None` if no broker serves.
    pub(super) async fn look(&self, config: &ClientConfig, tokens: Option<Arc<Tokens>>) -> Option<Arc<Cluster>> {
        let mut last = self.last.lock().await;
        if let Some((at, cluster)) = &*last
            && at.elapsed() < FRESH
        {
            return cluster.clone();
        }
        let (config, context) = (config.clone(), Context { tokens });
        let asked = blocking(move || {
            // Of the kinds of clients, producers serve their events by themselves: the request for a token is one.
            let producer: FutureProducer<Context> = config.create_with_context(context).map_err(unavailable)?;
            let metadata = producer.client().fetch_metadata(None, ASK).map_err(unavailable)?;
            Ok(Cluster::of(&metadata))
        });
        let cluster = match asked.await {
            Ok(cluster) => cluster.map(Arc::new),
            Err(error) => {
                tracing::debug!(%error, "Kafka broker still unavailable");
                None
            }
        };
        *last = Some((Instant::now(), cluster.clone()));
        cluster
    }
}

/// The context of a client that asks once: it logs nothing, the clients in use report the outage.
#[derive(Debug)]
struct Context {
    tokens: Option<Arc<Tokens>>,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or("the mechanism is not OAUTHBEARER")?;
        Ok(tokens.current()?)
    }
}
