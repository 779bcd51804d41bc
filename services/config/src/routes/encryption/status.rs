use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sosohappy_common::Problem;
use utoipa::ToSchema;

use crate::App;
use crate::error::Error;

#[derive(Debug, Serialize, ToSchema)]
pub struct StatusResponse {
    /// `OK`.
    status: &'static str,
}

/// Whether encryption works.
#[utoipa::path(
    get,
    path = "/encrypt/status",
    tag = "encryption",
    responses((status = 200, body = StatusResponse), (status = 404, body = Problem))
)]
pub async fn show_status(State(app): State<App>) -> Result<Json<StatusResponse>, Error> {
    app.cipher.as_ref().ok_or(Error::NoKey)?;
    Ok(Json(StatusResponse { status: "OK" }))
}
