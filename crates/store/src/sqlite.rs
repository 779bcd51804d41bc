//! `SQLite`: the same items as [`crate::mysql`].

pub type Engine = sqlx::Sqlite;
pub type Pool = sqlx::Pool<Engine>;
pub type Tx = sqlx::Transaction<'static, Engine>;

/// Locks the rows a SELECT reads until the transaction ends; empty where a write transaction locks the database.
pub const FOR_UPDATE: &str = "";

/// Like [`FOR_UPDATE`], but skips rows that another transaction has locked.
pub const SKIP_LOCKED: &str = "";

mod connect;
mod dialect;
mod eraser;
#[path = "sql.rs"]
mod sql;

pub use crate::Timer;
pub use eraser::note_erasure;
pub use sql::{
    Database, directory, enqueue, enqueue_all, erased_accounts, first_time, timers::clear_timer, timers::set_timer,
    timers::take_timer,
};
