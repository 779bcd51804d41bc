//! Timers are rows: they survive restarts.

use jiff::Timestamp;

/// A durable timer. There is one of a kind and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// At most 100 bytes.
    pub kind: String,
    /// At most 600 bytes.
    pub key: String,
    /// Kept in milliseconds.
    pub fire_at: Timestamp,
}
