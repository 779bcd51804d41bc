//! The middleware of every request: ids, limits, panics, one log line, metrics.

use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Either};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{Status, TraceContextExt as _};
use parking_lot::Mutex;
use tokio::task::coop::unconstrained;
use tower::{Layer, Service};
use tracing::field::{Empty, display};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

use super::Problem;
use super::problem::one_shape;
use super::rate_limit::RateLimiter;
use super::request_limits::RequestLimits;
use crate::Context;
use crate::clock::Entropy;
use crate::correlation::{Correlation, TraceParent, new_traceparent};
use crate::faults::{Fault, Faults, LATENCY};
use crate::lifecycle::Lifecycle;
use crate::metrics::HttpMetrics;
use crate::settings::{Live, Server};
use crate::telemetry;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: &str = "traceparent";
const MOST_ID_BYTES: usize = 64;

#[derive(Debug)]
struct RequestLog {
    context: Context,
    metrics: HttpMetrics,
    limits: Live<RequestLimits>,
    rate_limits: RateLimiter,
    faults: Faults,
    rate_limited: RateLimitedLines,
}

impl RequestLog {
    fn new(context: &Context, settings: &Live<Server>, rate_limits: RateLimiter) -> Self {
        Self {
            context: context.clone(),
            metrics: context.metrics.register(HttpMetrics::new()),
            limits: settings.follow(RequestLimits::new),
            rate_limits,
            faults: context.faults(),
            rate_limited: RateLimitedLines::default(),
        }
    }

    /// Returns the ids of a request: those of the client where they are valid, otherwise new ones.
    fn correlation(&self, headers: &HeaderMap) -> Correlation {
        let entropy = &*self.context.entropy;
        let id = request_id(headers).map_or_else(|| new_request_id(entropy), Arc::from);
        let incoming = traceparent(headers);
        let traceparent = incoming.map_or_else(|| new_traceparent(entropy), |parent| parent.as_str().into());
        Correlation {
            id,
            traceparent: Some(traceparent),
        }
    }

    /// Returns the fault switches for a request. Management and the config service stay as they are: switches are turned off through them.
    fn faults_of(&self, path: &str, request_id: &Arc<str>) -> RequestFaults {
        let is_exempt = path.starts_with("/actuator") || path.starts_with("/config-service/");
        RequestFaults((!is_exempt).then(|| (self.faults.clone(), request_id.clone())))
    }
}

/// The log lines of requests refused with 429: at most one a second, so that a flood does not fill the log. Metrics count each request.
#[derive(Debug, Default)]
struct RateLimitedLines(Mutex<Suppressed>);

#[derive(Debug, Default)]
struct Suppressed {
    /// By the monotonic clock.
    until: Duration,
    lines: u64,
}

impl RateLimitedLines {
    /// Returns the number of lines suppressed since the last one; none if the line of this moment is suppressed, too.
    fn next(&self, now: Duration) -> Option<u64> {
        let mut suppressed = self.0.lock();
        if now < suppressed.until {
            suppressed.lines += 1;
            return None;
        }
        suppressed.until = now + Duration::from_secs(1);
        Some(std::mem::take(&mut suppressed.lines))
    }
}

/// The middleware of a service, around each of its routes.
///
/// From the outside in: request id and trace context, one log line (fewer for a flood of 429) and metrics, panic to 500, body limit and
/// timeout, rate limits.
#[derive(Debug, Clone)]
pub(super) struct Middleware(Arc<RequestLog>);

/// A route in the middleware.
#[derive(Debug, Clone)]
pub(super) struct Wrapped<S> {
    log: Arc<RequestLog>,
    route: S,
}

impl Middleware {
    pub(super) fn new(context: &Context, settings: &Live<Server>, rate_limits: RateLimiter) -> Self {
        Self(Arc::new(RequestLog::new(context, settings, rate_limits)))
    }
}

impl<S> Layer<S> for Middleware {
    type Service = Wrapped<S>;

