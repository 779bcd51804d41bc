use std::time::{Duration, Instant};

use crate::PATIENCE;

/// Asks again, every 20 ms for as long as [`PATIENCE`], until the answer is `Some`; events take their time.
///
/// # Panics
/// With `what` when it never is.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
