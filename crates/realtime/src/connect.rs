//! The handshake that dm and notice share: `GET …?nickname=N`, with the caller's own nickname.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use sosohappy_access::{Acting, Caller, Names, act};
use sosohappy_common::Problem;
use utoipa::IntoParams;

use crate::{Client, Close, Hub, Protocol, Stream, Version, upgrade};

/// The one version of the protocol, RFC 6455.
const VERSION: &str = "13";

/// A WebSocket handshake (RFC 6455 section 4.2.1), however its header fields are written: as one comma-separated list, or on several
/// lines (`Connection: keep-alive`, `Connection: Upgrade`), in any case.
///
/// Refuses with 426 and the version that is understood where the client speaks another, with 400 what is no handshake.
#[derive(Debug)]
pub struct Handshake(WebSocketUpgrade);

impl<S: Send + Sync> FromRequestParts<S> for Handshake {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        // axum reads the first line of each only.
        for (name, token) in [
            (header::CONNECTION, "upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, VERSION),
        ] {
            if lists(&parts.headers, &name, token) {
                parts.headers.insert(name, HeaderValue::from_static(token));
            }
        }
        let handshake = WebSocketUpgrade::from_request_parts(parts, state).await;
        handshake.map(Self).map_err(|rejection| refused(&rejection))
    }
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

fn refused(rejection: &WebSocketUpgradeRejection) -> Response {
    if !matches!(rejection, WebSocketUpgradeRejection::InvalidWebSocketVersionHeader(_)) {
        let title = "A WebSocket handshake is expected";
        let problem = Problem::new(StatusCode::BAD_REQUEST, "not-a-websocket", title);
        return problem.detail(rejection.body_text()).into_response();
    }
    let title = "Unsupported WebSocket version";
    let problem = Problem::new(StatusCode::UPGRADE_REQUIRED, "websocket-version", title);
    let mut response = problem
        .detail(format!("`Sec-WebSocket-Version: {VERSION}` is expected"))
        .into_response();
    // RFC 6455 section 4.4 asks for the first, RFC 9110 section 15.5.22 for the others.
    for (name, value) in [
        (header::SEC_WEBSOCKET_VERSION, VERSION),
        (header::UPGRADE, "websocket"),
        (header::CONNECTION, "upgrade"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Parameters of a handshake beside the token.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Connect {
    /// The caller's own nickname. Without one the socket is closed with 1007, with another person's with 1008.
    #[serde(default)]
    nickname: Option<String>,
    /// The version of the frames. 1: those of the published app. 2: typed frames with sequence numbers, which the client acknowledges.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 2, default = 1)]
    v: Option<Version>,
    /// Of version 2: the last sequence number that the client has seen, 0 for none. The frames after it are written, or a `resync` frame.
    /// Without it new frames only.
    #[serde(default)]
    #[param(value_type = Option<u64>, maximum = 9_223_372_036_854_775_807_u64)]
    since: Option<Since>,
}

/// A sequence number that a client has seen.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
struct Since(i64);

impl TryFrom<u64> for Since {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        i64::try_from(number).map(Self).map_err(|_| "the number is too large")
    }
}

/// Accepts the handshake; 503 when the owner of the nickname cannot be looked up. A nickname that is not the caller's closes the
/// socket.
pub async fn connect<P: Protocol>(
    handshake: Handshake,
    caller: Caller,
    connect: &Connect,
    names: &dyn Names,
    hub: Hub,
    protocol: Arc<P>,
) -> Result<Response, Problem> {
    let refusal = match connect.nickname.as_deref() {
        Some(nickname) if protocol.knows_nickname(&caller, nickname).await => None,
        nickname => refusal(names, &caller, nickname).await?,
    };
    let stream = match connect.v.unwrap_or_default() {
        Version::Two if refusal.is_none() => Some(begin(&*protocol, &caller, connect.since).await?),
        Version::One | Version::Two => None,
    };
    let client = Client {
        caller,
        nickname: connect.nickname.as_deref().unwrap_or_default(),
        stream,
    };
    Ok(upgrade(handshake.0, hub, client, protocol, refusal))
}

async fn begin<P: Protocol>(protocol: &P, caller: &Caller, since: Option<Since>) -> Result<Stream, Problem> {
    let stream = protocol.begin(caller, since.map(|Since(seq)| seq)).await?;
    stream.ok_or_else(|| {
        let title = "Unsupported version of frames";
        Problem::new(StatusCode::BAD_REQUEST, "unsupported-version", title).detail("this socket has version 1 only")
    })
}

async fn refusal(names: &dyn Names, caller: &Caller, nickname: Option<&str>) -> Result<Option<Close>, Problem> {
    let Some(nickname) = nickname.filter(|nickname| !nickname.is_empty()) else {
        return Ok(Some(Close::BadFrame));
    };
    match act::own(caller, names, Acting::Nickname(nickname)).await {
        Ok(()) => Ok(None),
        Err(problem) if problem.status() == StatusCode::FORBIDDEN => Ok(Some(Close::Policy)),
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn serve() -> SocketAddr {
        let routes = Router::new().route(
            "/",
            get(async |handshake: Handshake| handshake.0.on_upgrade(async |_| {})),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    /// The head of the answer to a handshake with these lines.
    async fn answer(address: SocketAddr, lines: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{key}\r\n{lines}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    #[tokio::test]
    async fn handshakes_are_read_however_their_fields_are_written() {
        let address = serve().await;
        for lines in [
            "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13",
            "connection: keep-alive\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-version: 13",
            "connection: Upgrade\r\nconnection: keep-alive\r\nupgrade: WEBSOCKET\r\nsec-websocket-version: 13",
            "connection: keep-alive , UPGRADE\r\nupgrade: h2c, websocket\r\nsec-websocket-version: 13",
            "connection: upgrade\r\nupgrade: h2c\r\nupgrade: websocket\r\nsec-websocket-version: 8, 13",
        ] {
            let head = answer(address, lines).await;
            assert!(head.starts_with("HTTP/1.1 101 "), "{lines}: {head}");
        }
    }

    #[tokio::test]
    async fn other_versions_are_answered_with_the_supported_one() {
        let address = serve().await;
        for version in ["", "\r\nsec-websocket-version: 8", "\r\nsec-websocket-version: 113"] {
            let lines = format!("connection: keep-alive\r\nconnection: Upgrade\r\nupgrade: websocket{version}");
            let head = answer(address, &lines).await;
            assert!(head.starts_with("HTTP/1.1 426 "), "{version}: {head}");
            for field in ["sec-websocket-version: 13", "upgrade: websocket", "connection: upgrade"] {
                assert!(head.contains(field), "{version}: {head}");
            }
        }
        for lines in [
            "connection: keep-alive",
            "connection: x-upgrade\r\nupgrade: h2c\r\nsec-websocket-version: 13",
        ] {
            let head = answer(address, lines).await;
            assert!(head.starts_with("HTTP/1.1 400 "), "{lines}: {head}");
        }
    }
}
