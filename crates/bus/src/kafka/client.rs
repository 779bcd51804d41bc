//! Settings, log lines and records of Kafka's clients.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rdkafka::admin::AdminClient;
use rdkafka::client::{ClientContext, DefaultClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use sosohappy_common::Context;
use sosohappy_common::settings::{Sasl, Security};
use tokio::sync::Notify;

use super::connection::{ClientMetrics, Connection, Membership, STATISTICS_PERIOD};
use super::oauth::Tokens;
use super::probe::{self, Cluster, Probe};
use super::{security, unavailable};
use crate::BusError;
use crate::declared::OVERHEAD;
use crate::port::REPORT_TIMEOUT;
use sosohappy_events::record::MAX_DEAD_LETTER_BYTES;
use sosohappy_events::{Headers, Record, Topic};

/// A consumer that says nothing for this long has died, and its partitions go to others: the least a broker allows by
/// default.
const SESSION: Duration = Duration::from_secs(6);

/// Limit for a request and for the set-up of a connection. A broker that has gone without closing its connections, as a machine that loses
/// power or a pod whose address no longer exists, costs a client this time, and not librdkafka's 60 s and 30 s: a waiting fetch is
/// answered twice a second.
const ANSWER: Duration = Duration::from_secs(10);

/// The settings that all clients share.
#[derive(Debug)]
pub(super) struct Settings {
    common: ClientConfig,
    tokens: Option<Arc<Tokens>>,
    metrics: ClientMetrics,
    probe: Probe,
}

impl Settings {
    pub(super) async fn new(brokers: &str, security: &Security, context: &Context) -> Result<Self, BusError> {
        let hosts: Vec<_> = brokers.split(',').map(str::trim).collect();
        let is_address = |host: &&str| {
            host.rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if !hosts.iter().all(is_address) {
            return Err(BusError::Settings(
                "kafka: needs host:port, or several joined by commas".to_owned(),
            ));
        }
        let mut common = ClientConfig::new();
        common
            .set("bootstrap.servers", hosts.join(","))
            // A colon in a client id upsets JMX on the broker.
            .set("client.id", context.instance.replace(':', "-"))
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            // A broker that comes back is found within a second.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("retry.backoff.max.ms", "1000")
            .set("topic.metadata.refresh.fast.interval.ms", "50")
            // Statistics are read here. For those that a broker asks for, librdkafka uses a connection without a reference to it, which another of
            // its threads may free when the broker is lost.
            .set("enable.metrics.push", "false")
            .set_log_level(RDKafkaLogLevel::Info);
        security::secure(&mut common, security)?;
        let tokens = match &security.sasl {
            Some(Sasl::OauthBearer(oauth)) => Some(Arc::new(Tokens::start(oauth, context.clock.clone()).await?)),
            _ => None,
        };
        Ok(Self {
            common,
            tokens,
            metrics: ClientMetrics::of(context),
            probe: Probe::default(),
        })
    }

    /// Returns the context of a new client that joins no group.
    pub(super) fn client(&self) -> Client {
        self.with(Connection::new(&self.metrics, None))
    }

    /// Returns the context of a new client in a group.
    pub(super) fn member_client(&self, membership: Arc<Membership>) -> Client {
        self.with(Connection::new(&self.metrics, Some(membership)))
    }

    fn with(&self, connection: Connection) -> Client {
        Client {
            tokens: self.tokens.clone(),
            connection: Arc::new(connection),
            lost_brokers: Arc::default(),
        }
    }

    /// Returns the cluster as a client saw it that was made for this, at most `age` ago; `None` if no broker served then.
    pub(super) async fn look_at_cluster(&self, age: Duration) -> Option<Arc<Cluster>> {
        self.probe.look(&self.common, self.tokens.clone(), age).await
    }

    /// Returns whether the leader of each of the partitions, by topic and number, takes requests for it.
    pub(super) async fn leaders_serve(&self, partitions: Vec<(String, i32)>) -> bool {
        probe::leaders_serve(&self.common, self.tokens.clone(), partitions).await
    }

    /// Counts a client that is replaced because it did not recover.
    pub(super) fn count_replaced(&self) {
        self.metrics.replaced.inc();
    }

    /// Whether clients cannot connect before their events are served: the request for a token is one.
    pub(super) const fn needs_events(&self) -> bool {
        self.tokens.is_some()
    }

    /// Creates a client for the administration of topics.
    pub(super) fn admin(&self) -> Result<AdminClient<DefaultClientContext>, BusError> {
        // rdkafka's admin client serves no events, and so never asks for a token.
        if self.needs_events() {
            return Err(unavailable(
                "topics cannot be created or described with OAUTHBEARER: run `fleet topics` with another mechanism",
            ));
        }
        self.common.create().map_err(unavailable)
    }

    /// Of a client that lives as long as the bus.
    fn lasting(&self) -> ClientConfig {
        let mut config = self.common.clone();
        config
            .set("statistics.interval.ms", STATISTICS_PERIOD.as_millis().to_string())
            .set("socket.timeout.ms", ANSWER.as_millis().to_string())
            .set("socket.connection.setup.timeout.ms", ANSWER.as_millis().to_string());
        config
    }

    fn any_producer(&self) -> ClientConfig {
        let mut config = self.lasting();
        config
            .set("acks", "all")
            // Where Java's clients put a key, so that it keeps its order when both write.
            .set("partitioner", "murmur2_random")
            // A topic that was deleted is noticed, and made again, after this time.
            .set("topic.metadata.propagation.max.ms", "10000")
            // Batches still form while requests are on their way.
            .set("linger.ms", "0")
            .set("message.max.bytes", (MAX_DEAD_LETTER_BYTES + OVERHEAD).to_string());
        config
    }

    /// The producer of records that must arrive, each once and in order.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.any_producer();
        config
            .set("enable.idempotence", "true")
            // A queued message waits for the broker however long it is unavailable: one that gave up while the next one got
            // through would break the order of its key.
            .set("message.timeout.ms", "0");
        config
    }

    /// The producer of reports, which give up after a while. Retries may duplicate a report, but not reorder them.
    pub(super) fn report_producer(&self) -> ClientConfig {
        let mut config = self.any_producer();
        config
            .set("max.in.flight", "1")
            .set("message.timeout.ms", REPORT_TIMEOUT.as_millis().to_string());
        config
    }

    fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.lasting();
        config
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.offset.store", "false")
            // A waiting fetch is answered as soon as there is data, so a long wait costs nothing but is rarer.
            .set("fetch.wait.max.ms", "500")
            // After an empty or failed fetch the next one is not put off.
            .set("fetch.error.backoff.ms", "100")
            // Read ahead for each partition, as each has a queue of its own: records of any size, and bytes of their values alone, without keys and
            // headers. With 16 MiB and any number of records a process had 553 MiB resident after a million tokens.
            .set("queued.min.messages", "4096")
            .set("queued.max.messages.kbytes", "1024")
            // A partition with so much read ahead is fetched from again after this time. With the default of 1 s its queue is empty for most of it.
            .set("fetch.queue.backoff.ms", "10");
        config
    }

    pub(super) fn member(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer(group);
        config
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "500")
            // Cooperative rebalancing: only reassigned partitions stop, the others are consumed during a rebalance.
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", SESSION.as_millis().to_string())
            .set("heartbeat.interval.ms", (SESSION / 4).as_millis().to_string());
        config
    }

    /// A reader joins no group; librdkafka wants the name of one all the same.
    pub(super) fn reader(&self, name: &str) -> ClientConfig {
        let mut config = self.consumer(name);
        config
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true");
        config
    }
}

