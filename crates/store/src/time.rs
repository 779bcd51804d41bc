//! Instants in tables and documents: milliseconds since the epoch.

use std::time::Duration;

use jiff::Timestamp;

use crate::StoreError;

pub(crate) fn instant(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|_| StoreError::corrupt("a time in the database is out of range"))
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds from `earlier` to `later`; nothing if a clock was set back between them.
pub(crate) fn elapsed(earlier: i64, later: Timestamp) -> Duration {
    let millis = later.as_millisecond().saturating_sub(earlier);
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Returns the time from now, in milliseconds, beyond which the end of a lease of this time to live is void.
///
/// Twice the time to live: a statement that waits for a lock compares with the moment it began, and the holder of that lock may have
/// begun later and set its end from there. Such a lease is live.
pub(crate) fn lease_is_void_beyond(ttl: i64) -> i64 {
    ttl.saturating_mul(2)
}
