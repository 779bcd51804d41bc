//! `MongoDB` through the official driver, `w: majority` everywhere, single-document atomicity preferred.
//!
//! Times in documents are milliseconds since the epoch, as in the tables of the SQL engines.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock_difference;
use crate::outbox::Outbox;
use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, ClientOptions, IndexOptions, ReadConcern, WriteConcern};
use mongodb::{Client, Collection, IndexModel};
use sosohappy_common::Context;
use sosohappy_common::clock::Clock;
use sosohappy_common::settings::SecretUrl;

use crate::time::instant;
use crate::{Directory, StoreError, retry};

mod directory;
mod lease;
mod outbox;
mod sweeper;
mod updates;

pub use outbox::{OUTBOX, outbox_field};

/// The name of the index on `_id` in [`StoreError::Conflict`].
pub const ID_INDEX: &str = "_id_";

/// How long an operation waits for a suitable server.
const SERVER_SELECTION: Duration = Duration::from_secs(5);

/// An open database with the fleet's shared collections and indexes. Clones share it.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    database: mongodb::Database,
    clock: Arc<dyn Clock>,
    instance: Arc<str>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.0.database.name()).finish()
    }
}

impl Database {
    /// Connects (`mongodb://…/<database>`) and creates the shared indexes. Waits half a minute for a server that is still starting.
    pub async fn open(url: &SecretUrl, context: &Context) -> Result<Self, StoreError> {
        Self::open_with(url, context, |_| ()).await
    }

    /// [`Database::open`], with other options of the client: for a test that observes the commands.
    pub async fn open_with(
        url: &SecretUrl,
        context: &Context,
        change: impl FnOnce(&mut ClientOptions) + Send,
    ) -> Result<Self, StoreError> {
        let mut options = ClientOptions::parse(url.expose())
            .await
            .map_err(|error| settings(&error))?;
        let Some(name) = options.default_database.clone() else {
            return Err(StoreError::Settings("expected mongodb://host:port/database".to_owned()));
        };
        options.app_name.get_or_insert_with(|| context.service.to_owned());
        options.server_selection_timeout.get_or_insert(SERVER_SELECTION);
        options.connect_timeout.get_or_insert(SERVER_SELECTION);
        options.write_concern = Some(
            WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .build(),
        );
        options.read_concern = Some(ReadConcern::majority());
        options.retry_writes = Some(true);
        change(&mut options);
        let client = Client::with_options(options).map_err(|error| settings(&error))?;

        let database = client.database(&name);
        let this = Self(Arc::new(Inner {
            database,
            clock: context.clock.clone(),
            instance: context.instance.clone(),
        }));
        retry::patiently(|| async {
            directory::make_indexes(&this).await?;
            directory::make_keys(&this).await
        })
        .await?;
        Ok(this)
    }

    /// Returns the database, with read and write concern majority.
    #[must_use]
    pub fn database(&self) -> &mongodb::Database {
        &self.0.database
    }

    /// Publishes the [`OUTBOX`] field of documents of these collections in the order of their `_id` (a string that
    /// grows with time), then unsets it. Creates the index that it needs at the first read.
    #[must_use]
    pub fn outbox(&self, collections: &[&str]) -> Arc<dyn Outbox> {
        Arc::new(outbox::MongoOutbox::new(self.clone(), collections))
    }

    #[must_use]
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(directory::MongoDirectory(self.clone()))
    }

    /// Takes or renews a named lease; false while another holds it. Times are those of the database's clock, so that
    /// the clocks of replicas may differ. A lease that claims to last longer than `ttl` from now (the database's clock
    /// was set back) is void: all holders of a name ask for the same `ttl`.
    pub async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        lease::take(self, name, holder, ttl).await
    }

    /// Releases a lease before it expires, if `holder` still has it.
    pub async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        lease::release(self, name, holder).await
    }

    /// Returns the holder of a lease, which may have expired.
    pub(crate) async fn lease_holder(&self, name: &str) -> Result<Option<String>, StoreError> {
        lease::holder(self, name).await
    }

    /// Spawns the task that deletes expired leases, and resignations older than any event that could contradict them. One
    /// replica at a time does it. And the one that compares the clock with the server's.
    pub fn spawn_sweeper(&self, context: &Context) {
        sweeper::spawn(self, context);
        let database = self.clone();
        clock_difference::spawn(context, move || {
            let database = database.clone();
            async move { database.server_time().await }
        });
    }

    /// Deletes once what the task of [`Self::spawn_sweeper`] deletes every ten minutes.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        sweeper::sweep(self).await
    }

    /// Runs many updates of a collection with one command, in any order: documents with `q`, `u` and `upsert`. An upsert that meets a document
    /// that does not fulfil its condition changes nothing, and is no error. The whole command has to fit into 16 MiB.
    pub async fn update_each(&self, collection: &str, updates: Vec<Document>) -> Result<(), StoreError> {
        updates::run(self, collection, updates).await
    }

    pub async fn ping(&self) -> Result<(), StoreError> {
        self.0.database.run_command(doc! { "ping": 1 }).await?;
        Ok(())
    }

    /// Returns the time of the server's clock.
    pub async fn server_time(&self) -> Result<jiff::Timestamp, StoreError> {
        let answer = self.0.database.run_command(doc! { "hello": 1 }).await?;
        let time = answer
            .get_datetime("localTime")
            .map_err(|error| StoreError::Corrupt(error.into()))?;
        instant(time.timestamp_millis())
    }

    fn collection(&self, name: &str) -> Collection<Document> {
        self.0.database.collection(name)
    }

    fn now(&self) -> jiff::Timestamp {
        self.0.clock.now()
    }

    fn instance(&self) -> &str {
        &self.0.instance
    }
}

/// Describes an invalid URL. The driver's own message may quote credentials from the URL.
fn settings(error: &mongodb::error::Error) -> StoreError {
    use mongodb::error::ErrorKind;
    match error.kind.as_ref() {
        ErrorKind::InvalidArgument { .. } => {
            StoreError::Settings("expected mongodb://user:password@host:port/database".to_owned())
        }
        _ => error.clone().into(),
    }
}

fn index(name: &str, keys: Document) -> IndexModel {
    IndexModel::builder()
        .keys(keys)
        .options(IndexOptions::builder().name(name.to_owned()).build())
        .build()
}

/// Returns whether a conditional upsert met a document that does not fulfil its condition (or one that was inserted concurrently).
fn is_taken<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict(rule)) if rule == ID_INDEX)
}