    fn layer(&self, route: S) -> Wrapped<S> {
        Wrapped {
            log: self.0.clone(),
            route,
        }
    }
}

impl<S> Service<Request> for Wrapped<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(cx)
    }

    /// The route is called here and polled in the future: all of its work is inside the span, the timeout and the guard against panics.
    fn call(&mut self, mut request: Request) -> Self::Future {
        let log = self.log.clone();
        let correlation = log.correlation(request.headers());
        let id = correlation.id.clone();
        let span = make_span(log.context.service, &correlation, &request);
        let limits = log.limits.get();
        let faults = log.faults_of(request.uri().path(), &id);
        let request_timeout = limits.request_timeout;
        let line = Line::begin(log, &request, span.clone());

        let admitted = limits.body.check_declared(request.headers());
        let admitted = admitted.and_then(|()| line.log.rate_limits.admit(&mut request));
        let handled = match admitted {
            Ok(()) => {
                let mut request = request.map(|body| limits.body.guard(body));
                request.extensions_mut().insert(limits);
                Either::Left(self.route.call(request))
            }
            Err(problem) => Either::Right(ready(Ok(problem.into_response()))),
        };
        let work = async move {
            let answer = AssertUnwindSafe(faults.around(handled)).catch_unwind();
            match within(request_timeout, answer).await {
                Some(Ok(response)) => one_shape(response),
                // The panic hook has logged the reason.
                Some(Err(_)) => Problem::internal().into_response(),
                None => {
                    tracing::error!(seconds = request_timeout.as_secs_f64(), "request timed out");
                    Problem::unavailable().into_response()
                }
            }
        };
        Box::pin(async move {
            let mut response = correlation.scope(work.instrument(span)).await;
            add_headers(&mut response, &id, &line.log.context.lifecycle);
            line.end(response.status());
            Ok(response)
        })
    }
}

/// Returns the outcome of the work; `None` if it takes longer than `limit`. The timer is created at the first wait: many requests have none.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut timer = None;
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        // Work that has used up the turn of its task leaves none for the timer.
        pin!(unconstrained(timer.as_mut())).poll(cx).map(|()| None)
    })
    .await
}

/// The fault switches for a request, with its id; none where it is exempt.
struct RequestFaults(Option<(Faults, Arc<str>)>);

impl RequestFaults {
    fn has(&self, fault: Fault) -> bool {
        let faults = self.0.as_ref();
        faults.is_some_and(|(faults, request_id)| faults.has(fault, request_id))
    }

    /// Handles a request, with the faults that are on.
    async fn around(&self, handled: impl Future<Output = Result<Response, Infallible>>) -> Response {
        if self.has(Fault::Latency) {
            tokio::time::sleep(LATENCY).await;
        }
        if self.has(Fault::Errors) {
            return Problem::unavailable().into_response();
        }
        assert!(!self.has(Fault::Panic), "the fault switch fault.panic is on");
        let Ok(response) = handled.await;
        if self.has(Fault::LostAnswer) {
            return Problem::unavailable().into_response();
        }
        response
    }
}

/// Creates the span of a request. Where spans are exported it is part of the caller's trace; elsewhere only the trace id in the log and in
/// events correlates.
fn make_span(service: &'static str, correlation: &Correlation, request: &Request) -> Span {
    // Of the highest level, so that every log line inside has the request's fields.
    let id = &*correlation.id;
    let trace_id = correlation.trace_id();
    if !telemetry::exports() {
        return tracing::error_span!("request", service, request_id = id, trace_id);
    }
    let method = method_label(request.method());
    let name = match request.extensions().get::<MatchedPath>() {
        Some(route) => format!("{method} {}", route.as_str()),
        None => method.to_owned(),
    };
    let span = tracing::error_span!(
        "request",
        service,
        request_id = id,
        trace_id = Empty,
        otel.name = name,
        otel.kind = "server"
    );
    if span.set_parent(parent_of(request.headers())).is_ok() {
        let exported = span.context().span().span_context().trace_id();
        span.record("trace_id", display(exported));
    } else {
        // The subscriber of this thread is not the one that exports.
        span.record("trace_id", trace_id);
    }
    span
}

