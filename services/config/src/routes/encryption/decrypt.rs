use axum::extract::{Path, State};
use sosohappy_common::Problem;

use super::body::Asked;
use crate::App;
use crate::error::Error;
use crate::state::record::Action;

/// Decrypts a cipher text of either form, with or without `{cipher}` before it.
#[utoipa::path(
    post,
    path = "/decrypt",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn decrypt(State(app): State<App>, asked: Asked) -> Result<String, Error> {
    decrypted(&app, &asked).await
}

/// The same; one key ring is for all applications.
#[utoipa::path(
    post,
    path = "/decrypt/{application}/{profiles}",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(("application" = String, Path), ("profiles" = String, Path)),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn decrypt_for(
    State(app): State<App>,
    Path((_application, _profiles)): Path<(String, String)>,
    asked: Asked,
) -> Result<String, Error> {
    decrypted(&app, &asked).await
}

async fn decrypted(app: &App, asked: &Asked) -> Result<String, Error> {
    let text = asked.text(app, Action::Decrypt).await?;
    Ok(app.keys.decrypt(&text)?)
}
