use std::fmt::Write as _;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::Value;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::IntoParams;

use crate::App;
use crate::credentials::Reader;
use crate::domain::flat::{Properties, nest};
use crate::domain::placeholders;
use crate::domain::query::{Form, Query};
use crate::domain::yaml;
use crate::error::Error;
use crate::routes::etag::EntityTag;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct FlatParameters {
    /// Whether `${…}` is resolved in flat forms and files; true by default.
    #[serde(default = "yes")]
    pub resolve_placeholders: bool,
}

fn yes() -> bool {
    true
}

/// The merged settings of an application as one text: `{application}-{profiles}.{yml,yaml,properties,json}`.
#[utoipa::path(
    get,
    path = "/{application}",
    tag = "environment",
    security(("serviceToken" = []), ("serviceBasic" = []), ("operatorToken" = []), ("operatorBasic" = [])),
    params(("application" = String, Path, description = "`feed-config-prod.yml`"), FlatParameters),
    responses((status = 200, content_type = "text/plain", body = String), (status = 304, description = "as in If-None-Match"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem))
)]
pub async fn show_flat(
    reader: Reader,
    State(app): State<App>,
    Path(file): Path<String>,
    headers: HeaderMap,
    Params(parameters): Params<FlatParameters>,
) -> Result<Response, Error> {
    let (query, form) = Query::flat(&file, None)?;
    render(&app, &reader, query, form, &parameters, &headers).await
}

pub async fn render(
    app: &App,
    reader: &Reader,
    query: Query,
    form: Form,
    parameters: &FlatParameters,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    reader.may_read(&query)?;
    let views = app.views(&query).await?;
    let asked = format!("{query:?} {form:?} {}", parameters.resolve_placeholders);
    let tag = EntityTag::new(app, &views, &["flat", &asked]);
    if tag.is_known(headers) {
        return Ok(tag.not_modified());
    }
    let mut properties = app.environment(query, &views, false)?.merged();
    if parameters.resolve_placeholders {
        placeholders::resolve(&mut properties);
    }
    let (media_type, text) = match form {
        Form::Yaml => ("text/plain; charset=utf-8", yaml::to_text(&nest(&properties))),
        Form::Properties => ("text/plain; charset=utf-8", lines(&properties)),
        Form::Json => ("application/json", nest(&properties).to_string()),
    };
    Ok(tag.on(([(header::CONTENT_TYPE, media_type)], text).into_response()))
}

/// `key: value`, a line each, as Spring writes them.
fn lines(properties: &Properties) -> String {
    let mut text = String::new();
    for (key, value) in properties {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        writeln!(text, "{key}: {value}").expect("writing to a String never fails");
    }
    text
}
