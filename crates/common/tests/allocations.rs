//! Heap allocations of the middleware for one request: alone in its process, whose allocator counts.

use std::alloc::System;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::Request;
use sosohappy_common::Context;
use sosohappy_common::http::serve::Service;
use sosohappy_common::settings::{Credentials, Live, Log, LogFormat, RateLimits, Server, Tracing};
use sosohappy_common::telemetry::Telemetry;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::ServiceExt as _;
use utoipa_axum::router::OpenApiRouter;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PATH: &str = "/actuator/health/liveness";
/// Requests of a measurement; more than the list of recent spans holds, so that it is full.
const REQUESTS: usize = 5000;
const RECENT_BYTES: usize = 256 * 1024;
/// Allocations that the middleware adds to a request: ids, fields of the span, boxes of service and future, limits, a header.
const MOST: usize = 20;

fn service() -> Service {
    let seconds = Duration::from_secs;
    let settings = Server {
        host: [127, 0, 0, 1].into(),
        port: 0,
        connections: 100,
        header_timeout: seconds(30),
        keep_alive_timeout: seconds(30),
        body_timeout: seconds(60),
        request_timeout: seconds(60),
        write_timeout: seconds(30),
        linger_timeout: seconds(60),
        linger_connections: 100,
        body_limit: 1024 * 1024,
        upload_memory: 1024 * 1024,
        response_memory: 1024 * 1024,
        memory_limit: 0,
        drain_delay: Duration::ZERO,
        drain_budget: seconds(5),
    };
    let credentials = Credentials {
        service_token: "service-token-of-a-test".into(),
        operator_token: "operator-token-of-a-test".into(),
    };
    Service::new(
        Context::system("test-service", 0),
        Live::new(settings),
        &Live::new(RateLimits::off()),
        &credentials,
        OpenApiRouter::new(),
    )
}

/// Returns the allocations of one request on average; the first requests, which fill caches, are not counted.
async fn allocations(router: &Router) -> usize {
    let ask = async || {
        let request = Request::get(PATH).body(Body::empty()).expect("a request");
        let response = router.clone().oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), 200);
    };
    for _ in 0..REQUESTS {
        ask().await;
    }
    let counted = Region::new(ALLOCATOR);
    for _ in 0..REQUESTS {
        ask().await;
    }
    let counted = counted.change();
    (counted.allocations + counted.reallocations) / REQUESTS
}

#[tokio::test]
async fn the_middleware_allocates_little() {
    let log = Log {
        level: "warn".to_owned(),
        format: LogFormat::Json,
    };
    let tracing = Tracing {
        otlp_endpoint: None,
        sample_ratio: 0.0,
        recent_bytes: RECENT_BYTES,
    };
    let _telemetry = Telemetry::install("test-service", &log, &tracing).expect("the first of the process");
    let bare = Router::new().route(PATH, get(async || r#"{"status":"UP"}"#));
    let (bare, ours) = (allocations(&bare).await, allocations(&service().router).await);
    println!("allocations of a request: {ours}, {bare} of them without the middleware");
    assert!(ours <= bare + MOST, "{ours}, {bare} without the middleware");
}
