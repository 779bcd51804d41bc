use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sosohappy_common::Problem;
use utoipa::ToSchema;

use crate::App;
use crate::credentials::Operator;
use crate::error::Error;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EncryptionStatusResponse)]
pub struct StatusResponse {
    /// `OK`.
    status: &'static str,
}

/// Whether encryption works.
#[utoipa::path(
    get,
    path = "/encrypt/status",
    operation_id = "show_encryption_status",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    responses((status = 200, body = StatusResponse), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn show_status(_: Operator, State(app): State<App>) -> Result<Json<StatusResponse>, Error> {
    if app.keys.is_empty() {
        return Err(Error::NoKey);
    }
    Ok(Json(StatusResponse { status: "OK" }))
}
