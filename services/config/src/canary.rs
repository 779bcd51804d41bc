//! Leads a canary: refreshes the instances of a step, waits for what they report, and goes on or back.
//!
//! Replicas of config tell each other on `configCanary` what they know of it, and agree by [`Canary::merged`]. The one that was asked leads, after
//! a restart too. When the others have received nothing from it for `canary.wait`, they roll back.

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
use crate::domain::canary::{Canary, Observed, Patience, Phase, Verdict};
use crate::settings::CanarySettings;
use crate::source::{CanaryError, Look, Source};
use crate::state::record::{Action, Entry};

/// How often reports are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often instances are refreshed that are watched: each answers with a report, which has its health.
const PROBE: Duration = Duration::from_secs(1);
/// How long instances have to report before a canary begins without them, and how often reports are looked at in this time.
const PRESENCE: Duration = Duration::from_secs(2);
const PRESENCE_LOOK: Duration = Duration::from_millis(50);
/// How often replicas that start later are told which version was taken back.
const REMINDER: Duration = Duration::from_secs(30);
/// How far back messages about a canary are read at the start.
const MEMORY: Duration = Duration::from_mins(5);

/// Clones share what is known.
#[derive(Debug, Clone)]
pub struct Canaries {
    context: Context,
    source: Source,
    convergence: Convergence,
    announcer: Announcer,
    settings: Live<CanarySettings>,
    metrics: CanaryMetrics,
    /// When the leader was heard of, by this replica's clock.
    leader_heard: Arc<Mutex<Instant>>,
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
            "Canaries that this replica led to their end, by outcome",
        );
        let ended = IntCounterVec::new(ended, &["outcome"]).expect("a static name is valid");
        let ended = context.metrics.register(ended);
        // Pre-created, so that the first one shows as an increase.
        for outcome in [Self::FINISHED, Self::ROLLED_BACK] {
            ended.with_label_values(&[outcome]);
        }
        Self {
            running: context.metrics.register(running.expect("a static name is valid")),
            ended,
        }
    }
}

