//! The events of the fleet: their topics, keys, versions and encodings. No I/O: `sosohappy-bus` publishes and reads them.
//!
//! - [`types`]: one file an event, with its topic, key and encoding.
//! - [`date`]: the date format of the app.
//! - [`event`]: the trait of events, the envelope around each, and its headers.
//! - [`headers`]: the headers of a record.
//! - [`mixed`]: the forms of records toward services of the legacy Spring fleet.
//! - [`record`]: the bytes on the wire.
//! - [`topic`]: the topics, in one table.

pub mod date;
pub mod event;
pub mod headers;
pub mod mixed;
pub mod record;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod topic;
pub mod types;

pub use event::{Envelope, Event, EventId, Meta, Unreadable};
pub use headers::Headers;
pub use mixed::Mixed;
pub use record::{Header, Malformed, Outgoing, Record};
pub use topic::Topic;
