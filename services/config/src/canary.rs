//! Runs a canary: refreshes the instances of a step, waits for their reports, and continues or rolls back.
//!
//! Replicas of config exchange its state on `configCanary` and agree by [`Canary::merged`]. The replica that received the request is the leader,
//! after a restart too. A follower that receives no state for `canary.wait` rolls back.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge, Opts};
use sosohappy_bus::consume::{Consumer, HandleError, spawn_listener};
use sosohappy_bus::{Bus, Start};
use sosohappy_common::Context;
use sosohappy_common::settings::Live;
use sosohappy_events::Envelope;
use sosohappy_events::types::{CanaryUpdate, CanaryUpdated};
use tokio::time::Instant;

use crate::bus::{ALL, Announcer};
use crate::convergence::Convergence;
use crate::domain::canary::{Canary, Observation, Phase, Timeouts, Verdict};
use crate::settings::CanarySettings;
use crate::source::{CanaryError, RefreshReason, Source};
use crate::state::record::{Action, Entry};

/// Interval between two evaluations of the reports.
const TICK: Duration = Duration::from_millis(250);
/// Interval between refresh events to the updated instances: each responds with a report that contains its health.
const PROBE: Duration = Duration::from_secs(1);
/// How long instances have to report before a canary starts without them.
const PRESENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between two checks for their reports.
const PRESENCE_INTERVAL: Duration = Duration::from_millis(50);
/// Interval between publications of a rolled-back canary, for replicas that start later.
const ROLLBACK_INTERVAL: Duration = Duration::from_secs(30);
/// Age of the oldest canary state that is read at the start.
const REPLAY: Duration = Duration::from_mins(5);

/// Clones share the state.
#[derive(Debug, Clone)]
pub struct Canaries {
    context: Context,
    source: Source,
    convergence: Convergence,
    announcer: Announcer,
    settings: Live<CanarySettings>,
    metrics: CanaryMetrics,
    /// When the last state of another replica arrived, by this replica's clock.
    last_leader_update: Arc<Mutex<Instant>>,
}

#[derive(Debug, Clone)]
struct CanaryMetrics {
    running: IntGauge,
    ended: IntCounterVec,
}

impl CanaryMetrics {
    const FINISHED: &str = "finished";
    const ROLLED_BACK: &str = "rolled-back";

    fn new(context: &Context) -> Self {
        let running = IntGauge::new(
            "config_canary_running",
            "1 while a new version is served to some instances only",
        );
        let ended = Opts::new(
            "config_canaries_total",
            "Canaries that ended on this replica, by outcome",
        );
        let ended = IntCounterVec::new(ended, &["outcome"]).expect("a static name is valid");
        let ended = context.metrics.register(ended);
        // Pre-creates both label values so that the series start at 0.
        for outcome in [Self::FINISHED, Self::ROLLED_BACK] {
            ended.with_label_values(&[outcome]);
        }
        Self {
            running: context.metrics.register(running.expect("a static name is valid")),
            ended,
        }
    }
}

/// The step in progress, as this process has observed it.
struct Step {
    id: String,
    number: usize,
    /// Reports from before this moment are about the version before.
    since: Timestamp,
    probed: Option<Instant>,
    /// The first report of the new version, by instance.
    healthy_since: HashMap<String, Timestamp>,
    /// Instances that were unhealthy before the step.
    unhealthy_before: Vec<String>,
}

#[async_trait]
impl Consumer<CanaryUpdated> for Canaries {
    async fn handle(&self, Envelope { event, .. }: Envelope<CanaryUpdated>) -> Result<(), HandleError> {
        if event.origin_service == *self.context.instance {
            return Ok(());
        }
        match event.update {
            CanaryUpdate::State { canary } => match serde_json::from_value(canary) {
                Ok(theirs) => self.merge(theirs).await,
                // A replica of another release may add fields or phases: this one follows once both run the same release.
                Err(error) => tracing::warn!(%error, origin = event.origin_service, "canary state invalid; ignored"),
            },
            CanaryUpdate::PublishHeldVersion => {
                self.source.refresh_for(RefreshReason::Requested).await;
            }
        }
        Ok(())
    }
}

impl Canaries {
    pub fn spawn(
        context: &Context,
        bus: Arc<dyn Bus>,
        settings: Live<CanarySettings>,
        source: Source,
        convergence: Convergence,
        announcer: Announcer,
    ) -> Self {
        let canaries = Self {
            context: context.clone(),
            source,
            convergence,
            announcer,
            settings,
            metrics: CanaryMetrics::new(context),
            last_leader_update: Arc::new(Mutex::new(Instant::now())),
        };
        let start = context.clock.now().checked_sub(REPLAY).unwrap_or(Timestamp::MIN);
        spawn_listener::<CanaryUpdated>(context, bus, Start::At(start), canaries.clone());
        context.lifecycle.spawn("config-canary", canaries.clone().run());
        canaries
    }

