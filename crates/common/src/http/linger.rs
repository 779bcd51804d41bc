//! Lingering close: a response that is sent before the request body was read reaches its client.
//!
//! `URLSession`, Python's `http.client` and others write the whole request before they read. hyper closes a connection whose request
//! body was dropped unread; the kernel resets a connection that is closed over unread bytes, and such a client sees a broken pipe
//! instead of the status (hyper#3078). Two things prevent that:
//!
//! * The rest of a body that a handler dropped is read and discarded while the response is sent ([`Connection::drain`]). A body that
//!   ends in time leaves the connection open for the next request.
//! * A connection that ends with bytes still to come is closed as RFC 9112 section 9.6 asks: the write half first, then the bytes
//!   are discarded until the client closes ([`Lingering::close`]). For responses of hyper itself (400, 431), connections
//!   over the limit (503), and requests with `Expect: 100-continue`, whose clients must not be asked for the body.
//!
//! Both end after `server.linger-timeout`, and are bounded in bytes and, by `server.linger-connections`, in number.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

use crate::metrics::Metrics;
use crate::settings::Server;

/// Bytes of one read from a connection that is being closed.
const CHUNK: usize = 8 * 1024;

/// The state that all connections of a service share: the number of lingering ones, and the metrics.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    active: Arc<AtomicUsize>,
    lingering: IntGauge,
    outcomes: IntCounterVec,
    bytes: IntCounter,
}

/// How the lingering of a request body or a connection ended; the values of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All bytes were read: the response arrived.
    Drained,
    /// The client closed or broke the connection.
    Closed,
    Timeout,
    Limit,
    /// `server.linger-connections` were lingering already.
    Busy,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Drained, Self::Closed, Self::Timeout, Self::Limit, Self::Busy];

    fn label(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::Busy => "busy",
        }
    }
}

impl Shared {
    pub(super) fn declare(metrics: &Metrics) -> Self {
        let lingering = IntGauge::new(
            "http_server_lingering_connections",
            "Connections on which the rest of an early answered request is being discarded",
        );
        let bytes = IntCounter::new(
            "http_server_discarded_bytes_total",
            "Bytes of requests read only so that an early answer arrives",
        );
        let outcomes = Opts::new(
            "http_server_early_answers_total",
            "Answers given before the request was read, by outcome of reading the rest of the request",
        );
        let outcomes = IntCounterVec::new(outcomes, &["outcome"]).expect("static names are valid");
        // Pre-creates every label value so that series start at 0.
        for outcome in Outcome::ALL {
            outcomes.with_label_values(&[outcome.label()]);
        }
        Self {
            active: Arc::default(),
            lingering: metrics.register(lingering.expect("a static name is valid")),
            outcomes: metrics.register(outcomes),
            bytes: metrics.register(bytes.expect("a static name is valid")),
        }
    }

    /// Returns the bounds of a connection that is accepted now.
    pub(super) fn bounded(&self, settings: &Server) -> Lingering {
        Lingering {
            shared: self.clone(),
            most: settings.linger_connections,
            timeout: settings.linger_timeout,
            body_limit: settings.body_limit,
        }
    }
}

/// The bounds of one connection.
#[derive(Debug, Clone)]
pub(super) struct Lingering {
    shared: Shared,
    most: usize,
    timeout: Duration,
    body_limit: usize,
}

/// A slot of the connections that may linger at one time.
struct Slot<'a>(&'a Shared);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
        self.0.lingering.dec();
    }
}

/// Counts its outcome when it is dropped.
struct Counted<'a>(&'a Shared, Outcome);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.outcomes.with_label_values(&[self.1.label()]).inc();
    }
}

impl Lingering {
    fn slot(&self) -> Option<Slot<'_>> {
        let one_more = |active| (active < self.most).then_some(active + 1);
        let taken = self
            .shared
            .active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| {
            self.shared.lingering.inc();
            Slot(&self.shared)
        })
    }

    /// Closes the write half, then discards the client's bytes until it closes its own half.
    pub(super) async fn close(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let work = async {
            // Fails where hyper has shut down the connection already.
            if let Err(error) = stream.shutdown().await {
                tracing::debug!(%error, "connection closed by peer");
            }
            let mut left = self.body_limit;
            // On the heap: as a part of the future it would take this memory in every connection.
            let mut buffer = vec![0; CHUNK];
            loop {
                match stream.read(&mut buffer).await {
                    Ok(0) => return Outcome::Drained,
                    Ok(read) => {
                        self.shared.bytes.inc_by(read as u64);
                        match left.checked_sub(read) {
                            Some(rest) => left = rest,
                            None => return Outcome::Limit,
                        }
                    }
                    Err(_) => return Outcome::Closed,
                }
            }
        };
        self.bound(work).await;
    }

    /// Reads a body to its end and discards it.
    async fn discard(&self, unread: Unread) {
        let work = async {
            let Unread { mut body, mut left } = unread;
            // hyper drops its end of a body of known length only at the next request, so the length decides that the body is complete.
            while !body.is_end_stream() {
                let frame = match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    Some(Ok(frame)) => frame,
                    Some(Err(_)) => return Outcome::Closed,
                    None => break,
                };
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.shared.bytes.inc_by(bytes as u64);
                match left.checked_sub(bytes) {
                    Some(rest) => left = rest,
                    None => return Outcome::Limit,
                }
            }
            Outcome::Drained
        };
        self.bound(work).await;
    }

    /// Bounds the work in time and in number, and counts how it ended.
    async fn bound(&self, work: impl Future<Output = Outcome>) {
        // This outcome stays where the future is dropped: its connection has ended.
        let mut counted = Counted(&self.shared, Outcome::Closed);
        let Some(_slot) = self.slot() else {
            counted.1 = Outcome::Busy;
            return;
        };
        let ended = tokio::time::timeout(self.timeout, work).await;
        counted.1 = ended.unwrap_or(Outcome::Timeout);
    }
}

