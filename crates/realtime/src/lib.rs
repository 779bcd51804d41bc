//! Parts that dm and notice share: sockets by account, one task and one bounded queue each, pings, slow-reader cut, closing on
//! expiry and on drain; which frames were shown, which records are duplicates.
//!
//! A socket costs one task, a mailbox without buffers while it is empty, and 1 KiB for reading. Everything periodic (pings,
//! idle and expired sockets) is done by one task a [`Hub`].

pub mod close;
pub mod connect;
pub mod dedupe;
mod frame_limit;
pub mod hub;
pub mod lanes;
mod mailbox;
pub mod marks;
mod metrics;
mod page_reads;
pub mod session;
pub mod shared_reads;
pub mod shown;
pub mod stream;

pub use close::Close;
pub use connect::{Connect, Handshake, connect};
pub use dedupe::Dedupe;
pub use hub::{Hub, Limits, Origin, SocketId, spawn_revalidation};
pub use lanes::Lanes;
pub use marks::Marks;
pub use session::{Client, Protocol, upgrade};
pub use shared_reads::SharedReads;
pub use shown::OnShown;
pub use stream::{Numbered, Page, Stream, Version};
