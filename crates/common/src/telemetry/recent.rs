//! The spans of the last minutes, kept in memory: a trace can be read without a collector.
//!
//! A span is kept when it ends, if it has a trace id: its own field `trace_id`, or that of the span around it. The oldest ones make room
//! for new ones.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

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
    pub service: Arc<str>,
    pub trace_id: Arc<str>,
    /// The id of the request, or of the event's cause.
    pub request_id: Option<Arc<str>>,
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
            *span.service == *service && (*span.trace_id == *id || span.request_id.as_deref() == Some(id))
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
    /// Returns about how many bytes it takes. Ids that it shares with other spans count for each.
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
            + self.request_id.as_ref().map_or(0, |id| id.len())
            + of(&self.fields)
            + lines.sum::<usize>()
    }
}

/// Keeps the spans of the subscriber.
pub(super) struct KeepRecent(pub Arc<RecentSpans>);

/// A span that has not ended.
#[derive(Debug)]
struct Open {
    began_at: Timestamp,
    began: Instant,
    values: Values,
    lines: Vec<Line>,
}

/// The fields of a span; those that identify it apart.
#[derive(Debug, Clone, Default)]
struct Values {
    service: Option<Arc<str>>,
    trace_id: Option<Arc<str>>,
    request_id: Option<Arc<str>>,
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        let kept = || value.chars().take(MOST_CHARACTERS).collect::<String>();
        match field.name() {
            "service" => self.service = Some(value.into()),
            "trace_id" => self.trace_id = Some(value.into()),
            "request_id" => self.request_id = Some(value.into()),
            "message" => self.message = kept(),
            name => self.others.push((name, kept())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // A value that cannot be formatted is kept as far as it could be.
        let _formatted = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for KeepRecent {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut values = Values::default();
        if let Some(parent) = span.parent()
            && let Some(around) = parent.extensions().get::<Open>()
        {
            values.service.clone_from(&around.values.service);
            values.trace_id.clone_from(&around.values.trace_id);
            values.request_id.clone_from(&around.values.request_id);
        }
        attributes.record(&mut values);
        span.extensions_mut().insert(Open {
            began_at: SystemClock.now(),
            began: Instant::now(),
            values,
            lines: Vec::new(),
        });
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            record.record(&mut open.values);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // The span around a task lives as long as the process: lines of the task are in the log only.
        if let Some(span) = context.event_span(event).filter(|span| span.name() != TASK_SPAN)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
            && open.lines.len() < MOST_LINES
        {
            let mut values = Values::default();
            event.record(&mut values);
            open.lines.push(Line {
                after: micros(open.began.elapsed()),
                level: event.metadata().level().as_str(),
                message: values.message,
                fields: values.others,
            });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let open = span.extensions_mut().remove::<Open>();
        let Some(Open {
            began_at,
            began,
            values,
            lines,
        }) = open
        else {
            return;
        };
        if let Some((trace_id, service)) = values.trace_id.zip(values.service) {
            self.0.add(RecentSpan {
                name: span.name(),
                service,
                trace_id,
                request_id: values.request_id,
                began_at,
                took: micros(began.elapsed()),
                fields: values.others,
                lines,
            });
        }
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
        let subscriber = tracing_subscriber::registry().with(KeepRecent(spans.clone()));
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
            assert_eq!((&*store.trace_id, store.request_id.as_deref()), ("t-1", Some("r-1")));
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
