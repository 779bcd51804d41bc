//! `GET connect-dm?nickname=N`: the socket that messages go and come through.

use axum::extract::State;
use axum::response::Response;
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_realtime::{Connect, Handshake, connect};

use crate::app::App;

/// Opens the socket that messages go and come through
///
/// Text frames `{"sender":"별이","receiver":"달이","date":2023090513248392,"text":"안녕"}` both ways. A message that cannot be taken is
/// answered with `{"error":{"code":"…","detail":"…"}}`, codes `not-delivered`, `invalid-date`, `empty-text`,
/// `text-too-long`, `invalid-text`, `unavailable`, `rate-limited`; the socket stays open. The receiver's sockets get the message, and the sender's other
/// sockets. A frame that is sent again within ten minutes (same sender, receiver, date and text) is the same message. Closed with 1007 for a
/// frame that is not one, 1008 for a `sender` who is not the caller (and was not since the socket was opened) and when the session or the account ends, 1009 for a frame over the limit, 1012 when the replica shuts down
/// and 1013 when the client cannot keep up (reconnect), 4403 when the access token ends (re-issue, then reconnect), 4409 when newer
/// sockets of the account have taken its place (do not reconnect), 4429 when a client keeps sending after `rate-limited` (reconnect in a minute).
///
/// With `v=2` frames are `{"topic","id","seq","data"}`: a `message` with an `id` is answered `accepted` or `rejected`, messages come numbered,
/// and `since` resumes.
#[utoipa::path(
    get,
    path = "/connect-dm",
    tag = "message",
    params(Connect),
    responses(
        (status = 101, description = "The connection is a WebSocket from here on"),
        (status = 400, description = "Not a WebSocket handshake", body = Problem),
        (status = 426, description = "Another version of the protocol than `Sec-WebSocket-Version: 13`", body = Problem),
    ),
)]
pub async fn connect_dm(
    State(app): State<App>,
    caller: Caller,
    handshake: Handshake,
    Params(params): Params<Connect>,
) -> Result<Response, Problem> {
    connect(handshake, caller, &params, &*app.names, app.hub, app.protocol).await
}
