//! One record: decoded, handed to its consumer in its trace, retried while a dependency is unavailable.

use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::FutureExt as _;
use sosohappy_common::Context;
use sosohappy_common::correlation;
use sosohappy_common::faults::{Fault, Faults};
use sosohappy_common::lifecycle::Stage;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::{Consumer, HandleError, correlation_of};
use crate::metrics::Consuming;
use sosohappy_events::event::Meta;
use sosohappy_events::{Envelope, Event, Record, Unreadable};

/// An attempt that takes longer hangs on something: it is dropped, and made again.
const ATTEMPT: Duration = Duration::from_secs(30);

/// How long an unreadable record of a newer version or release is retried: longer than a rolling upgrade takes.
const NEWER_VERSION_PATIENCE: Duration = Duration::from_mins(15);

/// The kind of a group's consumer; those of every replica are readers.
pub(super) const CONSUMER: &str = "consumer";

/// How often a consumer that is stalled on purpose looks whether the switch is off.
const STALLED_POLL: Duration = Duration::from_millis(50);

/// Delays between attempts to read a record of a newer version.
fn slow_backoff() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_secs(1))
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times()
        .build()
}

/// Attempts at a record whose consumer meets corrupt data. With [`backoff`] they end after 1.6 to 3.2 s: one bad record
/// never stops a partition for more than 5 s.
const CORRUPT_ATTEMPTS: u32 = 6;

/// Delays between attempts while a dependency is unavailable: the database, the bus.
pub(super) fn backoff() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
        .build()
}

/// Sleeps for the next delay; false when the service drains meanwhile.
pub(super) async fn pause(delays: &mut (impl Iterator<Item = Duration> + Send), draining: &CancellationToken) -> bool {
    let delay = delays.next().unwrap_or(Duration::from_secs(5));
    tokio::select! {
        () = tokio::time::sleep(delay) => true,
        () = draining.cancelled() => false,
    }
}

/// The result of handling a record.
#[derive(Debug)]
pub(super) enum Outcome {
    Applied,
    /// It can never be applied, for this reason.
    Rejected(String),
    /// The service began to drain before the record was applied.
    Interrupted,
}

/// The spans of records that are applied together, beside the one of them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spans {
    /// One for each, in the trace of its cause.
    Each,
    /// No others: a reader that catches up may have millions of records, whose traces ended long ago.
    Together,
}

/// A consumer with its metrics and its stage of the graceful shutdown.
pub(super) struct Handling<E, C> {
    pub consumer: C,
    pub metrics: Consuming,
    pub kind: &'static str,
    draining: CancellationToken,
    /// Of group consumers. Readers keep their state, and the settings through which a switch is turned off.
    faults: Option<Faults>,
    event: PhantomData<fn() -> E>,
}

impl<E: Event, C: Consumer<E>> Handling<E, C> {
    pub(super) fn new(context: &Context, consumer: C, kind: &'static str) -> Self {
        let (metrics, draining) = (Consuming::of(context), context.lifecycle.draining_at(Stage::Consuming));
        Self {
            consumer,
            metrics,
            kind,
            draining,
            faults: (kind == CONSUMER).then(|| context.faults()),
            event: PhantomData,
        }
    }

    pub(super) async fn handle(&self, record: &Record) -> Outcome {
        let topic = E::TOPIC.default_name();
        if !self.unstalled(topic).await {
            return Outcome::Interrupted;
        }
        let took = self
            .metrics
            .seconds
            .with_label_values(&[topic, self.kind])
            .start_timer();
        let outcome = match self.decode(record).await {
            Ok(envelope) => {
                let span = span::<E>(&envelope.meta, self.kind);
                span.record(TRACE_ID, trace_id(&envelope.meta));
                // Decoded once more for each further attempt: events need not be cloned for the rare case.
                correlation_of(&envelope.meta)
                    .scope(self.attempts(envelope, record))
                    .instrument(span)
                    .await
            }
            Err(outcome) => outcome,
        };
        if let Outcome::Interrupted = outcome {
            took.stop_and_discard();
        } else {
            took.observe_duration();
        }
        outcome
    }

