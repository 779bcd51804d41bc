//! Deletes expired rows periodically.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_common::Context;
use tokio::time::sleep;

use crate::StoreError;
use crate::time::millis;

/// The name of the lease by which one replica sweeps.
pub(crate) const LEASE: &str = "store-sweeper";

const EVERY: Duration = Duration::from_mins(10);

/// A little less than [`EVERY`], so that the lease of a replica that has stopped is free at the next round.
pub(crate) const LEASE_TTL: Duration = Duration::from_mins(9);

/// The horizons of the tables, in milliseconds since the epoch: older rows are deleted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub applied_events: i64,
    pub leases: i64,
    pub presence: i64,
    pub tombstones: i64,
}

impl Limits {
    /// Returns the horizons; `now` is the time of the database's clock.
    pub(crate) fn at(now: Timestamp) -> Self {
        const DAY: Duration = Duration::from_hours(24);
        let before = |age: Duration| now.as_millisecond() - millis(age);
        Self {
            // Topics whose consumers deduplicate by event id keep their records for at most 7 days.
            applied_events: before(8 * DAY),
            leases: before(DAY),
            // A margin for replicas whose clocks are behind.
            presence: before(Duration::from_mins(1)),
            // Longer than any topic keeps the events of an account from before its resignation.
            tombstones: before(30 * DAY),
        }
    }
}

/// Spawns the task that calls `sweep` until the service drains. A failure is logged; the next round tries again.
pub(crate) fn spawn<S, F>(context: &Context, sweep: S)
where
    S: Fn() -> F + Send + 'static,
    F: Future<Output = Result<(), StoreError>> + Send,
{
    let draining = context.lifecycle.draining();
    context.lifecycle.spawn("store-sweeper", async move {
        loop {
            tokio::select! {
                () = draining.cancelled() => return Ok(()),
                () = sleep(EVERY) => {}
            }
            if let Err(error) = sweep().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "sweep failed");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn nothing_young_is_swept() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365);
        let limits = Limits::at(now);
        let week = (now - SignedDuration::from_hours(24 * 7)).as_millisecond();
        assert!(limits.applied_events < week && limits.tombstones < week);
        assert!(limits.presence < now.as_millisecond() && limits.leases < now.as_millisecond());
    }

    #[tokio::test(start_paused = true)]
    async fn it_sweeps_until_the_service_drains() {
        let context = Context::system("test-service", 0);
        let sweeps = Arc::new(AtomicU32::new(0));
        let counted = sweeps.clone();
        spawn(&context, move || {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if number == 0 {
                    Err(StoreError::Unavailable(anyhow::anyhow!("away")))
                } else {
                    Ok(())
                }
            }
        });
        sleep(EVERY * 3 + EVERY / 2).await;
        assert_eq!(sweeps.load(Ordering::SeqCst), 3, "the first failed");
        let dropped = context.lifecycle.shutdown(Duration::from_secs(1)).await;
        assert!(dropped.is_empty(), "{dropped:?}");
    }
}
