//! The statements that differ on `MySQL`.

#[expect(clippy::duplicate_mod, reason = "one text, compiled for both engines")]
#[path = "sql.rs"]
mod sql;

use sosohappy_store::mysql as engine;
use sqlx::migrate::Migrator;

#[cfg(test)]
pub(super) use sql::first_release::serve_first_release;
pub(super) use sql::open;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/mysql");

/// The id of the row that was inserted.
fn last_id(done: &sqlx::mysql::MySqlQueryResult) -> i64 {
    i64::try_from(done.last_insert_id()).unwrap_or(i64::MAX)
}

const ADD_TO_PAIR: &str =
    " ON DUPLICATE KEY UPDATE happiness = happiness + VALUES(happiness), posts = posts + VALUES(posts)";

/// The prefix of a list of rows that a row is looked up in.
const ROWS: &str = "";

/// The prefix of a statement whose plan is asked for.
#[cfg(test)]
const EXPLAIN: &str = "EXPLAIN ";

/// `table type key extra` of one step of a plan.
#[cfg(test)]
fn plan_step(row: &sqlx::mysql::MySqlRow) -> String {
    use sqlx::Row as _;
    let column = |name: &str| {
        row.try_get_unchecked::<Option<String>, _>(name)
            .expect("EXPLAIN has it")
    };
    let columns = ["table", "type", "key", "Extra"].map(|name| column(name).unwrap_or_default());
    columns.join(" ")
}