    /// Tries once to apply records together, in one span and, where `spans` says so, each in one of its own as well. After an error any part
    /// of them may have been applied.
    pub(super) async fn handle_together(&self, records: &[Record], spans: Spans) -> Result<(), HandleError> {
        let topic = E::TOPIC.default_name();
        if self.is_stalled(topic) {
            return Err(HandleError::Unavailable(anyhow::anyhow!("stalled on purpose")));
        }
        let began = Instant::now();
        let decode = |record: &Record| match Envelope::<E>::decode(record) {
            Ok(envelope) if self.is_poisoned(&envelope.meta) => {
                Err(HandleError::Rejected("rejected on purpose".to_owned()))
            }
            decoded => decoded.map_err(|unreadable| HandleError::Rejected(unreadable.to_string())),
        };
        let envelopes = records.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        // Each in the trace of its cause; they end when all are applied. Those of a failed attempt are not kept, of which there may be many.
        let of_each: Vec<(Span, Option<String>)> = match spans {
            Spans::Each => envelopes
                .iter()
                .map(|Envelope { meta, .. }| (span::<E>(meta, self.kind), trace_id(meta).map(str::to_owned)))
                .collect(),
            Spans::Together => Vec::new(),
        };
        let span = tracing::info_span!(
            "consume_together",
            topic,
            event = E::TYPE,
            records = records.len(),
            kind = self.kind,
        );
        attempt(self.consumer.handle_all(envelopes)).instrument(span).await?;
        for (span, trace_id) in of_each {
            span.record(TRACE_ID, trace_id);
        }
        let seconds = self.metrics.seconds.with_label_values(&[topic, self.kind]).local();
        let took = began.elapsed().as_secs_f64();
        for _ in records {
            seconds.observe(took);
        }
        seconds.flush();
        self.count_all("applied", records.len());
        Ok(())
    }

    fn is_stalled(&self, topic: &str) -> bool {
        let faults = self.faults.as_ref();
        let stalls = [Fault::StalledConsumer, Fault::BrokerAway];
        faults.is_some_and(|faults| stalls.into_iter().any(|fault| faults.has(fault, topic)))
    }

    /// Waits while the consumer is stalled on purpose. Returns false when the service begins to drain meanwhile.
    async fn unstalled(&self, topic: &str) -> bool {
        while self.is_stalled(topic) {
            tokio::select! {
                () = self.draining.cancelled() => return false,
                () = tokio::time::sleep(STALLED_POLL) => {}
            }
        }
        true
    }

    /// Returns whether a record is rejected on purpose.
    fn is_poisoned(&self, meta: &Meta) -> bool {
        let faults = self.faults.as_ref();
        faults.is_some_and(|faults| faults.has(Fault::PoisonRecord, &meta.id.to_string()))
    }

    /// Decodes a record, or says what became of it.
    ///
    /// An unreadable record of a newer version or release holds its partition back, until this replica is replaced by one of the newer release
    /// or [`NEWER_VERSION_PATIENCE`] has passed: a dead letter would discard an acknowledged event that the newer release could apply.
    async fn decode(&self, record: &Record) -> Result<Envelope<E>, Outcome> {
        let began = Instant::now();
        let mut delays = slow_backoff();
        loop {
            let unreadable = match Envelope::<E>::decode(record) {
                Ok(envelope) if self.is_poisoned(&envelope.meta) => {
                    self.count("malformed");
                    return Err(Outcome::Rejected(
                        "rejected on purpose: flags.fault.poison-record".to_owned(),
                    ));
                }
                Ok(envelope) => return Ok(envelope),
                Err(unreadable @ Unreadable::Malformed(_)) => {
                    self.count("malformed");
                    return Err(Outcome::Rejected(unreadable.to_string()));
                }
                Err(unreadable @ (Unreadable::NewerVersion { .. } | Unreadable::UnknownWord(_))) => {
                    unreadable.to_string()
                }
            };
            self.count("newer-version");
            if began.elapsed() >= NEWER_VERSION_PATIENCE {
                return Err(Outcome::Rejected(unreadable));
            }
            tracing::error!(
                topic = E::TOPIC.default_name(),
                partition = record.partition,
                offset = record.offset,
                reason = unreadable,
                "event version unreadable; retrying"
            );
            if !pause(&mut delays, &self.draining).await {
                return Err(Outcome::Interrupted);
            }
        }
    }

    async fn attempts(&self, first: Envelope<E>, record: &Record) -> Outcome {
        let mut delays = backoff();
        let mut corrupt = 0;
        let mut next: Result<_, Unreadable> = Ok(first);
        loop {
            let attempt = match next {
                Ok(envelope) => attempt(self.consumer.handle(envelope)).await,
                Err(unreadable) => Err(HandleError::Rejected(unreadable.to_string())),
            };
            match attempt {
                Ok(()) => {
                    self.count("applied");
                    return Outcome::Applied;
                }
                Err(HandleError::Rejected(reason)) => {
                    self.count("rejected");
                    return Outcome::Rejected(format!("rejected: {reason}"));
                }
                Err(HandleError::Unavailable(error)) => {
                    self.count("unavailable");
                    tracing::warn!(error = format!("{error:#}"), "dependency unavailable; retrying event");
                    // An unavailable dependency says nothing about the data.
                    corrupt = 0;
                }
                Err(HandleError::Corrupt(error)) => {
                    self.count("corrupt");
                    let error = format!("{error:#}");
                    // The delays of an outage before may be long.
                    if corrupt == 0 {
                        delays = backoff();
                    }
                    corrupt += 1;
                    tracing::error!(error, attempt = corrupt, "stored data corrupt; event not applied");
                    if corrupt == CORRUPT_ATTEMPTS {
                        return Outcome::Rejected(format!("corrupt: {error}"));
                    }
                }
            }
            if !pause(&mut delays, &self.draining).await {
                return Outcome::Interrupted;
            }
            next = Envelope::<E>::decode(record);
        }
    }

