//! A database of its own for each test, gone afterwards.

use std::env;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use mongodb::bson::doc;
use sosohappy_common::clock::{Clock as _, ManualClock, SystemClock};
use sosohappy_common::settings::SecretUrl;
use sosohappy_common::{Account, Context};
use sosohappy_events::Outgoing;
use sosohappy_store::outbox::Outbox;
use sosohappy_store::{Directory, FIRST_OF_SERVICE, StoreError, mongo, mysql, sqlite};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, SqlSafeStr as _};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Mysql,
    Mongodb,
}

/// A database and the clock of all replicas that open it.
#[derive(Debug)]
pub struct Bed {
    pub engine: Engine,
    pub url: String,
    pub clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
}

/// Runs a test on a new database, unless its engine is not there.
pub async fn run<T, F>(engine: Engine, test: T)
where
    T: FnOnce(Arc<Bed>) -> F,
    F: Future<Output = ()>,
{
    let Some(bed) = Bed::new(engine) else { return };
    let bed = Arc::new(bed);
    let outcome = AssertUnwindSafe(test(bed.clone())).catch_unwind().await;
    bed.remove().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

impl Bed {
    fn new(engine: Engine) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = format!("store_{}", Context::system("test", 0).entropy.hex(8));
        let url = match engine {
            Engine::Sqlite => format!("sqlite:{}/deep/{name}.db", folder.path().display()),
            Engine::Mysql => with_database(&real("SOSOHAPPY_TEST_MYSQL")?, &name),
            Engine::Mongodb => with_database(&real("SOSOHAPPY_TEST_MONGODB")?, &name),
        };
        Some(Self {
            engine,
            url,
            clock: ManualClock::at(at(0)),
            folder,
        })
    }

    /// The database of an earlier [`Self::url`], seen from another process.
    pub fn again(engine: Engine, url: String) -> Self {
        Self {
            engine,
            url,
            clock: ManualClock::at(at(0)),
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    pub fn secret_url(&self) -> SecretUrl {
        self.url.as_str().into()
    }

    /// A context of another replica.
    pub fn context(&self) -> Context {
        Context {
            clock: self.clock.clone(),
            ..Context::system("test-service", 0)
        }
    }

    /// Opens the database as another replica does.
    pub async fn replica(&self) -> Store {
        self.try_replica().await.expect("the database opens")
    }

    /// Opens the database as a replica does whose clock is that much ahead of the machine's.
    pub async fn replica_ahead(&self, by: Duration) -> Store {
        let context = Context {
            clock: ManualClock::at(now() + SignedDuration::try_from(by).expect("a short time")),
            ..self.context()
        };
        self.open(&context).await.expect("the database opens")
    }

    pub async fn try_replica(&self) -> Result<Store, StoreError> {
        self.open(&self.context()).await
    }

    async fn open(&self, context: &Context) -> Result<Store, StoreError> {
        let url = self.secret_url();
        Ok(match self.engine {
            Engine::Sqlite => Store::Sqlite(sqlite::Database::open(&url, 4, &things(), context).await?),
            Engine::Mysql => Store::Mysql(mysql::Database::open(&url, 4, &things(), context).await?),
            Engine::Mongodb => Store::Mongodb(mongo::Database::open(&url, context).await?),
        })
    }

    async fn remove(&self) {
        match self.engine {
            Engine::Sqlite => assert!(self.folder.path().exists()),
            Engine::Mysql => {
                let (server, name) = self.url.rsplit_once('/').expect("a database");
                let mut connection = sqlx::MySqlConnection::connect(server)
                    .await
                    .expect("the server answers");
                let drop = AssertSqlSafe(format!("DROP DATABASE IF EXISTS `{name}`"));
                sqlx::raw_sql(drop)
                    .execute(&mut connection)
                    .await
                    .expect("the database is dropped");
            }
            Engine::Mongodb => {
                let client = mongodb::Client::with_uri_str(&self.url).await.expect("a client");
                client
                    .default_database()
                    .expect("a database")
                    .drop()
                    .await
                    .expect("the database is dropped");
            }
        }
    }
}

/// The URL of a real engine; tests pass without one unless all are asked for.
pub fn real(variable: &str) -> Option<String> {
    let url = env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(
            env::var_os("SOSOHAPPY_TEST_REQUIRE_ENGINES").is_none_or(|value| value != "1"),
            "{variable} is not set"
        );
        println!("skipped: {variable} is not set");
    }
    url
}

pub fn with_database(url: &str, name: &str) -> String {
    let mut url = url::Url::parse(url).expect("a URL");
    url.set_path(name);
    url.into()
}

/// The migrations of a service with one table.
pub fn things() -> Migrator {
    let table = "CREATE TABLE thing (
        id BIGINT NOT NULL PRIMARY KEY, account VARCHAR(50) NOT NULL, day INTEGER NOT NULL
    )";
    let index = "CREATE UNIQUE INDEX thing_account_day ON thing (account, day)";
    let erased = "CREATE TABLE erased_account (
        account VARCHAR(64) NOT NULL PRIMARY KEY, erased_until BIGINT NOT NULL
    )";
    Migrator::with_migrations(
        [table, index, erased]
            .into_iter()
            .zip(FIRST_OF_SERVICE..)
            .map(|(sql, version)| {
                Migration::new(
                    version,
                    "thing".into(),
                    MigrationType::Simple,
                    sql.into_sql_str(),
                    false,
                )
            })
            .collect(),
    )
}

