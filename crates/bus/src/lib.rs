//! How events travel, and how a state change and its event stay together.
//!
//! - [`Bus`]: the port; adapters for Kafka and for the embedded journal, opened by URL with [`open`].
//! - [`consume`]: consumer groups with retry and dead letters; readers that see every record.
//! - [`delivery`]: how long a notice takes to each point of its way.
//! - [`relay`]: publishes the outbox rows that transactions have committed.
//! - [`refresh`]: follows the config service.

mod acls;
pub mod consume;
mod dead_letter;
mod declared;
pub mod delivery;
mod journal;
#[cfg(feature = "kafka")]
mod kafka;
mod metrics;
mod names;
mod open;
mod port;
pub mod refresh;
pub mod relay;

pub use acls::{Acl, Operation, Pattern, ResourceKind, acls_of};
pub use declared::{Declared, declared};
#[cfg(feature = "kafka")]
pub use kafka::{Comparison, Difference, State, compare};
pub use open::{open, open_in_fleet};
pub use port::{Bus, BusError, Member, Reader, Start};
