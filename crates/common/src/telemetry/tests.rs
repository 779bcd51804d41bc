use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tower::ServiceExt as _;
use tracing_subscriber::layer::Layered;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};
use utoipa_axum::router::OpenApiRouter;

use super::*;
use crate::Context;
use crate::clock::{ManualClock, SystemEntropy};
use crate::http::serve::Service;
use crate::http::testing::{credentials, test_settings};
use crate::rate::Rate;
use crate::settings::{Credentials, Live, RateLimits};

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn take(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut *self.0.lock());
        let text = String::from_utf8(bytes).expect("text");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("each line is JSON"))
            .collect()
    }
}

fn log(level: &str) -> Log {
    Log {
        level: level.to_owned(),
        format: LogFormat::Json,
    }
}

fn no_spans() -> Tracing {
    Tracing {
        otlp_endpoint: None,
        sample_ratio: 1.0,
        recent_bytes: 1 << 20,
    }
}

fn service() -> Service {
    let credentials = Credentials {
        service_token: "s".repeat(16).into(),
        operator_token: "o".repeat(16).into(),
    };
    let work = || async {
        tracing::debug!("looking");
        tracing::info!(posts = 3, "found");
    };
    let routes = OpenApiRouter::new().route("/test-service/posts/{id}", get(work));
    Service::new(
        Context::system("test-service", 0),
        Live::new(test_settings()),
        &Live::new(RateLimits::off()),
        &credentials,
        routes,
    )
}

async fn ask(service: &Service) {
    let request = http::Request::builder()
        .uri("/test-service/posts/kim@example.com?nickname=kim&token=s3cret")
        .header("x-request-id", "r-1")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let request = request.body(Body::empty()).expect("a request");
    let answer = service.router.clone().oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), 200);
}

/// The formatter of the log, without the time.
fn formatter<S>(lines: &Lines) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let writer = lines.clone();
    fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .without_time()
        .with_writer(move || writer.clone())
}

#[test]
fn fields_that_are_formatted_late_are_those_that_the_formatter_writes() {
    let work = || {
        tracing::info!("outside");
        let service = "test-service";
        let later = tracing::field::Empty;
        let outer = tracing::error_span!("outer", service, text = "a \"b\"\n", rows = 3, share = 0.5, later);
        outer.in_scope(|| {
            tracing::info!(rows = 1, "before");
            outer.record("later", "x");
            outer.record("rows", -4);
            tracing::warn!("after");
            let error = std::fmt::Error;
            let inner = tracing::info_span!("inner", done = true, shown = ?Some("1"), %error, nan = f64::NAN);
            inner.in_scope(|| tracing::info!("inside"));
            tracing::info!(parent: &inner, "of the inner span");
            tracing::info_span!("empty").in_scope(|| tracing::info!("without fields"));
        });
    };
    let (late, direct) = <(Lines, Lines)>::default();
    let formatted_late = recent::JsonLines(formatter::<Layered<recent::KeepSpans, Registry>>(&late));
    let kept = tracing_subscriber::registry().with(recent::KeepSpans(None));
    tracing::subscriber::with_default(kept.with(formatted_late), work);
    let plain = tracing_subscriber::registry().with(formatter::<Registry>(&direct));
    tracing::subscriber::with_default(plain, work);
    let [late, direct] = [late, direct].map(|lines| String::from_utf8(lines.0.lock().clone()).expect("text"));
    assert_eq!(late.lines().count(), 6, "{late}");
    assert_eq!(late, direct);
}

#[test]
fn fields_may_be_recorded_while_another_thread_writes_lines() {
    const TIMES: usize = 2000;
    let lines = Lines::default();
    let formatted_late = recent::JsonLines(formatter::<Layered<recent::KeepSpans, Registry>>(&lines));
    let kept = tracing_subscriber::registry().with(recent::KeepSpans(None));
    let subscriber = tracing::Dispatch::new(kept.with(formatted_late));
    let span = tracing::dispatcher::with_default(&subscriber, || tracing::info_span!("shared", number = 0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..TIMES {
                span.record("number", number);
            }
        });
        tracing::dispatcher::with_default(&subscriber, || {
            for _ in 0..TIMES {
                tracing::info!(parent: &span, "line");
            }
        });
    });
    let lines = String::from_utf8(lines.0.lock().clone()).expect("text");
    assert_eq!(lines.lines().count(), TIMES);
}

