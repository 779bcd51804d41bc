//! One record: decoded, handed to its consumer in its trace, tried again while what it needs is away.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::FutureExt as _;
use sosohappy_common::Context;
use sosohappy_common::correlation::Correlation;
use sosohappy_common::lifecycle::Stage;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{Consumer, HandleError};
use crate::metrics::Consuming;
use sosohappy_events::event::Meta;
use sosohappy_events::{Envelope, Event, Header, Record};

/// An attempt that takes longer hangs on something: it is dropped, and made again.
const ATTEMPT: Duration = Duration::from_secs(30);

/// Between attempts at whatever is away: the database, the bus.
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

/// What came of a record.
pub(super) enum Outcome {
    Applied,
    /// It can never be applied, and this is why.
    Hopeless(String),
    /// The service drains before the record could be applied.
    Undone,
}

/// A consumer with what is needed around it.
pub(super) struct Handling<E, C> {
    consumer: C,
    pub metrics: Consuming,
    pub kind: &'static str,
    draining: CancellationToken,
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
            event: PhantomData,
        }
    }

    pub(super) async fn handle(&self, record: &Record) -> Outcome {
        let topic = E::TOPIC.default_name();
        let took = self
            .metrics
            .seconds
            .with_label_values(&[topic, self.kind])
            .start_timer();
        let outcome = match Envelope::<E>::decode(record) {
            Ok(envelope) => {
                let meta = envelope.meta.clone();
                let span = span::<E>(&meta, self.kind);
                let id = meta.correlation_id.unwrap_or_else(|| meta.id.to_string()).into();
                let correlation = Correlation {
                    id,
                    traceparent: meta.traceparent.map(Into::into),
                };
                // Decoded once more for each further attempt: events need not be cloned for the rare case.
                correlation
                    .scope(self.attempts(envelope, record))
                    .instrument(span)
                    .await
            }
            Err(malformed) => {
                self.count("malformed");
                Outcome::Hopeless(format!("malformed: {malformed}"))
            }
        };
        if let Outcome::Undone = outcome {
            took.stop_and_discard();
        } else {
            took.observe_duration();
        }
        outcome
    }

    async fn attempts(&self, first: Envelope<E>, record: &Record) -> Outcome {
        let mut delays = backoff();
        let mut next = Ok(first);
        loop {
            let attempt = match next {
                Ok(envelope) => self.attempt(envelope).await,
                Err(malformed) => Err(HandleError::Rejected(format!("malformed: {malformed}"))),
            };
            match attempt {
                Ok(()) => {
                    self.count("applied");
                    return Outcome::Applied;
                }
                Err(HandleError::Rejected(reason)) => {
                    self.count("rejected");
                    return Outcome::Hopeless(format!("rejected: {reason}"));
                }
                Err(HandleError::Unavailable(error)) => {
                    self.count("unavailable");
                    tracing::warn!(error = format!("{error:#}"), "the event waits: what it needs is away");
                }
            }
            if !pause(&mut delays, &self.draining).await {
                return Outcome::Undone;
            }
            next = Envelope::decode(record);
        }
    }

    async fn attempt(&self, envelope: Envelope<E>) -> Result<(), HandleError> {
        let work = AssertUnwindSafe(self.consumer.handle(envelope)).catch_unwind();
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

    fn count(&self, outcome: &str) {
        self.metrics
            .events
            .with_label_values(&[E::TOPIC.default_name(), self.kind, outcome])
            .inc();
    }
}

/// The span of handling an event, below the one that caused it.
fn span<E: Event>(meta: &Meta, kind: &'static str) -> Span {
    let span = tracing::info_span!("consume", topic = E::TOPIC.default_name(), event = E::TYPE, id = %meta.id, kind);
    if let Some(traceparent) = &meta.traceparent {
        let carrier = HashMap::from([(Header::TRACEPARENT.to_owned(), traceparent.clone())]);
        let parent = opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&carrier));
        // Without an exporter there is nothing to hang it below.
        let _ = span.set_parent(parent);
    }
    span
}
