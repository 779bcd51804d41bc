use axum::extract::{Path, State};
use http::HeaderMap;
use sosohappy_common::Problem;

use super::body::text_of;
use crate::App;
use crate::credentials::Operator;
use crate::error::Error;
use crate::state::record::{Action, Entry};

/// Encrypts a text; put `{cipher}` before the answer. `{key:alias}` before the text chooses a key, `{alg:gcm}` our own form.
#[utoipa::path(
    post,
    path = "/encrypt",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn encrypt(
    operator: Operator,
    State(app): State<App>,
    headers: HeaderMap,
    text: String,
) -> Result<String, Error> {
    encrypted(&app, &operator, &headers, &text).await
}

/// The same; one key ring is for all applications.
#[utoipa::path(
    post,
    path = "/encrypt/{application}/{profiles}",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(("application" = String, Path), ("profiles" = String, Path)),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn encrypt_for(
    operator: Operator,
    State(app): State<App>,
    Path((_application, _profiles)): Path<(String, String)>,
    headers: HeaderMap,
    text: String,
) -> Result<String, Error> {
    encrypted(&app, &operator, &headers, &text).await
}

async fn encrypted(app: &App, operator: &Operator, headers: &HeaderMap, text: &str) -> Result<String, Error> {
    let entry = Entry::new(app.context.clock.now(), &operator.name, Action::Encrypt);
    app.record(entry).await?;
    let text = text_of(headers, text, false);
    let form = app.settings.get().encrypt.form;
    Ok(app.keys.encrypt(&text, form, app.context.entropy.as_ref())?)
}
