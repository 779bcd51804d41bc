//! The environment of one test.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use sosohappy_access::introspection::MutedWordEntry;
use sosohappy_bus::Bus;
use sosohappy_common::clock::{Clock as _, Entropy, SystemClock, SystemEntropy};
use sosohappy_common::http::serve::Service;
use sosohappy_common::settings::{self, Live, Sources};
use sosohappy_common::{Account, Context};
use sosohappy_events::types::{AccessTokenIssued, NicknameSet, RelayHeartbeat, Role, SessionId, TokenDigest};
use sosohappy_events::{Envelope, Event};
use tokio::task::JoinHandle;

use crate::engines::Real;
use crate::fake_auth::{FakeAuth, TokenRecord};
use crate::lazy_bus::LazyBus;
use crate::{Broker, EngineSet, Running, folder};

/// The test bed: engines, credentials and a fake auth for one test. Databases and topics are deleted when it is dropped.
#[derive(Debug)]
pub struct Bed {
    pub set: EngineSet,
    pub service_token: String,
    pub operator_token: String,
    folder: tempfile::TempDir,
    prefix: String,
    real: Option<Real>,
    auth: FakeAuth,
    heartbeats: parking_lot::Mutex<JoinHandle<()>>,
    lazy_bus: Arc<LazyBus>,
    /// Context with which tests publish and read events beside the services.
    pub context: Context,
    /// The bus of the services, on which tests publish and read events. Its topics are created when it is used first.
    pub bus: Arc<dyn Bus>,
}

/// A signed-in account.
#[derive(Debug, Clone)]
pub struct Person {
    pub account: Account,
    pub nickname: String,
    pub token: String,
    pub session: SessionId,
}

impl Person {
    /// Adds the credentials that the app sends to a request.
    pub fn sign(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request.bearer_auth(&self.token).header("email", self.account.as_str())
    }
}

impl Bed {
    /// Creates a test bed on these engines.
    ///
    /// # Panics
    /// If an engine is unavailable.
    pub async fn new(set: EngineSet) -> Self {
        Self::open(set, None, false).await
    }

    /// Creates a test bed for measurements: its topics have as many partitions as in production.
    ///
    /// # Panics
    /// As [`Bed::new`].
    pub async fn with_declared_topics(set: EngineSet) -> Self {
        Self::open(set, None, true).await
    }

    /// Creates a test bed on the real engines, with this broker in place of the one that the tests share. The broker is to be dropped after the
    /// bed.
    ///
    /// # Panics
    /// If an engine is unavailable.
    pub async fn on_broker(broker: &Broker) -> Self {
        Self::open(EngineSet::Real, Some(broker.url()), false).await
    }

    /// `kafka`: the address of a broker of the test's own. `as_declared`: whether topics have the partitions that are declared.
    async fn open(set: EngineSet, kafka: Option<String>, as_declared: bool) -> Self {
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let prefix = format!("test_{}_", entropy.hex(6));
        let folder = folder::new();
        let mut real = (set == EngineSet::Real).then(|| Real::from_environment(prefix.clone()));
        if let (Some(real), Some(kafka)) = (&mut real, kafka) {
            real.kafka = kafka;
        }
        let service_token = entropy.hex(16);
        let auth = FakeAuth::start(&service_token).await;
        let context = Context::system("test", 0);
        let events = settings::Events::new(&events_url(real.as_ref(), folder.path()), &prefix);
        let bus = sosohappy_bus::open(&events, &context).await.expect("the bus opens");
        let lazy_bus = LazyBus::new(bus, (real.is_some() && !as_declared).then_some(events));
        Self {
            set,
            service_token,
            operator_token: entropy.hex(16),
            folder,
            prefix,
            real,
            auth,
            heartbeats: parking_lot::Mutex::new(start_heartbeats(&lazy_bus, &context)),
            context,
            bus: lazy_bus.clone(),
            lazy_bus,
        }
    }

    /// Stops the heartbeats of auth's relay, as when auth is killed or the broker is unavailable.
    pub fn stop_heartbeats(&self) {
        self.heartbeats.lock().abort();
    }

    /// Begins them again.
    pub fn resume_heartbeats(&self) {
        self.stop_heartbeats();
        *self.heartbeats.lock() = start_heartbeats(&self.lazy_bus, &self.context);
    }

    /// Returns the settings of a service (`auth`, `feed`, …) on this bed's engines; `more` overrides them.
    pub async fn settings<S: serde::de::DeserializeOwned>(
        &self,
        service: &'static str,
        defaults: &'static str,
        more: &[(&str, &str)],
    ) -> Live<S> {
        let mut overrides = self.overrides(service);
        overrides.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let sources = Sources {
            service,
            defaults,
            file: None,
            overrides,
            environment: false,
        };
        settings::load(&sources)
            .await
            .expect("the settings of a test are valid")
    }

