//! The two engine sets, and the databases and topics of one test, which are deleted after it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use sosohappy_common::clock::{Entropy, SystemEntropy};
use sosohappy_common::settings::{Events, Mechanism, Security};
use sosohappy_events::topic::Service;
use sosohappy_kafka_admin::{Admin, AdminError, BrokerAcl};

/// The engines of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineSet {
    /// SQLite files and the journal.
    Embedded,
    /// Kafka, MariaDB and a MongoDB-protocol server, from `scripts/engines`.
    Real,
}

const KAFKA: &str = "SOSOHAPPY_TEST_KAFKA";
const MYSQL: &str = "SOSOHAPPY_TEST_MYSQL";
const MONGODB: &str = "SOSOHAPPY_TEST_MONGODB";
const KAFKA_SECURE: &str = "SOSOHAPPY_TEST_KAFKA_SECURE";
const MYSQL_SECURE: &str = "SOSOHAPPY_TEST_MYSQL_SECURE";
const MONGODB_SECURE: &str = "SOSOHAPPY_TEST_MONGODB_SECURE";
/// A folder of certificates: `ca.pem`, `client.pem` and more.
const KAFKA_TOOLS: &str = "SOSOHAPPY_TEST_KAFKA_TOOLS";
const TLS: &str = "SOSOHAPPY_TEST_TLS";

/// The most partitions of a topic of a bed. A broker makes them one after the other, which takes seconds on a busy machine for those that are
/// declared, six of most topics. Keys are in different ones with these as well, and each of three replicas has one.
const PARTITIONS: i32 = 3;

/// How long a broker may take to make topics.
const CREATION: Duration = Duration::from_secs(30);

/// The databases whose names begin with a prefix, which is bound twice.
const DATABASES: &str = "SELECT CAST(schema_name AS CHAR) FROM information_schema.schemata \
    WHERE LEFT(schema_name, CHAR_LENGTH(?)) = ?";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

impl EngineSet {
    /// Returns whether the environment names the real engines. Prints that the test is skipped if it does not.
    ///
    /// # Panics
    /// If it does not and `SOSOHAPPY_TEST_REQUIRE_ENGINES` is set.
    #[must_use]
    pub fn real_is_there() -> bool {
        are_set(&[KAFKA, MYSQL, MONGODB])
    }

    /// As [`EngineSet::real_is_there`], and for the secured listeners of the real engines. Engines that were started by an older
    /// `scripts/engines` have none: run `scripts/engines down`, then `up`.
    ///
    /// # Panics
    /// As [`EngineSet::real_is_there`].
    #[must_use]
    pub fn secured_is_there() -> bool {
        are_set(&[KAFKA, MYSQL, MONGODB, KAFKA_SECURE, MYSQL_SECURE, MONGODB_SECURE, TLS])
    }

    /// As [`EngineSet::real_is_there`], for engines that run on this machine, whose tools and certificates are returned.
    ///
    /// # Panics
    /// As [`EngineSet::real_is_there`].
    #[must_use]
    pub fn local() -> Option<LocalEngines> {
        let value = |name| std::env::var(name).unwrap_or_default();
        are_set(&[KAFKA, MYSQL, MONGODB, TLS, KAFKA_TOOLS]).then(|| LocalEngines {
            kafka_tools: value(KAFKA_TOOLS),
            certificates: value(TLS),
        })
    }
}

/// What engines that run on this machine have beside their URLs.
#[derive(Debug, Clone)]
pub struct LocalEngines {
    /// Kafka's tools, as a class path of Java.
    pub kafka_tools: String,
    /// The folder of the engines' certificates.
    pub certificates: String,
}

fn are_set(names: &[&str]) -> bool {
    let missing: Vec<_> = names
        .iter()
        .copied()
        .filter(|name| std::env::var_os(name).is_none())
        .collect();
    if missing.is_empty() {
        return true;
    }
    assert!(
        std::env::var_os("SOSOHAPPY_TEST_REQUIRE_ENGINES").is_none(),
        "real engines are required, but {} is not set: eval \"$(scripts/engines env)\"",
        missing.join(", ")
    );
    eprintln!("skipped: {} is not set (scripts/engines up)", missing.join(", "));
    false
}

/// The URLs of the real engines for one test.
#[derive(Debug, Clone)]
pub(crate) struct Real {
    pub kafka: String,
    mysql: String,
    mongodb: String,
    /// Begins the name of every database and topic.
    pub prefix: String,
    /// Whether the test also has Kafka users and ACLs, with this prefix.
    secured: bool,
}

