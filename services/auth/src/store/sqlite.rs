//! `SQLite`: a write transaction locks the database, so rows need no lock of their own.

use sosohappy_store::sqlite as engine;
use sqlx::migrate::Migrator;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

#[path = "sql.rs"]
mod sql;

pub use sql::open;
