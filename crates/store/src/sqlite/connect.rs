//! Opens the file: one connection writes, several read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sosohappy_common::settings::SecretUrl;
use sqlx::Connection as _;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};

use super::process_lock::{Opening, ProcessLock};
use super::{Pool, Tx};
use crate::{StoreError, migrations, retry};

static SHARED: Migrator = sqlx::migrate!("migrations/sqlite");

/// A write transaction takes the lock of the whole database at once: one that reads first and wants to write later
/// could be refused in between.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// The mode of a folder that is made: accounts and keys are nobody else's to read.
const PRIVATE: u32 = 0o700;

/// How long to wait for a connection of the pool.
const ACQUIRE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Pools {
    pub writer: Pool,
    pub reader: Pool,
    /// Where the file is.
    pub folder: Option<PathBuf>,
    _lock: ProcessLock,
}

impl Pools {
    pub(super) async fn open(url: &SecretUrl, readers: u32, migrations: &Migrator) -> Result<Self, StoreError> {
        let file = file_of(url)?;
        make_folder(&file).await?;
        let folder = folder_of(&file).unwrap_or(Path::new(".")).to_owned();
        let migrations = migrations::together(&SHARED, migrations)?;

        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A transaction that was acknowledged is on disk.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        // A connection to a file does not go stale: none is closed for its age, none is tested before use. One whose transaction SQLite
        // has ended by itself, as it does when the disk is full, is of no more use: sqlx goes on taking it for open.
        let pool = || {
            PoolOptions::new()
                .acquire_timeout(ACQUIRE)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .before_acquire(|connection: &mut SqliteConnection, _| {
                    Box::pin(async move { Ok(!connection.is_in_transaction()) })
                })
        };

        let opening = lock(file).await?;
        // Processes that open a new file together meet at the change to WAL, which waits for nobody.
        let writer = retry::patiently(|| async {
            let writer: Pool = pool().max_connections(1).connect_with(options.clone()).await?;
            migrate(&writer, &migrations).await?;
            Ok(writer)
        })
        .await?;
        let lock = match opening {
            Opening::Shared(lock) => lock,
            Opening::Alone(file) => {
                // Their holders are dead, whatever the times in them say.
                sqlx::query("DELETE FROM lease").execute(&writer).await?;
                ProcessLock::share(file).map_err(lock_failed)?
            }
        };
        let reader = pool()
            .max_connections(readers.max(1))
            .connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self {
            writer,
            reader,
            folder: Some(folder),
            _lock: lock,
        })
    }

    pub(super) async fn begin(&self) -> sqlx::Result<Tx> {
        self.writer.begin_with(BEGIN).await
    }

    /// For metrics; the second says whether write transactions wait for it.
    pub(super) fn labelled(&self) -> [(&'static str, &Pool, bool); 2] {
        [
            ("sqlite-writer", &self.writer, true),
            ("sqlite-reader", &self.reader, false),
        ]
    }

    pub(super) async fn close(&self) {
        self.reader.close().await;
        // The last connection that is closed writes the log back into the database.
        self.writer.close().await;
    }
}

/// All of them in one transaction: whoever comes second waits, and finds them done.
async fn migrate(writer: &Pool, migrations: &Migrator) -> Result<(), StoreError> {
    let mut tx = writer.begin_with(BEGIN).await?;
    // `run` asks for more than a connection, and makes the caller's future not `Send`.
    migrations.run_direct(None, &mut *tx, false).await?;
    tx.commit().await?;
    Ok(())
}

/// `sqlite:<file>`, `sqlite://<file>`; options are not understood.
fn file_of(url: &SecretUrl) -> Result<PathBuf, StoreError> {
    let file = url.rest();
    let file = file.strip_prefix("//").unwrap_or(file);
    if url.scheme() != "sqlite" || file.is_empty() || file.starts_with(':') || file.contains('?') {
        return Err(StoreError::Settings("expected sqlite:<file>".to_owned()));
    }
    Ok(file.into())
}

/// On a thread of its own: while another process is alone with the database, it waits.
async fn lock(file: PathBuf) -> Result<Opening, StoreError> {
    match tokio::task::spawn_blocking(move || ProcessLock::acquire(&file)).await {
        Ok(opening) => opening.map_err(lock_failed),
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(cancelled) => Err(StoreError::Unavailable(cancelled.into())),
    }
}

fn lock_failed(error: std::io::Error) -> StoreError {
    StoreError::Unavailable(anyhow::Error::new(error).context("failed to lock the database file"))
}

/// None for a file in the working directory.
fn folder_of(file: &Path) -> Option<&Path> {
    file.parent().filter(|folder| !folder.as_os_str().is_empty())
}

async fn make_folder(file: &Path) -> Result<(), StoreError> {
    let Some(folder) = folder_of(file) else { return Ok(()) };
    let made = tokio::fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(folder)
        .await;
    made.map_err(|error| StoreError::Settings(format!("cannot make the folder {}: {error}", folder.display())))
}
