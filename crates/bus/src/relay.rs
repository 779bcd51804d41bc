//! The relay: publishes what transactions have written to an outbox, in order per key, and survives a kill anywhere.

mod heartbeats;
mod hints;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::future::BoxFuture;
use jiff::Timestamp;
use sosohappy_common::clock::Clock;
use sosohappy_common::correlation;
use sosohappy_common::faults::{Fault, Faults};
use sosohappy_common::lifecycle::Stage;
use sosohappy_common::{Context, WakeHandle, crash_point};
use sosohappy_events::{Header, Outgoing};
use sosohappy_store::StoreError;
use sosohappy_store::outbox::{Batch, Outbox, Pending, Quarantined};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::dead_letter::dead_letter_of;
use crate::delivery::{DeliveryTimes, Hop};
use crate::metrics::Relaying;
use crate::{Bus, BusError};
use heartbeats::PublishedUntil;
pub use hints::Hints;
use hints::Leader;

/// How long a lease outlives its holder; renewed when half of it is gone.
const LEASE: Duration = Duration::from_secs(5);

/// How long the database may take to answer. A server that has gone without closing its connections never does; the next attempt is made on
/// another connection.
const ANSWER: Duration = Duration::from_secs(15);

/// Records of one batch.
const BATCH: usize = 256;

/// How long a relay waits before it looks again when neither a wake nor a hint comes.
const LOOK: Duration = Duration::from_millis(200);

/// The same of a relay that gets hints and has found no row for [`IDLE_AFTER`].
const IDLE_LOOK: Duration = Duration::from_secs(1);
const IDLE_AFTER: Duration = Duration::from_secs(10);

/// How often a relay without the lease tries to get it.
const TRY: Duration = Duration::from_secs(1);

/// The shortest time between two hints of a replica: all commits meanwhile are one hint.
const HINT_GAP: Duration = Duration::from_millis(1);

/// Wakes the relay of this process; called after each commit of an outbox row.
pub type RelayHandle = WakeHandle;

/// Spawns the relay: one replica holds the lease and publishes batches in order. A wake of this process, or a hint of another replica that was
/// woken, makes it look at the outbox at once. Without either it polls every 200 ms, or every second if it gets hints and has found no row for
/// 10 s, which also finds rows of a replica that crashed after its commit. Records that the bus refuses permanently become
/// dead letters, and invalid rows are quarantined, so that one record never blocks the rest.
///
/// A record is published at least once: a relay that crashes, or loses its lease, between publishing and deleting leaves
/// rows that the next one publishes again under the same event ids. The first copies of a key are always in order.
#[must_use]
pub fn spawn_relay(context: &Context, bus: Arc<dyn Bus>, outbox: Arc<dyn Outbox>, hints: Hints) -> RelayHandle {
    Relay::new(context, bus, outbox, hints).spawn(context)
}

/// Turns a record of the outbox into those that are published for it. An error of it is one of the bus.
pub type RecordMapping = Arc<dyn Fn(Outgoing) -> BoxFuture<'static, Result<Vec<Outgoing>, BusError>> + Send + Sync>;

/// As [`spawn_relay`]; each record is published as what the mapping makes of it at that moment.
#[must_use]
pub fn spawn_mapping_relay(
    context: &Context,
    bus: Arc<dyn Bus>,
    outbox: Arc<dyn Outbox>,
    hints: Hints,
    mapping: RecordMapping,
) -> RelayHandle {
    let relay = Relay {
        mapping: Some(mapping),
        ..Relay::new(context, bus, outbox, hints)
    };
    relay.spawn(context)
}

/// As [`spawn_relay`]; while it leads, the relay also publishes a heartbeat every 500 ms that says up to when everything committed has
/// been published, and polls every 200 ms, idle or not.
#[must_use]
pub fn spawn_relay_with_heartbeats(
    context: &Context,
    bus: Arc<dyn Bus>,
    outbox: Arc<dyn Outbox>,
    hints: Hints,
) -> RelayHandle {
    let relay = Relay {
        published_until: Some(heartbeats::spawn(context, bus.clone())),
        ..Relay::new(context, bus, outbox, hints)
    };
    relay.spawn(context)
}

