use std::time::{Duration, Instant};

use crate::PATIENCE;

/// The pause after the first question; each one is half as long again as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Most questions are requests: more of them would slow down what is waited for.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Asks at once, after 10 ms, and ever more seldom, down to ten times a second, for up to [`PATIENCE`], until `ask` returns `Some`: events are
/// delivered asynchronously. Returns the value.
///
/// # Panics
/// If `ask` returns `None` for that long; the message contains `what`.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}
