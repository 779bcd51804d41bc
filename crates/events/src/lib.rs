//! The events of the fleet: what they are, how they travel, and how a state change and its event stay together.
//!
//! - [`types`]: one file an event, with its topic, key and encoding.
//! - [`Bus`]: the port; adapters for Kafka and for the embedded journal.
//! - [`consume`]: consumer groups with retry and dead letters; readers that see every record.
//! - [`refresh`]: follows the config service.
//! - [`outbox`]: publishes what a transaction has written.

pub mod bus;
pub mod consume;
pub mod event;
mod metrics;
pub mod outbox;
pub mod record;
pub mod refresh;
pub mod topic;
pub mod types;

pub use bus::{Bus, BusError, open};
pub use event::{Envelope, Event, EventId, Malformed, Meta};
pub use record::{Header, Outgoing, Record};
pub use topic::Topic;
