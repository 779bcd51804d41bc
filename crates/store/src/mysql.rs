//! `MySQL` and `MariaDB`: the same items as [`crate::sqlite`].

pub type Engine = sqlx::MySql;
pub type Pool = sqlx::Pool<Engine>;
pub type Tx = sqlx::Transaction<'static, Engine>;

/// Locks the rows a SELECT reads until the transaction ends; empty where a write transaction locks the database.
pub const FOR_UPDATE: &str = " FOR UPDATE";

/// Like [`FOR_UPDATE`], but skips rows that another transaction has locked.
pub const SKIP_LOCKED: &str = " FOR UPDATE SKIP LOCKED";

mod connect;
mod dialect;
mod eraser;
#[path = "sql.rs"]
#[expect(clippy::duplicate_mod, reason = "one text, compiled for both engines")]
mod sql;

pub use crate::Timer;
pub use eraser::note_erasure;
pub use sql::{
    Database, directory, enqueue, enqueue_all, erased_accounts, first_time, timers::clear_timer, timers::set_timer,
    timers::take_timer,
};
