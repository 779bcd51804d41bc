use axum::Json;
use axum::extract::{Path, Query as UrlQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde::Serialize;
use serde_json::Value;
use sosohappy_common::Problem;
use utoipa::ToSchema;

use super::flat::{FlatParameters, render};
use crate::App;
use crate::credentials::Reader;
use crate::domain::environment::Environment;
use crate::domain::flat::Properties;
use crate::domain::query::{Form, Query};
use crate::error::Error;

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
    params(
        ("application" = String, Path, description = "`feed-config`; `(_)` stands for `/`"),
        ("profiles" = String, Path, description = "Joined by commas; the last one wins"),
        FlatParameters
    ),
    responses((status = 200, body = EnvironmentResponse), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn show_environment(
    _: Reader,
    State(app): State<App>,
    Path((application, profiles)): Path<(String, String)>,
    UrlQuery(parameters): UrlQuery<FlatParameters>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    if Form::is_flat(&profiles) {
        let (query, form) = Query::flat(&profiles, Some(&application))?;
        return render(&app, query, form, &parameters);
    }
    answer(&app, Query::new(&application, &profiles, None)?, &headers)
}

/// The environment of an application at a label.
#[utoipa::path(
    get,
    path = "/{application}/{profiles}/{label}",
    tag = "environment",
    params(("application" = String, Path), ("profiles" = String, Path), ("label" = String, Path)),
    responses((status = 200, body = EnvironmentResponse), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn show_environment_at_label(
    _: Reader,
    State(app): State<App>,
    Path((application, profiles, label)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    answer(&app, Query::new(&application, &profiles, Some(&label))?, &headers)
}

fn answer(app: &App, query: Query, headers: &HeaderMap) -> Result<Response, Error> {
    let environment = app.environment(query)?;
    let v2 = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|text| text.contains(V2)));
    let response = EnvironmentResponse::new(environment, v2);
    let media_type = if v2 { V2 } else { "application/json" };
    Ok(([(header::CONTENT_TYPE, media_type)], Json(response)).into_response())
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
            .map(|source| {
                let properties = if v2 {
                    with_origins(source.properties, &source.name)
                } else {
                    source.properties
                };
                SourceResponse {
                    name: source.name,
                    source: properties,
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

fn with_origins(properties: Properties, source: &str) -> Properties {
    let origin = Value::from(format!("Config Server {source}"));
    let with_origin = |value: Value| serde_json::json!({"value": value, "origin": origin});
    properties
        .into_iter()
        .map(|(key, value)| (key, with_origin(value)))
        .collect()
}
