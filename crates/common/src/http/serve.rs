//! Combines routes, middleware, management and documents, and serves them on a port.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use futures::FutureExt as _;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use utoipa_axum::router::OpenApiRouter;

use super::linger;
use super::rate_limit::RateLimiter;
use super::request_log::Middleware;
use super::write_timeout::{Upgraded, WriteTimeout};
use super::{Problem, actuator, docs};
use crate::Context;
use crate::metrics::max_files;
use crate::settings::{Credentials, Live, RateLimits, Server};

/// Header fields of one request, and bytes of the whole block: 431 beyond.
const MOST_HEADERS: usize = 100;
const HEADER_BYTES: usize = 32 * 1024;
/// File descriptors that connections may not use: for engines, files and own sockets.
const SPARE_FILES: usize = 256;
/// Concurrent connections over the limit that get a 503; others are closed without a response. They use the spare file descriptors.
const MOST_REFUSED: usize = SPARE_FILES / 4;
/// The pause after a failed `accept`, whose likeliest cause is a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

/// A service that is ready to be served.
#[derive(Debug)]
pub struct Service {
    pub context: Context,
    pub settings: Live<Server>,
    pub router: Router,
}

impl Service {
    /// Wraps the service's own routes (which have its prefix and state already) in the fleet's middleware, and
    /// adds management, `/<service>/openapi.json` and `/<service>/docs`.
    ///
    /// Middleware from the outside in: request id and trace context, one log line and metrics a request, panic to 500,
    /// body limit and timeout, rate limits, 404 and 405 as problems.
    #[must_use]
    pub fn new(
        context: Context,
        settings: Live<Server>,
        limits: &Live<RateLimits>,
        credentials: &Credentials,
        routes: OpenApiRouter,
    ) -> Self {
        let (own, mut document) = routes.split_for_parts();
        let rate_limits = RateLimiter::new(&context, limits, credentials, &mut document);
        let whole = own
            .merge(docs::routes(context.service, document))
            .merge(actuator::routes(&context, &settings, credentials))
            .fallback(no_such_route)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(Middleware::new(&context, &settings, rate_limits));
        Self {
            context,
            settings,
            router: whole,
        }
    }

