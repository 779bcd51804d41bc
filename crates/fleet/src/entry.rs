//! The local entry: one address for the four public services, routed by prefix as the load balancer does, and for the console.
//!
//! It is for a laptop, in place of a load balancer with TLS. Without the operator token neither the config service nor management
//! (`/actuator`) can be reached through it; with the token, under `/operator`. The services see the client's address in
//! `x-forwarded-for`.

mod operator;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri, uri};
use sosohappy_common::http::serve::Service;
use sosohappy_common::run::Running;
use sosohappy_common::settings::{Live, Server};
use sosohappy_common::{Context, Problem};
use tokio::net::TcpListener;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::console;
use crate::forward::Forwarder;
pub use operator::Operators;

pub(crate) const SERVICE: &str = "entry";
/// The address that the entry listens on by default.
pub const DEFAULT: &str = "127.0.0.1:8880";

/// The services that a load balancer routes to.
const PUBLIC: [&str; 4] = ["auth-service", "feed-service", "dm-service", "notice-service"];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const EMAIL: HeaderName = HeaderName::from_static("email");
const REFRESH: HeaderName = HeaderName::from_static("authorization-refresh");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The subprotocol of browsers, which cannot set the headers of a WebSocket handshake. Beside it they offer
/// `email.<account>` and `bearer.<access token>`, each encoded as base64url without padding.
const SUBPROTOCOL: &str = "sosohappy";

/// The address of the entry, or none.
#[derive(Debug, Clone, Copy)]
pub struct Address(pub Option<SocketAddr>);

impl FromStr for Address {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(if text == "off" { None } else { Some(text.parse()?) }))
    }
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub address: SocketAddr,
    /// Origins whose pages may call the services.
    pub origins: Vec<HeaderValue>,
}

/// Where each service listens.
#[derive(Debug, Clone)]
struct Services {
    services: Arc<[(&'static str, uri::Authority)]>,
    forwarder: Forwarder,
}

/// Serves the entry in front of these services. Connection limits and timeouts are those of `server`.
///
/// # Errors
/// When the address is in use.
pub async fn start(
    settings: Settings,
    services: &[Running],
    server: Live<Server>,
    operators: Operators,
) -> anyhow::Result<Running> {
    let Settings { address, origins } = settings;
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("--entry: cannot listen on {address}"))?;
    let context = Context::system(SERVICE, listener.local_addr()?.port());
    let authorities = services
        .iter()
        .map(|running| Ok((running.service, reachable(running.address).to_string().try_into()?)));
    let services = Services {
        services: authorities.collect::<anyhow::Result<_>>()?,
        forwarder: Forwarder::new(context.lifecycle.clone()),
    };
    // Below the layer of CORS: pages of other origins never call it.
    let app = routes(services.clone(), origins).merge(operator::routes(services, operators));
    let entry = Service {
        context,
        settings: server,
        router: app,
    };
    Running::serve(entry, listener)
}

/// Returns the routes of the app and of the console.
fn routes(services: Services, origins: Vec<HeaderValue>) -> Router {
    Router::new()
        .route("/{service}/{*path}", any(forward))
        .layer(cors(origins))
        .fallback(console::file)
        .with_state(services)
}

/// Returns the address under which a listener is reached from its own machine.
fn reachable(mut listener: SocketAddr) -> SocketAddr {
    match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listener.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listener.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listener
}

/// Allows pages of these origins to call the services.
fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            EMAIL,
            REFRESH,
            IDEMPOTENCY_KEY,
        ])
        .expose_headers([header::AUTHORIZATION, header::ETAG, header::RETRY_AFTER, EMAIL, REFRESH])
}

