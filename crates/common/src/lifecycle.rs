//! Readiness, tracked tasks and graceful shutdown.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument as _;

/// The name of the span around every task. Telemetry keeps it out of exported traces: a task lives as long as
/// the process, what it does are traces of their own.
pub(crate) const TASK_SPAN: &str = "task";

/// How long an aborted task may take to unwind before [`Lifecycle::shutdown`] stops waiting for it.
const UNWIND: Duration = Duration::from_secs(1);

/// The stage of shutdown at which a task drains. Each stage drains once the one before it has ended: requests and sockets still receive
/// events until they end, and the events of requests and consumers are still published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The port, sockets, and tasks that no other task waits for.
    Serving,
    /// Readers and consumers of topics.
    Consuming,
    /// The outbox relay, and other tasks that persist the work of the stages before.
    Publishing,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Serving, Self::Consuming, Self::Publishing];

    /// Returns the part of the drain budget, in tenths from its beginning, until which the next stage waits for this one.
    const fn tenths(self) -> u32 {
        match self {
            Self::Serving => 7,
            Self::Consuming => 9,
            Self::Publishing => 10,
        }
    }
}

/// The life of one service in one process. Clones share it.
///
/// Two tokens end it: `draining` asks tasks to finish their present work, stage by stage; `stopped` aborts them.
/// A task that returns an error or panics fails the whole process: [`Lifecycle::failed`] resolves.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    inner: Arc<Inner>,
}

struct Inner {
    service: &'static str,
    leaving: AtomicBool,
    stages: [StageTasks; 3],
    stopped: CancellationToken,
    next_id: AtomicU64,
    running: Mutex<BTreeMap<u64, &'static str>>,
    gates: watch::Sender<BTreeMap<u64, &'static str>>,
    failure: watch::Sender<Option<TaskFailed>>,
}

/// The tasks of one stage, and the token that asks them to drain.
#[derive(Default)]
struct StageTasks {
    draining: CancellationToken,
    tracker: TaskTracker,
}

impl Inner {
    fn stage(&self, stage: Stage) -> &StageTasks {
        &self.stages[stage as usize]
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("service", &self.service)
            .field("running", &self.running.lock().values().collect::<Vec<_>>())
            .field("gates", &self.gates.borrow().values().collect::<Vec<_>>())
            .field("draining", &self.stage(Stage::Serving).draining.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// The failure of a task (an error or a panic), which ends the service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{service}: task {task} failed: {reason}")]
pub struct TaskFailed {
    pub service: &'static str,
    pub task: &'static str,
    pub reason: String,
}

/// A condition of readiness, which holds once it is opened. A gate that is dropped unopened keeps the service unready for good.
#[derive(Debug)]
pub struct Gate {
    id: u64,
    inner: Arc<Inner>,
}

impl Gate {
    pub fn open(self) {
        self.inner.gates.send_modify(|gates| {
            gates.remove(&self.id);
        });
    }
}

/// The content of `/actuator/health/readiness`: the closed gates by name, and whether draining has begun.
#[derive(Debug, Clone)]
pub struct Readiness {
    pub ready: bool,
    pub waiting_for: Vec<&'static str>,
    pub draining: bool,
}

/// The rounds of a periodic task: [`Lifecycle::rounds`].
#[derive(Debug)]
pub struct Rounds {
    ticks: Interval,
    draining: CancellationToken,
}

impl Rounds {
    /// Resolves to true when the next round is due, and to false when the shutdown begins. Cancel safe.
    pub async fn next(&mut self) -> bool {
        self.draining.run_until_cancelled(self.ticks.tick()).await.is_some()
    }

    /// Does the work of a round that another round may repeat: `None`, with the work dropped, when the shutdown begins before its end.
    pub async fn interruptible<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.draining.run_until_cancelled(work).await
    }
}

impl Lifecycle {
    #[must_use]
    pub fn new(service: &'static str) -> Self {
        let inner = Inner {
            service,
            leaving: AtomicBool::new(false),
            stages: Default::default(),
            stopped: CancellationToken::new(),
            next_id: AtomicU64::new(0),
            running: Mutex::default(),
            gates: watch::Sender::default(),
            failure: watch::Sender::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Calls [`Lifecycle::spawn_at`] with the first stage.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.spawn_at(Stage::Serving, name, task);
    }

    /// Spawns a task. It watches [`Lifecycle::draining_at`] of its stage itself, and is aborted when the drain budget is spent.
    pub fn spawn_at<F>(&self, stage: Stage, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let entry = Running::enter(&self.inner, name);
        // Of the highest level, so that every log line inside has the name of the task.
        let span = tracing::error_span!(TASK_SPAN, service = self.inner.service, task = name);
        let stopped = self.inner.stopped.clone();
        self.inner.stage(stage).tracker.spawn(
            async move {
                let task = AssertUnwindSafe(task).catch_unwind();
                let outcome = tokio::select! {
                    biased;
                    outcome = task => outcome,
                    () = stopped.cancelled() => Ok(Ok(())),
                };
                let reason = match outcome {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => format!("{error:#}"),
                    Err(panic) => format!("panicked: {}", panic_message(&*panic)),
                };
                entry.fail(reason);
            }
            .instrument(span),
        );
    }

    /// Counts work that runs elsewhere as a task of the first stage: [`Lifecycle::shutdown`] waits until it is dropped.
    #[must_use]
    pub fn hold(&self, name: &'static str) -> Hold {
        Hold {
            entry: Running::enter(&self.inner, name),
            _token: self.inner.stage(Stage::Serving).tracker.token(),
        }
    }

    /// Adds a condition of readiness, for example `token-registry`.
    #[must_use]
    pub fn gate(&self, name: &'static str) -> Gate {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        self.inner.gates.send_modify(|gates| {
            gates.insert(id, name);
        });
        Gate {
            id,
            inner: self.inner.clone(),
        }
    }

    /// Returns the token that is cancelled when the shutdown begins: [`Lifecycle::draining_at`] of the first stage.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.draining_at(Stage::Serving)
    }

