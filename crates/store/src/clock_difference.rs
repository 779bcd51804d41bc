//! Compares the clock of the process with that of the database: leases, schedules and horizons go by the latter.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::Gauge;
use sosohappy_common::Context;

use crate::StoreError;

const EVERY: Duration = Duration::from_secs(5);

/// The gauge of a context.
#[derive(Clone)]
struct Difference(Gauge);

/// Spawns the task that sets the gauge `database_clock_difference_seconds` until the service drains. While the database does
/// not answer, the gauge keeps its value.
pub(crate) fn spawn<S, F>(context: &Context, server_time: S)
where
    S: Fn() -> F + Send + 'static,
    F: Future<Output = Result<Timestamp, StoreError>> + Send,
{
    let Difference(gauge) = context.metrics.shared(|metrics| {
        let gauge = Gauge::new(
            "database_clock_difference_seconds",
            "How far the clock of the process is ahead of or behind that of the database, without the time that the question took",
        );
        Difference(metrics.register(gauge.expect("a static metric is valid")))
    });
    let (clock, mut rounds) = (context.clock.clone(), context.lifecycle.rounds(EVERY));
    context.lifecycle.spawn("clock-difference", async move {
        while rounds.next().await {
            let asked = clock.now();
            // A database that is unavailable does not hold up the shutdown.
            let Some(answer) = rounds.interruptible(server_time()).await else {
                break;
            };
            match answer {
                Ok(there) => gauge.set(difference(asked, there, clock.now())),
                Err(error) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "reading the database's time failed"
                ),
            }
        }
        Ok(())
    });
}

/// Returns the seconds between the database's time and the nearest moment between question and answer.
fn difference(asked: Timestamp, there: Timestamp, answered: Timestamp) -> f64 {
    // Databases give milliseconds: the rest of one is no difference.
    let nearest = there.max(asked).min(answered.max(asked));
    let difference = there.duration_since(nearest).abs().as_secs_f64();
    if difference < 0.001 { 0.0 } else { difference }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use jiff::SignedDuration;
    use sosohappy_common::clock::{ManualClock, SystemEntropy};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_slow_answer_is_no_difference() {
        for (there, seconds) in [(100, 0.0), (105, 0.0), (110, 0.0), (97, 3.0), (130, 20.0)] {
            let measured = difference(at(100), at(there), at(110));
            assert!((measured - seconds).abs() < 1e-9, "{there}: {measured}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_gauge_follows_the_clock_and_outlasts_a_failure() {
        let clock = ManualClock::at(at(1000));
        let context = Context::with("test-service", 0, clock.clone(), Arc::new(SystemEntropy));
        let rounds = Arc::new(AtomicU32::new(0));
        let counted = rounds.clone();
        spawn(&context, move || {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if number == 2 {
                    return Err(StoreError::Unavailable(anyhow::anyhow!("away")));
                }
                Ok(at(1000))
            }
        });
        // Between two rounds each.
        tokio::time::sleep(EVERY / 2).await;
        for (shown, ahead) in [("0", 0), ("0", 10), ("0", 10), ("20", 0)] {
            let text = context.metrics.render();
            let line = text
                .lines()
                .find(|line| line.starts_with("database_clock_difference_seconds{"));
            assert_eq!(line.and_then(|line| line.rsplit(' ').next()), Some(shown), "{line:?}");
            clock.advance(Duration::from_secs(ahead));
            tokio::time::sleep(EVERY).await;
        }
        let dropped = context.lifecycle.shutdown(Duration::from_secs(1)).await;
        assert!(dropped.is_empty(), "{dropped:?}");
    }
}