impl Real {
    /// Returns the plain URLs.
    pub fn from_environment(prefix: String) -> Self {
        Self {
            kafka: variable(KAFKA),
            mysql: variable(MYSQL),
            mongodb: variable(MONGODB),
            prefix,
            secured: false,
        }
    }

    /// Returns the secured URLs of the databases, and Kafka's plain URL, for administration. Services use [`Real::secured_kafka`].
    pub fn secured(prefix: String) -> Self {
        Self {
            kafka: variable(KAFKA),
            mysql: variable(MYSQL_SECURE),
            mongodb: variable(MONGODB_SECURE),
            prefix,
            secured: true,
        }
    }

    /// Returns the principal of a service on the secured listener, without `User:`.
    pub fn principal(&self, service: Service) -> String {
        format!("{}{}", self.prefix, service.short_name())
    }

    /// Creates a Kafka user for each service, and returns its settings `events.…` as environment variables. The users have no rights until
    /// `fleet topics --acls` creates the ACLs.
    pub async fn secured_kafka(&self) -> BTreeMap<Service, Vec<(&'static str, String)>> {
        let mut admin = self.admin().await.expect("Kafka can be administered");
        let entropy: &dyn Entropy = &SystemEntropy;
        let mut settings = BTreeMap::new();
        for service in Service::ALL {
            let (name, password) = (self.principal(service), entropy.hex(16));
            admin
                .set_password(Mechanism::ScramSha512, &name, &password, entropy)
                .await
                .expect("a user can be created");
            let of_service = vec![
                ("EVENTS__URL", variable(KAFKA_SECURE)),
                ("EVENTS__SECURITY__PROTOCOL", "sasl_ssl".to_owned()),
                ("EVENTS__SECURITY__CA", format!("{}/ca.pem", variable(TLS))),
                ("EVENTS__SECURITY__MECHANISM", "SCRAM-SHA-512".to_owned()),
                ("EVENTS__SECURITY__USERNAME", name),
                ("EVENTS__SECURITY__PASSWORD", password),
            ];
            settings.insert(service, of_service);
        }
        settings
    }

    async fn admin(&self) -> Result<Admin, AdminError> {
        Admin::connect(self.brokers(), &Security::default()).await
    }

    pub fn brokers(&self) -> &str {
        self.kafka.trim_start_matches("kafka:").trim_start_matches("//")
    }

    /// Deletes the users of this test and their ACLs.
    async fn delete_principals(&self) -> Result<(), AdminError> {
        let mut admin = self.admin().await?;
        for service in Service::ALL {
            let name = self.principal(service);
            let found = admin.acls_of(&format!("User:{name}")).await?;
            let acls = found.into_iter().filter_map(|acl| match acl {
                BrokerAcl::Known(acl) => Some(acl),
                BrokerAcl::Other(_) => None,
            });
            admin.delete_acls(&acls.collect::<Vec<_>>()).await?;
            admin.delete_account(Mechanism::ScramSha512, &name).await?;
        }
        Ok(())
    }

    pub fn mysql_url(&self, service: &str) -> String {
        with_database(&self.mysql, &self.database(service))
    }

    pub fn mongodb_url(&self, service: &str) -> String {
        with_database(&self.mongodb, &self.database(service))
    }

    fn database(&self, service: &str) -> String {
        format!("{}{service}", self.prefix)
    }

    /// Deletes every database and topic with the prefix, on all engines at once.
    async fn clean_up(&self) -> anyhow::Result<()> {
        let (mysql, mongodb, kafka) = tokio::join!(self.clean_mysql(), self.clean_mongodb(), self.clean_kafka());
        mysql.and(mongodb).and(kafka)
    }

