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
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::oauth::Tokens;
use super::{ASK, blocking, unavailable};

/// The partitions that have leaders according to the metadata, by topic.
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

    /// Returns whether all of the partitions, by topic and number, have leaders.
    pub(super) fn leads(&self, partitions: &[(String, i32)]) -> bool {
        let has_leader = |topic: &str, number: &i32| self.led.get(topic).is_some_and(|led| led.contains(number));
        partitions.iter().all(|(topic, number)| has_leader(topic, number))
    }
}

/// The last look.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// Held while a client asks: it asks for all who wait.
    last: Mutex<Option<(Instant, Option<Arc<Cluster>>)>>,
}

impl Probe {
    /// Returns the cluster as it was at most `age` ago, or `None` if no broker served then.
    pub(super) async fn look(
        &self,
        config: &ClientConfig,
        tokens: Option<Arc<Tokens>>,
        age: Duration,
    ) -> Option<Arc<Cluster>> {
        let mut last = self.last.lock().await;
        if let Some((at, cluster)) = &*last
            && at.elapsed() < age
        {
            return cluster.clone();
        }
        let asked = ask(config, tokens, |producer| {
            let metadata = producer.client().fetch_metadata(None, ASK)?;
            Ok(Cluster::of(&metadata))
        });
        let cluster = asked.await.flatten().map(Arc::new);
        *last = Some((Instant::now(), cluster.clone()));
        cluster
    }
}

/// Returns whether the leader of each of the partitions, by topic and number, takes requests for it. A broker that has just started is named
/// as a leader before it knows that it is one.
pub(super) async fn leaders_serve(
    config: &ClientConfig,
    tokens: Option<Arc<Tokens>>,
    partitions: Vec<(String, i32)>,
) -> bool {
    let asked = ask(config, tokens, move |producer| {
        partitions.iter().try_for_each(|(topic, number)| {
            let offsets = producer.client().fetch_watermarks(topic, *number, ASK);
            offsets.map(|_| ())
        })
    });
    asked.await.is_some()
}

/// Asks with a client of its own. Returns `None` if there is no answer.
async fn ask<T: Send + 'static>(
    config: &ClientConfig,
    tokens: Option<Arc<Tokens>>,
    question: impl FnOnce(&FutureProducer<Context>) -> Result<T, KafkaError> + Send + 'static,
) -> Option<T> {
    let (config, context) = (config.clone(), Context { tokens });
    let asked = blocking(move || {
        // Of the kinds of clients, producers serve their events by themselves: the request for a token is one.
        let producer: FutureProducer<Context> = config.create_with_context(context).map_err(unavailable)?;
        question(&producer).map_err(unavailable)
    });
    match asked.await {
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::debug!(%error, "Kafka broker still unavailable");
            None
        }
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
