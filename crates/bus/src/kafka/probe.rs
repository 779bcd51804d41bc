//! Asks whether a broker can be reached, with a client that is made for the question: those in use may be stuck.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, Producer as _};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::oauth::Tokens;
use super::{ASK, blocking, unavailable};

/// How long an answer is shared.
const FRESH: Duration = Duration::from_secs(1);

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// Held while a client asks: it asks for all who wait.
    last: Mutex<Option<(Instant, bool)>>,
}

impl Probe {
    /// A broker that has been started and does not serve yet names no brokers in its answer.
    pub(super) async fn ask(&self, config: &ClientConfig, tokens: Option<Arc<Tokens>>) -> bool {
        let mut last = self.last.lock().await;
        if let Some((at, answered)) = *last
            && at.elapsed() < FRESH
        {
            return answered;
        }
        let (config, context) = (config.clone(), Context { tokens });
        let asked = blocking(move || {
            // Of the kinds of clients, producers serve their events by themselves: the request for a token is one.
            let producer: FutureProducer<Context> = config.create_with_context(context).map_err(unavailable)?;
            let metadata = producer.client().fetch_metadata(None, ASK).map_err(unavailable)?;
            Ok(!metadata.brokers().is_empty())
        });
        let answered = match asked.await {
            Ok(answered) => answered,
            Err(error) => {
                tracing::debug!(%error, "Kafka broker unavailable for a new client");
                false
            }
        };
        *last = Some((Instant::now(), answered));
        answered
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
