//! A circuit breaker: some failures in a row open it, calls are rejected for a while, and the next success closes it.

use std::fmt;
use std::time::Duration;

use backon::{BackoffBuilder as _, ConstantBuilder};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// The shortest time it stays open. As much again comes on top at random, so that replicas do not all try at once; not more, for a revoked
/// token is refused within two seconds of auth's return.
const OPEN_FOR: Duration = Duration::from_millis(500);

/// Shared by all calls to one service.
pub(super) struct Breaker(Mutex<State>);

impl Default for Breaker {
    fn default() -> Self {
        Self(Mutex::new(State::Closed(0)))
    }
}

enum State {
    /// Holds the number of failures in a row.
    Closed(u32),
    /// Rejects calls until this moment; later calls are trials.
    Open(Instant),
}

impl Breaker {
    /// Returns whether a call may be made.
    pub(super) fn permits(&self) -> bool {
        !self.0.lock().is_open()
    }

    pub(super) fn succeeded(&self) {
        let mut state = self.0.lock();
        // A success of a call that began before the breaker opened does not close it.
        if !state.is_open() {
            *state = State::Closed(0);
        }
    }

    pub(super) fn failed(&self) {
        let mut state = self.0.lock();
        match &mut *state {
            State::Closed(failures) if *failures + 1 < FAILURES => *failures += 1,
            // A failure of such a call does not extend the time that it stays open.
            open if open.is_open() => {}
            other => *other = State::Open(next_trial()),
        }
    }
}

impl State {
    fn is_open(&self) -> bool {
        matches!(self, Self::Open(until) if Instant::now() < *until)
    }
}

fn next_trial() -> Instant {
    let mut delays = ConstantBuilder::default().with_delay(OPEN_FOR).with_jitter().build();
    Instant::now() + delays.next().unwrap_or(OPEN_FOR)
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.permits() { "closed" } else { "open" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.failed();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_the_breaker() {
        let breaker = Breaker::default();
        fail(&breaker, FAILURES - 1);
        assert!(breaker.permits());
        breaker.succeeded();
        fail(&breaker, FAILURES - 1);
        assert!(breaker.permits(), "they were not in a row");
        breaker.failed();
        assert!(!breaker.permits());
    }

    #[tokio::test(start_paused = true)]
    async fn trials_follow_after_a_while() {
        let breaker = Breaker::default();
        fail(&breaker, FAILURES);
        for _ in 0..10 {
            tokio::time::advance(OPEN_FOR.saturating_sub(Duration::from_millis(1))).await;
            breaker.succeeded();
            breaker.failed();
            assert!(!breaker.permits(), "calls from before decide nothing");
            tokio::time::advance(OPEN_FOR + Duration::from_millis(1)).await;
            assert!(breaker.permits());
            breaker.failed();
            assert!(!breaker.permits(), "a failed trial opens it again");
        }
        tokio::time::advance(OPEN_FOR * 2).await;
        breaker.succeeded();
        fail(&breaker, FAILURES - 1);
        assert!(breaker.permits(), "a success forgets all failures");
    }
}