struct Relay {
    bus: Arc<dyn Bus>,
    outbox: Arc<dyn Outbox>,
    /// Chooses the replica for fault switches.
    instance: Arc<str>,
    /// Names this replica in the lease.
    holder: String,
    hints: Hints,
    wake: RelayHandle,
    draining: CancellationToken,
    metrics: Relaying,
    delivery: DeliveryTimes,
    faults: Faults,
    clock: Arc<dyn Clock>,
    /// Where the relay publishes heartbeats.
    published_until: Option<PublishedUntil>,
    mapping: Option<RecordMapping>,
}

/// An acquired lease with the instants of its renewal and expiry. Both are monotonic: the lease depends on the liveness of
/// this process, not on the date.
struct Lease {
    renew: Instant,
    end: Instant,
}

impl Lease {
    fn from(asked: Instant) -> Self {
        Self {
            renew: asked + LEASE / 2,
            end: asked + LEASE,
        }
    }
}

/// The result of one look at the outbox.
enum Step {
    /// Rows were published or quarantined.
    Published {
        /// The read was as large as it may be: others may wait behind them.
        more: bool,
    },
    /// No row is pending.
    Empty,
    /// The rows that were not published stay.
    Failed(Failure),
    LeaseLost,
}

/// What failed in a look at the outbox.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Database(#[from] StoreError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What makes the relay look at the outbox.
#[derive(Debug, Clone, Copy)]
enum Cause {
    /// A commit of this process.
    Commit,
    /// A commit of another replica.
    Hint,
    /// The time has come; also the first look with a new lease, and the last before the relay ends.
    Poll,
    /// The look before has found rows.
    Backlog,
}

impl Cause {
    const fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Hint => "hint",
            Self::Poll => "poll",
            Self::Backlog => "backlog",
        }
    }
}

/// Why the relay stopped leading.
enum End {
    Drained,
    LeaseLost,
}

fn backoff() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        // Up to twice as long with jitter: shorter than half a lease, so that no pause outlasts it.
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
        .build()
}

/// Waits for the database, at most [`ANSWER`].
async fn answer<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let answered = tokio::time::timeout(ANSWER, asked).await;
    answered.unwrap_or_else(|_| Err(StoreError::Unavailable(anyhow::anyhow!(no_answer()))))
}

fn no_answer() -> String {
    format!("no answer within {} s", ANSWER.as_secs())
}

/// Returns the span of publishing a record, below the one that caused it; `None` if the record has no trace.
fn span(record: &Outgoing) -> Option<Span> {
    let header = |name: &str| {
        let mut headers = record.headers.iter();
        headers
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    };
    let traceparent = header(Header::TRACEPARENT)?;
    let span = tracing::info_span!(
        "publish",
        topic = record.topic,
        id = header(Header::EVENT_ID),
        request_id = header(Header::CORRELATION_ID),
        trace_id = correlation::trace_id(traceparent)?,
    );
    correlation::continue_trace(&span, traceparent);
    Some(span)
}

impl Relay {
    fn new(context: &Context, bus: Arc<dyn Bus>, outbox: Arc<dyn Outbox>, hints: Hints) -> Self {
        Self {
            bus,
            outbox,
            instance: context.instance.clone(),
            holder: hints.holder(&context.instance),
            hints,
            wake: RelayHandle::default(),
            draining: context.lifecycle.draining_at(Stage::Publishing),
            metrics: Relaying::of(context),
            delivery: DeliveryTimes::of(&context.metrics),
            faults: context.faults(),
            clock: context.clock.clone(),
            published_until: None,
            mapping: None,
        }
    }

    fn spawn(self, context: &Context) -> RelayHandle {
        let handle = self.wake.clone();
        context
            .lifecycle
            .spawn_at(Stage::Publishing, "outbox-relay", self.run());
        handle
    }

