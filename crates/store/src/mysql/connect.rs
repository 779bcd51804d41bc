//! Opens the pool, after the database and its tables are there.

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

/// Errors instead of silent changes, and the same text means the same as in `SQLite`: `||` joins strings, `"name"` is
/// an identifier, a backslash is a backslash. READ COMMITTED locks rows, not gaps.
const SESSION: &str = "
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION innodb_lock_wait_timeout = 5,
        SESSION sql_mode = 'STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,\
NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION,PIPES_AS_CONCAT,ANSI_QUOTES,NO_BACKSLASH_ESCAPES'";

/// How long to wait for a connection of the pool.
const ACQUIRE: Duration = Duration::from_secs(10);

/// A connection that was used less long ago is not tested before use.
const FRESH: Duration = Duration::from_secs(1);

/// How long a connection that comes back may take to come to the end of what it was asked. A statement whose caller went away while
/// it was being prepared never does: sqlx takes the packets that follow for those of another answer.
const SETTLE: Duration = Duration::from_secs(1);

/// Seconds to wait for another replica that migrates.
const MIGRATION_LOCK_TIMEOUT: i64 = 300;

#[derive(Debug)]
pub(super) struct Pools {
    pub writer: Pool,
    pub reader: Pool,
    /// None: the server has a disk of its own.
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

        let pool = PoolOptions::<Engine>::new()
            .max_connections(connections.max(1))
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(|connection: &mut sqlx::MySqlConnection, meta| {
                Box::pin(async move { Ok(meta.idle_for < FRESH || connection.ping().await.is_ok()) })
            })
            .after_connect(|connection, _| Box::pin(set_session(connection)))
            .after_release(|connection, _| Box::pin(settle(connection)))
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
        // On a task, which goes on when the caller goes away: sqlx rolls back only what it has seen begin, and would put a connection
        // with an open transaction back into the pool. What is written on it later would not be committed.
        match tokio::spawn(Tx::begin(connection, None)).await {
            Ok(begun) => begun,
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            Err(_) => Err(sqlx::Error::PoolClosed),
        }
    }

    /// For metrics; the second says whether write transactions wait for it.
    pub(super) fn labelled(&self) -> [(&'static str, &Pool, bool); 1] {
        [("mysql", &self.writer, true)]
    }

    pub(super) async fn close(&self) {
        self.writer.close().await;
    }
}

/// sqlx checks a certificate authority with the provider of the process, and panics where rustls cannot tell which: more than one is
/// built in.
fn choose_cryptography() {
    // Refused if there is one already, which is as good.
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
    // The session's own mode is set as a whole.
    Ok(options.pipes_as_concat(false).no_engine_substitution(false))
}

async fn set_session(connection: &mut MySqlConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(SESSION).execute(connection).await?;
    Ok(())
}

/// Whether a connection is at the end of what it was asked; one that is not is closed, which ends its transaction too.
async fn settle(connection: &mut MySqlConnection) -> sqlx::Result<bool> {
    if let Ok(settled) = tokio::time::timeout(SETTLE, connection.flush()).await {
        settled?;
        return Ok(true);
    }
    tracing::debug!("connection abandoned during a query; closing it");
    Ok(false)
}

/// Makes the database of the URL only if it is missing: an account that may not create one can still use its own.
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

/// One replica at a time. The lock is the connection's and goes with it.
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
    // `run` asks for more than a connection, and makes the caller's future not `Send`.
    migrations.run_direct(None, &mut *connection, false).await?;
    Ok(())
}

const UNKNOWN_DATABASE: u16 = 1049;

/// Column or key or table exists, or (to be dropped) does not; a foreign key of that name exists.
const ALREADY_DONE: [u16; 6] = [1050, 1051, 1060, 1061, 1091, 1826];

/// A change of a table commits at once. A process that was killed around one leaves its migration marked as begun,
/// and sqlx would refuse it for good. A migration here is one statement, which the engine does as a whole or not at
/// all: it is done again, and that it was done already is no error.
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