/// The part of a request body that its handler did not read.
#[derive(Debug)]
struct Unread {
    body: Incoming,
    /// The most bytes to discard.
    left: usize,
}

/// Passes dropped bodies from the requests of a connection to the task that serves it.
#[derive(Debug, Clone)]
pub(super) struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lingering: Lingering,
    /// One slot, because HTTP/1.1 has one request at a time.
    unread: Mutex<Option<Unread>>,
    handed_over: Notify,
    /// Whether a request with `Expect: 100-continue` was refused, whose client may or may not send its body.
    refused_expectation: AtomicBool,
}

impl Connection {
    pub(super) fn new(lingering: Lingering) -> Self {
        Self(Arc::new(Inner {
            lingering,
            unread: Mutex::default(),
            handed_over: Notify::new(),
            refused_expectation: AtomicBool::new(false),
        }))
    }

    /// Wraps the body of a request: it is returned to this connection when it is dropped before its end.
    pub(super) fn watch(&self, request: Request<Incoming>) -> (Request<Body>, Expectation) {
        if request.body().is_end_stream() {
            return (request.map(|_| Body::empty()), Expectation::default());
        }
        let expectation = Expectation::of(request.headers());
        let watched = |body| Watched {
            body: Some(body),
            read: 0,
            ended: false,
            expectation: expectation.clone(),
            connection: self.clone(),
        };
        (request.map(|body| Body::new(watched(body))), expectation)
    }

    /// Ends the connection after this response if its client still waits for `100 Continue`: the client may or may not send its body now,
    /// so the next bytes could be the body or a next request.
    pub(super) fn answer(&self, expectation: &Expectation, mut response: Response<Body>) -> Response<Body> {
        if expectation.is_pending() {
            self.0.refused_expectation.store(true, Ordering::Relaxed);
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Drains each body that is dropped unread, for as long as the connection is served. hyper keeps reading a body that is held, also after
    /// the response, and closes the connection when it is dropped.
    pub(super) async fn drain(&self) -> Infallible {
        loop {
            self.0.handed_over.notified().await;
            let unread = self.0.unread.lock().take();
            if let Some(unread) = unread {
                self.0.lingering.discard(unread).await;
            }
        }
    }

    /// Returns whether a connection that ended this way may still receive bytes.
    pub(super) fn lingers(&self, ended: &hyper::Result<()>) -> bool {
        let answered_by_hyper = ended.as_ref().is_err_and(hyper::Error::is_parse);
        answered_by_hyper || self.0.refused_expectation.load(Ordering::Relaxed)
    }

    pub(super) async fn close(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        self.0.lingering.close(stream).await;
    }
}

/// Returns whether a client waits for `100 Continue` before it sends its body. hyper sends it at the first read of the body.
#[derive(Debug, Clone, Default)]
pub(super) struct Expectation(Option<Arc<AtomicBool>>);

impl Expectation {
    fn of(headers: &HeaderMap) -> Self {
        let expected = headers.get(header::EXPECT).map(HeaderValue::as_bytes);
        let waits = expected.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
        Self(waits.then(|| Arc::new(AtomicBool::new(true))))
    }

    fn is_pending(&self) -> bool {
        self.0.as_ref().is_some_and(|pending| pending.load(Ordering::Relaxed))
    }

    fn meet(&self) {
        if let Some(pending) = &self.0 {
            pending.store(false, Ordering::Relaxed);
        }
    }
}

struct Watched {
    /// `None` only during the drop.
    body: Option<Incoming>,
    read: usize,
    ended: bool,
    expectation: Expectation,
    connection: Connection,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.expectation.meet();
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.read += frame.data_ref().map_or(0, Bytes::len),
            Poll::Ready(Some(Err(_)) | None) => self.ended = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        // The body of a client that waits for `100 Continue` is not drained: reading it would ask the client to send it.
        if self.ended || body.is_end_stream() || self.expectation.is_pending() {
            return;
        }
        let connection = &self.connection.0;
        // Twice the limit of a body: a body that was refused as too large (413) exceeds the limit.
        let left = connection
            .lingering
            .body_limit
            .saturating_mul(2)
            .saturating_sub(self.read);
        *connection.unread.lock() = Some(Unread { body, left });
        connection.handed_over.notify_one();
    }
}

#[cfg(test)]
#[path = "linger_tests.rs"]
mod tests;