fn new_request_id(entropy: &dyn Entropy) -> Arc<str> {
    let mut text = Uuid::encode_buffer();
    let text: &str = entropy.uuid().hyphenated().encode_lower(&mut text);
    text.into()
}

/// Returns the client's own request id if it is short and of plain characters.
fn request_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    ((1..=MOST_ID_BYTES).contains(&id.len()) && id.bytes().all(plain)).then_some(id)
}

fn traceparent(headers: &HeaderMap) -> Option<TraceParent<'_>> {
    TraceParent::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}

fn parent_of(headers: &HeaderMap) -> opentelemetry::Context {
    struct Headers<'a>(&'a HeaderMap);

    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)?.to_str().ok()
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(HeaderName::as_str).collect()
        }
    }

    opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)))
}

fn add_headers(response: &mut Response, id: &str, lifecycle: &Lifecycle) {
    let status = response.status();
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    headers
        .entry(header::X_CONTENT_TYPE_OPTIONS)
        .or_insert(HeaderValue::from_static("nosniff"));
    // After 413 the rest of the body may exceed what is drained, and a draining replica wants its clients to reconnect elsewhere.
    let close = status == StatusCode::PAYLOAD_TOO_LARGE || lifecycle.leaving();
    if close && status != StatusCode::SWITCHING_PROTOCOLS {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "UNKNOWN",
    }
}

/// The log line and the metrics of one request, also when its client leaves before the answer.
struct Line {
    log: Arc<RequestLog>,
    span: Span,
    method: &'static str,
    path: Option<MatchedPath>,
    started: Instant,
    status: Option<StatusCode>,
}

impl Line {
    fn begin(log: Arc<RequestLog>, request: &Request, span: Span) -> Self {
        let path = request.extensions().get::<MatchedPath>().cloned();
        Self {
            log,
            span,
            method: method_label(request.method()),
            path,
            started: Instant::now(),
            status: None,
        }
    }

    fn end(mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Returns Micrometer's `uri`: the template of the route, or a constant that bounds the number of series.
    fn uri(&self) -> &str {
        match (&self.path, self.status) {
            (Some(path), _) if path.as_str() == "/" => "root",
            (Some(path), _) => path.as_str(),
            (None, Some(StatusCode::NOT_FOUND)) => "NOT_FOUND",
            (None, Some(status)) if status.is_redirection() => "REDIRECTION",
            (None, _) => "UNKNOWN",
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let status = self.status.map(|status| status.as_u16());
        let uri = self.uri();
        self.log.metrics.record(self.method, uri, status, took);
        let (method, ms) = (self.method, took.as_secs_f64() * 1000.0);
        match status {
            // Probes and scrapes come every few seconds.
            Some(status @ 200..=299) if uri.starts_with("/actuator/") => {
                tracing::debug!(parent: &self.span, method, uri, status, ms, "request");
            }
            Some(status @ 429) => {
                if let Some(suppressed) = self.log.rate_limited.next(self.log.context.clock.monotonic()) {
                    tracing::info!(parent: &self.span, method, uri, status, ms, suppressed, "request");
                }
            }
            Some(status) => tracing::info!(parent: &self.span, method, uri, status, ms, "request"),
            None => tracing::info!(parent: &self.span, method, uri, ms, "client disconnected before the response"),
        }
        if let Some(status) = status
            && telemetry::exports()
        {
            self.span.set_attribute("http.response.status_code", i64::from(status));
            if status >= 500 {
                self.span.set_status(Status::error(""));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_never_waits_for_anything_is_ended_in_time() {
        let busy = async {
            for _ in 0..u64::MAX {
                tokio::task::coop::consume_budget().await;
            }
        };
        assert_eq!(within(Duration::from_millis(10), busy).await, None);
    }
}