    /// Returns the token that is cancelled during a shutdown once the stages before this one have ended, or used up their part of the
    /// budget.
    #[must_use]
    pub fn draining_at(&self, stage: Stage) -> CancellationToken {
        self.inner.stage(stage).draining.clone()
    }

    /// Returns rounds of periodic work, until the shutdown begins: the first at once, each other one at this interval, or at once when the
    /// round before it took longer.
    ///
    /// ```ignore
    /// let mut rounds = lifecycle.rounds(EVERY);
    /// lifecycle.spawn("sweep", async move {
    ///     while rounds.next().await {
    ///         sweep();
    ///     }
    ///     Ok(())
    /// });
    /// ```
    #[must_use]
    pub fn rounds(&self, every: Duration) -> Rounds {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Rounds {
            ticks,
            draining: self.draining(),
        }
    }

    /// Returns the token that is cancelled when the drain budget is spent.
    #[must_use]
    pub fn stopped(&self) -> CancellationToken {
        self.inner.stopped.clone()
    }

    /// Makes the service unready while it still serves, so that load balancers stop sending requests before [`Lifecycle::shutdown`]
    /// begins.
    pub fn leave(&self) {
        self.inner.leaving.store(true, Ordering::Release);
    }

    /// Returns whether [`Lifecycle::leave`] or [`Lifecycle::shutdown`] was called. Each response asks: takes no lock.
    #[must_use]
    pub fn leaving(&self) -> bool {
        self.inner.leaving.load(Ordering::Acquire)
    }

    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let waiting_for: Vec<_> = self.inner.gates.borrow().values().copied().collect();
        let draining = self.leaving();
        Readiness {
            ready: waiting_for.is_empty() && !draining && self.failure().is_none(),
            waiting_for,
            draining,
        }
    }

    /// Resolves once every gate is open.
    pub async fn ready(&self) {
        let mut gates = self.inner.gates.subscribe();
        gates
            .wait_for(BTreeMap::is_empty)
            .await
            .expect("the sender lives in self");
    }

    /// Resolves with the name and error of the first task that failed.
    pub async fn failed(&self) -> anyhow::Error {
        let mut failure = self.inner.failure.subscribe();
        let failed = failure
            .wait_for(Option::is_some)
            .await
            .expect("the sender lives in self")
            .clone();
        failed.expect("waited for").into()
    }

    /// Returns the first task that failed, if one did.
    #[must_use]
    pub fn failure(&self) -> Option<TaskFailed> {
        self.inner.failure.borrow().clone()
    }

    /// Drains the stages one after the other, waits for their tasks, and cancels `stopped` when the budget is spent. A stage that exceeds its
    /// part of the budget keeps draining beside the next one. Returns the names of the tasks that were aborted.
    pub async fn shutdown(&self, budget: Duration) -> Vec<&'static str> {
        self.inner.leaving.store(true, Ordering::Release);
        let began = tokio::time::Instant::now();
        for stage in Stage::ALL {
            let (stage_tasks, until) = (self.inner.stage(stage), began + budget * stage.tenths() / 10);
            stage_tasks.draining.cancel();
            stage_tasks.tracker.close();
            // Tasks that exceed the part of their stage are waited for below.
            let _ = tokio::time::timeout_at(until, stage_tasks.tracker.wait()).await;
        }
        let in_time = tokio::time::timeout_at(began + budget, self.ended()).await.is_ok();
        let dropped = if in_time {
            Vec::new()
        } else {
            self.inner.running.lock().values().copied().collect()
        };
        self.inner.stopped.cancel();
        if !in_time && tokio::time::timeout(UNWIND, self.ended()).await.is_err() {
            tracing::warn!(service = self.inner.service, "task could not be aborted");
        }
        dropped
    }

    async fn ended(&self) {
        for stage in Stage::ALL {
            self.inner.stage(stage).tracker.wait().await;
        }
    }
}

