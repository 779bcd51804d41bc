//! Spring's encryption routes.

use std::borrow::Cow;

use axum::Json;
use axum::extract::{FromRequest, Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use sosohappy_common::Problem;
use utoipa::ToSchema;

use crate::App;
use crate::credentials::Operator;
use crate::error::Error;
use crate::state::record::{Action, Entry};

/// A text that an operator wants encrypted or decrypted.
#[derive(Debug)]
pub struct Asked {
    operator: Operator,
    headers: HeaderMap,
    body: String,
}

impl FromRequest<App> for Asked {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        let headers = request.headers().clone();
        let operator = Operator::of(&headers, &app.settings.get()).map_err(IntoResponse::into_response)?;
        let body = String::from_request(request, app).await;
        Ok(Self {
            operator,
            headers,
            body: body.map_err(IntoResponse::into_response)?,
        })
    }
}

impl Asked {
    /// The text, once it is in the record that somebody asked.
    pub async fn text(&self, app: &App, action: Action) -> Result<Cow<'_, str>, Error> {
        let entry = Entry::new(app.context.clock.now(), &self.operator.name, action);
        app.record(entry).await?;
        Ok(text_of(&self.headers, &self.body, action == Action::Decrypt))
    }
}

/// `curl -d` calls a text a form and may add `=`, as if it were a name: Spring takes both off again, and so do we.
fn text_of<'a>(headers: &HeaderMap, body: &'a str, cipher: bool) -> Cow<'a, str> {
    let form = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
    let Some(name) = body.strip_suffix('=').filter(|_| form) else {
        return body.into();
    };
    let decoded = percent_decode_str(&name.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned();
    if cipher { decoded.replace(' ', "+") } else { decoded }.into()
}

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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_form_that_is_none_is_a_text() {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let form = HeaderMap::from_iter([(header::CONTENT_TYPE, form)]);
        let text = HeaderMap::new();
        for (headers, body, expected) in [
            (&form, "a%20b+c=", "a b c"),
            (&form, "plain", "plain"),
            (&text, "ends with =", "ends with ="),
        ] {
            assert_eq!(text_of(headers, body, false), expected);
        }
        assert_eq!(text_of(&form, "00ff=", true), "00ff");
    }
}