    async fn run(self) -> anyhow::Result<()> {
        let mut delays = backoff();
        loop {
            let asked = Instant::now();
            match answer(self.outbox.lease(&self.holder, LEASE)).await {
                Ok(true) => {
                    delays = backoff();
                    self.metrics.leading.set(1);
                    let end = self.lead(Lease::from(asked)).await;
                    self.metrics.leading.set(0);
                    self.report(None);
                    self.metrics.pending.set(0);
                    self.metrics.oldest.set(0.0);
                    if let End::Drained = end {
                        self.give_back().await;
                        return Ok(());
                    }
                    tracing::warn!("outbox lease lost; another replica publishes");
                    self.follow().await;
                }
                Ok(false) => {
                    delays = backoff();
                    self.follow().await;
                }
                Err(error) => {
                    tracing::warn!(%error, "outbox lease request failed; retrying");
                    let pause = tokio::time::sleep(delays.next().unwrap_or(TRY));
                    self.draining.run_until_cancelled(pause).await;
                }
            }
            if self.draining.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Waits until it is time to try to get the lease. Meanwhile, commits of this process are hinted to the leader.
    async fn follow(&self) {
        let end = Instant::now() + TRY;
        let leader = self.leader().await;
        loop {
            tokio::select! {
                // The end first, so that no load delays it; the drain last, so that the last commits are hinted.
                biased;
                () = tokio::time::sleep_until(end) => return,
                () = self.wake.woken(), if leader.is_some() => {}
                () = self.draining.cancelled() => return,
            }
            if let Some(leader) = &leader {
                let outcome = match self.hints.send(leader).await {
                    Ok(()) => "sent",
                    Err(error) => {
                        tracing::debug!(%error, "outbox hint failed; the leader finds the rows by polling");
                        "failed"
                    }
                };
                self.metrics.hints.with_label_values(&[outcome]).inc();
            }
            tokio::time::sleep(HINT_GAP).await;
        }
    }

    /// Returns the leading replica, if it receives hints. Its lease may have expired: hints to it are then lost.
    async fn leader(&self) -> Option<Leader> {
        if !self.hints.are_on() {
            return None;
        }
        match answer(self.outbox.leader()).await {
            Ok(holder) => self.hints.leader(&holder?),
            Err(error) => {
                tracing::warn!(%error, "outbox leader unknown; no hints until the next attempt");
                None
            }
        }
    }

    /// Publishes as long as the lease holds. When the relay drains, all writers have ended: the rest of the outbox is published, so
    /// that events of the last requests do not wait for another replica.
    ///
    /// | step | relay drains | next |
    /// | --- | --- | --- |
    /// | published, more may wait | either | the next step at once |
    /// | published, or empty | no | a rest, until a wake, a hint or the next look |
    /// | published | yes | the next step at once |
    /// | empty | since before the look | drained |
    /// | failed | no | a pause that grows with each failure; no hint ends it, and a commit only if the database failed |
    /// | failed | yes | drained: the rows stay for another replica |
    /// | lease lost | either | lease lost |
    async fn lead(&self, mut lease: Lease) -> End {
        let mut delays = backoff();
        // Rows refused together with their dead letters (a topic of another release): they stay in the outbox and block no
        // other row.
        let mut stuck = HashSet::new();
        let mut cause = Cause::Poll;
        let mut found_at = Instant::now();
        loop {
            if !self.keep(&mut lease).await {
                return End::LeaseLost;
            }
            // Read before the query: rows committed before the drain are then part of its result.
            let drains = self.draining.is_cancelled();
            match self.step(&mut lease, &mut stuck).await {
                Step::Published { more } => {
                    self.metrics.reads.with_label_values(&[cause.name()]).inc();
                    delays = backoff();
                    found_at = Instant::now();
                    cause = if more || drains {
                        Cause::Backlog
                    } else {
                        // What was committed since the read has left a wake or a hint.
                        self.rest(LOOK).await
                    };
                }
                Step::Empty if drains => return End::Drained,
                Step::Empty => {
                    delays = backoff();
                    cause = self.rest(self.longest_rest(found_at.elapsed())).await;
                }
                Step::Failed(failure) => {
                    tracing::warn!(error = %failure, "outbox publish failed; retrying");
                    if self.draining.is_cancelled() {
                        return End::Drained;
                    }
                    let longest = delays.next().unwrap_or(TRY);
                    cause = match failure {
                        // A commit shows that the database is available again.
                        Failure::Database(_) => self.pause_until_commit(longest).await,
                        Failure::Bus(_) => self.pause(longest).await,
                    };
                }
                Step::LeaseLost => return End::LeaseLost,
            }
        }
    }

    /// Looks at the outbox once, and publishes one batch of it.
    async fn step(&self, lease: &mut Lease, stuck: &mut HashSet<String>) -> Step {
        let looked_at = self.clock.now();
        let mut batch = match answer(self.outbox.pending(BATCH + stuck.len())).await {
            Ok(batch) => batch,
            Err(error) => return Step::Failed(error.into()),
        };
        self.look_at(&batch);
        if self.faults.has(Fault::DeadRelay, &self.instance) {
            return Step::Empty;
        }
        batch.pending.retain(|pending| !stuck.contains(&pending.row));
        // A full batch may hide rows that were committed before the look.
        let is_all = batch.pending.len() + batch.quarantined.len() < BATCH;
        let step = match (batch.pending.is_empty(), batch.quarantined.is_empty()) {
            (true, true) => Step::Empty,
            // The quarantined rows filled the batch; other rows may follow them.
            (true, false) => return Step::Published { more: true },
            (false, _) => match self.relay(&batch.pending, lease, stuck).await {
                Ok(()) => Step::Published { more: !is_all },
                Err(step) => step,
            },
        };
        if is_all && matches!(step, Step::Published { .. } | Step::Empty) {
            self.report(Some(looked_at));
        }
        step
    }

    /// Returns the time to the next look of a relay that has found no row for `idle`.
    fn longest_rest(&self, idle: Duration) -> Duration {
        // A heartbeat says what was published as of the last look.
        if idle >= IDLE_AFTER && self.hints.are_on() && self.published_until.is_none() {
            IDLE_LOOK
        } else {
            LOOK
        }
    }

    /// Waits for the next look, at most for `longest`.
    async fn rest(&self, longest: Duration) -> Cause {
        tokio::select! {
            // Hints last: a flood of datagrams delays nothing else.
            biased;
            cause = self.pause_until_commit(longest) => cause,
            () = self.hints.received(&self.holder, &self.metrics) => Cause::Hint,
        }
    }

    /// Waits for a commit of this process, at most for `longest`.
    async fn pause_until_commit(&self, longest: Duration) -> Cause {
        tokio::select! {
            biased;
            () = self.wake.woken() => Cause::Commit,
            cause = self.pause(longest) => cause,
        }
    }

    /// Waits after a failure, at most for `longest`. Wakes and hints stay unread: commits are no sign that the bus is available again.
    async fn pause(&self, longest: Duration) -> Cause {
        tokio::select! {
            () = self.draining.cancelled() => {}
            () = tokio::time::sleep(longest) => {}
        }
        Cause::Poll
    }

    /// Publishes one batch and deletes its rows. The lease may have been lost before the call: the query of pending rows may have
    /// outlasted it, and another relay may have published the same rows, and later ones, since. Returns the step if not all are published.
    async fn relay(&self, pending: &[Pending], lease: &mut Lease, stuck: &mut HashSet<String>) -> Result<(), Step> {
        let Some(outcome) = self.while_leading(lease, self.publish(pending)).await else {
            return Err(Step::LeaseLost);
        };
        let (sent, error) = match outcome {
            Ok(()) => (pending.len(), None),
            // One of the records is refused, and the batch does not say which.
            Err(BusError::Refused(_)) => match self.one_by_one(pending, lease, stuck).await {
                Some(handled) => handled,
                None => return Err(Step::LeaseLost),
            },
            Err(error) => (0, Some(error)),
        };
        if error.is_none() {
            crash_point("relay.published");
        }
        let sent: Vec<_> = pending[..sent]
            .iter()
            .filter(|pending| !stuck.contains(&pending.row))
            .collect();
        // Deleted also after an error: events that were published before it must not be published again.
        if !self.forget(&sent, lease).await {
            return Err(Step::LeaseLost);
        }
        match error {
            None => Ok(()),
            Some(error) => Err(Step::Failed(error.into())),
        }
    }

    async fn publish(&self, pending: &[Pending]) -> Result<(), BusError> {
        if self.faults.has(Fault::BrokerAway, &self.instance) {
            return Err(BusError::Unavailable("the fault switch fault.broker-away is on".into()));
        }
        let refused = |pending: &Pending| self.faults.has(Fault::RefusedRecord, &pending.row);
        if pending.iter().any(refused) {
            return Err(BusError::Refused("the fault switch fault.refused-record is on".into()));
        }
        let mut records = Vec::with_capacity(pending.len());
        for Pending { record, .. } in pending {
            match &self.mapping {
                Some(mapping) => {
                    // It may ask the database, too.
                    let mapped = tokio::time::timeout(ANSWER, mapping(record.clone())).await;
                    records.extend(mapped.unwrap_or_else(|_| Err(BusError::Unavailable(no_answer())))?);
                }
                None => records.push(record.clone()),
            }
        }
        // They end when the batch is acknowledged.
        let _spans: Vec<Span> = records.iter().filter_map(span).collect();
        self.bus.publish(&records).await
    }

    /// Publishes record by record and sends a dead letter for each refused one. Returns the number of handled records and the
    /// error that stopped it; `None` when the lease has expired.
    async fn one_by_one(
        &self,
        pending: &[Pending],
        lease: &mut Lease,
        stuck: &mut HashSet<String>,
    ) -> Option<(usize, Option<BusError>)> {
        for (sent, one) in pending.iter().enumerate() {
            let Pending { row, record, .. } = one;
            let mut outcome = self
                .while_leading(lease, self.publish(std::slice::from_ref(one)))
                .await?;
            if let Err(BusError::Refused(reason)) = outcome {
                tracing::error!(
                    topic = record.topic,
                    reason,
                    "outbox record refused; sending dead letter"
                );
                self.metrics.refused.with_label_values(&[&record.topic]).inc();
                let dead = dead_letter_of(record, "outbox", &reason);
                outcome = self.while_leading(lease, self.bus.publish(&[dead])).await?;
            }
            match outcome {
                Ok(()) => {}
                Err(BusError::Refused(reason)) => {
                    tracing::error!(
                        row,
                        reason,
                        "outbox record and its dead letter refused; record stays in the outbox"
                    );
                    stuck.insert(row.clone());
                }
                Err(error) => return Some((sent, Some(error))),
            }
        }
        Some((pending.len(), None))
    }

    /// Deletes published rows, retrying until it succeeds: rows that stay would be published again. Returns false when the
    /// lease has expired.
    async fn forget(&self, sent: &[&Pending], lease: &mut Lease) -> bool {
        if sent.is_empty() {
            return true;
        }
        let now = self.clock.now();
        for pending in sent {
            self.delivery.record_reached(Hop::Published, &pending.record, now);
        }
        let rows: Vec<_> = sent.iter().map(|pending| pending.row.clone()).collect();
        let mut delays = backoff();
        while let Err(error) = answer(self.outbox.published(&rows)).await {
            tracing::warn!(%error, "deleting published outbox rows failed; retrying");
            tokio::time::sleep(delays.next().unwrap_or(TRY)).await;
            if !self.keep(lease).await {
                return false;
            }
        }
        for pending in sent {
            self.metrics.published.with_label_values(&[&pending.record.topic]).inc();
            // Pre-creates the series of the topic so that it starts at 0.
            self.metrics.refused.with_label_values(&[&pending.record.topic]);
        }
        true
    }

    /// Runs slow work and renews the lease meanwhile. Returns `None` when the lease has expired: the work is then dropped,
    /// or never started.
    async fn while_leading<T>(&self, lease: &mut Lease, work: impl Future<Output = T>) -> Option<T> {
        if !self.keep(lease).await {
            return None;
        }
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = tokio::time::sleep_until(lease.renew) => if !self.keep(lease).await { return None },
            }
        }
    }

