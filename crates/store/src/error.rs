//! The error of all stores, and the mapping of the engines' errors to it.

use std::fmt::Display;

use mongodb::error::{ErrorKind, TRANSIENT_TRANSACTION_ERROR, WriteFailure};
use sosohappy_common::Problem;
use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;

/// The name of a primary key in [`StoreError::Conflict`], on the SQL engines.
pub const PRIMARY: &str = "PRIMARY";

/// The error of a store. Causes are logged, never shown to a client.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL or the credentials are invalid; holds the reason, never the URL.
    #[error("the URL of the database: {0}")]
    Settings(String),
    /// A unique index of the database was violated: holds its name, `<table>_<column>[_<column>…]`, the same on both SQL engines if the
    /// index is named so, and [`PRIMARY`] for a primary key; on `MongoDB` the name of the index. Callers compare the name: a
    /// violation that they did not expect is an error.
    #[error("conflicts with {0}")]
    Conflict(String),
    /// A value that the database never accepts: too long, null in a `NOT NULL` column, a violated check or foreign key.
    #[error("invalid for the database")]
    Invalid(#[source] anyhow::Error),
    /// A deadlock or a busy lock; the whole transaction may be retried.
    #[error("the transaction was rolled back by the database")]
    Retry(#[source] anyhow::Error),
    /// The database does not answer, or refuses all work for now: connection, pool, disk, shutdown.
    #[error("database unavailable: {0}")]
    Unavailable(anyhow::Error),
    /// Stored data cannot be decoded, or a statement does not match the schema. A retry does not help: an operator is needed.
    #[error("stored data or statement corrupt: {0}")]
    Corrupt(anyhow::Error),
}

impl StoreError {
    /// Creates the error of a stored value that cannot be decoded. The message is logged: no personal data.
    pub fn corrupt(what: impl Display) -> Self {
        Self::Corrupt(anyhow::anyhow!("{what}"))
    }

    /// Turns a conflict with one of these unique indexes into [`Self::Retry`]: a concurrent transaction has inserted the row since this
    /// one looked for it, and a retry of the transaction finds it.
    #[must_use]
    pub fn retry_if_taken(self, expected: &[&str]) -> Self {
        match self {
            Self::Conflict(rule) if expected.contains(&rule.as_str()) => {
                Self::Retry(anyhow::anyhow!("conflicts with {rule}"))
            }
            other => other,
        }
    }

    /// Returns the kind of the error, as a label of metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Settings(_) => "settings",
            Self::Conflict(_) => "conflict",
            Self::Invalid(_) => "invalid",
            Self::Retry(_) => "retry",
            Self::Unavailable(_) => "unavailable",
            Self::Corrupt(_) => "corrupt",
        }
    }
}

