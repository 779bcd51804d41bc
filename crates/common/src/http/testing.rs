//! A service of a few routes on a port of loopback, for the tests of this module.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::extract::Path;
use axum::routing::{any, get, post};
use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use utoipa_axum::router::OpenApiRouter;

use crate::Context;
use crate::http::serve::Service;
use crate::http::{Correlation, Problem, correlation};
use crate::settings::{Credentials, Live, RateLimits, Server};

pub(crate) const OPERATOR: &str = "operator-token-of-a-test";

/// Bytes of `/test-service/large`: more than the sockets of both sides take.
pub(crate) const LARGE: usize = 64 * 1024 * 1024;

/// Time limits that a busy machine does not reach. A test of one of them sets its own.
pub(crate) fn test_settings() -> Server {
    let seconds = Duration::from_secs;
    Server {
        host: [127, 0, 0, 1].into(),
        port: 0,
        connections: 50,
        header_timeout: seconds(60),
        keep_alive_timeout: seconds(120),
        body_timeout: seconds(60),
        write_timeout: seconds(60),
        request_timeout: seconds(60),
        linger_timeout: seconds(1),
        linger_connections: 4,
        body_limit: 100_000,
        upload_memory: 1_000_000,
        response_memory: 1_000_000,
        memory_limit: 0,
        drain_delay: Duration::ZERO,
        drain_budget: seconds(20),
    }
}

pub(crate) fn credentials() -> Credentials {
    Credentials {
        service_token: "service-token-of-a-test".into(),
        operator_token: OPERATOR.into(),
    }
}

#[utoipa::path(get, path = "/test-service/image/{imageId}", responses((status = 200)))]
async fn image(Path(id): Path<u64>) -> String {
    id.to_string()
}

fn service(settings: Live<Server>) -> Service {
    let slow = get(|| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "done"
    });
    let told = get(|| async {
        let Correlation { id, traceparent } = correlation().expect("every request has one");
        format!("{id} {}", traceparent.expect("always"))
    });
    let routes = OpenApiRouter::new()
        .routes(utoipa_axum::routes!(image))
        .route("/test-service/echo", post(|body: bytes::Bytes| async move { body }))
        .route("/test-service/refuse", post(async || Problem::access_denied()))
        .route("/test-service/told", told)
        .route("/test-service/slow", slow)
        .route("/test-service/large", get(|| async { vec![7; LARGE] }))
        .route("/test-service/panic", get(|| async { panic!("of 3 things") as String }))
        .route("/test-service/never", any(std::future::pending::<String>));
    Service::new(
        Context::system("test-service", 0),
        settings,
        &Live::new(RateLimits::off()),
        &credentials(),
        routes,
    )
}

/// A service on a port of loopback.
pub(crate) struct Bed {
    pub context: Context,
    pub settings: Live<Server>,
    pub address: SocketAddr,
    pub serving: tokio::task::JoinHandle<anyhow::Result<()>>,
    pub http: reqwest::Client,
}

impl Bed {
    pub async fn new(settings: Server) -> Self {
        let settings = Live::new(settings);
        let service = service(settings.clone());
        let context = service.context.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let serving = tokio::spawn(service.serve(listener));
        Self {
            context,
            settings,
            address,
            serving,
            http: crate::tls::client(),
        }
    }

    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(self.at(path)).send().await.expect("an answer")
    }

    pub async fn json(&self, path: &str) -> (StatusCode, Value) {
        let response = self.get(path).await;
        (response.status(), response.json().await.expect("JSON"))
    }

    /// Writes raw bytes on a connection and reads until it is closed.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        // The other side may close before it has read everything.
        let _sent = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _closed = tokio::time::timeout(Duration::from_secs(50), stream.read_to_end(&mut answer))
            .await
            .expect("it is closed");
        String::from_utf8(answer).expect("text")
    }
}

/// Asks until it holds, for as long as a busy machine may take.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_mins(1), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn problem(response: reqwest::Response) -> (u16, String) {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let status = response.status().as_u16();
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["status"], status);
    assert_eq!(body["type"], "about:blank");
    (status, body["code"].as_str().expect("a code").to_owned())
}
