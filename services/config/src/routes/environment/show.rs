use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde::Serialize;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::ToSchema;

use super::file::{self, FileParameters};
use super::flat::{FlatParameters, render};
use crate::App;
use crate::credentials::Reader;
use crate::domain::environment::{Environment, PropertySource};
use crate::domain::flat::Properties;
use crate::domain::query::{Form, Query};
use crate::error::Error;
use crate::routes::etag::EntityTag;

/// What Boot clients ask for: every value with its origin.
const V2: &str = "application/vnd.spring-cloud.config-server.v2+json";

/// Spring Cloud Config's environment.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentResponse {
    name: String,
    profiles: Vec<String>,
    /// As asked; null when none was.
    label: Option<String>,
    version: String,
    state: Option<String>,
    /// Highest precedence first.
    property_sources: Vec<SourceResponse>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SourceResponse {
    name: String,
    /// Flat keys; with the v2 media type each value is `{"value", "origin"}`.
    #[schema(value_type = Object)]
    source: Properties,
}

/// The environment of an application, or `{label}/{application}-{profiles}.{extension}`.
#[utoipa::path(
    get,
    path = "/{application}/{profiles}",
    tag = "environment",
    security(("serviceToken" = []), ("serviceBasic" = []), ("operatorToken" = []), ("operatorBasic" = [])),
    params(
        ("application" = String, Path, description = "`feed-config`; `(_)` stands for `/`"),
        ("profiles" = String, Path, description = "Joined by commas; the last one wins"),
        FlatParameters
    ),
    responses((status = 200, body = EnvironmentResponse), (status = 304, description = "as in If-None-Match"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem))
)]
pub async fn show_environment(
    reader: Reader,
    State(app): State<App>,
    Path((application, profiles)): Path<(String, String)>,
    headers: HeaderMap,
    Params(parameters): Params<FlatParameters>,
) -> Result<Response, Error> {
    if Form::is_flat(&profiles) {
        let (query, form) = Query::flat(&profiles, Some(&application))?;
        return render(&app, &reader, query, form, &parameters, &headers).await;
    }
    answer(&app, &reader, Query::new(&application, &profiles, None)?, &headers).await
}

/// The environment of an application at a label; with `useDefaultLabel` a file at no label.
#[utoipa::path(
    get,
    path = "/{application}/{profiles}/{label}",
    tag = "environment",
    security(("serviceToken" = []), ("serviceBasic" = []), ("operatorToken" = []), ("operatorBasic" = [])),
    params(("application" = String, Path), ("profiles" = String, Path), ("label" = String, Path, description = "A branch, a tag, a commit or a folder; joined by commas, the last one wins"), FileParameters),
    responses((status = 200, body = EnvironmentResponse), (status = 304, description = "as in If-None-Match"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem))
)]
pub async fn show_environment_at_label(
    reader: Reader,
    State(app): State<App>,
    Path((application, profiles, label)): Path<(String, String, String)>,
    headers: HeaderMap,
    Params(parameters): Params<FileParameters>,
) -> Result<Response, Error> {
    if parameters.use_default_label.is_some() {
        let query = Query::new(&application, &profiles, None)?;
        return file::answer(&app, &reader, query, &label, parameters.resolve_placeholders, &headers).await;
    }
    let query = Query::new(&application, &profiles, Some(&label))?;
    answer(&app, &reader, query, &headers).await
}

async fn answer(app: &App, reader: &Reader, query: Query, headers: &HeaderMap) -> Result<Response, Error> {
    reader.may_read(&query)?;
    let v2 = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|text| text.contains(V2)));
    let views = app.views(&query).await?;
    let tag = EntityTag::new(app, &views, &["environment", &format!("{query:?} {v2}")]);
    if tag.is_known(headers) {
        return Ok(tag.not_modified());
    }
    let response = EnvironmentResponse::new(app.environment(query, &views, v2)?, v2);
    let media_type = if v2 { V2 } else { "application/json" };
    Ok(tag.on(([(header::CONTENT_TYPE, media_type)], Json(response)).into_response()))
}

impl EnvironmentResponse {
    fn new(environment: Environment, v2: bool) -> Self {
        let Environment {
            query,
            version,
            sources,
        } = environment;
        let property_sources = sources
            .into_iter()
            .map(|mut source| {
                if v2 {
                    add_origins(&mut source);
                }
                SourceResponse {
                    name: source.name,
                    source: source.properties,
                }
            })
            .collect();
        let Query {
            application,
            profiles,
            label,
        } = query;
        Self {
            name: application,
            profiles,
            label,
            version,
            state: None,
            property_sources,
        }
    }
}

/// Recognised by clients with exactly these two keys.
fn add_origins(source: &mut PropertySource) {
    for (key, value) in &mut source.properties {
        let key = key.strip_prefix("invalid.").unwrap_or(key);
        let origin = source.origins.get(key).unwrap_or(&source.name);
        *value = serde_json::json!({"value": value.take(), "origin": origin});
    }
}