    /// Starts a canary of the newest version of the source.
    pub async fn start(&self, operator: &str) -> Result<Canary, CanaryError> {
        let now = self.context.clock.now();
        let (id, started_by) = (self.context.entropy.hex(8), operator.to_owned());
        if self.source.is_canary_running() {
            return Err(CanaryError::Running);
        }
        let instances = self.present().await;
        if instances.is_empty() {
            return Err(CanaryError::NoInstance);
        }
        let plan = move |from, to| Canary {
            id,
            from,
            to,
            started_at: now,
            started_by,
            phase: Phase::Running,
            steps: Canary::plan(instances),
            step: 0,
            reason: None,
        };
        let canary = self.source.start_canary(Box::new(plan)).await?;
        self.record(Action::CanaryStarted, operator, &canary).await;
        tracing::info!(id = canary.id, from = canary.from, to = canary.to, "canary started");
        self.publish(&canary).await;
        Ok(canary)
    }

    /// Refreshes all instances, which are still served the version before, and returns those that report. Instances that crashed stay listed for
    /// `convergence.forget-after`; including one would fail the canary.
    async fn present(&self) -> BTreeMap<String, Vec<String>> {
        let (asked, began) = (self.context.clock.now(), Instant::now());
        if let Err(error) = self.announcer.refresh([ALL]).await {
            tracing::warn!(%error, "publishing refresh event of canary failed");
        }
        loop {
            tokio::time::sleep(PRESENCE_INTERVAL).await;
            let (present, all_reported) = self.convergence.reported_since(asked);
            if all_reported || began.elapsed() >= PRESENCE_TIMEOUT {
                return present;
            }
        }
    }

    /// Rolls back the running canary on request of an operator.
    pub async fn abort(&self, operator: &str) -> Result<Canary, CanaryError> {
        match self.source.canary() {
            Some((canary, leads)) if canary.phase == Phase::Running => {
                let reason = format!("stopped by {operator}");
                self.end(canary, leads, Phase::RolledBack, Some(reason), operator).await
            }
            _ => Err(CanaryError::NotRunning),
        }
    }

    async fn run(self) -> anyhow::Result<()> {
        let draining = self.context.lifecycle.draining();
        let mut step: Option<Step> = None;
        let mut published_at = Instant::now();
        if self.source.canary().is_some() {
            // The last process may have stopped between saving the state and publishing the refresh event.
            self.announcer.refresh_all_soon();
        }
        loop {
            let tick = tokio::time::sleep(TICK);
            if draining.run_until_cancelled(tick).await.is_none() {
                return Ok(());
            }
            let Some((canary, leads)) = self.source.canary() else {
                continue;
            };
            let is_running = canary.phase == Phase::Running;
            self.metrics.running.set(i64::from(is_running));
            if !is_running {
                step = None;
                if canary.phase == Phase::RolledBack && published_at.elapsed() >= ROLLBACK_INTERVAL {
                    published_at = Instant::now();
                    self.publish(&canary).await;
                }
            } else if leads {
                step = self.lead(canary, step.take()).await;
            } else if self.last_leader_update.lock().elapsed() >= self.settings.get().wait {
                let reason = Some("the leading replica of config is unavailable".to_owned());
                self.log_failure(self.end(canary, false, Phase::RolledBack, reason, "config").await);
            }
        }
    }

    /// Evaluates the step in progress once. Returns none when the canary has moved to another step or ended.
    async fn lead(&self, canary: Canary, step: Option<Step>) -> Option<Step> {
        let now = self.context.clock.now();
        let mut step = match step {
            Some(step) if step.id == canary.id && step.number == canary.step => step,
            _ => self.begin(&canary, now),
        };
        if step.probed.is_none_or(|probed| probed.elapsed() >= PROBE) {
            step.probed = Some(Instant::now());
            self.publish(&canary).await;
            if let Err(error) = self.announcer.refresh(canary.updated()).await {
                tracing::warn!(%error, "publishing refresh event of canary failed");
            }
        }
        match self.judge(&canary, &mut step, now) {
            Verdict::Pending => return Some(step),
            Verdict::Failed(reason) => {
                self.log_failure(self.end(canary, true, Phase::RolledBack, Some(reason), "config").await);
            }
            Verdict::Healthy if canary.step + 1 >= canary.steps.len() => {
                self.log_failure(self.end(canary, true, Phase::Finished, None, "config").await);
            }
            Verdict::Healthy => {
                let next = Canary {
                    step: canary.step + 1,
                    ..canary
                };
                tracing::info!(
                    id = next.id,
                    step = next.step,
                    of = next.steps.len(),
                    "canary step started"
                );
                self.log_failure(self.source.put_canary(next, true).await);
            }
        }
        None
    }

    fn begin(&self, canary: &Canary, now: Timestamp) -> Step {
        let is_unhealthy = |instance: &&str| {
            let last = self.convergence.last_report(instance);
            last.is_some_and(|(_, report)| report.health.is_some_and(|health| health != "UP"))
        };
        let current = canary.steps.get(canary.step).into_iter().flatten().map(String::as_str);
        Step {
            id: canary.id.clone(),
            number: canary.step,
            since: now,
            probed: None,
            healthy_since: HashMap::new(),
            unhealthy_before: current.filter(is_unhealthy).map(str::to_owned).collect(),
        }
    }