    /// Renews the lease after half of its duration. Returns false when it has expired.
    async fn keep(&self, lease: &mut Lease) -> bool {
        let mut delays = backoff();
        while Instant::now() >= lease.renew {
            let asked = Instant::now();
            if asked >= lease.end {
                return false;
            }
            match tokio::time::timeout_at(lease.end, self.outbox.lease(&self.holder, LEASE)).await {
                Ok(Ok(true)) => *lease = Lease::from(asked),
                Ok(Ok(false)) | Err(_) => return false,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "outbox lease renewal failed");
                    tokio::time::sleep_until((Instant::now() + delays.next().unwrap_or(TRY)).min(lease.end)).await;
                    if Instant::now() >= lease.end {
                        return false;
                    }
                }
            }
        }
        true
    }

    async fn give_back(&self) {
        if let Err(error) = answer(self.outbox.release(&self.holder)).await {
            tracing::warn!(%error, "failed to release outbox lease; it expires");
        }
    }

    /// Reports the time up to which all commits are published; `None` without the lease.
    fn report(&self, until: Option<Timestamp>) {
        if let Some(published_until) = &self.published_until {
            published_until.send_replace(until);
        }
    }

    fn look_at(&self, Batch { pending, quarantined }: &Batch) {
        for Quarantined { row, reason } in quarantined {
            tracing::error!(row, reason, "outbox row invalid; quarantined");
            self.metrics.quarantined.inc();
        }
        self.metrics
            .pending
            .set(i64::try_from(pending.len()).unwrap_or(i64::MAX));
        self.metrics
            .oldest
            .set(pending.first().map_or(0.0, |oldest| oldest.age.as_secs_f64()));
    }
}
