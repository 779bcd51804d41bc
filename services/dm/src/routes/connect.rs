//! `GET connect-dm?nickname=N`: the socket that messages go and come through.

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use sosohappy_access::{Acting, Caller, act};
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_sockets::{Close, upgrade};
use utoipa::IntoParams;

use crate::app::App;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Connect {
    /// The caller's own nickname. Without one the socket is closed with 1007, with somebody else's with 1008.
    #[serde(default)]
    nickname: Option<String>,
}

/// Opens the socket that messages go and come through
///
/// Text frames `{"sender":"별이","receiver":"달이","date":2023090513248392,"text":"안녕"}` both ways. A message that cannot be taken is
/// answered with `{"error":{"code":"…","detail":"…"}}`, codes `receiver-unknown`, `blocked`, `invalid-date`, `empty-text`,
/// `text-too-long`, `unavailable`; the socket stays open. Closed with 1007 for a frame that is not one, 1008 for a `sender` who
/// is not the caller and when the session or the account is over, 1009 for a frame over the limit, 1012 when the replica leaves
/// and 1013 when the client cannot keep up (reconnect), 4403 when the access token ends (re-issue, then reconnect).
#[utoipa::path(
    get,
    path = "/connect-dm",
    tag = "message",
    params(Connect),
    responses(
        (status = 101, description = "The connection is a WebSocket from here on"),
        (status = 400, description = "Not a WebSocket handshake", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn connect_dm(
    State(app): State<App>,
    caller: Caller,
    handshake: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    Params(connect): Params<Connect>,
) -> Result<Response, Problem> {
    let handshake = handshake.map_err(|rejection| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "not-a-websocket",
            "A WebSocket handshake is expected",
        )
        .detail(rejection.body_text())
    })?;
    let refusal = refusal(&app, &caller, connect.nickname.as_deref()).await?;
    let account = refusal.is_none().then(|| caller.account.clone());
    let response = upgrade(handshake, app.hub, caller, app.protocol, refusal);
    if let Some(account) = account {
        // Before the client has its answer: who writes to it from then on knows that no push is needed.
        app.present.opened(&account).await;
    }
    Ok(response)
}

async fn refusal(app: &App, caller: &Caller, nickname: Option<&str>) -> Result<Option<Close>, Problem> {
    let Some(nickname) = nickname.filter(|nickname| !nickname.is_empty()) else {
        return Ok(Some(Close::BadFrame));
    };
    match act::own(caller, &*app.names, Acting::Nickname(nickname)).await {
        Ok(()) => Ok(None),
        Err(problem) if problem.status() == StatusCode::FORBIDDEN => Ok(Some(Close::Policy)),
        Err(problem) => Err(problem),
    }
}