async fn forward(
    State(services): State<Services>,
    Path((service, _)): Path<(String, String)>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Response {
    let found = services.find(&service).filter(|_| PUBLIC.contains(&service.as_str()));
    // Dot segments could leave the prefix in a server that resolves them.
    let Some(authority) = found.filter(|_| !has_dot_segments(request.uri().path())) else {
        return console::file(request).await;
    };
    let offered_subprotocol = sign_in_by_subprotocol(request.headers_mut());
    let mut target = request.uri().clone().into_parts();
    target.authority = Some(authority.clone());
    let mut response = services.send(request, target, client).await;
    if offered_subprotocol && response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        let chosen = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    response
}

impl Services {
    /// Returns where a service listens.
    fn find(&self, service: &str) -> Option<&uri::Authority> {
        let found = self.services.iter().find(|(name, _)| *name == service);
        found.map(|(_, authority)| authority)
    }

    /// Sends a request of this client to a target, which has an authority, and returns the response.
    async fn send(&self, mut request: Request, mut target: uri::Parts, client: SocketAddr) -> Response {
        let headers = request.headers_mut();
        // This is the first proxy: a client's forwarded-for header is not trusted.
        if let Ok(client) = HeaderValue::from_str(&client.ip().to_string()) {
            headers.insert(FORWARDED_FOR, client);
        }
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
        if let Some(host) = headers.remove(header::HOST) {
            headers.insert(FORWARDED_HOST, host);
        }
        target.scheme = Some(uri::Scheme::HTTP);
        match Uri::from_parts(target) {
            Ok(target) => *request.uri_mut() = target,
            Err(error) => {
                tracing::debug!(%error, "request target refused");
                return Problem::not_found("no-such-route", "Not found").into_response();
            }
        }
        self.forwarder.forward(request).await
    }
}

/// Returns whether a path has a segment `.` or `..`, percent-encoded or not.
fn has_dot_segments(path: &str) -> bool {
    path.split('/').any(|segment| {
        let decoded = segment.to_ascii_lowercase().replace("%2e", ".");
        decoded == "." || decoded == ".."
    })
}

/// Sets the headers `authorization` and `email` of a handshake from its subprotocols. Returns whether [`SUBPROTOCOL`] was offered.
fn sign_in_by_subprotocol(headers: &mut HeaderMap) -> bool {
    let fields = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let fields: Vec<String> = fields
        .filter_map(|field| field.to_str().ok())
        .map(str::to_owned)
        .collect();
    let offered: Vec<&str> = fields
        .iter()
        .flat_map(|field| field.split(','))
        .map(str::trim)
        .collect();
    if !offered.contains(&SUBPROTOCOL) {
        return false;
    }
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    let value = |prefix: &str| {
        let encoded = offered.iter().find_map(|offer| offer.strip_prefix(prefix))?;
        String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
    };
    for (name, value) in [
        (
            header::AUTHORIZATION,
            value("bearer.").map(|token| format!("Bearer {token}")),
        ),
        (EMAIL, value("email.")),
    ] {
        if let Some(mut value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use sosohappy_common::lifecycle::Lifecycle;
    use sosohappy_testkit::PATIENCE;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Serves routes on loopback, and returns the address.
    async fn serve(routes: Router) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    /// Serves the entry in front of these routes of feed, and returns the address.
    async fn entry_before(feed: Router) -> SocketAddr {
        let feed: uri::Authority = serve(feed).await.to_string().parse().unwrap();
        let services = Services {
            services: [("feed-service", feed)].into(),
            forwarder: Forwarder::new(Lifecycle::new(SERVICE)),
        };
        serve(routes(services, Vec::new())).await
    }

    #[tokio::test]
    async fn a_client_cannot_forge_its_address() {
        let shown = |headers: HeaderMap| async move {
            let values: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
            format!("{values:?}")
        };
        let entry = entry_before(Router::new().route("/feed-service/address", get(shown))).await;
        let forgeries: [&[&str]; 3] = [&[], &["203.0.113.7"], &["203.0.113.7, 10.0.0.1", "::1"]];
        for forged in forgeries {
            let mut request = sosohappy_common::tls::client().get(format!("http://{entry}/feed-service/address"));
            for value in forged {
                request = request.header(FORWARDED_FOR, *value);
            }
            let answer = request.send().await.unwrap().text().await.unwrap();
            assert_eq!(answer, r#"["127.0.0.1"]"#, "{forged:?}");
        }
    }

    #[tokio::test]
    async fn bodies_are_streamed_in_both_directions() {
        let echo = |request: Request| async move { Response::new(request.into_body()) };
        let entry = entry_before(Router::new().route("/feed-service/echo", any(echo))).await;
        let streamed = async {
            let mut connection = TcpStream::connect(entry).await.unwrap();
            let head = b"POST /feed-service/echo HTTP/1.1\r\nhost: fleet\r\ntransfer-encoding: chunked\r\n\r\n";
            connection.write_all(head).await.unwrap();
            let mut received = Vec::new();
            // Each part comes back before the next one is sent: a body that the entry collects does not arrive.
            for part in ["first", "second", "third"] {
                let chunk = format!("{:x}\r\n{part}\r\n", part.len());
                connection.write_all(chunk.as_bytes()).await.unwrap();
                while !String::from_utf8_lossy(&received).contains(part) {
                    let count = connection.read_buf(&mut received).await.unwrap();
                    assert_ne!(count, 0, "the connection ended before {part}");
                }
            }
            connection.write_all(b"0\r\n\r\n").await.unwrap();
            while !received.ends_with(b"0\r\n\r\n") {
                assert_ne!(
                    connection.read_buf(&mut received).await.unwrap(),
                    0,
                    "the body has no end"
                );
            }
        };
        tokio::time::timeout(PATIENCE, streamed).await.unwrap();
    }

    #[tokio::test]
    async fn a_broken_body_is_an_error_of_the_client() {
        let length = |body: bytes::Bytes| async move { body.len().to_string() };
        let entry = entry_before(Router::new().route("/feed-service/length", any(length))).await;
        for chunk in ["zz\r\n", "3\r\nabcd\r\n"] {
            let answered = async {
                let mut connection = TcpStream::connect(entry).await.unwrap();
                let head = "POST /feed-service/length HTTP/1.1\r\nhost: fleet\r\ntransfer-encoding: chunked\r\n\r\n";
                let sent = format!("{head}{chunk}");
                connection.write_all(sent.as_bytes()).await.unwrap();
                let mut received = Vec::new();
                while !String::from_utf8_lossy(&received).contains("unreadable-body") {
                    let count = connection.read_buf(&mut received).await.unwrap();
                    assert_ne!(count, 0, "{}", String::from_utf8_lossy(&received));
                }
                assert!(
                    received.starts_with(b"HTTP/1.1 400 "),
                    "{}",
                    String::from_utf8_lossy(&received)
                );
            };
            tokio::time::timeout(PATIENCE, answered).await.unwrap();
        }
    }

    #[test]
    fn dot_segments_are_recognised_in_any_encoding() {
        for path in ["/auth-service/../actuator", "/a/%2e%2E/b", "/a/.%2e", "/a/./b"] {
            assert!(has_dot_segments(path), "{path}");
        }
        assert!(!has_dot_segments("/feed-service/image/1..2"));
    }

    #[test]
    fn a_browser_signs_in_by_subprotocols() {
        let mut headers = HeaderMap::new();
        let offered = format!(
            "sosohappy, bearer.{}, email.{}",
            URL_SAFE_NO_PAD.encode("a.b.c"),
            URL_SAFE_NO_PAD.encode("kim@example.com+kakao")
        );
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered.parse().unwrap());
        assert!(sign_in_by_subprotocol(&mut headers));
        assert_eq!(headers[header::AUTHORIZATION], "Bearer a.b.c");
        assert_eq!(headers[EMAIL], "kim@example.com+kakao");
        assert_eq!(headers.len(), 2);

        // A header cannot be smuggled in, and other subprotocols are the service's to answer.
        let smuggled = format!("sosohappy, email.{}", URL_SAFE_NO_PAD.encode("a\r\nb: c"));
        headers = HeaderMap::from_iter([(header::SEC_WEBSOCKET_PROTOCOL, smuggled.parse().unwrap())]);
        assert!(sign_in_by_subprotocol(&mut headers));
        assert!(headers.is_empty());
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("graphql-ws"));
        assert!(!sign_in_by_subprotocol(&mut headers));
        assert_eq!(headers.len(), 1);
    }
}
