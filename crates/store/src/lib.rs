//! The engines behind the services: `SQLite` and `MySQL` on native pools, `MongoDB` on its driver, and what every
//! service keeps there: outbox, inbox, leases, timers, the directory of accounts, presence of sockets.
//!
//! [`sqlite`] and [`mysql`] have the same items, so that a service writes its statements once (`store/sql.rs`) and
//! compiles them for both. Their statements may say `||` and `"name"`, and strings know no backslash escapes: both
//! engines are set up to agree on that. `LIKE` needs an `ESCAPE` to mean the same. Times in tables are milliseconds
//! since the epoch. A service with migrations has a `build.rs` that says so, as this crate has.
//!
//! A uniqueness rule that a service wants to tell from others is a named unique index called
//! `<table>_<column>[_<column>…]`; see [`StoreError::Conflict`].

pub mod directory;
pub mod outbox;
pub mod presence;

pub mod mongo;
pub mod mysql;
pub mod sqlite;

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
pub use presence::Presence;
pub use retry::{Transient, retrying};
pub use timer::{DueTimer, Timer};
