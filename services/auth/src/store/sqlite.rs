//! `SQLite`: a write transaction locks the database, so rows need no lock of their own.

use sosohappy_store::sqlite as engine;
use sqlx::migrate::Migrator;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

fn last_id(done: &sqlx::sqlite::SqliteQueryResult) -> i64 {
    done.last_insert_rowid()
}

#[path = "sql.rs"]
mod sql;

pub use sql::open;
