//! Writes marks, for example of shown frames, to the store in batches: sockets do not wait for the store.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use sosohappy_common::Context;
use sosohappy_common::lifecycle::Stage;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::OnShown;

/// Marks waiting to be written. A mark over it is dropped, and its receiver gets a push as well.
const WAITING: usize = 20_000;
const BATCH: usize = 500;
/// For how long marks are collected before they are written.
const COLLECT: Duration = Duration::from_millis(50);
/// Between two tries of a batch that the store did not take.
const RETRY: Duration = Duration::from_millis(500);

/// Takes the ids of shown frames. Clones write to the same queue.
pub struct Marks<T>(mpsc::Sender<T>);

impl<T> Clone for Marks<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Marks<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Marks(..)")
    }
}

impl<T: Clone + Send + 'static> Marks<T> {
    /// Spawns the task that writes the marks with `write`. A batch for which it fails is kept and written again.
    #[must_use]
    pub fn spawn<W, E>(context: &Context, write: W) -> Self
    where
        W: Fn(Vec<T>, Timestamp) -> BoxFuture<'static, Result<(), E>> + Send + Sync + 'static,
        E: Error + Send + 'static,
    {
        let (sender, mut marks) = mpsc::channel(WAITING);
        let (clock, draining) = (context.clock.clone(), context.lifecycle.draining_at(Stage::Publishing));
        context
            .lifecycle
            .spawn_at(Stage::Publishing, "shown-marks", async move {
                let mut batch = Vec::new();
                loop {
                    if batch.is_empty() {
                        draining.run_until_cancelled(marks.recv_many(&mut batch, BATCH)).await;
                        draining.run_until_cancelled(tokio::time::sleep(COLLECT)).await;
                    }
                    while batch.len() < BATCH
                        && let Ok(mark) = marks.try_recv()
                    {
                        batch.push(mark);
                    }
                    if batch.is_empty() {
                        if draining.is_cancelled() {
                            return Ok(());
                        }
                        continue;
                    }
                    match write(batch.clone(), clock.now()).await {
                        Ok(()) => batch.clear(),
                        Err(error) => {
                            tracing::warn!(error = &error as &dyn Error, "writing marks failed; retrying");
                            // The shutdown budget bounds the tries.
                            tokio::time::sleep(RETRY).await;
                        }
                    }
                    if batch.is_empty() && batch.capacity() > BATCH {
                        batch.shrink_to(0);
                    }
                }
            });
        Self(sender)
    }

    /// Returns what marks the id when a frame was shown.
    #[must_use]
    pub fn on_shown(&self, id: T, shown: impl FnOnce() + Send + 'static) -> OnShown {
        let marks = self.clone();
        OnShown::new(move || {
            shown();
            marks.mark(id);
        })
    }

    /// Queues a mark. Does not wait: a mark that finds the queue full is dropped, and logged.
    pub fn mark(&self, id: T) {
        match self.0.try_send(id) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => tracing::warn!("mark queue full; mark dropped"),
            Err(TrySendError::Closed(_)) => tracing::debug!("shutting down; mark dropped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;
    use sosohappy_store::StoreError;

    use super::*;

    /// Case E8.
    #[tokio::test(start_paused = true)]
    async fn a_batch_that_the_store_refuses_is_written_later() {
        let context = Context::system("dm-service", 0);
        let (tries, written) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let marks = Marks::spawn(&context, {
            let (tries, written) = (tries.clone(), written.clone());
            move |batch: Vec<u32>, _at| {
                let failing = tries.fetch_add(1, Ordering::Relaxed) < 3;
                if !failing {
                    written.lock().extend(batch);
                }
                Box::pin(async move {
                    if failing {
                        return Err(StoreError::corrupt("for the test"));
                    }
                    Ok(())
                })
            }
        });
        for number in 0..3 {
            marks.on_shown(number, || ()).report();
        }
        while written.lock().len() < 3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(*written.lock(), [0, 1, 2]);
        assert_eq!(tries.load(Ordering::Relaxed), 4);
    }
}