    fn overrides(&self, service: &str) -> Vec<(String, String)> {
        let folder = self.folder.path().display();
        let sqlite = |name: &str| format!("sqlite:{folder}/{name}.db");
        let mut settings = vec![
            ("server.port", "0".to_owned()),
            ("events.url", events_url(self.real.as_ref(), self.folder.path())),
            ("events.prefix", self.prefix.clone()),
            ("credentials.service-token", self.service_token.clone()),
            ("credentials.operator-token", self.operator_token.clone()),
        ];
        settings.extend(crate::limits::off(service));
        settings.extend(crate::patience::limits(service));
        match service {
            "auth" | "feed" => {
                let url = self
                    .real
                    .as_ref()
                    .map_or_else(|| sqlite(service), |real| real.mysql_url(service));
                settings.push(("database.url", url));
                settings.push(("images.url", format!("file:{folder}/{service}-images")));
            }
            "dm" | "notice" => {
                let url = self
                    .real
                    .as_ref()
                    .map_or_else(|| sqlite(service), |real| real.mongodb_url(service));
                settings.push((if service == "dm" { "messages.url" } else { "inbox.url" }, url));
            }
            "config" => settings.extend([
                ("source.url", format!("file:{folder}/config")),
                ("state.folder", format!("{folder}/config-state")),
            ]),
            // A service without a database.
            _ => {}
        }
        if service == "auth" {
            settings.push(("sign-in.proof", "none".to_owned()));
            // No service of a bed acknowledges resignations, unless its test does.
            settings.push(("resignation.sign-up-wait", "0s".to_owned()));
        }
        if matches!(service, "feed" | "dm" | "notice") {
            settings.push(("access.auth-url", self.auth.url.clone()));
        }
        settings
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    /// Returns the temporary folder of this test.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Returns the brokers (`host:port`) and the prefix of this bed's topics; `None` on the embedded engines.
    #[must_use]
    pub fn kafka(&self) -> Option<(&str, &str)> {
        let real = self.real.as_ref()?;
        Some((
            real.kafka.trim_start_matches("kafka:").trim_start_matches("//"),
            &self.prefix,
        ))
    }

    /// Returns the database URL of auth or feed on the real engines, for a fake Spring service that shares the database.
    ///
    /// # Panics
    /// On the embedded engines.
    #[must_use]
    pub fn mysql_url(&self, service: &str) -> String {
        self.real.as_ref().expect("the real engines").mysql_url(service)
    }

    /// Returns the document database URL of dm or notice on the real engines.
    ///
    /// # Panics
    /// On the embedded engines.
    #[must_use]
    pub fn mongodb_url(&self, service: &str) -> String {
        self.real.as_ref().expect("the real engines").mongodb_url(service)
    }

    /// Creates a context for a service, on the system clock.
    #[must_use]
    pub fn context(&self, service: &'static str) -> Context {
        Context::system(service, 0)
    }

    /// Runs a statement directly on the database of a service that is one in SQL, for example to corrupt a row. Returns the number of changed rows.
    ///
    /// # Panics
    /// If the statement fails.
    pub async fn sql(&self, service: &str, statement: &'static str) -> u64 {
        use sqlx::Connection as _;
        let outcome = if let Some(real) = &self.real {
            let connected = sqlx::MySqlConnection::connect(&real.mysql_url(service)).await;
            let mut connection = connected.expect("the database is available");
            // As text: MySQL prepares no CREATE TRIGGER.
            let done = sqlx::raw_sql(statement).execute(&mut connection).await;
            done.map(|done| done.rows_affected())
        } else {
            let url = format!("sqlite:{}/{service}.db", self.folder.path().display());
            let connected = sqlx::SqliteConnection::connect(&url).await;
            let mut connection = connected.expect("the file opens");
            let done = sqlx::query(statement).execute(&mut connection).await;
            done.map(|done| done.rows_affected())
        };
        outcome.expect("the statement is valid")
    }

    /// Starts a service and waits until it is ready.
    ///
    /// # Panics
    /// If the service could not be built, or is not ready within 30 s.
    pub async fn start(&self, service: anyhow::Result<Service>) -> Running {
        Running::start(service.expect("the service can be built")).await
    }

    /// Signs an account in: publishes its nickname and a token, and registers both at the fake auth.
    pub async fn person(&self, account: &str, nickname: &str) -> Person {
        self.person_with_role(account, nickname, Role::User).await
    }

    /// As [`Bed::person`], with a role.
    ///
    /// # Panics
    /// As [`Bed::person`].
    pub async fn person_with_role(&self, account: &str, nickname: &str, role: Role) -> Person {
        let account: Account = account.parse().expect("a test account is valid");
        let session = SessionId(self.context.entropy.u64());
        let issued_at = SystemClock.now();
        let expires_at = issued_at + Duration::from_hours(1);
        let token = self.bearer(&account, expires_at.as_second());
        self.rename(&account, nickname).await;
        self.auth.add_token(
            account.as_str(),
            &token,
            TokenRecord {
                session,
                issued_at: issued_at.as_millisecond(),
                expires_at: expires_at.as_millisecond(),
                role: role.as_str(),
            },
        );
        self.publish(AccessTokenIssued {
            account: account.clone(),
            digest: TokenDigest::of(&token),
            raw: None,
            session,
            role,
            issued_at,
            expires_at: Some(expires_at),
        })
        .await;
        Person {
            account,
            nickname: nickname.to_owned(),
            token,
            session,
        }
    }

    /// Returns a token of the form of auth's: services refuse a token that is not a JWT of that account without a call to auth.
    fn bearer(&self, account: &Account, exp: i64) -> String {
        let claims = serde_json::json!({ "sub": "AccessToken", "email": account, "exp": exp });
        let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
        format!("e30.{claims}.{}", self.context.entropy.hex(24))
    }

    /// Changes the nickname of an account.
    pub async fn rename(&self, account: &Account, nickname: &str) {
        self.set_nickname(account, nickname);
        self.publish(NicknameSet {
            account: account.clone(),
            nickname: Some(nickname.to_owned()),
        })
        .await;
    }

    /// Changes the nickname of an account at the fake auth. Publishes no event: the test does.
    pub fn set_nickname(&self, account: &Account, nickname: &str) {
        self.auth.set_nickname(account.as_str(), Some(nickname));
    }

    /// Removes an account from the fake auth, as auth does on a resignation. Publishes no event: the test does.
    pub fn forget(&self, person: &Person) {
        self.auth.set_nickname(person.account.as_str(), None);
        self.auth.revoke_tokens(person.account.as_str());
    }

    /// Sets at the fake auth whether a person blocks another. Publishes no event.
    pub fn set_block(&self, person: &Person, other: &Person, is_blocked: bool) {
        self.auth
            .set_block(person.account.as_str(), other.account.as_str(), is_blocked);
    }

    /// Sets the muted words of an account at the fake auth, each with its expiry.
    pub fn mute(&self, person: &Person, words: &[(&str, Option<Timestamp>)]) {
        let entries = words.iter().map(|(word, expires_at)| MutedWordEntry {
            word: (*word).to_owned(),
            expires_at: *expires_at,
        });
        self.auth.mute(person.account.as_str(), entries.collect());
    }

    /// Publishes an event as another service would. Returns the envelope, so that a test can publish the same event again.
    pub async fn publish<E: Event>(&self, event: E) -> Envelope<E> {
        let envelope = Envelope::new(event, &self.context);
        self.publish_again(&envelope).await;
        envelope
    }

    /// Publishes the same event again, as a duplicate.
    pub async fn publish_again<E: Event>(&self, envelope: &Envelope<E>) {
        self.bus
            .publish(&[envelope.to_outgoing()])
            .await
            .expect("the event is published");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop_heartbeats();
    }
}

/// Publishes heartbeats as soon as something else has used the bus.
fn start_heartbeats(bus: &Arc<LazyBus>, context: &Context) -> JoinHandle<()> {
    let (bus, context) = (bus.clone(), context.clone());
    tokio::spawn(async move {
        bus.wait_until_used().await;
        publish_heartbeats(bus, context).await;
    })
}

/// Publishes heartbeats as auth's relay does, until the future is dropped.
pub async fn publish_heartbeats(bus: Arc<dyn Bus>, context: Context) {
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        let now = context.clock.now();
        let heartbeat = RelayHeartbeat {
            service: "auth-service".to_owned(),
            relay: context.instance.to_string(),
            sent_at: now,
            published_until: now,
        };
        let record = Envelope::new(heartbeat, &context).to_outgoing();
        // Ignored: without heartbeats a caller asks auth.
        let _ = bus.publish(&[record]).await;
    }
}

