//! `GET connect-notice?nickname=N`: the socket that notices come through.

use axum::extract::State;
use axum::response::Response;
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_realtime::{Connect, Handshake, connect};

use crate::app::App;

/// Opens the socket that notices come through
///
/// Version 1: text frames `{"topic":"like","data":{"liker":"admin","date":2023090513248392}}` of likes alone. Version 2: `{"topic","id","seq","data"}` for every
/// notice, of which the client acknowledges those it has shown with `{"topic":"ack","seq":N}`; `docs/sockets.md` has the whole protocol. Closed with
/// 1012 when the replica leaves and 1013 when the client cannot keep up (reconnect), 4403 when the access token ends (re-issue, then reconnect),
/// 1008 when the session or the account has ended, 4409 when newer sockets of the account have taken its place (do not reconnect), 4429 for a flood
/// of frames (reconnect in a minute).
#[utoipa::path(
    get,
    path = "/connect-notice",
    tag = "notice",
    params(Connect),
    responses(
        (status = 101, description = "The connection is a WebSocket from here on"),
        (status = 400, description = "Not a WebSocket handshake, or an invalid parameter", body = Problem),
        (status = 426, description = "Another version of the protocol than `Sec-WebSocket-Version: 13`", body = Problem),
    ),
)]
pub async fn connect_notice(
    State(app): State<App>,
    caller: Caller,
    handshake: Handshake,
    Params(params): Params<Connect>,
) -> Result<Response, Problem> {
    connect(handshake, caller, &params, &*app.names, app.hub, app.protocol).await
}