/// Work that [`Lifecycle::shutdown`] waits for; see [`Lifecycle::hold`].
pub struct Hold {
    entry: Running,
    /// Dropped last: an empty tracker implies an empty list of running tasks.
    _token: TaskTrackerToken,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hold").field(&self.entry.task).finish()
    }
}

/// A task's entry in the list of running tasks; removed however the task ends.
struct Running {
    id: u64,
    task: &'static str,
    inner: Arc<Inner>,
}

impl Running {
    fn enter(inner: &Arc<Inner>, task: &'static str) -> Self {
        let id = inner.next_id.fetch_add(1, Ordering::Relaxed);
        inner.running.lock().insert(id, task);
        Self {
            id,
            task,
            inner: inner.clone(),
        }
    }

    fn fail(self, reason: String) {
        let failed = TaskFailed {
            service: self.inner.service,
            task: self.task,
            reason,
        };
        tracing::error!(reason = failed.reason, "task failed");
        self.inner.failure.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(failed);
            is_first
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inner.running.lock().remove(&self.id);
    }
}

/// Returns the message of a panic, if it is text.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So much that a busy machine does not use it up.
    const BUDGET: Duration = Duration::from_secs(2);

    #[tokio::test]
    async fn readiness_waits_for_every_gate() {
        let life = Lifecycle::new("test");
        let (first, second) = (life.gate("first"), life.gate("second"));
        assert_eq!(life.readiness().waiting_for, ["first", "second"]);
        let ready = tokio::spawn({
            let life = life.clone();
            async move { life.ready().await }
        });
        first.open();
        assert_eq!(life.readiness().waiting_for, ["second"]);
        assert!(!ready.is_finished());
        second.open();
        ready.await.expect("no panic");
        assert!(life.readiness().ready);
    }

    #[tokio::test]
    async fn a_gate_dropped_unopened_keeps_the_service_unready() {
        let life = Lifecycle::new("test");
        drop(life.gate("store"));
        assert_eq!(life.readiness().waiting_for, ["store"]);
        assert!(!life.readiness().ready);
    }

    #[tokio::test]
    async fn the_first_failure_is_kept() {
        let life = Lifecycle::new("test");
        life.spawn("relay", async { anyhow::bail!("lease lost") });
        let failure = life.failed().await;
        assert_eq!(failure.to_string(), "test: task relay failed: lease lost");
        life.spawn("reader", async { panic!("index out of range") });
        assert!(life.shutdown(BUDGET).await.is_empty());
        assert_eq!(life.failed().await.to_string(), failure.to_string());
        assert!(!life.readiness().ready);
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let life = Lifecycle::new("test");
        life.spawn("reader", async { panic!("index {} out of range", 3) });
        assert_eq!(
            life.failed().await.to_string(),
            "test: task reader failed: panicked: index 3 out of range"
        );
    }

    #[tokio::test]
    async fn shutdown_waits_for_present_work_of_tasks() {
        let life = Lifecycle::new("test");
        let (done, finished) = tokio::sync::oneshot::channel();
        let draining = life.draining();
        life.spawn("consumer", async move {
            draining.cancelled().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            done.send(()).map_err(|()| anyhow::anyhow!("the receiver was dropped"))
        });
        assert!(life.shutdown(BUDGET).await.is_empty());
        finished.await.expect("the task was not aborted");
    }

    #[tokio::test]
    async fn stages_drain_in_order() {
        let life = Lifecycle::new("test");
        let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
        for (stage, name) in [
            (Stage::Publishing, "relay"),
            (Stage::Consuming, "reader"),
            (Stage::Serving, "sockets"),
        ] {
            let (draining, ends) = (life.draining_at(stage), ends.clone());
            life.spawn_at(stage, name, async move {
                draining.cancelled().await;
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(ends.send(name)?)
            });
        }
        // The receiver waits for tasks only.
        drop(ends);
        let held = life.hold("http");
        let leaving = tokio::spawn({
            let life = life.clone();
            async move { life.shutdown(BUDGET * 100).await }
        });
        assert_eq!(ended.recv().await, Some("sockets"));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(ended.try_recv().is_err(), "a request is still being answered");
        assert!(!life.draining_at(Stage::Consuming).is_cancelled());
        drop(held);
        assert_eq!(ended.recv().await, Some("reader"));
        assert_eq!(ended.recv().await, Some("relay"));
        assert!(leaving.await.expect("no panic").is_empty());
    }

    #[tokio::test]
    async fn a_stage_that_hangs_leaves_the_next_ones_their_part_of_the_budget() {
        let life = Lifecycle::new("test");
        life.spawn("stuck", std::future::pending());
        let (draining, (done, published)) = (life.draining_at(Stage::Publishing), tokio::sync::oneshot::channel());
        life.spawn_at(Stage::Publishing, "relay", async move {
            draining.cancelled().await;
            done.send(()).map_err(|()| anyhow::anyhow!("the receiver was dropped"))
        });
        assert_eq!(life.shutdown(BUDGET).await, ["stuck"]);
        published.await.expect("the relay was asked in time");
    }

    #[tokio::test]
    async fn shutdown_aborts_and_names_tasks_that_exceed_the_budget() {
        let life = Lifecycle::new("test");
        life.spawn("stuck", std::future::pending());
        life.spawn("quick", async { Ok(()) });
        assert_eq!(life.shutdown(BUDGET).await, ["stuck"]);
        assert!(life.stopped().is_cancelled());
        assert!(life.readiness().draining);
        assert_eq!(life.failure(), None, "an aborted task is no failure");
    }

    #[tokio::test]
    async fn shutdown_waits_for_holds() {
        let life = Lifecycle::new("test");
        let held = life.hold("http");
        assert_eq!(life.shutdown(Duration::from_millis(20)).await, ["http"]);
        drop(held);
        assert!(life.shutdown(BUDGET).await.is_empty());
    }

    #[tokio::test]
    async fn rounds_come_at_their_interval_until_the_shutdown() {
        const EVERY: Duration = Duration::from_millis(50);
        let life = Lifecycle::new("test");
        let mut rounds = life.rounds(EVERY);
        assert!(rounds.next().await);
        assert_eq!(rounds.interruptible(async { 7 }).await, Some(7));
        // A round that takes longer than two intervals: the next one is not made up for by two.
        tokio::time::sleep(EVERY * 5 / 2).await;
        assert!(rounds.next().await);
        let began = std::time::Instant::now();
        assert!(rounds.next().await);
        assert!(began.elapsed() >= EVERY * 9 / 10, "{:?}", began.elapsed());
        assert!(life.shutdown(BUDGET).await.is_empty());
        assert!(!rounds.next().await);
        assert_eq!(rounds.interruptible(std::future::pending::<()>()).await, None);
    }

    #[tokio::test]
    async fn a_leaving_service_is_unready_but_not_draining() {
        let life = Lifecycle::new("test");
        life.leave();
        assert!(!life.readiness().ready);
        assert!(!life.draining().is_cancelled());
    }
}
