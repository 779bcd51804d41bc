use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::ToSchema;

use crate::App;
use crate::credentials::Operator;
use crate::error::Error;
use crate::state::pin::Pin;

#[derive(Debug, Deserialize, ToSchema)]
pub struct RollbackParameters {
    /// A version, or its first seven digits or more.
    version: String,
}

/// Serves a version whatever the source says, here and on every other replica, and tells everyone to read their settings again.
#[utoipa::path(
    post,
    path = "/rollback",
    tag = "versions",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    request_body = RollbackParameters,
    responses((status = 200, body = Pin), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem))
)]
pub async fn roll_back(
    operator: Operator,
    State(app): State<App>,
    Params(parameters): Params<RollbackParameters>,
) -> Result<Json<Pin>, Error> {
    if parameters.version.len() < 7 {
        return Err(Error::Parameter("version: seven digits or more".to_owned()));
    }
    let pin = app.source.pin(Some(&parameters.version), &operator.name).await?;
    announce(&app, &pin).await;
    Ok(Json(pin))
}

/// Serves what the source says again.
#[utoipa::path(
    delete,
    path = "/rollback",
    tag = "versions",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    responses((status = 200, body = Pin), (status = 401, body = Problem))
)]
pub async fn let_go(operator: Operator, State(app): State<App>) -> Result<Json<Pin>, Error> {
    let pin = app.source.pin(None, &operator.name).await?;
    announce(&app, &pin).await;
    Ok(Json(pin))
}

/// It is done and durable here: a bus that is away does not undo it.
async fn announce(app: &App, pin: &Pin) {
    app.announcer.pinned(pin).await;
    app.announcer.refresh_all_soon();
}
