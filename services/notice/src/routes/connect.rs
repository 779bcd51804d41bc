//! `GET connect-notice?nickname=N`: the socket that notices come through.

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

/// Opens the socket that notices come through
///
/// Text frames `{"topic":"like","data":{"liker":"admin","date":2023090513248392}}`. Closed with 1012 when the replica leaves and 1013 when
/// the client cannot keep up (reconnect), 4403 when the access token ends (re-issue, then reconnect), 1008 when the session or the
/// account is over.
#[utoipa::path(
    get,
    path = "/connect-notice",
    tag = "notice",
    params(Connect),
    responses(
        (status = 101, description = "The connection is a WebSocket from here on"),
        (status = 400, description = "Not a WebSocket handshake", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn connect_notice(
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
    Ok(upgrade(handshake, app.hub, caller, app.protocol, refusal))
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