/// Logs the error and answers without its cause: 503 when the same request may succeed later, else 500.
impl From<&StoreError> for Problem {
    fn from(error: &StoreError) -> Self {
        let kind = error.kind();
        let cause = error as &dyn std::error::Error;
        match error {
            // After as many retries as do not delay other requests.
            StoreError::Retry(_) => {
                tracing::warn!(error = cause, kind, "database transaction rolled back too often");
                Self::unavailable()
            }
            StoreError::Unavailable(_) => {
                tracing::error!(error = cause, kind, "database unavailable");
                Self::unavailable()
            }
            StoreError::Settings(_) | StoreError::Conflict(_) | StoreError::Invalid(_) | StoreError::Corrupt(_) => {
                tracing::error!(error = cause, kind, "database request failed");
                Self::internal()
            }
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;

        match &error {
            E::Database(database) => of_database(database.as_ref()).into_error(error),
            E::Configuration(cause) => Self::Settings(cause.to_string()),
            // A protocol error is a connection that lost its synchronization; the pool replaces it.
            E::Io(_)
            | E::Tls(_)
            | E::Protocol(_)
            | E::PoolTimedOut
            | E::PoolClosed
            | E::WorkerCrashed
            | E::BeginFailed => Self::Unavailable(error.into()),
            E::Encode(_) => Self::Invalid(error.into()),
            E::Migrate(_) => match error {
                E::Migrate(migration) => (*migration).into(),
                other => Self::Corrupt(other.into()),
            },
            // Columns, types and rows that do not match the statement.
            _ => Self::Corrupt(error.into()),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError as E;

        match error {
            E::Execute(cause) => cause.into(),
            E::ExecuteMigration(cause, version) => match Self::from(cause) {
                Self::Corrupt(cause) => Self::Corrupt(cause.context(format!("migration {version}"))),
                other => other,
            },
            other => Self::Corrupt(other.into()),
        }
    }
}

/// The kinds of error that a code of an engine may mean.
pub(crate) enum Kind {
    Conflict(String),
    Invalid,
    Retry,
    Unavailable,
    Settings,
    Corrupt,
}

impl Kind {
    pub(crate) fn into_error(self, error: impl Into<anyhow::Error> + Display) -> StoreError {
        match self {
            Self::Conflict(rule) => StoreError::Conflict(rule),
            Self::Invalid => StoreError::Invalid(error.into()),
            Self::Retry => StoreError::Retry(error.into()),
            Self::Unavailable => StoreError::Unavailable(error.into()),
            Self::Settings => StoreError::Settings(error.to_string()),
            Self::Corrupt => StoreError::Corrupt(error.into()),
        }
    }
}

fn of_database(error: &dyn DatabaseError) -> Kind {
    if error.is_unique_violation() {
        return Kind::Conflict(rule(error));
    }
    if error.is_check_violation()
        || error.is_foreign_key_violation()
        || matches!(error.kind(), sqlx::error::ErrorKind::NotNullViolation)
    {
        return Kind::Invalid;
    }
    match error.try_downcast_ref::<MySqlDatabaseError>() {
        Some(error) => of_mysql(error.number()),
        None => of_sqlite(error.code().and_then(|code| code.parse().ok()).unwrap_or(0)),
    }
}

/// Codes of <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html> and
/// <https://mariadb.com/kb/en/mariadb-error-code-reference/>.
fn of_mysql(number: u16) -> Kind {
    match number {
        // Lock wait timeout, deadlock, lock not free, and MariaDB's row that changed after the transaction's snapshot.
        1205 | 1213 | 1020 | 3572 => Kind::Retry,
        // Out of range, incorrect value, data too long.
        1264 | 1366 | 1406 => Kind::Invalid,
        // Credentials and privileges.
        1044 | 1045 | 1142 | 1143 | 1698 => Kind::Settings,
        // Disk full, error on reading or writing, out of memory, table full.
        1021 | 1024 | 1026 | 1030 | 1037 | 1038 | 1041 | 1114 | 1135 | 1180
        // Too many connections, by server, account and resource.
        | 1040 | 1129 | 1203 | 1226
        // Shutting down; connection or statement killed.
        | 1053 | 1077 | 1079 | 1152 | 1184 | 1317 | 1927 | 1969 | 3024 | 3169 | 4031
        // Packets lost on the network.
        | 1158..=1161
        // Read-only, as a replica or a server under maintenance is; a Galera node that is not ready.
        | 1290 | 1792 | 1836 | 1047 => Kind::Unavailable,
        _ => Kind::Corrupt,
    }
}

/// Codes of <https://www.sqlite.org/rescode.html>. The low byte of an extended code is the code itself.
fn of_sqlite(code: u32) -> Kind {
    // A value of the wrong type in a strict table.
    const DATATYPE: u32 = 3091;

    match code & 0xff {
        _ if code == DATATYPE => Kind::Invalid,
        // Busy, locked, a schema that changed under a statement.
        5 | 6 | 17 => Kind::Retry,
        // Too big.
        18 => Kind::Invalid,
        // No permission, out of memory, read-only, interrupted, I/O error, disk full, cannot open, locking protocol.
        3 | 7 | 8 | 9 | 10 | 13 | 14 | 15 => Kind::Unavailable,
        _ => Kind::Corrupt,
    }
}

impl From<mongodb::error::Error> for StoreError {
    fn from(error: mongodb::error::Error) -> Self {
        let kind = match error.kind.as_ref() {
            ErrorKind::Write(WriteFailure::WriteError(write)) => of_mongodb(write.code, &write.message),
            ErrorKind::Command(command) => of_mongodb(command.code, &command.message),
            ErrorKind::InsertMany(many) => match many.write_errors.as_deref() {
                Some([first, ..]) => of_mongodb(first.code, &first.message),
                _ => Kind::Unavailable,
            },
            // A write concern that was not met: written, but on too few servers.
            ErrorKind::Write(_)
            | ErrorKind::Io(_)
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::DnsResolve { .. }
            | ErrorKind::ServerSelection { .. }
            | ErrorKind::Shutdown => Kind::Unavailable,
            ErrorKind::Authentication { .. } | ErrorKind::InvalidTlsConfig { .. } => Kind::Settings,
            ErrorKind::BsonSerialization(_) => Kind::Invalid,
            _ => Kind::Corrupt,
        };
        match kind {
            Kind::Unavailable | Kind::Corrupt if error.contains_label(TRANSIENT_TRANSACTION_ERROR) => {
                Self::Retry(error.into())
            }
            kind => kind.into_error(error),
        }
    }
}

/// Codes of <https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml>.
pub(crate) fn of_mongodb(code: i32, message: &str) -> Kind {
    match code {
        11000 => Kind::Conflict(mongo_index(message).to_owned()),
        // Lock timeout, cursor not found, write conflict.
        24 | 43 | 112 => Kind::Retry,
        // Validation failed, object too large.
        121 | 10334 => Kind::Invalid,
        // Unauthorized, authentication failed.
        13 | 18 => Kind::Settings,
        // Hosts that cannot be reached, timeouts.
        6 | 7 | 50 | 89 | 202 | 262 | 9001
        // No primary, stepping down, shutting down, interrupted.
        | 91 | 133 | 134 | 189 | 10107 | 11600 | 11601 | 11602 | 13435 | 13436
        // Write concern not met, disk full.
        | 64 | 79 | 100 | 14031 => Kind::Unavailable,
        _ => Kind::Corrupt,
    }
}

/// Returns the name of the violated unique index. The message itself also holds the row's values, which must not reach a log.
fn rule(error: &dyn DatabaseError) -> String {
    match error.try_downcast_ref::<MySqlDatabaseError>() {
        Some(error) => mysql_rule(error.message()),
        None if error.code().as_deref() == Some("1555") => PRIMARY.to_owned(),
        None => sqlite_rule(error.message()),
    }
}

/// Reads `Duplicate entry '…' for key 'name'`; `MySQL` 8 puts the table before the name.
fn mysql_rule(message: &str) -> String {
    let name = message
        .rsplit_once("for key '")
        .map_or("", |(_, name)| name.trim_end_matches('\''));
    name.rsplit_once('.').map_or(name, |(_, name)| name).to_owned()
}

/// Reads `UNIQUE constraint failed: table.one, table.two`, or `index 'name'` when it is over an expression.
fn sqlite_rule(message: &str) -> String {
    let columns = message
        .rsplit_once("constraint failed: ")
        .map_or("", |(_, columns)| columns);
    if let Some(index) = columns.strip_prefix("index '") {
        return index.trim_end_matches('\'').to_owned();
    }
    let mut name = String::new();
    for column in columns.split(", ") {
        match column.split_once('.') {
            Some((table, column)) if name.is_empty() => name = format!("{table}_{column}"),
            Some((_, column)) => name = format!("{name}_{column}"),
            None => {}
        }
    }
    name
}

/// Reads `E11000 duplicate key error collection: db.posts index: name dup key: {…}`.
fn mongo_index(message: &str) -> &str {
    let name = message.split_once("index: ").map_or("", |(_, rest)| rest);
    name.split_ascii_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_index_has_one_name_on_all_servers() {
        assert_eq!(
            mysql_rule("Duplicate entry 'a.b-20230101' for key 'post_account_day'"),
            "post_account_day"
        );
        assert_eq!(
            mysql_rule("Duplicate entry 'for key 'x'' for key 'post.post_account_day'"),
            "post_account_day"
        );
        assert_eq!(mysql_rule("Duplicate entry 'a' for key 'post.PRIMARY'"), "PRIMARY");
        assert_eq!(
            sqlite_rule("UNIQUE constraint failed: post.account, post.day"),
            "post_account_day"
        );
        assert_eq!(
            sqlite_rule("UNIQUE constraint failed: index 'post_account_day'"),
            "post_account_day"
        );
        let message = "E11000 duplicate key error collection: db.c index: c_event_id dup key: { event_id: \"x\" }";
        assert_eq!(mongo_index(message), "c_event_id");
    }

    #[test]
    fn only_an_error_that_may_pass_is_503() {
        let cause = || anyhow::anyhow!("kim@example.com");
        let cases = [
            (StoreError::Unavailable(cause()), 503),
            (StoreError::Retry(cause()), 503),
            (StoreError::Conflict("post_account_day".to_owned()), 500),
            (StoreError::Invalid(cause()), 500),
            (StoreError::Corrupt(cause()), 500),
            (StoreError::Settings("no host".to_owned()), 500),
        ];
        for (error, status) in cases {
            let problem = Problem::from(&error);
            assert_eq!(problem.status().as_u16(), status, "{error:?}");
            assert!(!format!("{problem:?}").contains("kim"), "{error:?}");
        }
    }

    #[test]
    fn only_an_expected_conflict_is_retried() {
        let conflict = || StoreError::Conflict(PRIMARY.to_owned());
        assert_eq!(conflict().retry_if_taken(&[PRIMARY]).kind(), "retry");
        assert_eq!(conflict().retry_if_taken(&["post_account_day"]).kind(), "conflict");
    }

    #[test]
    fn a_conflict_holds_no_values() {
        let conflict = StoreError::Conflict(mysql_rule("Duplicate entry 'kim@example.com' for key 'account_email'"));
        assert!(!format!("{conflict} {conflict:?}").contains("kim"));
    }

    #[test]
    fn every_error_of_the_driver_has_a_kind() {
        use sqlx::Error as E;
        let decode = || Box::<dyn std::error::Error + Send + Sync>::from("not a number");
        let cases = [
            (E::PoolTimedOut, "unavailable"),
            (E::PoolClosed, "unavailable"),
            (E::Io(std::io::ErrorKind::ConnectionReset.into()), "unavailable"),
            (E::ColumnNotFound("x".to_owned()), "corrupt"),
            (E::Decode(decode()), "corrupt"),
            (E::RowNotFound, "corrupt"),
            (E::Encode(decode()), "invalid"),
            (E::Configuration(decode()), "settings"),
        ];
        for (error, kind) in cases {
            let said = error.to_string();
            assert_eq!(StoreError::from(error).kind(), kind, "{said}");
        }
        let number = |number| of_mysql(number).into_error(E::RowNotFound).kind();
        assert_eq!([1053, 1040, 1114, 1927].map(number), ["unavailable"; 4]);
        assert_eq!([1054, 1064, 1146].map(number), ["corrupt"; 3]);
        assert_eq!([1205, 1213].map(number), ["retry"; 2]);
        let code = |code| of_sqlite(code).into_error(E::RowNotFound).kind();
        assert_eq!([13, 10, 266, 14].map(code), ["unavailable"; 4]);
        assert_eq!([1, 11, 26].map(code), ["corrupt"; 3]);
        assert_eq!([5, 517, 6].map(code), ["retry"; 3]);
        let server = |code| of_mongodb(code, "").into_error(E::RowNotFound).kind();
        assert_eq!([91, 189, 10107, 14031].map(server), ["unavailable"; 4]);
        assert_eq!([2, 59, 9].map(server), ["corrupt"; 3]);
    }
}
