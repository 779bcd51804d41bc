use axum::extract::{Path, State};
use sosohappy_common::Problem;

use super::body::Asked;
use crate::App;
use crate::error::Error;
use crate::state::record::Action;

/// Encrypts a text; put `{cipher}` before the answer. `{key:alias}` before the text chooses a key, `{alg:gcm}` our own form.
#[utoipa::path(
    post,
    path = "/encrypt",
    tag = "encryption",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = String), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn encrypt(State(app): State<App>, asked: Asked) -> Result<String, Error> {
    encrypted(&app, &asked).await
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
    State(app): State<App>,
    Path((_application, _profiles)): Path<(String, String)>,
    asked: Asked,
) -> Result<String, Error> {
    encrypted(&app, &asked).await
}

async fn encrypted(app: &App, asked: &Asked) -> Result<String, Error> {
    let text = asked.text(app, Action::Encrypt).await?;
    let form = app.settings.get().encrypt.form;
    Ok(app.keys.encrypt(&text, form, app.context.entropy.as_ref())?)
}