/// An open database of any engine.
#[derive(Debug, Clone)]
pub enum Store {
    Sqlite(sqlite::Database),
    Mysql(mysql::Database),
    Mongodb(mongo::Database),
}

/// The collection whose documents carry events.
pub const MESSAGES: &str = "message";

impl Store {
    pub fn directory(&self) -> Arc<dyn Directory> {
        match self {
            Self::Sqlite(database) => database.directory(),
            Self::Mysql(database) => database.directory(),
            Self::Mongodb(database) => database.directory(),
        }
    }

    pub fn outbox(&self) -> Arc<dyn Outbox> {
        match self {
            Self::Sqlite(database) => database.outbox(),
            Self::Mysql(database) => database.outbox(),
            Self::Mongodb(database) => database.outbox(&[MESSAGES, "receipt"]),
        }
    }

    pub async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> bool {
        match self {
            Self::Sqlite(database) => database.lease(name, holder, ttl).await,
            Self::Mysql(database) => database.lease(name, holder, ttl).await,
            Self::Mongodb(database) => database.lease(name, holder, ttl).await,
        }
        .expect("the lease is asked for")
    }

    /// Sets the end of a lease of any holder.
    pub async fn move_lease(&self, name: &str, expires_at: Timestamp) {
        const UPDATE: &str = "UPDATE lease SET expires_at = ? WHERE name = ?";
        let millis = expires_at.as_millisecond();
        match self {
            Self::Sqlite(database) => {
                let mut tx = database.begin().await.expect("a transaction");
                let update = sqlx::query(UPDATE).bind(millis).bind(name).execute(&mut *tx);
                update.await.expect("a lease");
                tx.commit().await.expect("a commit");
            }
            Self::Mysql(database) => {
                let update = sqlx::query(UPDATE).bind(millis).bind(name);
                update.execute(database.reader()).await.expect("a lease");
            }
            Self::Mongodb(database) => {
                let leases = database.database().collection::<mongodb::bson::Document>("lease");
                let update = doc! { "$set": { "expires_at": millis } };
                leases.update_one(doc! { "_id": name }, update).await.expect("a lease");
            }
        }
    }

    /// Leaves the directory's names as a release without keys has written them.
    pub async fn forget_nickname_keys(&self) {
        const UPDATE: &str = "UPDATE directory SET nickname_key = NULL";
        match self {
            Self::Sqlite(database) => {
                let mut tx = database.begin().await.expect("a transaction");
                sqlx::query(UPDATE).execute(&mut *tx).await.expect("names");
                tx.commit().await.expect("a commit");
            }
            Self::Mysql(database) => {
                sqlx::query(UPDATE).execute(database.reader()).await.expect("names");
            }
            Self::Mongodb(database) => {
                let names = database.database().collection::<mongodb::bson::Document>("directory");
                let update = doc! { "$unset": { "nickname_key": "" } };
                names.update_many(doc! {}, update).await.expect("names");
            }
        }
    }

    pub async fn release_lease(&self, name: &str, holder: &str) {
        match self {
            Self::Sqlite(database) => database.release_lease(name, holder).await,
            Self::Mysql(database) => database.release_lease(name, holder).await,
            Self::Mongodb(database) => database.release_lease(name, holder).await,
        }
        .expect("the lease is released");
    }

    pub async fn ping(&self) {
        match self {
            Self::Sqlite(database) => database.ping().await,
            Self::Mysql(database) => database.ping().await,
            Self::Mongodb(database) => database.ping().await,
        }
        .expect("the database answers");
    }

    pub async fn sweep(&self) {
        match self {
            Self::Sqlite(database) => database.sweep().await,
            Self::Mysql(database) => database.sweep().await,
            Self::Mongodb(database) => database.sweep().await,
        }
        .expect("the database is swept");
    }