/// The context of one client: writes what librdkafka reports to our log, and gives it tokens when it asks for them.
#[derive(Debug)]
pub(super) struct Client {
    tokens: Option<Arc<Tokens>>,
    connection: Arc<Connection>,
    lost_brokers: Arc<Notify>,
}

impl Client {
    /// Returns the connection, which ends with the client.
    pub(super) fn connection(&self) -> Weak<Connection> {
        Arc::downgrade(&self.connection)
    }

    /// Is notified when no broker answers any more.
    pub(super) fn lost_brokers(&self) -> Arc<Notify> {
        self.lost_brokers.clone()
    }

    /// Logs an error that librdkafka recovers from by itself.
    pub(super) fn warn(&self, error: &KafkaError, group: &str) {
        if let Some(suppressed) = self.connection.may_log() {
            tracing::warn!(%error, group, suppressed, "Kafka consumer error; client recovers");
        }
    }
}

impl ClientContext for Client {
    /// librdkafka asks only if the mechanism is `OAUTHBEARER`.
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or("the mechanism is not OAUTHBEARER")?;
        Ok(tokens.current()?)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let is_critical = matches!(
            level,
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical
        );
        let suppressed = if is_critical {
            Some(0)
        } else {
            self.connection.may_log()
        };
        let Some(suppressed) = suppressed else { return };
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(target: "librdkafka", facility, suppressed, "{message}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, suppressed, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, suppressed, "{message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, suppressed, "{message}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.connection.observe(statistics);
    }

    /// librdkafka reconnects by itself. It also reports here the end of a partition, which readers handle.
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.lost_brokers.notify_one();
        }
        // A client that has failed for good says so once.
        let is_fatal = code == Some(RDKafkaErrorCode::Fatal);
        let suppressed = if is_fatal { Some(0) } else { self.connection.may_log() };
        if let Some(suppressed) = suppressed {
            tracing::warn!(target: "librdkafka", %error, suppressed, "{reason}");
        }
    }
}

impl ConsumerContext for Client {
    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.connection.join();
        }
    }
}

pub(super) fn record(message: &BorrowedMessage<'_>, topic: Topic) -> Record {
    let headers = message.headers().map_or_else(Headers::default, |headers| {
        let mut all = Headers::with_capacity(headers.count());
        all.extend(
            headers
                .iter()
                .map(|header| (header.key, header.value.unwrap_or_default())),
        );
        all
    });
    let millis = message.timestamp().to_millis();
    Record {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers,
        timestamp: millis
            .and_then(|millis| Timestamp::from_millisecond(millis).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH),
    }
}
