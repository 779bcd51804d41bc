//! What a store could not do, and how the engines' own errors sort into it.

use mongodb::error::{ErrorKind, TRANSIENT_TRANSACTION_ERROR, WriteFailure};
use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;

/// The name of a primary key in [`StoreError::Conflict`], on the SQL engines.
pub const PRIMARY: &str = "PRIMARY";

/// What a store could not do. Causes are logged, never shown to a client.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL cannot be used, and why; never the URL.
    #[error("the URL of the database: {0}")]
    Settings(String),
    /// A uniqueness rule of the database said no: `<table>_<column>[_<column>…]`, the same on both SQL engines if the
    /// unique index is named so, and `PRIMARY` for a primary key. On `MongoDB` the name of the index.
    #[error("conflicts with {0}")]
    Conflict(String),
    /// A value that the database can never take: too long, null where that is not allowed, against a check or a foreign
    /// key.
    #[error("does not fit the database")]
    Unfit(#[source] anyhow::Error),
    /// A deadlock or a busy lock; the whole transaction may be tried again.
    #[error("the transaction was rolled back by the database")]
    Retry(#[source] anyhow::Error),
    #[error("the database failed: {0}")]
    Failed(anyhow::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return Self::Failed(error.into());
        };
        if database.is_unique_violation() {
            return Self::Conflict(rule(database));
        }
        if rolled_back(database) {
            return Self::Retry(error.into());
        }
        if database.is_check_violation() || database.is_foreign_key_violation() || unfit(database) {
            return Self::Unfit(error.into());
        }
        Self::Failed(error.into())
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<mongodb::error::Error> for StoreError {
    fn from(error: mongodb::error::Error) -> Self {
        const DUPLICATE_KEY: i32 = 11000;
        const WRITE_CONFLICT: i32 = 112;
        const VALIDATION_FAILED: i32 = 121;

        let (code, message) = match error.kind.as_ref() {
            ErrorKind::Write(WriteFailure::WriteError(write)) => (write.code, write.message.as_str()),
            ErrorKind::Command(command) => (command.code, command.message.as_str()),
            ErrorKind::InsertMany(many) => match many.write_errors.as_deref() {
                Some([first, ..]) => (first.code, first.message.as_str()),
                _ => (0, ""),
            },
            _ => (0, ""),
        };
        match code {
            DUPLICATE_KEY => Self::Conflict(mongo_index(message).to_owned()),
            VALIDATION_FAILED => Self::Unfit(error.into()),
            _ if code == WRITE_CONFLICT || error.contains_label(TRANSIENT_TRANSACTION_ERROR) => {
                Self::Retry(error.into())
            }
            _ => Self::Failed(error.into()),
        }
    }
}

/// The name of the rule that a row broke. The message also holds the row's values, which must not reach a log.
fn rule(error: &dyn DatabaseError) -> String {
    match error.try_downcast_ref::<MySqlDatabaseError>() {
        Some(error) => mysql_rule(error.message()),
        None if error.code().as_deref() == Some("1555") => PRIMARY.to_owned(),
        None => sqlite_rule(error.message()),
    }
}

/// `Duplicate entry '…' for key 'name'`; `MySQL` 8 puts the table before the name.
fn mysql_rule(message: &str) -> String {
    let name = message
        .rsplit_once("for key '")
        .map_or("", |(_, name)| name.trim_end_matches('\''));
    name.rsplit_once('.').map_or(name, |(_, name)| name).to_owned()
}

/// `UNIQUE constraint failed: table.one, table.two`, or `index 'name'` when it is over an expression.
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

/// `E11000 duplicate key error collection: db.posts index: name dup key: {…}`.
fn mongo_index(message: &str) -> &str {
    let name = message.split_once("index: ").map_or("", |(_, rest)| rest);
    name.split_ascii_whitespace().next().unwrap_or_default()
}

fn rolled_back(error: &dyn DatabaseError) -> bool {
    const LOCK_WAIT_TIMEOUT: u16 = 1205;
    const DEADLOCK: u16 = 1213;
    // MariaDB: the row changed after the transaction's snapshot.
    const CHECKREAD: u16 = 1020;

    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        return matches!(error.number(), LOCK_WAIT_TIMEOUT | DEADLOCK | CHECKREAD);
    }
    // The low byte of an extended result code of SQLite is the code itself: 5 busy, 6 locked.
    let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(0);
    matches!(code & 0xff, 5 | 6)
}

fn unfit(error: &dyn DatabaseError) -> bool {
    const OUT_OF_RANGE: u16 = 1264;
    const INCORRECT_VALUE: u16 = 1366;
    const DATA_TOO_LONG: u16 = 1406;

    if matches!(error.kind(), sqlx::error::ErrorKind::NotNullViolation) {
        return true;
    }
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        return matches!(error.number(), OUT_OF_RANGE | INCORRECT_VALUE | DATA_TOO_LONG);
    }
    // SQLite: too big (18), and a value of the wrong type in a strict table (3091).
    matches!(error.code().as_deref(), Some("18" | "3091"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_one_name_on_all_servers() {
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
    fn a_conflict_tells_no_values() {
        let conflict = StoreError::Conflict(mysql_rule("Duplicate entry 'kim@example.com' for key 'account_email'"));
        assert!(!format!("{conflict} {conflict:?}").contains("kim"));
    }
}
