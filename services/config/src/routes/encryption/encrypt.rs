use axum::extract::{Path, State};
use http::HeaderMap;
use sosohappy_common::Problem;

use super::body::text_of;
use crate::App;
use crate::credentials::Operator;
use crate::error::Error;

/// Encrypts a text; put `{cipher}` before the answer. `{key:alias}` before the text chooses a key, `{alg:gcm}` our own form.
#[utoipa::path(
    post,
    path = "/encrypt",
    tag = "encryption",
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn encrypt(_: Operator, State(app): State<App>, headers: HeaderMap, text: String) -> Result<String, Error> {
    encrypted(&app, &headers, &text)
}

/// The same; one key ring is for all applications.
#[utoipa::path(
    post,
    path = "/encrypt/{application}/{profiles}",
    tag = "encryption",
    params(("application" = String, Path), ("profiles" = String, Path)),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn encrypt_for(
    _: Operator,
    State(app): State<App>,
    Path((_application, _profiles)): Path<(String, String)>,
    headers: HeaderMap,
    text: String,
) -> Result<String, Error> {
    encrypted(&app, &headers, &text)
}

fn encrypted(app: &App, headers: &HeaderMap, text: &str) -> Result<String, Error> {
    let text = text_of(headers, text, false);
    let form = app.settings.get().encrypt.form;
    Ok(app.keys.encrypt(&text, form, app.context.entropy.as_ref())?)
}