    /// Changes state and writes the event that tells it, as one: thing (or message) number `id`.
    pub async fn write(&self, id: i64, record: &Outgoing, now: Timestamp) {
        const INSERT: &str = "INSERT INTO thing (id, account, day) VALUES (?, 'a', ?)";
        match self {
            Self::Sqlite(database) => {
                let mut tx = database.begin().await.expect("a transaction");
                sqlx::query(INSERT)
                    .bind(id)
                    .bind(id)
                    .execute(&mut *tx)
                    .await
                    .expect("a thing");
                sqlite::enqueue(&mut tx, record, now).await.expect("an event");
                tx.commit().await.expect("a commit");
            }
            Self::Mysql(database) => {
                let mut tx = database.begin().await.expect("a transaction");
                sqlx::query(INSERT)
                    .bind(id)
                    .bind(id)
                    .execute(&mut *tx)
                    .await
                    .expect("a thing");
                mysql::enqueue(&mut tx, record, now).await.expect("an event");
                tx.commit().await.expect("a commit");
            }
            Self::Mongodb(database) => {
                let collection = if id % 3 == 0 { "receipt" } else { MESSAGES };
                let message =
                    doc! { "_id": format!("{id:010}"), "number": id, mongo::OUTBOX: mongo::outbox_field(record) };
                database
                    .database()
                    .collection(collection)
                    .insert_one(message)
                    .await
                    .expect("a message");
            }
        }
    }

    /// Makes an event unreadable in the ways its engine allows, by turns.
    pub async fn corrupt_event(&self, id: i64) {
        const UPDATE: &str = "UPDATE event_outbox SET headers = ? WHERE id = ?";
        let headers = ["no JSON", "[[\"one\"]]", "{}"][usize::try_from(id).expect("positive") % 3];
        match self {
            Self::Sqlite(database) => {
                let mut tx = database.begin().await.expect("a transaction");
                let update = sqlx::query(UPDATE).bind(headers).bind(id).execute(&mut *tx);
                assert_eq!(update.await.expect("an event").rows_affected(), 1);
                tx.commit().await.expect("a commit");
            }
            Self::Mysql(database) => {
                let update = sqlx::query(UPDATE).bind(headers).bind(id);
                let done = update.execute(database.reader()).await.expect("an event");
                assert_eq!(done.rows_affected(), 1);
            }
            Self::Mongodb(database) => {
                let collection = if id % 3 == 0 { "receipt" } else { MESSAGES };
                let update = match id % 4 {
                    0 => doc! { "$unset": { "outbox.topic": "" } },
                    1 => doc! { "$set": { "outbox.headers": [7] } },
                    2 => doc! { "$set": { "outbox.value": "text" } },
                    _ => doc! { "$unset": { "outbox.headers": "" } },
                };
                let documents = database.database().collection::<mongodb::bson::Document>(collection);
                let done = documents.update_one(doc! { "_id": format!("{id:010}") }, update).await;
                assert_eq!(done.expect("a message").modified_count, 1);
            }
        }
    }

    /// How many events are in quarantine, complete with reason and time.
    pub async fn quarantined(&self) -> i64 {
        const COUNT: &str = "SELECT COUNT(*) FROM event_outbox_quarantine
            WHERE topic = 'resign' AND record_value IS NOT NULL AND reason <> '' AND quarantined_at > 0";
        match self {
            Self::Sqlite(database) => sqlx::query_scalar(COUNT)
                .fetch_one(database.reader())
                .await
                .expect("a count"),
            Self::Mysql(database) => sqlx::query_scalar(COUNT)
                .fetch_one(database.reader())
                .await
                .expect("a count"),
            Self::Mongodb(database) => {
                let kept = doc! {
                    "outbox": null,
                    "outbox_quarantine.event.pending": true,
                    "outbox_quarantine.reason": { "$gt": "" },
                    "outbox_quarantine.quarantined_at": { "$gt": 0 },
                };
                let mut count = 0;
                for name in [MESSAGES, "receipt"] {
                    let collection = database.database().collection::<mongodb::bson::Document>(name);
                    count += collection.count_documents(kept.clone()).await.expect("a count");
                }
                count.try_into().expect("not that many")
            }
        }
    }

    /// How many things (or messages) there are.
    pub async fn count(&self) -> i64 {
        const COUNT: &str = "SELECT COUNT(*) FROM thing";
        match self {
            Self::Sqlite(database) => sqlx::query_scalar(COUNT)
                .fetch_one(database.reader())
                .await
                .expect("a count"),
            Self::Mysql(database) => sqlx::query_scalar(COUNT)
                .fetch_one(database.reader())
                .await
                .expect("a count"),
            Self::Mongodb(database) => {
                let mut count = 0;
                for name in [MESSAGES, "receipt"] {
                    let collection = database.database().collection::<mongodb::bson::Document>(name);
                    count += collection.count_documents(doc! {}).await.expect("a count");
                }
                count.try_into().expect("not that many")
            }
        }
    }
}

/// Milliseconds after the moment at which the tests begin.
pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).expect("in range")
}

/// The machine's time, which is that of all engines under test.
pub fn now() -> Timestamp {
    SystemClock.now()
}

pub fn account(name: &str) -> Account {
    format!("{name}@example.com+kakao").parse().expect("an account")
}

/// An event that tells `text`, written at `now`.
pub fn record(text: &str, now: Timestamp) -> Outgoing {
    Outgoing {
        topic: "resign".to_owned(),
        key: Some("a@b.c+kakao".to_owned()),
        value: Some(text.as_bytes().to_vec()),
        headers: vec![("occurred-at".to_owned(), now.as_millisecond().to_string())],
    }
}
