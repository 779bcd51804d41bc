//! Retries of whole transactions that the database rolled back.

use std::future::Future;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};

use crate::StoreError;

/// An error after which a retry of the whole transaction may succeed. A service's own error delegates to the [`StoreError`] inside it.
pub trait Transient {
    fn is_transient(&self) -> bool;
}

impl Transient for StoreError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Retry(_))
    }
}

/// Runs `work` until it succeeds, fails permanently, or was rolled back eight times (about half a second). `work` begins its own
/// transaction each time; its effects outside that transaction must be idempotent.
pub async fn retrying<T, E, W, F>(work: W) -> Result<T, E>
where
    W: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
    E: Transient,
{
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_millis(200))
        .with_max_times(7)
        .with_jitter();
    work.retry(backoff).when(E::is_transient).await
}

/// Runs `work` again for half a minute while an engine is starting, its connection is lost or another process has locked the database: a first
/// connection, or a step of a command that nothing else repeats. `work` must be idempotent.
pub async fn patiently<T, W, F>(work: W) -> Result<T, StoreError>
where
    W: FnMut() -> F,
    F: Future<Output = Result<T, StoreError>>,
{
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(2))
        .with_total_delay(Some(Duration::from_secs(30)))
        .without_max_times()
        .with_jitter();
    work.retry(backoff)
        .when(may_come_back)
        .notify(|error, delay| tracing::warn!(%error, ?delay, "database unavailable; retrying"))
        .await
}

/// Returns whether the engine may be available soon. Other reasons to be unavailable, such as a full disk, fail at once.
fn may_come_back(error: &StoreError) -> bool {
    use mongodb::error::ErrorKind;
    use sqlx::mysql::MySqlDatabaseError;

    match error {
        StoreError::Retry(_) => true,
        StoreError::Unavailable(cause) => match (cause.downcast_ref(), cause.downcast_ref::<mongodb::error::Error>()) {
            (Some(sqlx::Error::Io(_)), _) => true,
            (Some(sqlx::Error::Database(error)), _) => error.try_downcast_ref::<MySqlDatabaseError>().is_some(),
            // The pool is cleared when a heartbeat of the driver fails, on a busy machine also by its timeout.
            (_, Some(error)) => matches!(
                *error.kind,
                ErrorKind::Io(_) | ErrorKind::ServerSelection { .. } | ErrorKind::ConnectionPoolCleared { .. }
            ),
            _ => false,
        },
        StoreError::Settings(_) | StoreError::Conflict(_) | StoreError::Invalid(_) | StoreError::Corrupt(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often work is tried that fails so many times, and whether it succeeds in the end.
    async fn tries(failures: u32, error: fn() -> StoreError) -> (u32, bool) {
        let tries = Cell::new(0);
        let outcome = retrying(|| async {
            tries.set(tries.get() + 1);
            if tries.get() <= failures { Err(error()) } else { Ok(()) }
        });
        let succeeded = outcome.await.is_ok();
        (tries.get(), succeeded)
    }

    #[tokio::test]
    async fn a_lost_connection_is_awaited_and_a_full_disk_is_not() {
        let lost = || StoreError::from(mongodb::error::Error::from(std::io::Error::other("reset")));
        let full = || StoreError::Unavailable(anyhow::anyhow!("the disk is full"));
        for (error, wanted) in [(lost as fn() -> StoreError, (3, true)), (full, (1, false))] {
            let tries = Cell::new(0);
            let outcome = patiently(|| async {
                tries.set(tries.get() + 1);
                if tries.get() <= 2 { Err(error()) } else { Ok(()) }
            });
            let succeeded = outcome.await.is_ok();
            assert_eq!((tries.get(), succeeded), wanted);
        }
    }

    #[tokio::test]
    async fn only_what_was_rolled_back_is_tried_again() {
        let rolled_back = || StoreError::Retry(anyhow::anyhow!("deadlock"));
        assert_eq!(tries(0, rolled_back).await, (1, true));
        assert_eq!(tries(3, rolled_back).await, (4, true));
        assert_eq!(tries(100, rolled_back).await, (8, false));
        assert_eq!(
            tries(3, || StoreError::Conflict("post_account_day".to_owned())).await,
            (1, false)
        );
    }
}
