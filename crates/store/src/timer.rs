//! Timers are rows: they survive restarts.
//!
//! A replica compares them with its own clock. A clock that is ahead fires a timer early by as much; none fires twice and none is lost with any
//! clocks, because a timer is deleted in the transaction of its work. Work outside of the database (mails, calls of other systems) is claimed
//! by moving its timer: clocks further apart than the claim lasts (a minute) may repeat it.

use std::time::Duration;

use jiff::Timestamp;

/// A durable timer. There is one of a kind and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// At most 80 bytes.
    pub kind: String,
    /// At most 600 bytes.
    pub key: String,
    /// Kept in milliseconds.
    pub fire_at: Timestamp,
}

/// A timer whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueTimer {
    pub key: String,
    /// How often it was postponed since it was set.
    pub attempts: u32,
}

impl DueTimer {
    /// Returns how long a timer that has failed once more is postponed: from half a minute, doubling, to an hour.
    #[must_use]
    pub fn delay(&self) -> Duration {
        const FIRST: Duration = Duration::from_secs(30);
        const LONGEST: Duration = Duration::from_hours(1);
        FIRST.saturating_mul(1 << self.attempts.min(7)).min(LONGEST)
    }
}

/// The kind under which a timer of that kind is kept when its key cannot be read.
pub(crate) fn quarantined(kind: &str) -> String {
    format!("quarantined:{kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_an_hour() {
        let delay = |attempts| {
            let timer = DueTimer {
                key: String::new(),
                attempts,
            };
            timer.delay().as_secs()
        };
        assert_eq!(
            [delay(0), delay(1), delay(6), delay(7), delay(u32::MAX)],
            [30, 60, 1920, 3600, 3600]
        );
    }
}