    /// Combines the instances' verdicts: the step waits for its own instances, and a failure of any updated one ends the canary.
    ///
    /// | instance | verdict | effect |
    /// | --- | --- | --- |
    /// | of an earlier step | failed without any report | none: it may restart for other reasons |
    /// | of any step | failed | roll back |
    /// | of this step | pending | wait |
    /// | of an earlier step | pending | none |
    /// | of any step | healthy | none |
    fn judge(&self, canary: &Canary, step: &mut Step, now: Timestamp) -> Verdict {
        let settings = self.settings.get();
        let timeouts = Timeouts {
            wait: settings.wait,
            watch: settings.watch,
        };
        let current = canary.steps.get(canary.step).map(Vec::as_slice).unwrap_or_default();
        let mut all_healthy = true;
        for instance in canary.updated() {
            let report = self
                .convergence
                .last_report(instance)
                .filter(|(at, _)| *at > step.since);
            let mut observation = Observation {
                was_unhealthy: step.unhealthy_before.iter().any(|unhealthy| unhealthy == instance),
                ..Observation::default()
            };
            if let Some((at, report)) = report {
                if report.version.as_ref() == Some(&canary.to) {
                    step.healthy_since.entry(instance.to_owned()).or_insert(at);
                }
                observation.reported_at = Some(at);
                observation.version = report.version;
                observation.refused = report.refused;
                observation.health = report.health;
            }
            let healthy_since = step.healthy_since.get(instance).copied();
            let is_current = current.iter().any(|current| current == instance);
            match observation.verdict(&canary.to, step.since, healthy_since, timeouts, now) {
                Verdict::Failed(_) if !is_current && observation.reported_at.is_none() => {}
                Verdict::Failed(reason) => return Verdict::Failed(format!("{instance}: {reason}")),
                Verdict::Pending => all_healthy &= !is_current,
                Verdict::Healthy => {}
            }
        }
        if all_healthy {
            Verdict::Healthy
        } else {
            Verdict::Pending
        }
    }

    async fn end(
        &self,
        canary: Canary,
        leads: bool,
        phase: Phase,
        reason: Option<String>,
        actor: &str,
    ) -> Result<Canary, CanaryError> {
        let ended = Canary {
            phase,
            reason,
            ..canary
        };
        self.source.put_canary(ended.clone(), leads).await?;
        let (id, from, to, reason) = (&ended.id, &ended.from, &ended.to, &ended.reason);
        let (action, outcome) = if phase == Phase::Finished {
            tracing::info!(id, from, to, "canary finished");
            (Action::CanaryFinished, CanaryMetrics::FINISHED)
        } else {
            tracing::error!(id, from, to, reason, "canary rolled back; serving previous version");
            (Action::CanaryRolledBack, CanaryMetrics::ROLLED_BACK)
        };
        self.metrics.running.set(0);
        self.metrics.ended.with_label_values(&[outcome]).inc();
        self.record(action, actor, &ended).await;
        self.publish(&ended).await;
        self.announcer.refresh_all_soon();
        Ok(ended)
    }

    /// Merges the state that another replica has published: saves a newer one, publishes ours when it is the newer one.
    async fn merge(&self, theirs: Canary) {
        *self.last_leader_update.lock() = Instant::now();
        let (merged, leads) = match self.source.canary() {
            Some((mine, _)) if mine == theirs => {
                return;
            }
            Some((mine, leads)) => {
                let same = mine.id == theirs.id;
                let merged = mine.clone().merged(theirs.clone());
                if merged == mine {
                    // The other replica has an older state.
                    self.publish(&mine).await;
                    return;
                }
                // The leader stays the leader of its own canary only.
                (merged, leads && same)
            }
            None => (theirs, false),
        };
        tracing::info!(id = merged.id, phase = ?merged.phase, step = merged.step, "canary state of another replica applied");
        self.log_failure(self.source.put_canary(merged, leads).await);
    }

    async fn publish(&self, canary: &Canary) {
        if let Err(error) = self.announcer.canary(canary).await {
            tracing::warn!(%error, "publishing canary state failed");
        }
    }

    async fn record(&self, action: Action, actor: &str, canary: &Canary) {
        let mut entry = Entry::new(self.context.clock.now(), actor, action).version(&canary.to);
        let detail = match &canary.reason {
            Some(reason) => format!("back to {}: {reason}", canary.from),
            None => format!("from {}", canary.from),
        };
        entry = entry.detail(detail);
        let record = self.source.record().clone();
        let written = tokio::task::spawn_blocking(move || record.add(&entry)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::error!("recording canary failed");
        }
    }

    fn log_failure<T>(&self, result: Result<T, CanaryError>) {
        if let Err(error) = result {
            tracing::error!(%error, service = self.context.service, "saving canary state failed; retrying");
        }
    }
}
