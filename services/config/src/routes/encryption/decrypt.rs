use axum::extract::{Path, State};
use http::HeaderMap;
use sosohappy_common::Problem;

use super::body::text_of;
use crate::App;
use crate::credentials::Operator;
use crate::error::Error;
use crate::state::record::{Action, Entry};

/// Decrypts a cipher text of either form, with or without `{cipher}` before it.
#[utoipa::path(
    post,
    path = "/decrypt",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn decrypt(
    operator: Operator,
    State(app): State<App>,
    headers: HeaderMap,
    text: String,
) -> Result<String, Error> {
    decrypted(&app, &operator, &headers, &text).await
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
    operator: Operator,
    State(app): State<App>,
    Path((_application, _profiles)): Path<(String, String)>,
    headers: HeaderMap,
    text: String,
) -> Result<String, Error> {
    decrypted(&app, &operator, &headers, &text).await
}

async fn decrypted(app: &App, operator: &Operator, headers: &HeaderMap, text: &str) -> Result<String, Error> {
    let entry = Entry::new(app.context.clock.now(), &operator.name, Action::Decrypt);
    app.record(entry).await?;
    Ok(app.keys.decrypt(&text_of(headers, text, true))?)
}