#[tokio::test]
async fn one_line_a_request_without_personal_data() {
    let lines = Lines::default();
    let writer = lines.clone();
    let built = build("test-service", &log("info"), &no_spans(), move || writer.clone(), false).expect("valid");
    let _installed = tracing::subscriber::set_default(built.subscriber);
    let service = service();
    ask(&service).await;
    let told = lines.take();
    let shown = format!("{told:?}");
    assert!(!shown.contains("kim") && !shown.contains("s3cret"), "{shown}");
    let [found, request] = told.as_slice() else {
        panic!("{shown}")
    };
    assert_eq!((&found["message"], &found["posts"]), (&"found".into(), &3.into()));
    for line in [found, request] {
        assert_eq!(line["span"]["request_id"], "r-1");
        assert_eq!(line["span"]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(line["span"]["service"], "test-service");
    }
    assert_eq!(request["message"], "request");
    assert_eq!((&request["method"], &request["status"]), (&"GET".into(), &200.into()));
    assert_eq!(request["uri"], "/test-service/posts/{id}");
    assert!(request["ms"].is_f64(), "{request}");

    built.levels.set("warn,sosohappy_common=debug").expect("valid");
    ask(&service).await;
    let messages: Vec<_> = lines.take().iter().map(|line| line["message"].clone()).collect();
    assert_eq!(messages, ["looking", "found", "request"]);
    built.levels.set("error").expect("valid");
    let failing = crate::lifecycle::Lifecycle::new("feed-service");
    failing.spawn("relay", async { anyhow::bail!("lease lost") });
    failing.failed().await;
    assert_eq!(
        lines.take()[0]["span"]["task"],
        "relay",
        "spans do not depend on the level"
    );
    built.levels.set("warn,sosohappy_common=debug").expect("valid");
    for wrong in [
        "",
        "inof",
        "info,hyper",
        "info,hyper=",
        "hyper=loud",
        "info,,warn",
        "hyper[request]=debug",
        "=debug",
    ] {
        built.levels.set(wrong).expect_err(wrong);
    }
    assert_eq!(built.levels.directives(), "warn,sosohappy_common=debug");
}

#[tokio::test]
async fn a_flood_of_refused_requests_is_one_line_a_second() {
    let lines = Lines::default();
    let writer = lines.clone();
    let built = build("test-service", &log("info"), &no_spans(), move || writer.clone(), false).expect("valid");
    let _installed = tracing::subscriber::set_default(built.subscriber);
    let clock = ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
    let context = Context::with("test-service", 0, clock.clone(), Arc::new(SystemEntropy));
    let mut limits = RateLimits::off();
    limits.per_address.anonymous = Rate::per_minute(1);
    let routes = OpenApiRouter::new().route("/test-service/open", get(|| async {}));
    let service = Service::new(
        context,
        Live::new(test_settings()),
        &Live::new(limits),
        &credentials(),
        routes,
    );
    let call = async || {
        let request = http::Request::builder().uri("/test-service/open").body(Body::empty());
        let answer = service.router.clone().oneshot(request.expect("a request")).await;
        answer.expect("infallible").status()
    };
    let refused = |lines: &Lines| -> Vec<_> {
        let lines = lines.take().into_iter().filter(|line| line["status"] == 429);
        lines.map(|line| line["suppressed"].clone()).collect()
    };
    assert_eq!(call().await, 200);
    for _ in 0..500 {
        assert_eq!(call().await, 429);
    }
    assert_eq!(refused(&lines), [0]);
    clock.advance(std::time::Duration::from_secs(1));
    for _ in 0..500 {
        assert_eq!(call().await, 429);
    }
    assert_eq!(refused(&lines), [499]);
    let counted = service.context.metrics.render();
    let line = r#"http_rate_limited_requests_total{by="address",class="anonymous",application="test-service"} 1000"#;
    assert!(counted.contains(line), "{counted}");
}

#[tokio::test]
async fn lines_of_a_task_name_its_service() {
    let lines = Lines::default();
    let writer = lines.clone();
    let built = build("test-service", &log("info"), &no_spans(), move || writer.clone(), false).expect("valid");
    let _installed = tracing::subscriber::set_default(built.subscriber);
    let life = crate::lifecycle::Lifecycle::new("feed-service");
    life.spawn("relay", async { anyhow::bail!("lease lost") });
    life.failed().await;
    let told = lines.take();
    assert_eq!(
        (&told[0]["span"]["service"], &told[0]["span"]["task"]),
        (&"feed-service".into(), &"relay".into())
    );
    assert_eq!(
        (&told[0]["level"], &told[0]["reason"]),
        (&"ERROR".into(), &"lease lost".into())
    );
}

/// Handles a request of a client that has its trace sampled. Returns what the collector received, and the recent spans.
async fn exported(sample_ratio: f64) -> (UnboundedReceiver<Vec<u8>>, Arc<RecentSpans>) {
    let (sender, received) = tokio::sync::mpsc::unbounded_channel();
    let collect = move |body: bytes::Bytes| async move {
        sender.send(body.to_vec()).expect("the test listens");
    };
    let collector = axum::Router::new().route("/v1/traces", axum::routing::post(collect));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"))
        .parse()
        .expect("a URL");
    tokio::spawn(async move { axum::serve(listener, collector).await });

    let tracing = Tracing {
        otlp_endpoint: Some(endpoint),
        sample_ratio,
        recent_bytes: 1 << 20,
    };
    let built = build("test-service", &log("info"), &tracing, io::sink, false).expect("valid");
    let telemetry = Telemetry {
        exporter: built.exporter,
    };
    let installed = tracing::subscriber::set_default(built.subscriber);
    ask(&service()).await;
    drop(installed);
    tokio::task::spawn_blocking(move || telemetry.flush())
        .await
        .expect("no panic");
    (received, built.recent.expect("spans are kept"))
}

const CALLERS_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_the_collector_and_continue_the_trace() {
    let (mut received, _) = exported(1.0).await;
    let spans = tokio::time::timeout(std::time::Duration::from_mins(1), received.recv()).await;
    let spans = spans.expect("spans arrive in time").expect("the collector runs");
    let has = |needle: &[u8]| spans.windows(needle.len()).any(|window| window == needle);
    assert!(has(b"GET /test-service/posts/{id}"), "the span is named by its route");
    assert!(
        has(&hex::decode(CALLERS_TRACE).expect("hex")),
        "it is in the caller's trace"
    );
    assert!(has(b"test-service"), "the service is named");
    assert!(!has(b"kim@example.com"), "no path goes out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_not_decide_what_is_exported() {
    let (mut received, recent) = exported(0.0).await;
    assert!(received.try_recv().is_err(), "the caller's trace is exported");
    let kept = recent.find("test-service", CALLERS_TRACE);
    assert!(!kept.is_empty(), "the recent spans do not depend on it");
}
