//! The statements of one request, as the driver of the SQL databases logs them inside the request's span.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{LazyLock, Once};

use parking_lot::Mutex;
use reqwest::{RequestBuilder, Response};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Instrument as _, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::Bed;

/// Where the driver logs statements.
const TARGET: &str = "sqlx::query";

/// The first words of the statements of each request that is measured, by request id.
static LOG: LazyLock<Mutex<HashMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);

/// Records the statements of requests for [`cost`]: a layer of the test binary's tracing subscriber.
#[must_use]
pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>() -> impl Layer<S> {
    Recorder.with_filter(filter_fn(|metadata| metadata.is_span() || metadata.target() == TARGET))
}

struct Recorder;

/// The value of one field.
struct Named {
    name: &'static str,
    value: Option<String>,
}

impl Named {
    fn new(name: &'static str) -> Self {
        Self { name, value: None }
    }
}

impl Visit for Named {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == self.name {
            self.value = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The id of a request, on its span.
struct RequestId(String);

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut request = Named::new("request_id");
        attributes.record(&mut request);
        if let (Some(request), Some(span)) = (request.value, context.span(id)) {
            span.extensions_mut().insert(RequestId(request));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut statement = Named::new("summary");
        event.record(&mut statement);
        let request = context
            .event_scope(event)
            .and_then(|mut spans| spans.find_map(|span| span.extensions().get::<RequestId>().map(|id| id.0.clone())));
        if let (Some(statement), Some(request)) = (statement.value, request)
            && let Some(statements) = LOG.lock().get_mut(&request)
        {
            statements.push(statement);
        }
    }
}

/// The statements of a request, or the commands to `MongoDB`. A write of many documents is one, and so is the read of a batch of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub reads: usize,
    pub writes: usize,
}

impl Cost {
    pub(crate) fn of(statements: &[String]) -> Self {
        let mut verbs = BTreeMap::<&str, usize>::new();
        for statement in statements {
            *verbs
                .entry(statement.split_whitespace().next().unwrap_or_default())
                .or_default() += 1;
        }
        let of = |names: &[&str]| -> usize {
            let counts = names.iter().map(|name| verbs.get(*name).copied().unwrap_or_default());
            counts.sum()
        };
        Self {
            reads: of(&["SELECT", "find", "getMore", "aggregate"]),
            writes: of(&[
                "INSERT",
                "UPDATE",
                "DELETE",
                "REPLACE",
                "WITH",
                "insert",
                "update",
                "delete",
                "findAndModify",
            ]),
        }
    }
}

/// Sends a request and counts its statements. The begin and the end of its transaction are not among them.
///
/// # Panics
/// If there is no answer.
pub async fn cost(name: &str, bed: &Bed, request: RequestBuilder) -> (Cost, Response) {
    let id = format!("cost-{name}-{}", bed.context.entropy.hex(8));
    LOG.lock().insert(id.clone(), Vec::new());
    let response = request.header("x-request-id", &id).send().await.expect("an answer");
    let statements = LOG.lock().remove(&id).expect("it was inserted");
    println!("{name} on {:?}: {statements:?}", bed.set);
    (Cost::of(&statements), response)
}

/// Does work and counts its statements as [`cost`] does. It installs the tracing subscriber of the test binary, which must have no other.
///
/// # Panics
/// If the binary has another subscriber.
pub async fn cost_of<T>(name: &str, bed: &Bed, work: impl Future<Output = T>) -> (Cost, T) {
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| tracing_subscriber::registry().with(layer()).init());
    let id = format!("cost-{name}-{}", bed.context.entropy.hex(8));
    LOG.lock().insert(id.clone(), Vec::new());
    let span = tracing::info_span!("cost", request_id = id.as_str());
    let result = work.instrument(span).await;
    let statements = LOG.lock().remove(&id).expect("it was inserted");
    println!("{name} on {:?}: {statements:?}", bed.set);
    (Cost::of(&statements), result)
}
