//! The database engines of the services: `SQLite` and `MySQL` on native pools, `MongoDB` on its driver, and the tables that every
//! service has: outbox, inbox, leases, timers, the directory of accounts.
//!
//! [`sqlite`] and [`mysql`] have the same items, so that a service writes its statements once (`store/sql.rs`) and
//! compiles them for both. Their statements may use `||` and `"name"`, and strings have no backslash escapes: both
//! engines are configured alike. `LIKE` needs an `ESCAPE` to mean the same. Times in tables are milliseconds
//! since the epoch. A service with migrations needs a `build.rs` like that of this crate.
//!
//! A uniqueness rule that a service has to recognize is a unique index named
//! `<table>_<column>[_<column>…]`; see [`StoreError::Conflict`].

pub mod directory;
pub mod outbox;

pub mod mongo;
pub mod mysql;
pub mod sqlite;

mod clock_difference;
mod error;
mod health;
mod migrations;
mod pool_metrics;
mod retry;
mod sweeper;
mod time;
mod timer;

pub use directory::Directory;
pub use error::{PRIMARY, StoreError};
pub use health::{Ping, check_database};
pub use migrations::FIRST_OF_SERVICE;
pub use retry::{Transient, patiently, retrying};
pub use timer::{DueTimer, Timer};
