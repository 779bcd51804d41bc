//! Open spans with their fields, and the spans of the last minutes, kept in memory: a trace can be read without a collector.
//!
//! The fields of an open span are kept as they are recorded. They are formatted when a log line inside the span is written or when the
//! span is kept, not at its creation: most spans have no line.
//!
//! A span is kept when it ends, if it has a trace id: its own field `trace_id`, or that of the span around it. The oldest ones make room
//! for new ones.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::clock::{Clock, SystemClock};
use crate::lifecycle::TASK_SPAN;

/// Log lines that are kept with a span; further ones are only in the log.
const MOST_LINES: usize = 16;
/// Characters of one value of a field.
const MOST_CHARACTERS: usize = 200;
/// Spans of one answer.
const MOST_SPANS: usize = 1000;

/// An ended span.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecentSpan {
    pub name: &'static str,
    pub service: String,
    pub trace_id: String,
    /// The id of the request, or of the event's cause.
    pub request_id: Option<String>,
    pub began_at: Timestamp,
    /// Microseconds.
    pub took: u64,
    pub fields: Vec<(&'static str, String)>,
    /// The first log lines inside the span.
    pub lines: Vec<Line>,
}

/// A log line.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Microseconds since the span began.
    pub after: u64,
    pub level: &'static str,
    pub message: String,
    pub fields: Vec<(&'static str, String)>,
}

/// The ended spans of this process, at most `limit` bytes of them.
#[derive(Debug)]
pub struct RecentSpans {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// In the order of their ends.
    spans: VecDeque<RecentSpan>,
    bytes: usize,
}

impl RecentSpans {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            kept: Mutex::default(),
        })
    }

    /// Returns the spans of a service that belong to a trace, or to the traces of a request, in the order of their beginnings; at most
    /// 1,000. `id` is a trace id or a request id.
    #[must_use]
    pub fn find(&self, service: &str, id: &str) -> Vec<RecentSpan> {
        let kept = self.kept.lock();
        // The ids of a request are in each of its spans: one pass finds both.
        let is_of = |span: &&RecentSpan| {
            span.service == service && (span.trace_id == id || span.request_id.as_deref() == Some(id))
        };
        let mut found: Vec<_> = kept.spans.iter().filter(is_of).take(MOST_SPANS).cloned().collect();
        drop(kept);
        found.sort_by_key(|span| span.began_at);
        found
    }

    fn add(&self, span: RecentSpan) {
        let size = span.size();
        let mut kept = self.kept.lock();
        kept.bytes += size;
        kept.spans.push_back(span);
        while kept.bytes > self.limit {
            let Some(oldest) = kept.spans.pop_front() else { break };
            kept.bytes -= oldest.size();
        }
    }
}

impl RecentSpan {
    /// Returns about how many bytes it takes.
    fn size(&self) -> usize {
        let of = |fields: &[(&str, String)]| -> usize {
            fields
                .iter()
                .map(|(_, value)| size_of::<(&str, String)>() + value.len())
                .sum()
        };
        let lines = self.lines.iter();
        let lines = lines.map(|line| size_of::<Line>() + line.message.len() + of(&line.fields));
        size_of::<Self>()
            + self.service.len()
            + self.trace_id.len()
            + self.request_id.as_ref().map_or(0, String::len)
            + of(&self.fields)
            + lines.sum::<usize>()
    }
}

/// Keeps the fields of open spans, and the recent spans where they are wanted. Before the layer of the log lines, which reads the fields.
pub(super) struct KeepSpans(pub Option<Arc<RecentSpans>>);

/// Writes log lines in JSON, by a formatter that finds the fields of the current span already formatted.
pub(super) struct JsonLines<L>(pub L);

/// A span that has not ended.
#[derive(Debug)]
struct Open {
    began_at: Timestamp,
    began: Instant,
    fields: Fields,
    lines: Vec<Line>,
}

