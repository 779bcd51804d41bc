use axum::extract::State;
use sosohappy_common::Problem;

use crate::App;
use crate::credentials::Operator;
use crate::error::Error;

/// Decrypts a cipher text, with or without `{cipher}` before it.
#[utoipa::path(
    post,
    path = "/decrypt",
    tag = "encryption",
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn decrypt(_: Operator, State(app): State<App>, text: String) -> Result<String, Error> {
    let cipher = app.cipher.as_ref().ok_or(Error::NoKey)?;
    Ok(cipher.decrypt(text.trim())?)
}
