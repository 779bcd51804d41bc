use std::time::{Duration, Instant};

use crate::PATIENCE;

/// Polls every 20 ms, for up to [`PATIENCE`], until `ask` returns `Some`: events are delivered asynchronously. Returns the value.
///
/// # Panics
/// If `ask` returns `None` for that long; the message contains `what`.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