/// The fields of a span, in the order in which they were first recorded.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        let name = field.name();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(text(self.0.remove(at).1))
    }

    /// Returns the fields as [`JsonFields`] formats them: by name.
    fn to_json(&self) -> String {
        let by_name: BTreeMap<_, _> = self.0.iter().map(|(name, value)| (*name, value)).collect();
        serde_json::to_string(&by_name).expect("names and values of JSON can be written")
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, debugged(value).into());
    }
}

/// The message and the other fields of a log line.
#[derive(Debug, Default)]
struct LineFields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for LineFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = shortened(value),
            name => self.others.push((name, shortened(value))),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &debugged(value));
    }
}

/// Returns the value as it is formatted; one that cannot be formatted, as far as it could be.
fn debugged(value: &dyn fmt::Debug) -> String {
    let mut text = String::new();
    let _formatted = write!(text, "{value:?}");
    text
}

fn shortened(text: &str) -> String {
    text.chars().take(MOST_CHARACTERS).collect()
}

/// Returns the value as text, without quotation marks.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Returns the field of the nearest span around that has it.
fn inherited<'span, S: LookupSpan<'span>>(span: &SpanRef<'span, S>, name: &str) -> Option<String> {
    span.scope().skip(1).find_map(|around| {
        let extensions = around.extensions();
        extensions.get::<Open>()?.fields.get(name).cloned().map(text)
    })
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for KeepSpans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields(Vec::with_capacity(attributes.fields().len()));
        attributes.record(&mut fields);
        span.extensions_mut().insert(Open {
            began_at: SystemClock.now(),
            began: Instant::now(),
            fields,
            lines: Vec::new(),
        });
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let is_formatted = extensions.get_mut::<FormattedFields<JsonFields>>().is_some();
        let Some(open) = extensions.get_mut::<Open>() else {
            return;
        };
        record.record(&mut open.fields);
        if is_formatted {
            // Replaced, not removed: another thread may be about to write a line with them, and the formatter panics without them.
            let json = open.fields.to_json();
            extensions.replace(FormattedFields::<JsonFields>::new(json));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if self.0.is_none() {
            return;
        }
        // The span around a task lives as long as the process: lines of the task are in the log only.
        let Some(span) = context.event_span(event).filter(|span| span.name() != TASK_SPAN) else {
            return;
        };
        let has_room = |open: &Open| open.lines.len() < MOST_LINES;
        if !span.extensions().get::<Open>().is_some_and(has_room) {
            return;
        }
        // Before the lock: formatting a value may take long, and may use the span itself.
        let mut fields = LineFields::default();
        event.record(&mut fields);
        if let Some(open) = span.extensions_mut().get_mut::<Open>()
            && has_room(open)
        {
            open.lines.push(Line {
                after: micros(open.began.elapsed()),
                level: event.metadata().level().as_str(),
                message: fields.message,
                fields: fields.others,
            });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some((recent, span)) = self.0.as_ref().zip(context.span(&id)) else {
            return;
        };
        let open = span.extensions_mut().remove::<Open>();
        let Some(mut open) = open else { return };
        let mut identity = |name| open.fields.take(name).or_else(|| inherited(&span, name));
        if let Some((trace_id, service)) = identity("trace_id").zip(identity("service")) {
            let request_id = identity("request_id");
            let fields = open.fields.0.into_iter();
            recent.add(RecentSpan {
                name: span.name(),
                service,
                trace_id,
                request_id,
                began_at: open.began_at,
                took: micros(open.began.elapsed()),
                fields: fields.map(|(name, value)| (name, shortened(&text(value)))).collect(),
                lines: open.lines,
            });
        }
    }
}

impl<S, L> Layer<S> for JsonLines<L>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    L: Layer<S>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // The span that the formatter shows.
        let span = event.parent().and_then(|id| context.span(id));
        if let Some(span) = span.or_else(|| context.lookup_current()) {
            let mut extensions = span.extensions_mut();
            if extensions.get_mut::<FormattedFields<JsonFields>>().is_none()
                && let Some(json) = extensions.get_mut::<Open>().map(|open| open.fields.to_json())
            {
                extensions.insert(FormattedFields::<JsonFields>::new(json));
            }
        }
        self.0.on_event(event, context);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Runs work under a subscriber that keeps spans.
    fn keep(limit: usize, work: impl FnOnce()) -> Arc<RecentSpans> {
        let spans = RecentSpans::new(limit);
        let subscriber = tracing_subscriber::registry().with(KeepSpans(Some(spans.clone())));
        tracing::subscriber::with_default(subscriber, work);
        spans
    }

    #[test]
    fn spans_of_a_trace_are_found_by_both_ids() {
        let spans = keep(1 << 20, || {
            let task = tracing::error_span!(TASK_SPAN, service = "feed-service", task = "relay").entered();
            tracing::info!("a line of the task");
            let request = tracing::error_span!("request", request_id = "r-1", trace_id = tracing::field::Empty);
            request.record("trace_id", tracing::field::display("t-1"));
            request.in_scope(|| {
                tracing::info_span!("store", rows = 3).in_scope(|| tracing::warn!(rows = 2, "slow"));
            });
            drop(request);
            tracing::error_span!("request", request_id = "r-2", trace_id = "t-2").in_scope(|| ());
            tracing::info_span!("without a trace").in_scope(|| ());
            drop(task);
        });
        for id in ["r-1", "t-1"] {
            let found = spans.find("feed-service", id);
            let [request, store] = found.as_slice() else {
                panic!("{found:?}")
            };
            assert_eq!((request.name, store.name), ("request", "store"));
            assert_eq!(
                (store.trace_id.as_str(), store.request_id.as_deref()),
                ("t-1", Some("r-1"))
            );
            assert_eq!(store.fields, [("rows", "3".to_owned())]);
            let [line] = store.lines.as_slice() else {
                panic!("{store:?}")
            };
            assert_eq!((line.level, line.message.as_str()), ("WARN", "slow"));
            assert_eq!(line.fields, [("rows", "2".to_owned())]);
            assert!(request.took >= store.took && request.lines.is_empty(), "{request:?}");
        }
        assert_eq!(spans.find("feed-service", "t-2").len(), 1);
        assert!(spans.find("dm-service", "t-1").is_empty());
        assert_eq!(spans.kept.lock().spans.len(), 3);
    }

    /// Uses its span while it is formatted.
    struct Recording(tracing::Span);

    impl fmt::Debug for Recording {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.record("rows", 7);
            f.write_str("recorded")
        }
    }

    #[test]
    fn a_span_is_not_locked_while_a_field_of_its_line_is_formatted() {
        let spans = keep(1 << 20, || {
            let rows = tracing::field::Empty;
            let span = tracing::info_span!("store", service = "feed-service", trace_id = "t-1", rows);
            span.in_scope(|| tracing::info!(value = ?Recording(span.clone()), "a line"));
        });
        let found = spans.find("feed-service", "t-1");
        let [store] = found.as_slice() else { panic!("{found:?}") };
        assert!(store.fields.contains(&("rows", "7".to_owned())), "{store:?}");
        assert_eq!(store.lines[0].fields, [("value", "recorded".to_owned())]);
    }

    #[test]
    fn the_oldest_spans_make_room() {
        const LIMIT: usize = 64 * 1024;
        let long = "x".repeat(10_000);
        let spans = keep(LIMIT, || {
            for number in 0..10_000 {
                let trace_id = format!("t-{number}");
                let span = tracing::error_span!("request", service = "feed-service", trace_id, text = long.as_str());
                span.in_scope(|| (0..100).for_each(|line| tracing::info!(text = long, line, "a line")));
            }
        });
        let kept = spans.kept.lock();
        assert!(kept.bytes <= LIMIT, "{}", kept.bytes);
        assert_eq!(kept.bytes, kept.spans.iter().map(RecentSpan::size).sum::<usize>());
        assert!(kept.spans.len() >= 5, "{} spans", kept.spans.len());
        drop(kept);
        let newest = spans.find("feed-service", "t-9999");
        assert_eq!(newest[0].lines.len(), MOST_LINES);
        assert_eq!(newest[0].fields[0].1.len(), MOST_CHARACTERS);
        assert!(spans.find("feed-service", "t-0").is_empty());
    }
}
