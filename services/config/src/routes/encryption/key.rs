use axum::extract::Path;
use sosohappy_common::Problem;

use crate::credentials::Operator;
use crate::error::Error;

/// The public key, where Spring's server has one: ours are symmetric, and stay here.
#[utoipa::path(
    get,
    path = "/key",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    responses((status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn show_key(_: Operator) -> Error {
    Error::NoKey
}

/// The same.
#[utoipa::path(
    get,
    path = "/key/{application}/{profiles}",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(("application" = String, Path), ("profiles" = String, Path)),
    responses((status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn show_key_for(_: Operator, Path((_application, _profiles)): Path<(String, String)>) -> Error {
    Error::NoKey
}
