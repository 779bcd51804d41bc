//! The handshake that dm and notice share: `GET …?nickname=N`, for the one who bears it.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use sosohappy_access::{Acting, Caller, Names, act};
use sosohappy_common::Problem;
use utoipa::IntoParams;

use crate::{Close, Hub, Protocol, upgrade};

/// What a client says of itself beside its token.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Connect {
    /// The caller's own nickname. Without one the socket is closed with 1007, with somebody else's with 1008.
    #[serde(default)]
    nickname: Option<String>,
}

/// Accepts the handshake, or says why not: 400 for what is none, 503 when nobody can tell whose nickname it is. A nickname that is
/// not the caller's is told by closing the socket.
pub async fn connect<P: Protocol>(
    handshake: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    caller: Caller,
    connect: &Connect,
    names: &dyn Names,
    hub: Hub,
    protocol: Arc<P>,
) -> Result<Response, Problem> {
    let handshake = handshake.map_err(|rejection| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "not-a-websocket",
            "A WebSocket handshake is expected",
        )
        .detail(rejection.body_text())
    })?;
    let refusal = refusal(names, &caller, connect.nickname.as_deref()).await?;
    Ok(upgrade(handshake, hub, caller, protocol, refusal).await)
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
