//! What dm and notice share: sockets by account, one task and one bounded queue each, pings, slow-reader cut, closing on
//! expiry and on drain.
//!
//! A socket costs one task, a mailbox without buffers while it is empty, and 4 KiB for reading. Everything periodic (pings,
//! idle and expired sockets) is done by one task a [`Hub`].

pub mod close;
pub mod connect;
mod drain;
mod frame_limit;
pub mod hub;
mod mailbox;
mod metrics;
pub mod presence;
mod revocations;
pub mod session;
mod sweep;

pub use close::Close;
pub use connect::{Connect, Handshake, connect};
pub use hub::{Hub, Limits};
pub use presence::Present;
pub use revocations::spawn_revalidation;
pub use session::{Protocol, upgrade};
