//! Opens the database file: one connection writes, several read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sosohappy_common::file_lock::{Acquired, SharedFileLock};
use sosohappy_common::settings::SecretUrl;
use sqlx::Connection as _;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};

use super::{Pool, Tx};
use crate::{StoreError, migrations, retry};

static SHARED: Migrator = sqlx::migrate!("migrations/sqlite");

/// A write transaction locks the whole database at its beginning: one that reads first and writes later could be refused in between.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// How long to wait for a write of another process.
const BUSY: Duration = Duration::from_secs(5);

/// The mode of a new folder: other users of the machine must not read accounts and keys.
const PRIVATE: u32 = 0o700;

/// How long to wait for a connection of the pool.
const ACQUIRE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Pools {
    pub writer: Pool,
    pub reader: Pool,
    /// The folder of the file.
    pub folder: Option<PathBuf>,
    /// Held as long as the database is open.
    _lock: SharedFileLock,
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
            // An acknowledged transaction is on disk.
            .synchronous(SqliteSynchronous::Full)
            // Deleted rows are overwritten with zeros.
            .pragma("secure_delete", "ON")
            .foreign_keys(true)
            .busy_timeout(BUSY);
        // A connection to a file does not expire: none is closed for its age, and none is tested before use. A connection whose
        // transaction SQLite has ended by itself, as it does when the disk is full, is replaced: sqlx still counts the transaction as
        // open.
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

        let acquired = lock(file).await?;
        // The change of a new file to WAL fails at once while another process makes it, so it is retried.
        let writer = retry::patiently(|| async {
            let writer: Pool = pool().max_connections(1).connect_with(options.clone()).await?;
            migrate(&writer, &migrations).await?;
            Ok(writer)
        })
        .await?;
        let lock = match acquired {
            Acquired::Shared(lock) => lock,
            Acquired::Alone(lock) => {
                // No other process has the database open, so the holders of all leases have ended. They are deleted before others are
                // admitted: a lease of a process that opens the database now is live.
                sqlx::query("DELETE FROM lease").execute(&writer).await?;
                lock.share().map_err(lock_failed)?
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

    /// Returns the pools by label, for metrics, and whether write transactions wait for the pool.
    pub(super) fn labelled(&self) -> [(&'static str, &Pool, bool); 2] {
        [
            ("sqlite-writer", &self.writer, true),
            ("sqlite-reader", &self.reader, false),
        ]
    }

    pub(super) async fn close(&self) {
        self.reader.close().await;
        // Closing the last connection writes the log back into the database: the writer is closed last.
        self.writer.close().await;
    }
}

/// Migrates in one transaction: a second process waits, and finds the migrations applied.
async fn migrate(writer: &Pool, migrations: &Migrator) -> Result<(), StoreError> {
    let mut tx = writer.begin_with(BEGIN).await?;
    // `run` would make the caller's future not `Send`.
    migrations.run_direct(None, &mut *tx, false).await?;
    tx.commit().await?;
    Ok(())
}

/// Reads `sqlite:<file>` or `sqlite://<file>`; options are refused.
fn file_of(url: &SecretUrl) -> Result<PathBuf, StoreError> {
    let file = url.rest();
    let file = file.strip_prefix("//").unwrap_or(file);
    if url.scheme() != "sqlite" || file.is_empty() || file.starts_with(':') || file.contains('?') {
        return Err(StoreError::Settings("expected sqlite:<file>".to_owned()));
    }
    Ok(file.into())
}

/// Locks `<database>.lock`, so that leases of processes that have ended are not waited for. The lock is not on the database itself:
/// closing a second descriptor of that file would drop `SQLite`'s own locks.
///
/// Runs on a thread of its own: it waits while another process holds the lock exclusively.
async fn lock(file: PathBuf) -> Result<Acquired, StoreError> {
    let path = file.with_added_extension("lock");
    match tokio::task::spawn_blocking(move || SharedFileLock::acquire(&path)).await {
        Ok(acquired) => acquired.map_err(lock_failed),
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(cancelled) => Err(StoreError::Unavailable(cancelled.into())),
    }
}

fn lock_failed(error: std::io::Error) -> StoreError {
    StoreError::Unavailable(anyhow::Error::new(error).context("failed to lock the database file"))
}

/// Returns the folder of a file; `None` for a file in the working directory.
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
    made.map_err(|error| StoreError::Settings(format!("cannot create the folder {}: {error}", folder.display())))
}