    /// Serves until the lifecycle drains, then waits for requests in flight. HTTP/1.1 with timeouts for the headers and for clients
    /// that do not read their response; the number of connections is bounded.
    ///
    /// Upgraded connections belong to tasks of their own: [`crate::lifecycle::Lifecycle::spawn`].
    pub async fn serve(self, listener: TcpListener) -> anyhow::Result<()> {
        let _serving = self.context.lifecycle.hold("http");
        let (draining, stopped) = (self.context.lifecycle.draining(), self.context.lifecycle.stopped());
        let files = max_files().map_or(usize::MAX, |files| files.saturating_sub(SPARE_FILES).max(SPARE_FILES));
        let most = || self.settings.get().connections.min(files);
        let service = self.context.service;
        tracing::info!(service, address = %listener.local_addr()?, connections = most(), "listening");
        let lingering = self.context.metrics.shared(linger::Shared::declare);
        let mut connections = JoinSet::new();
        let mut refused = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = draining.cancelled() => break,
                Some(_) = connections.join_next() => {}
                Some(_) = refused.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let settings = self.settings.get();
                        let lingering = lingering.bounded(&settings);
                        if connections.len() < most() {
                            let router = self.router.clone();
                            // A token of its own: the connection polls it at each wake, which takes the lock of the token.
                            let draining = draining.child_token();
                            connections.spawn(connection(stream, peer, router, settings, lingering, draining));
                        } else if refused.len() < MOST_REFUSED {
                            refused.spawn(refuse(stream, lingering));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(service, %error, "failed to accept connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        drop(listener);
        let finished = async { while connections.join_next().await.is_some() {} };
        tokio::select! {
            () = finished => {}
            // Dropping the set aborts the remaining connections.
            () = stopped.cancelled() => tracing::warn!(service, "requests in flight aborted: drain budget exceeded"),
        }
        Ok(())
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    settings: Arc<Server>,
    lingering: linger::Lingering,
    draining: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection closed by peer");
        return;
    }
    let timer = HeaderTimer::new(&settings);
    let upgraded = Upgraded::default();
    let stream = WriteTimeout::new(stream, settings.write_timeout, upgraded.clone());
    let lingering = linger::Connection::new(lingering);
    let service = service_fn(|request: Request<Incoming>| {
        let (mut request, expectation) = lingering.watch(request);
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = router.clone().oneshot(request);
        let (lingering, upgraded) = (lingering.clone(), upgraded.clone());
        async move {
            let response = answer.await?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                upgraded.set();
            }
            Ok::<_, Infallible>(lingering.answer(&expectation, response))
        }
    });
    let mut served = http1::Builder::new()
        .timer(timer)
        .header_read_timeout(settings.header_timeout)
        .max_headers(MOST_HEADERS)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let serving = async {
        tokio::select! {
            ended = &mut served => ended,
            () = draining.cancelled() => {
                Pin::new(&mut served).graceful_shutdown();
                (&mut served).await
            }
        }
    };
    // In one task, so that bodies are drained exactly as long as the connection is served.
    let mut draining_bodies = pin!(lingering.drain());
    let ended = tokio::select! {
        ended = serving => ended,
        never = draining_bodies.as_mut() => match never {},
    };
    // The connection may have ended just when the last bytes of a body were read.
    let _pending = draining_bodies.now_or_never();
    if lingering.lingers(&ended)
        && let Some(parts) = served.into_parts()
    {
        lingering.close(parts.io.into_inner()).await;
    }
    if let Err(error) = ended {
        tracing::debug!(%error, "connection failed");
    }
}

/// Writes a 503 as far as the buffer of the socket has room, and closes.
async fn refuse(stream: TcpStream, lingering: linger::Lingering) {
    match stream.try_write(FULL) {
        Ok(_) => lingering.close(stream).await,
        Err(error) => tracing::debug!(%error, "connection over the limit closed without an answer"),
    }
}

/// Sets the header timeout of each request: hyper has one timeout for a header block and the idle time before it. The first of a
/// connection counts from `accept`; later ones include the keep-alive timeout.
#[derive(Debug)]
struct HeaderTimer {
    first: OnceLock<()>,
    header: Duration,
    idle: Duration,
    shared: ConnectionTimer,
}

/// The timer of a connection's deadlines, of which there is one at a time. hyper drops the deadline of each header block that arrives;
/// moving one timer to a later deadline is cheaper than a new one for each request, which takes the lock of the runtime's timers twice.
type ConnectionTimer = Arc<Mutex<Pin<Box<tokio::time::Sleep>>>>;

/// Resolves at its deadline.
struct Deadline {
    at: tokio::time::Instant,
    timer: ConnectionTimer,
}

impl HeaderTimer {
    fn new(settings: &Server) -> Self {
        let unset = tokio::time::sleep_until(tokio::time::Instant::now());
        Self {
            first: OnceLock::new(),
            header: settings.header_timeout,
            idle: settings.keep_alive_timeout,
            shared: Arc::new(Mutex::new(Box::pin(unset))),
        }
    }
}

impl Timer for HeaderTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        TokioTimer::new().sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let is_first = self.first.set(()).is_ok();
        let deadline = if is_first {
            deadline
        } else {
            deadline + self.idle.saturating_sub(self.header)
        };
        Box::pin(Deadline {
            at: deadline.into(),
            timer: self.shared.clone(),
        })
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let mut timer = self.timer.lock();
        if timer.deadline() != self.at {
            timer.as_mut().reset(self.at);
        }
        timer.as_mut().poll(cx)
    }
}

impl Sleep for Deadline {}

async fn no_such_route() -> Problem {
    Problem::not_found("no-such-route", "Not found")
}

async fn method_not_allowed() -> Problem {
    let title = "Method not allowed";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", title)
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
