//! `MySQL` and `MariaDB`.

use sosohappy_store::mysql as engine;
use sqlx::migrate::Migrator;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/mysql");

fn last_id(done: &sqlx::mysql::MySqlQueryResult) -> i64 {
    i64::try_from(done.last_insert_id()).unwrap_or(i64::MAX)
}

#[path = "sql.rs"]
#[expect(clippy::duplicate_mod, reason = "one text, compiled for both engines")]
mod sql;

pub use sql::open;
