//! Wakes a background task of this process before its next scheduled run.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes one task, which waits on it. Clones share it.
///
/// A writer that gives the task work calls [`WakeHandle::wake`] after its commit; work that was committed by other replicas is found by the
/// task's own schedule.
#[derive(Debug, Clone, Default)]
pub struct WakeHandle(Arc<Notify>);

impl WakeHandle {
    /// Wakes the task. A task that is busy runs once more; several calls until then count as one.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Resolves at the next [`WakeHandle::wake`], or at once after one that came while nothing waited. Cancel safe.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_wake_of_a_busy_task_is_kept_once() {
        let handle = WakeHandle::default();
        assert_eq!(handle.woken().now_or_never(), None);
        let other = handle.clone();
        other.wake();
        other.wake();
        assert_eq!(handle.woken().now_or_never(), Some(()));
        assert_eq!(handle.woken().now_or_never(), None);
    }
}
