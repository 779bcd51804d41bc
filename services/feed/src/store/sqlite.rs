//! The statements that differ on `SQLite`.

#[path = "sql.rs"]
mod sql;

use sosohappy_store::sqlite as engine;
use sqlx::migrate::Migrator;

#[cfg(test)]
pub(super) use sql::first_release::serve_first_release;
pub(super) use sql::open;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// The id of the row that was inserted.
fn last_id(done: &sqlx::sqlite::SqliteQueryResult) -> i64 {
    done.last_insert_rowid()
}

const ADD_TO_PAIR: &str = " ON CONFLICT (one, other) DO UPDATE SET \
    happiness = category_pair.happiness + excluded.happiness, posts = category_pair.posts + excluded.posts";

/// The prefix of a list of rows that a row is looked up in.
const ROWS: &str = "VALUES ";

/// The prefix of a statement whose plan is asked for.
#[cfg(test)]
const EXPLAIN: &str = "EXPLAIN QUERY PLAN ";

/// One step of a plan.
#[cfg(test)]
fn plan_step(row: &sqlx::sqlite::SqliteRow) -> String {
    use sqlx::Row as _;
    row.get("detail")
}
