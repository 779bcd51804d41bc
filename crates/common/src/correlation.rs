//! Correlation of the log lines, events and calls that one request or one consumed event has caused.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use opentelemetry::trace::TraceContextExt as _;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::clock::Entropy;
use crate::telemetry;

tokio::task_local! {
    static CURRENT: Correlation;
}

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// The ids that a request passes to its events, and an event to the work of its consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correlation {
    /// The request id, or the `correlation-id` of the consumed event.
    pub id: Arc<str>,
    /// W3C trace context, `00-<trace id>-<parent id>-<flags>`.
    pub traceparent: Option<Arc<str>>,
}

impl Correlation {
    /// Creates the correlation of work without a known cause: a frame of a client.
    #[must_use]
    pub fn begin(entropy: &dyn Entropy) -> Self {
        Self {
            id: entropy.hex(16).into(),
            traceparent: Some(new_traceparent(entropy)),
        }
    }

    /// Creates the correlation and the span of a client's frame: in the trace of the `traceparent` that came with it, in a new one without a valid
    /// one. `topic` is of a few: it is a field of log lines.
    #[must_use]
    pub fn of_frame(
        service: &'static str,
        topic: &str,
        traceparent: Option<&str>,
        entropy: &dyn Entropy,
    ) -> (Self, Span) {
        let mut frame = Self::begin(entropy);
        // Longer ones are of later versions, whose ends a client could fill with anything.
        let given = traceparent.filter(|text| text.len() == LENGTH && TraceParent::parse(text).is_some());
        if let Some(given) = given {
            frame.traceparent = Some(given.into());
        }
        let (request_id, trace_id) = (&*frame.id, frame.trace_id());
        if !telemetry::exports() {
            let span = tracing::info_span!("frame", service, request_id, trace_id, topic);
            return (frame, span);
        }
        let span = tracing::info_span!(
            "frame",
            service,
            request_id,
            trace_id = Empty,
            topic,
            otel.kind = "server"
        );
        if let Some(given) = given {
            continue_trace(&span, given);
        }
        let exported = exported_trace_id(&span);
        span.record("trace_id", exported.as_deref().or(trace_id));
        (frame, span)
    }

    /// Returns the trace id of the trace context, which is valid; `None` without one.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.traceparent.as_deref()?.get(TRACE_ID)
    }

    /// Runs a future (a request, or the handling of one event) in this correlation.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }
}

/// Returns the correlation of the current task; `None` outside of a request or an event. Spawned tasks do not inherit it.
///
/// Where spans are exported the trace context is that of the current span, which becomes the parent of later spans.
#[must_use]
pub fn correlation() -> Option<Correlation> {
    let mut current = CURRENT.try_with(Clone::clone).ok()?;
    if telemetry::exports()
        && let Some(exported) = current_traceparent()
    {
        current.traceparent = Some(exported.into());
    }
    Some(current)
}

/// Returns the id of the trace that a span is exported in; `None` where spans are not exported.
fn exported_trace_id(span: &Span) -> Option<String> {
    let context = span.context();
    let exported = context.span().span_context().clone();
    exported.is_valid().then(|| exported.trace_id().to_string())
}

/// Returns the trace context of the current span, if spans are exported.
fn current_traceparent() -> Option<String> {
    let context = tracing::Span::current().context();
    let span = context.span();
    let span = span.span_context();
    let (trace, parent, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
    span.is_valid().then(|| format!("00-{trace}-{parent}-{flags:02x}"))
}

/// Returns the trace id of a `traceparent`; `None` if it is invalid.
#[must_use]
pub fn trace_id(traceparent: &str) -> Option<&str> {
    TraceParent::parse(traceparent).map(|parent| parent.trace_id)
}

/// Makes a span part of the trace of a `traceparent`, where spans are exported.
pub fn continue_trace(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&carrier));
    // Without an exporter there is nothing to hang it below.
    let _ = span.set_parent(parent);
}

/// The places of the ids in a `traceparent`.
const TRACE_ID: Range<usize> = 3..35;
const PARENT_ID: Range<usize> = 36..52;

/// Splits a `traceparent` header into its four parts, and checks them by the W3C recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceParent<'a> {
    pub trace_id: &'a str,
    text: &'a str,
}

impl<'a> TraceParent<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let lower_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = text.split('-');
        let (version, trace_id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lengths = (version.len(), trace_id.len(), parent.len(), flags.len()) == (2, 32, 16, 2);
        let digits = [version, trace_id, parent, flags].into_iter().all(lower_hex);
        let nonzero = [trace_id, parent]
            .into_iter()
            .all(|part| part.bytes().any(|byte| byte != b'0'));
        // Version 00 has exactly four parts; later versions may have more.
        let ends = version != "ff" && (version != "00" || parts.next().is_none());
        (lengths && digits && nonzero && ends).then_some(Self { trace_id, text })
    }

    pub(crate) fn as_str(&self) -> &'a str {
        self.text
    }
}

/// Creates a trace that is not exported: its id correlates the log lines of several services.
pub(crate) fn new_traceparent(entropy: &dyn Entropy) -> Arc<str> {
    let mut random = [0; 24];
    entropy.fill(&mut random);
    let (trace, parent) = random.split_at(16);
    let mut text = *b"00-................................-................-00";
    for (bytes, digits) in [(trace, TRACE_ID), (parent, PARENT_ID)] {
        hex::encode_to_slice(bytes, &mut text[digits]).expect("there is room for two digits a byte");
    }
    std::str::from_utf8(&text).expect("digits are ASCII").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_parents_are_checked() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(
            TraceParent::parse(good).map(|parent| parent.trace_id),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
        assert!(
            TraceParent::parse(&format!("cc{}-what-comes", &good[2..])).is_some(),
            "later versions may add"
        );
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-more"),
            &format!("ff{}", &good[2..]),
            &good.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
        let made = new_traceparent(&crate::clock::SystemEntropy);
        let parsed = TraceParent::parse(&made).expect("it is valid");
        assert_eq!(parsed.trace_id, &made[TRACE_ID]);
        assert!(made.ends_with("-00"), "{made}");
        assert_ne!(made, new_traceparent(&crate::clock::SystemEntropy));
    }

    #[test]
    fn a_frame_is_in_the_trace_of_its_client() {
        let of =
            |traceparent| Correlation::of_frame("test-service", "message", traceparent, &crate::clock::SystemEntropy).0;
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let given = format!("00-{trace}-00f067aa0ba902b7-01");
        let frame = of(Some(given.as_str()));
        assert_eq!(frame.traceparent.as_deref(), Some(given.as_str()));
        assert_eq!(frame.trace_id(), Some(trace));
        let longer = format!("cc{}-{}", &given[2..], "x".repeat(16_000));
        for other in [None, Some(""), Some(trace), Some(longer.as_str())] {
            let frame = of(other);
            assert!(frame.trace_id().is_some_and(|id| id != trace), "{frame:?}");
            assert_eq!(frame.id.len(), 32);
        }
    }

    #[tokio::test]
    async fn a_correlation_holds_within_its_scope() {
        assert_eq!(correlation(), None);
        let mine = Correlation {
            id: "r-1".into(),
            traceparent: None,
        };
        let seen = mine.clone().scope(async { correlation() }).await;
        assert_eq!(seen, Some(mine));
        assert_eq!(correlation(), None);
    }
}