    async fn clean_mysql(&self) -> anyhow::Result<()> {
        // The secured URL leads to the same server: the plain one always works.
        let pool = sqlx::MySqlPool::connect(&variable(MYSQL)).await?;
        let databases: Vec<String> = sqlx::query_scalar(DATABASES)
            .bind(self.prefix.as_str())
            .bind(self.prefix.as_str())
            .fetch_all(&pool)
            .await?;
        for database in databases {
            let drop = format!("DROP DATABASE IF EXISTS `{database}`");
            sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&pool).await?;
        }
        pool.close().await;
        Ok(())
    }

    async fn clean_mongodb(&self) -> anyhow::Result<()> {
        let client = mongodb::Client::with_uri_str(&self.mongodb).await?;
        for service in ["dm", "notice"] {
            client.database(&self.database(service)).drop().await?;
        }
        Ok(())
    }

    async fn clean_kafka(&self) -> anyhow::Result<()> {
        if self.secured {
            self.delete_principals().await?;
        }
        let (brokers, prefix) = (self.brokers().to_owned(), self.prefix.clone());
        let mine = tokio::task::spawn_blocking(move || topics_of(&brokers, &prefix)).await??;
        if !mine.is_empty() {
            let admin: AdminClient<DefaultClientContext> = client_of(self.brokers()).create()?;
            let names: Vec<_> = mine.iter().map(String::as_str).collect();
            admin.delete_topics(&names, &AdminOptions::new()).await?;
        }
        Ok(())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // The clone must not be dropped: it would clean up again. A thread of its own, because a runtime cannot block inside another one.
        let real = self.clone();
        let real = std::mem::ManuallyDrop::new(real);
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), real.clean_up()).await? })
        });
        match cleaned.join() {
            Ok(Ok(())) => {}
            other => eprintln!("failed to delete a test's databases or topics: {other:?}"),
        }
    }
}

fn client_of(brokers: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers);
    settings
}

/// Creates all topics that are missing as they are declared, except for their partitions, of which each has a few.
pub(crate) async fn create_topics(events: &Events) -> anyhow::Result<()> {
    let declared = sosohappy_bus::declared(events)?;
    let topics: Vec<_> = declared
        .iter()
        .map(|topic| {
            let partitions = topic.partitions.min(PARTITIONS);
            let new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(1));
            let settings = topic.settings.iter();
            settings.fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let brokers = events.url.rest().trim_start_matches('/');
    let admin: AdminClient<DefaultClientContext> = client_of(brokers).create()?;
    let options = AdminOptions::new()
        .request_timeout(Some(CREATION))
        .operation_timeout(Some(CREATION));
    for created in admin.create_topics(&topics, &options).await? {
        match created {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => bail!("{topic}: {code}"),
        }
    }
    Ok(())
}

/// Returns the topics whose names begin with a prefix. Blocks until the brokers have answered.
pub(crate) fn topics_of(brokers: &str, prefix: &str) -> anyhow::Result<Vec<String>> {
    let consumer: BaseConsumer = client_of(brokers).create()?;
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(10))?;
    let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}

/// Replaces the path of a URL, and keeps its query.
fn with_database(url: &str, database: &str) -> String {
    let (base, query) = url
        .split_once('?')
        .map_or((url, None), |(base, query)| (base, Some(query)));
    let authority_start = base.find("://").map_or(0, |at| at + 3);
    let authority_end = base[authority_start..]
        .find('/')
        .map_or(base.len(), |at| authority_start + at);
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    format!("{}/{database}{query}", &base[..authority_end])
}

#[cfg(test)]
mod tests {
    use super::{DATABASES, EngineSet, MYSQL, variable, with_database};
    use crate::Bed;
    use crate::spring::tables;

    /// Bench fills gigabytes of legacy tables.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_database_of_a_bed_is_deleted_with_it() {
        if !EngineSet::real_is_there() {
            return;
        }
        let bed = Bed::new(EngineSet::Real).await;
        let legacy = tables::open(&bed.mysql_url("spring_feed"), tables::FEED).await.unwrap();
        legacy.close().await;
        let prefix = bed.kafka().unwrap().1.to_owned();
        let server = sqlx::MySqlPool::connect(&variable(MYSQL)).await.unwrap();
        let databases = async || -> Vec<String> {
            let found = sqlx::query_scalar(DATABASES)
                .bind(prefix.as_str())
                .bind(prefix.as_str());
            found.fetch_all(&server).await.unwrap()
        };
        assert_eq!(databases().await, [format!("{prefix}spring_feed")]);
        drop(bed);
        assert_eq!(databases().await, [""; 0]);
    }

    #[test]
    fn the_database_is_set_as_the_path() {
        assert_eq!(
            with_database("mysql://root@127.0.0.1:3306", "x"),
            "mysql://root@127.0.0.1:3306/x"
        );
        assert_eq!(
            with_database("mongodb://h:1/?directConnection=true", "x"),
            "mongodb://h:1/x?directConnection=true"
        );
        assert_eq!(with_database("mysql://h/old", "x"), "mysql://h/x");
    }
}
