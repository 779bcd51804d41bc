//! Forwards HTTP requests and WebSockets to another server.

use std::error::Error;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sosohappy_common::Problem;
use sosohappy_common::http::read_failed;
use sosohappy_common::lifecycle::Lifecycle;

/// From the end of a request's head to the head of its response, the upload of its body included: longer than a service's
/// `server.request-timeout` and `server.body-timeout` together.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(160);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than a service keeps an idle connection open, so that no request is sent on a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Headers that belong to one connection (RFC 9110, section 7.6.1), or that the client sends to the next server only; the header
/// `connection` names more of them.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A client that forwards requests. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Forwarder {
    client: Client<HttpConnector, Body>,
    lifecycle: Lifecycle,
}

impl Forwarder {
    /// Creates a forwarder; its sockets are tasks of this lifecycle.
    #[must_use]
    pub fn new(lifecycle: Lifecycle) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Self { client, lifecycle }
    }

    /// Sends a request to its URI, and returns the response, both as streams. The path is sent as it was received.
    ///
    /// 502 `upstream-unavailable` where the server cannot be reached, 504 where it does not respond in time; 400, 408 or 413 where the
    /// request's body cannot be read.
    pub async fn forward(&self, mut request: Request<Body>) -> Response {
        let protocol = upgrade(request.headers());
        remove_hop_by_hop(request.headers_mut());
        // The client's own end of the connection, which becomes the socket once both servers have switched.
        let client = protocol.map(|protocol| {
            let upgrade = HeaderValue::from_static("upgrade");
            request.headers_mut().insert(header::CONNECTION, upgrade);
            request.headers_mut().insert(header::UPGRADE, protocol);
            hyper::upgrade::on(&mut request)
        });
        if request.body().is_end_stream() {
            *request.body_mut() = Body::empty();
        }
        let uri = request.uri().clone();
        let mut response = match tokio::time::timeout(RESPONSE_TIMEOUT, self.client.request(request)).await {
            Ok(Ok(response)) => response.map(Body::new),
            Ok(Err(error)) => {
                if let Some(problem) = unreadable_body(&error) {
                    return problem.into_response();
                }
                // Without the URI, whose query may have personal data.
                tracing::warn!(error = %format!("{:#}", anyhow::Error::new(error)), server = ?uri.authority(), "upstream unavailable");
                return unavailable(StatusCode::BAD_GATEWAY).into_response();
            }
            Err(_) => {
                tracing::warn!(server = ?uri.authority(), "upstream timed out");
                return unavailable(StatusCode::GATEWAY_TIMEOUT).into_response();
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(client) = client
        {
            let server = hyper::upgrade::on(&mut response);
            self.connect(client, server);
            return response;
        }
        remove_hop_by_hop(response.headers_mut());
        response
    }

    /// Copies the bytes of a socket in both directions until one end closes it. A server that drains closes its sockets itself.
    fn connect(&self, client: OnUpgrade, server: OnUpgrade) {
        self.lifecycle.spawn("forwarded-socket", async move {
            let copied = async {
                let mut client = TokioIo::new(client.await.context("client")?);
                let mut server = TokioIo::new(server.await.context("server")?);
                anyhow::Ok(tokio::io::copy_bidirectional(&mut client, &mut server).await?)
            };
            if let Err(error) = copied.await {
                tracing::debug!(error = format!("{error:#}"), "forwarded socket failed");
            }
            Ok(())
        });
    }
}

/// Returns the problem of a request that failed because its own body, axum's, cannot be read: 400, 408 or 413. `None` if the server failed.
pub(crate) fn unreadable_body(error: &(dyn Error + 'static)) -> Option<Problem> {
    let is_of_body = std::iter::successors(error.source(), |&cause| cause.source()).any(<dyn Error>::is::<axum::Error>);
    is_of_body.then(|| read_failed(error, usize::MAX))
}

/// Returns the problem of a request to a server that does not respond.
pub(crate) fn unavailable(status: StatusCode) -> Problem {
    Problem::new(status, "upstream-unavailable", "The service is unavailable").retry_after(1)
}

/// Returns the protocol that the client asks to switch to.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_asked_for = options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| is_asked_for).cloned()
}

/// Returns the options of all `connection` headers.
fn options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let fields = headers.get_all(header::CONNECTION).iter();
    let fields = fields.filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).map(str::trim)
}

/// Removes the headers that are not forwarded.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = options(headers).filter_map(|name| name.parse().ok()).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn headers_of_one_connection_are_not_forwarded() {
        let mut headers = headers(&[
            ("connection", "keep-alive, X-Secret"),
            ("connection", "close"),
            ("x-secret", "1"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("te", "trailers"),
            ("authorization", "Bearer a"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), [header::AUTHORIZATION]);
    }

    #[test]
    fn an_upgrade_is_recognised_in_any_line_and_case() {
        let is_asked_for = |fields| upgrade(&headers(fields)).is_some();
        assert!(is_asked_for(&[
            ("connection", "keep-alive"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket")
        ]));
        assert!(!is_asked_for(&[("connection", "keep-alive"), ("upgrade", "h2c")]));
        assert!(!is_asked_for(&[("connection", "upgrade")]));
    }
}
