//! Creates the database and its tables where they are missing, and opens the pool.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use sosohappy_common::settings::SecretUrl;
use sqlx::migrate::{Migrate as _, Migrator};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError};
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio_rustls::rustls::crypto;
use url::Url;

use super::{Engine, Pool, Tx};
use crate::{StoreError, migrations, retry};

static SHARED: Migrator = sqlx::migrate!("migrations/mysql");

/// Makes invalid values errors instead of changing them silently, and statements mean the same as in `SQLite`: `||` joins strings,
/// `"name"` is an identifier, a backslash is a backslash. READ COMMITTED locks rows, not gaps.
const SESSION: &str = "
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION innodb_lock_wait_timeout = 5,
        SESSION sql_mode = 'STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,\
NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION,PIPES_AS_CONCAT,ANSI_QUOTES,NO_BACKSLASH_ESCAPES'";

/// How long to wait for a connection of the pool.
const ACQUIRE: Duration = Duration::from_secs(10);

/// Connections that were idle for a shorter time are not tested before use.
const FRESH: Duration = Duration::from_secs(1);

/// How long such a test may take. A server that has gone without closing its connections does not answer, and each idle connection to it
/// would use up [`ACQUIRE`].
const TEST: Duration = Duration::from_secs(2);

/// How long a returned connection may take to finish its last statement. A statement that was cancelled while it was being prepared never
/// finishes: sqlx would take its packets for those of the next answer.
const SETTLE: Duration = Duration::from_secs(1);

/// How often a connection that has not finished is to be replaced, until its server is available again. In its place: sqlx would end it itself, and
/// wait there for the server if the connection has TLS, for a quarter of an hour if the server has gone, and its place in the pool with it.
const REPLACEMENTS: u32 = 20;

/// Seconds to wait for the migrations of another replica.
const MIGRATION_LOCK_TIMEOUT: i64 = 300;

#[derive(Debug)]
pub(super) struct Pools {
    pub writer: Pool,
    pub reader: Pool,
    /// Always `None`: the disk is the server's.
    pub folder: Option<PathBuf>,
}