fn events_url(real: Option<&Real>, folder: &std::path::Path) -> String {
    real.map_or_else(
        || format!("journal:{}/events.db", folder.display()),
        |real| real.kafka.clone(),
    )
}

#[cfg(test)]
mod tests {
    use sosohappy_bus::Start;
    use sosohappy_events::Topic;

    use super::Bed;
    use crate::EngineSet;
    use crate::engines::topics_of;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn topics_are_created_when_the_bus_is_used_first() {
        if !EngineSet::real_is_there() {
            return;
        }
        let bed = Bed::new(EngineSet::Real).await;
        let (brokers, prefix) = bed.kafka().unwrap();
        let topics = async || {
            let (brokers, prefix) = (brokers.to_owned(), prefix.to_owned());
            let asked = tokio::task::spawn_blocking(move || topics_of(&brokers, &prefix));
            asked.await.unwrap().unwrap()
        };
        bed.bus.ping().await.unwrap();
        assert_eq!(topics().await, [""; 0]);
        let _reader = bed.bus.read(&[Topic::Resign], Start::Latest).await.unwrap();
        // Each topic has one of dead letters.
        assert_eq!(topics().await.len(), 2 * Topic::ALL.len());
        assert_eq!(bed.end_offsets("test", &[Topic::Resign]).await.len(), 3, "partitions");
    }
}
