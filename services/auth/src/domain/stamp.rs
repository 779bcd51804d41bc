//! Times of events that later ones must not undercut.

use std::time::Duration;

use jiff::Timestamp;

/// `now`, but later than `last`: consumers let the later of two events win, and the clocks of two replicas differ.
pub fn after(last: Timestamp, now: Timestamp) -> Timestamp {
    now.max(last + Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_when_the_clock_does_not() {
        let last = Timestamp::from_millisecond(5_000).unwrap();
        let at = |millis| after(last, Timestamp::from_millisecond(millis).unwrap()).as_millisecond();
        assert_eq!(at(4_000), 5_001);
        assert_eq!(at(5_000), 5_001);
        assert_eq!(at(6_000), 6_000);
    }
}
