use axum::extract::State;
use sosohappy_common::Problem;

use crate::App;
use crate::credentials::Operator;
use crate::error::Error;

/// Encrypts a text; put `{cipher}` before the answer.
#[utoipa::path(
    post,
    path = "/encrypt",
    tag = "encryption",
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn encrypt(_: Operator, State(app): State<App>, plain: String) -> Result<String, Error> {
    let cipher = app.cipher.as_ref().ok_or(Error::NoKey)?;
    Ok(cipher.encrypt(&plain, app.context.entropy.as_ref()))
}