/// What this process knows of the step it waits for.
struct Step {
    id: String,
    number: usize,
    /// Reports from before are about the version before.
    since: Timestamp,
    probed: Option<Instant>,
    /// Since when an instance reports the new version.
    well_since: HashMap<String, Timestamp>,
    /// Instances that were unwell before.
    unwell: Vec<String>,
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
                // A replica of another release: the merged state follows when all have the same.
                Err(error) => tracing::warn!(%error, origin = event.origin_service, "canary state invalid; ignored"),
            },
            CanaryUpdate::PublishHeldVersion => {
                self.source.look(Look::Asked).await;
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
            leader_heard: Arc::new(Mutex::new(Instant::now())),
        };
        let start = context.clock.now().checked_sub(MEMORY).unwrap_or(Timestamp::MIN);
        spawn_listener::<CanaryUpdated>(context, bus, Start::At(start), canaries.clone());
        context.lifecycle.spawn("config-canary", canaries.clone().run());
        canaries
    }

    /// Starts a canary of the newest version of the source.
    pub async fn start(&self, who: &str) -> Result<Canary, CanaryError> {
        let now = self.context.clock.now();
        let (id, started_by) = (self.context.entropy.hex(8), who.to_owned());
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
        self.record(Action::CanaryStarted, who, &canary).await;
        tracing::info!(id = canary.id, from = canary.from, to = canary.to, "canary started");
        self.tell(&canary).await;
        Ok(canary)
    }

    /// Refreshes all instances, which are still served the version before, and returns those that report: an instance that crashed is known
    /// for minutes, and would be waited for in vain.
    async fn present(&self) -> BTreeMap<String, Vec<String>> {
        let (asked, began) = (self.context.clock.now(), Instant::now());
        if let Err(error) = self.announcer.refresh([ALL]).await {
            tracing::warn!(%error, "publishing refresh event of canary failed");
        }
        loop {
            tokio::time::sleep(PRESENCE_LOOK).await;
            let (present, is_everyone) = self.convergence.reported_since(asked);
            if is_everyone || began.elapsed() >= PRESENCE {
                return present;
            }
        }
    }

    /// Goes back because an operator says so.
    pub async fn abort(&self, who: &str) -> Result<Canary, CanaryError> {
        match self.source.canary() {
            Some((canary, leads)) if canary.phase == Phase::Running => {
                let reason = format!("stopped by {who}");
                self.end(canary, leads, Phase::RolledBack, Some(reason), who).await
            }
            _ => Err(CanaryError::NotRunning),
        }
    }

    async fn run(self) -> anyhow::Result<()> {
        let draining = self.context.lifecycle.draining();
        let mut step: Option<Step> = None;
        let mut reminded = Instant::now();
        if self.source.canary().is_some() {
            // What followed from it may not have been published before the end of the last process.
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
                if canary.phase == Phase::RolledBack && reminded.elapsed() >= REMINDER {
                    reminded = Instant::now();
                    self.tell(&canary).await;
                }
            } else if leads {
                step = self.lead(canary, step.take()).await;
            } else if self.leader_heard.lock().elapsed() >= self.settings.get().wait {
                let reason = Some("the replica of config that led it is gone".to_owned());
                self.log_failure(self.end(canary, false, Phase::RolledBack, reason, "config").await);
            }
        }
    }

    /// One look at the step that is waited for.
    async fn lead(&self, canary: Canary, step: Option<Step>) -> Option<Step> {
        let now = self.context.clock.now();
        let mut step = match step {
            Some(step) if step.id == canary.id && step.number == canary.step => step,
            _ => self.begin(&canary, now),
        };
        if step.probed.is_none_or(|probed| probed.elapsed() >= PROBE) {
            step.probed = Some(Instant::now());
            self.tell(&canary).await;
            if let Err(error) = self.announcer.refresh(canary.updated()).await {
                tracing::warn!(%error, "publishing refresh event of canary failed");
            }
        }
        match self.judge(&canary, &mut step, now) {
            Verdict::Waiting => return Some(step),
            Verdict::Unwell(reason) => {
                self.log_failure(self.end(canary, true, Phase::RolledBack, Some(reason), "config").await);
            }
            Verdict::Well if canary.step + 1 >= canary.steps.len() => {
                self.log_failure(self.end(canary, true, Phase::Finished, None, "config").await);
            }
            Verdict::Well => {
                let next = Canary {
                    step: canary.step + 1,
                    ..canary
                };
                tracing::info!(id = next.id, step = next.step, of = next.steps.len(), "canary goes on");
                self.log_failure(self.source.put_canary(next, true).await);
            }
        }
        None
    }

    fn begin(&self, canary: &Canary, now: Timestamp) -> Step {
        let is_unwell = |instance: &&str| {
            let heard = self.convergence.heard(instance);
            heard.is_some_and(|(_, report)| report.health.is_some_and(|health| health != "UP"))
        };
        let current = canary.steps.get(canary.step).into_iter().flatten().map(String::as_str);
        Step {
            id: canary.id.clone(),
            number: canary.step,
            since: now,
            probed: None,
            well_since: HashMap::new(),
            unwell: current.filter(is_unwell).map(str::to_owned).collect(),
        }
    }

    /// Those of the step are waited for; all that have the new version must stay well.
    fn judge(&self, canary: &Canary, step: &mut Step, now: Timestamp) -> Verdict {
        let settings = self.settings.get();
        let patience = Patience {
            wait: settings.wait,
            watch: settings.watch,
        };
        let current = canary.steps.get(canary.step).map(Vec::as_slice).unwrap_or_default();
        let mut all_well = true;
        for instance in canary.updated() {
            let heard = self.convergence.heard(instance).filter(|(at, _)| *at > step.since);
            let mut observed = Observed {
                was_unwell: step.unwell.iter().any(|unwell| unwell == instance),
                ..Observed::default()
            };
            if let Some((at, report)) = heard {
                if report.version.as_ref() == Some(&canary.to) {
                    step.well_since.entry(instance.to_owned()).or_insert(at);
                }
                observed.heard_at = Some(at);
                observed.version = report.version;
                observed.refused = report.refused;
                observed.health = report.health;
            }
            let well_since = step.well_since.get(instance).copied();
            let is_current = current.iter().any(|current| current == instance);
            match observed.verdict(&canary.to, step.since, well_since, patience, now) {
                // Silence of one that went well before may be a restart for reasons of its own.
                Verdict::Unwell(_) if !is_current && observed.heard_at.is_none() => {}
                Verdict::Unwell(reason) => return Verdict::Unwell(format!("{instance}: {reason}")),
                Verdict::Waiting => all_well &= !is_current,
                Verdict::Well => {}
            }
        }
        if all_well { Verdict::Well } else { Verdict::Waiting }
    }

    async fn end(
        &self,
        canary: Canary,
        leads: bool,
        phase: Phase,
        reason: Option<String>,
        who: &str,
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
            tracing::error!(id, from, to, reason, "canary rolled back; serving the version before");
            (Action::CanaryRolledBack, CanaryMetrics::ROLLED_BACK)
        };
        self.metrics.running.set(0);
        self.metrics.ended.with_label_values(&[outcome]).inc();
        self.record(action, who, &ended).await;
        self.tell(&ended).await;
        self.announcer.refresh_all_soon();
        Ok(ended)
    }

    /// Merges the state that another replica has published.
    async fn merge(&self, theirs: Canary) {
        *self.leader_heard.lock() = Instant::now();
        let (holds, leads) = match self.source.canary() {
            Some((mine, leads)) if mine == theirs => {
                drop((mine, leads));
                return;
            }
            Some((mine, leads)) => {
                let same = mine.id == theirs.id;
                let holds = mine.clone().merged(theirs.clone());
                if holds == mine {
                    // They have yet to hear of it.
                    self.tell(&mine).await;
                    return;
                }
                (holds, leads && same)
            }
            None => (theirs, false),
        };
        tracing::info!(id = holds.id, phase = ?holds.phase, step = holds.step, "canary of another replica followed");
        self.log_failure(self.source.put_canary(holds, leads).await);
    }

    async fn tell(&self, canary: &Canary) {
        if let Err(error) = self.announcer.canary(canary).await {
            tracing::warn!(%error, "publishing state of canary failed");
        }
    }

    async fn record(&self, action: Action, who: &str, canary: &Canary) {
        let mut entry = Entry::new(self.context.clock.now(), who, action).version(&canary.to);
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
            tracing::error!(%error, service = self.context.service, "keeping state of canary failed; trying again");
        }
    }
}