    fn count(&self, outcome: &str) {
        self.count_all(outcome, 1);
    }

    fn count_all(&self, outcome: &str, records: usize) {
        self.metrics
            .events
            .with_label_values(&[E::TOPIC.default_name(), self.kind, outcome])
            .inc_by(u64::try_from(records).unwrap_or(u64::MAX));
    }
}

/// Makes one attempt. A panic is an error like others.
async fn attempt(work: impl Future<Output = Result<(), HandleError>> + Send) -> Result<(), HandleError> {
    let work = AssertUnwindSafe(work).catch_unwind();
    match tokio::time::timeout(ATTEMPT, work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => {
            let said = panic.downcast_ref::<&str>().copied();
            let said = said
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or_default();
            Err(HandleError::Rejected(format!("the consumer panicked: {said}")))
        }
        Err(_) => Err(HandleError::Unavailable(anyhow::anyhow!(
            "no end after {} s",
            ATTEMPT.as_secs()
        ))),
    }
}

/// The field by which a span is kept among the recent ones.
const TRACE_ID: &str = "trace_id";

fn trace_id(meta: &Meta) -> Option<&str> {
    meta.traceparent.as_deref().and_then(correlation::trace_id)
}

/// The span of handling an event, below the one that caused it. Its [`TRACE_ID`] is still to be recorded.
fn span<E: Event>(meta: &Meta, kind: &'static str) -> Span {
    let span = tracing::info_span!(
        "consume",
        topic = E::TOPIC.default_name(),
        event = E::TYPE,
        id = %meta.id,
        kind,
        request_id = meta.correlation_id,
        trace_id = Empty,
    );
    if let Some(traceparent) = &meta.traceparent {
        correlation::continue_trace(&span, traceparent);
    }
    span
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;
    use parking_lot::Mutex;
    use sosohappy_common::settings::{Log, LogFormat, Tracing};
    use sosohappy_common::telemetry::{Telemetry, recent_spans};
    use sosohappy_events::testing::record_of;
    use sosohappy_events::types::{AccountResigned, AccountStateChanged};
    use sosohappy_events::{Header, Outgoing};

    use super::*;

    struct Unused;

    #[async_trait]
    impl<E: Event> Consumer<E> for Unused {
        async fn handle(&self, _: Envelope<E>) -> Result<(), HandleError> {
            unreachable!("the record cannot be decoded")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreadable_newer_version_is_rejected_after_its_patience() {
        let context = Context::system("test-service", 0);
        let handling = Handling::<AccountResigned, _>::new(&context, Unused, "consumer");
        let record = record_of(&Outgoing {
            topic: "resign".into(),
            key: None,
            value: None,
            headers: vec![(Header::EVENT_VERSION.to_owned(), "7".to_owned())],
        });
        let began = Instant::now();
        let outcome = tokio::time::timeout(2 * NEWER_VERSION_PATIENCE, handling.handle(&record)).await;
        let Ok(Outcome::Rejected(reason)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(reason, "version 7 is newer than 1 and cannot be read: the key is null");
        assert!(began.elapsed() >= NEWER_VERSION_PATIENCE);
        let tries = handling
            .metrics
            .events
            .with_label_values(&["resign", "consumer", "newer-version"]);
        assert!((15..=80).contains(&tries.get()), "{} tries in 15 minutes", tries.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_of_a_newer_release_is_rejected_after_the_same_patience() {
        let context = Context::system("test-service", 0);
        let handling = Handling::<AccountStateChanged, _>::new(&context, Unused, "consumer");
        let state = r#"{"account":"kim@example.com+kakao","state":"muted"}"#;
        let record = record_of(&Outgoing {
            topic: "accountState".into(),
            key: Some("kim@example.com+kakao".into()),
            value: Some(state.into()),
            headers: vec![(Header::EVENT_VERSION.to_owned(), "1".to_owned())],
        });
        let began = Instant::now();
        let outcome = tokio::time::timeout(2 * NEWER_VERSION_PATIENCE, handling.handle(&record)).await;
        let Ok(Outcome::Rejected(reason)) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(
            reason.starts_with("written by a newer release and cannot be read: "),
            "{reason}"
        );
        assert!(began.elapsed() >= NEWER_VERSION_PATIENCE);
    }

    /// Fails in this order, then applies; records the time of each call.
    #[derive(Default)]
    struct Failing {
        failures: Mutex<VecDeque<HandleError>>,
        calls: Mutex<Vec<Instant>>,
    }

    #[async_trait]
    impl Consumer<AccountResigned> for Failing {
        async fn handle(&self, _: Envelope<AccountResigned>) -> Result<(), HandleError> {
            self.calls.lock().push(Instant::now());
            self.failures.lock().pop_front().map_or(Ok(()), Err)
        }
    }

    /// Handles a record whose consumer meets corrupt data or an unavailable dependency so many times, in this order.
    async fn handled(failures: &[(&str, u32)]) -> (Outcome, Vec<Instant>) {
        let context = Context::system("test-service", 0);
        let consumer = Failing::default();
        for (kind, times) in failures {
            let failure = || match *kind {
                "corrupt" => HandleError::Corrupt(anyhow::anyhow!("a test")),
                _ => HandleError::Unavailable(anyhow::anyhow!("a test")),
            };
            consumer.failures.lock().extend((0..*times).map(|_| failure()));
        }
        let handling = Handling::new(&context, consumer, "consumer");
        let resigned = AccountResigned {
            account: "kim@example.com+kakao".parse().unwrap(),
            nickname: "kim".into(),
        };
        let record = record_of(&Envelope::new(resigned, &context).to_outgoing());
        let outcome = handling.handle(&record).await;
        let calls = handling.consumer.calls.lock().clone();
        (outcome, calls)
    }

    #[tokio::test(start_paused = true)]
    async fn corrupt_attempts_are_counted_in_a_row() {
        let most = CORRUPT_ATTEMPTS - 1;
        let (outcome, _) = handled(&[("corrupt", most), ("unavailable", 1), ("corrupt", most)]).await;
        assert!(matches!(outcome, Outcome::Applied), "{outcome:?}");
        let (outcome, calls) = handled(&[("corrupt", CORRUPT_ATTEMPTS)]).await;
        assert!(
            matches!(&outcome, Outcome::Rejected(reason) if reason == "corrupt: a test"),
            "{outcome:?}"
        );
        assert_eq!(calls.len(), CORRUPT_ATTEMPTS as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn corrupt_data_after_an_outage_holds_the_partition_up_for_seconds_only() {
        let outage = 20;
        let (outcome, calls) = handled(&[("unavailable", outage), ("corrupt", CORRUPT_ATTEMPTS)]).await;
        assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
        let corrupt = &calls[outage as usize..];
        assert!(
            corrupt[corrupt.len() - 1] - corrupt[0] < Duration::from_secs(5),
            "{corrupt:?}"
        );
    }

    #[tokio::test]
    async fn records_are_among_the_recent_spans_once_they_are_applied() {
        let log = Log {
            level: "info".to_owned(),
            format: LogFormat::Json,
        };
        let tracing = Tracing {
            otlp_endpoint: None,
            sample_ratio: 0.0,
            recent_bytes: 1 << 20,
        };
        let _telemetry = Telemetry::install("test-service", &log, &tracing).expect("the first of the process");
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let kept = || recent_spans().map(|spans| spans.find("test-service", trace).len());

        let context = Context::system("test-service", 0);
        let consumer = Failing::default();
        consumer
            .failures
            .lock()
            .push_back(HandleError::Corrupt(anyhow::anyhow!("a test")));
        let handling = Handling::new(&context, consumer, "consumer");
        let resigned = AccountResigned {
            account: "kim@example.com+kakao".parse().unwrap(),
            nickname: "kim".into(),
        };
        let mut envelope = Envelope::new(resigned, &context);
        envelope.meta.traceparent = Some(format!("00-{trace}-00f067aa0ba902b7-01"));
        let records = [record_of(&envelope.to_outgoing()), record_of(&envelope.to_outgoing())];
        for (is_applied, spans) in [(false, 0), (true, 2)] {
            let span = tracing::error_span!("test", service = "test-service");
            let outcome = handling.handle_together(&records, Spans::Each).instrument(span).await;
            assert_eq!(outcome.is_ok(), is_applied);
            assert_eq!(kept(), Some(spans));
        }
        let span = tracing::error_span!("test", service = "test-service");
        handling.handle(&records[0]).instrument(span).await;
        assert_eq!(kept(), Some(3));
        let span = tracing::error_span!("test", service = "test-service");
        let outcome = handling
            .handle_together(&records, Spans::Together)
            .instrument(span)
            .await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(kept(), Some(3), "those of a reader that catches up are not kept");
    }
}
