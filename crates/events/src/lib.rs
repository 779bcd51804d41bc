//! The events of the fleet: their topics, keys, versions and encodings. No I/O: how they travel is the matter of `sosohappy-bus`.
//!
//! - [`types`]: one file an event, with its topic, key and encoding.
//! - [`date`]: what every date of the app is.
//! - [`event`]: the envelope around each event, and what its headers carry.
//! - [`mixed`]: what differs toward services of the legacy Spring fleet.
//! - [`record`]: the bytes that travel.
//! - [`topic`]: the topics, in one table.

pub mod date;
pub mod event;
pub mod mixed;
pub mod record;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod topic;
pub mod types;

pub use event::{Envelope, Event, EventId, Malformed, Meta, Unreadable};
pub use mixed::Mixed;
pub use record::{Header, Outgoing, Record};
pub use topic::Topic;
