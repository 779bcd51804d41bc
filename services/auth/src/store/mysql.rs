//! `MySQL` and `MariaDB`.

use sosohappy_store::mysql as engine;
use sqlx::migrate::Migrator;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/mysql");

#[path = "sql.rs"]
#[expect(clippy::duplicate_mod, reason = "one text, compiled for both engines")]
mod sql;

pub use sql::open;