impl Pools {
    pub(super) async fn open(url: &SecretUrl, connections: u32, migrations: &Migrator) -> Result<Self, StoreError> {
        choose_cryptography();
        let options = options(url)?;
        let migrations = migrations::together(&SHARED, migrations)?;
        retry::patiently(|| async {
            let mut connection = connect_or_create(url, &options).await?;
            migrate(&mut connection, &migrations).await?;
            Ok(connection.close().await?)
        })
        .await?;

        let [tested, settled] = [options.clone(), options.clone()];
        let pool = PoolOptions::<Engine>::new()
            .max_connections(connections.max(1))
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(move |connection: &mut MySqlConnection, meta| {
                let options = tested.clone();
                Box::pin(async move {
                    if meta.idle_for >= FRESH && !answers(connection).await {
                        *connection = connect(&options).await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(|connection, _| Box::pin(set_session(connection)))
            .after_release(move |connection: &mut MySqlConnection, _| {
                let options = settled.clone();
                Box::pin(async move { settle(connection, &options).await })
            })
            .connect_with(options)
            .await?;
        Ok(Self {
            writer: pool.clone(),
            reader: pool,
            folder: None,
        })
    }

    pub(super) async fn begin(&self) -> sqlx::Result<Tx> {
        let connection = self.writer.acquire().await?;
        // On a task of its own, which finishes when the caller is cancelled: sqlx rolls back only a transaction that it has seen begin.
        // Otherwise a connection with an open transaction would return to the pool, and later writes on it would not be committed.
        match tokio::spawn(Tx::begin(connection, None)).await {
            Ok(begun) => begun,
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            Err(_) => Err(sqlx::Error::PoolClosed),
        }
    }

    /// Returns the pools by label, for metrics, and whether write transactions wait for the pool.
    pub(super) fn labelled(&self) -> [(&'static str, &Pool, bool); 1] {
        [("mysql", &self.writer, true)]
    }

    pub(super) async fn close(&self) {
        self.writer.close().await;
    }
}

/// Installs the crypto provider of the process, with which sqlx checks certificates: it panics while rustls cannot choose one of several.
fn choose_cryptography() {
    // Fails if a provider is installed already, which serves as well.
    let _ = crypto::ring::default_provider().install_default();
}

fn options(url: &SecretUrl) -> Result<MySqlConnectOptions, StoreError> {
    let options: MySqlConnectOptions = url
        .expose()
        .parse()
        .map_err(|error: sqlx::Error| StoreError::Settings(error.to_string()))?;
    if url.scheme() != "mysql" || options.get_database().is_none_or(str::is_empty) {
        return Err(StoreError::Settings(
            "expected mysql://user:password@host:port/database".to_owned(),
        ));
    }
    // The mode of the session is set as a whole: modes of the server do not apply.
    Ok(options.pipes_as_concat(false).no_engine_substitution(false))
}

/// Returns whether the server answers in time.
async fn answers(connection: &mut MySqlConnection) -> bool {
    let answered = tokio::time::timeout(TEST, connection.ping()).await;
    matches!(answered, Ok(Ok(())))
}

async fn connect(options: &MySqlConnectOptions) -> sqlx::Result<MySqlConnection> {
    let mut connection = options.connect().await?;
    set_session(&mut connection).await?;
    Ok(connection)
}

async fn set_session(connection: &mut MySqlConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(SESSION).execute(connection).await?;
    Ok(())
}

/// Returns whether a connection has finished its last statement, or was replaced. Dropped, it rolls back its transaction.
async fn settle(connection: &mut MySqlConnection, options: &MySqlConnectOptions) -> sqlx::Result<bool> {
    if let Ok(settled) = tokio::time::timeout(SETTLE, connection.flush()).await {
        settled?;
        return Ok(true);
    }
    tracing::debug!("connection abandoned during a query; replacing it");
    for _ in 0..REPLACEMENTS {
        let Ok(Ok(replacement)) = tokio::time::timeout(TEST, connect(options)).await else {
            tokio::time::sleep(SETTLE).await;
            continue;
        };
        *connection = replacement;
        return Ok(true);
    }
    Ok(false)
}

/// Creates the database of the URL only if it is missing: an account without that privilege can still use an existing one.
async fn connect_or_create(url: &SecretUrl, options: &MySqlConnectOptions) -> Result<MySqlConnection, StoreError> {
    let mut connection = match options.connect().await {
        Ok(connection) => connection,
        Err(error) if number(&error) == Some(UNKNOWN_DATABASE) => {
            let mut server = Url::parse(url.expose()).map_err(|error| StoreError::Settings(error.to_string()))?;
            server.set_path("");
            let name = options.get_database().unwrap_or_default().replace('`', "``");
            let create = format!("CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
            let mut connection = MySqlConnectOptions::from_url(&server)?.connect().await?;
            sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
            connection.close().await?;
            options.connect().await?
        }
        Err(error) => return Err(error.into()),
    };
    set_session(&mut connection).await?;
    Ok(connection)
}

/// Migrates, one replica at a time. The lock belongs to the connection and is released with it.
async fn migrate(connection: &mut MySqlConnection, migrations: &Migrator) -> Result<(), StoreError> {
    let locked: Option<i64> = sqlx::query_scalar("SELECT GET_LOCK(CONCAT('sosohappy:', SHA1(DATABASE())), ?)")
        .bind(MIGRATION_LOCK_TIMEOUT)
        .fetch_one(&mut *connection)
        .await?;
    if locked != Some(1) {
        return Err(StoreError::Unavailable(anyhow!(
            "another replica has been migrating for {MIGRATION_LOCK_TIMEOUT} s"
        )));
    }
    finish_interrupted(connection, migrations).await?;
    // `run` would make the caller's future not `Send`.
    migrations.run_direct(None, &mut *connection, false).await?;
    Ok(())
}

const UNKNOWN_DATABASE: u16 = 1049;

/// Error codes of a repeated schema change: the column, key, table or foreign key exists already, or (to be dropped) no longer exists.
const ALREADY_DONE: [u16; 6] = [1050, 1051, 1060, 1061, 1091, 1826];

/// Repeats a migration that was interrupted. `MySQL` commits each schema change at once, so a process that is killed around one leaves its
/// migration marked as begun, which sqlx refuses from then on. A migration here is one statement, which the engine executes as a whole or
/// not at all: it is repeated, and an error that says that its change exists already is ignored.
async fn finish_interrupted(connection: &mut MySqlConnection, migrations: &Migrator) -> Result<(), StoreError> {
    connection.ensure_migrations_table("_sqlx_migrations").await?;
    let begun: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success = FALSE")
            .fetch_all(&mut *connection)
            .await?;
    for (version, checksum) in begun {
        let known = migrations.iter().find(|migration| migration.version == version);
        let Some(migration) = known.filter(|migration| *migration.checksum == *checksum) else {
            return Err(StoreError::Corrupt(anyhow!(
                "migration {version} was begun by another version of the service"
            )));
        };
        tracing::warn!(version, "migration was interrupted; running it again");
        match sqlx::raw_sql(migration.sql.clone()).execute(&mut *connection).await {
            Err(error) if !number(&error).is_some_and(|number| ALREADY_DONE.contains(&number)) => {
                return Err(error.into());
            }
            _ => {}
        }
        sqlx::query("UPDATE _sqlx_migrations SET success = TRUE WHERE version = ?")
            .bind(version)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn number(error: &sqlx::Error) -> Option<u16> {
    Some(
        error
            .as_database_error()?
            .try_downcast_ref::<MySqlDatabaseError>()?
            .number(),
    )
}
