//! The configuration of an application: Spring's environment, a flat text, or a file of the source.

use std::fmt::Write as _;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::credentials::Reader;
use crate::domain::environment::View;
use crate::domain::environment::{Environment, PropertySource};
use crate::domain::flat::{Properties, nest};
use crate::domain::query::{Form, InvalidQuery, Query, is_safe};
use crate::domain::{placeholders, yaml};
use crate::error::Error;
use crate::routes::etag::EntityTag;

const OCTETS: &str = "application/octet-stream";

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct FileParameters {
    /// The path has no label: the segment in its place is the first part of the file's path.
    pub use_default_label: Option<String>,
    /// Whether `${…}` is resolved in text; true by default.
    #[serde(default = "yes")]
    pub resolve_placeholders: bool,
}

fn yes() -> bool {
    true
}

/// Returns a file of the source. The variant of a profile (`name-profile.ext`) takes precedence over the plain file. `${…}` in text is resolved
/// unless the client accepts `application/octet-stream`.
#[utoipa::path(
    get,
    path = "/{application}/{profiles}/{label}/{*path}",
    tag = "environment",
    security(("serviceToken" = []), ("serviceBasic" = []), ("operatorToken" = []), ("operatorBasic" = [])),
    params(("application" = String, Path), ("profiles" = String, Path), ("label" = String, Path), ("path" = String, Path), FileParameters),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 304, description = "as in If-None-Match"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem, description = "placeholders refer to each other"))
)]
pub async fn show_file(
    reader: Reader,
    State(app): State<App>,
    Path((application, profiles, label, path)): Path<(String, String, String, String)>,
    headers: HeaderMap,
    Params(parameters): Params<FileParameters>,
) -> Result<Response, Error> {
    let (label, path) = if parameters.use_default_label.is_some() {
        (None, format!("{label}/{path}"))
    } else {
        (Some(label), path)
    };
    let query = Query::new(&application, &profiles, label.as_deref())?;
    render_file(&app, &reader, query, &path, parameters.resolve_placeholders, &headers).await
}

async fn render_file(
    app: &App,
    reader: &Reader,
    query: Query,
    path: &str,
    resolve: bool,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    if !is_safe(path) {
        return Err(InvalidQuery::Name.into());
    }
    let views = app.views(&query, headers).await?;
    let octets = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|text| text.contains(OCTETS)));
    let (app, reader, headers, path) = (app.clone(), reader.clone(), headers.clone(), path.to_owned());
    app.clone()
        .compute(move || {
            reader.may_read(&query, &views)?;
            // The file itself is checked too: it may belong to another application by its name or a folder inside the requested path.
            let (path, view) = find(&views, &query, &path).ok_or(Error::NoFile)?;
            if !reader.may_read_file(&view.owned_path(&path)) {
                return Err(Error::OtherApplication);
            }
            let request = format!("{query:?} {resolve} {octets}");
            let tag = EntityTag::new(&app, &views, &["file", &path, &request]);
            if tag.matches(&headers) {
                return Ok(tag.not_modified());
            }
            let bytes = view.snapshot.files.get(&path).ok_or(Error::NoFile)?.bytes.clone();
            let response = match std::str::from_utf8(&bytes) {
                Ok(text) if !octets => {
                    let text = if resolve && text.contains("${") {
                        placeholders::resolve_in(text, &app.environment(query, &views, false)?.merged())?
                    } else {
                        text.to_owned()
                    };
                    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
                }
                _ => ([(header::CONTENT_TYPE, OCTETS)], bytes).into_response(),
            };
            Ok(tag.add_to(response))
        })
        .await?
}

/// Finds a plain file. The first match decides: by label, the last one first; then by name, the last profile's variant first; then by folder, the
/// applications' folders before the folder itself.
fn find<'a>(views: &'a [View], query: &Query, path: &str) -> Option<(String, &'a View)> {
    let (stem, extension) = path
        .rsplit_once('.')
        .map_or((path, String::new()), |(stem, extension)| {
            (stem, format!(".{extension}"))
        });
    let names: Vec<_> = query
        .profiles
        .iter()
        .rev()
        .map(|profile| format!("{stem}-{profile}{extension}"))
        .chain([path.to_owned()])
        .collect();
    for view in views.iter().rev() {
        let inside = |folder: &str| {
            let applications = query.applications().into_iter().rev();
            let own = applications.map(|application| format!("{folder}{application}/"));
            own.chain([folder.to_owned()]).collect::<Vec<_>>()
        };
        let folders: Vec<_> = view.folders().iter().flat_map(|folder| inside(folder)).collect();
        for name in &names {
            for folder in &folders {
                let path = format!("{folder}{name}");
                if view.snapshot.files.contains_key(&path) {
                    return Some((path, view));
                }
            }
        }
    }
    None
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct FlatParameters {
    /// Whether `${…}` is resolved in flat forms and files; true by default.
    #[serde(default = "yes")]
    pub resolve_placeholders: bool,
}

/// Returns the merged settings of an application as one text: `{application}-{profiles}.{yml,yaml,properties,json}`.
#[utoipa::path(
    get,
    path = "/{application}",
    tag = "environment",
    security(("serviceToken" = []), ("serviceBasic" = []), ("operatorToken" = []), ("operatorBasic" = [])),
    params(("application" = String, Path, description = "`feed-config-prod.yml`"), FlatParameters),
    responses((status = 200, content_type = "text/plain", body = String), (status = 304, description = "as in If-None-Match"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 422, body = Problem, description = "placeholders refer to each other"))
)]
pub async fn show_flat(
    reader: Reader,
    State(app): State<App>,
    Path(file): Path<String>,
    headers: HeaderMap,
    Params(parameters): Params<FlatParameters>,
) -> Result<Response, Error> {
    let (query, form) = Query::flat(&file, None)?;
    render_flat(&app, &reader, query, form, &parameters, &headers).await
}

async fn render_flat(
    app: &App,
    reader: &Reader,
    query: Query,
    form: Form,
    parameters: &FlatParameters,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    let views = app.views(&query, headers).await?;
    let resolve = parameters.resolve_placeholders;
    let (app, reader, headers) = (app.clone(), reader.clone(), headers.clone());
    app.clone()
        .compute(move || {
            reader.may_read(&query, &views)?;
            let request = format!("{query:?} {form:?} {resolve}");
            let tag = EntityTag::new(&app, &views, &["flat", &request]);
            if tag.matches(&headers) {
                return Ok(tag.not_modified());
            }
            let mut properties = app.environment(query, &views, false)?.merged();
            if resolve {
                placeholders::resolve(&mut properties)?;
            }
            let (media_type, text) = match form {
                Form::Yaml => ("text/plain; charset=utf-8", yaml::to_text(&nest(&properties))),
                Form::Properties => ("text/plain; charset=utf-8", lines(&properties)),
                Form::Json => ("application/json", nest(&properties).to_string()),
            };
            Ok(tag.add_to(([(header::CONTENT_TYPE, media_type)], text).into_response()))
        })
        .await?
}

/// Writes one line per property, `key: value`, as Spring does.
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

/// The media type of Boot clients: every value with its origin.
const V2: &str = "application/vnd.spring-cloud.config-server.v2+json";

/// Spring Cloud Config's environment.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentResponse {
    name: String,
    profiles: Vec<String>,
    /// As requested; null when the request names none.
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

/// Returns the environment of an application, or its merged settings for `{label}/{application}-{profiles}.{extension}`.
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
    responses((status = 200, body = EnvironmentResponse), (status = 304, description = "as in If-None-Match"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem, description = "placeholders refer to each other, in a merged form"))
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
        return render_flat(&app, &reader, query, form, &parameters, &headers).await;
    }
    render_environment(&app, &reader, Query::new(&application, &profiles, None)?, &headers).await
}

/// Returns the environment of an application at a label; with `useDefaultLabel`, a file at the default label.
#[utoipa::path(
    get,
    path = "/{application}/{profiles}/{label}",
    tag = "environment",
    security(("serviceToken" = []), ("serviceBasic" = []), ("operatorToken" = []), ("operatorBasic" = [])),
    params(("application" = String, Path), ("profiles" = String, Path), ("label" = String, Path, description = "A branch, a tag, a commit or a folder; joined by commas, the last one wins"), FileParameters),
    responses((status = 200, body = EnvironmentResponse), (status = 304, description = "as in If-None-Match"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem, description = "placeholders refer to each other, in a file"))
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
        return render_file(&app, &reader, query, &label, parameters.resolve_placeholders, &headers).await;
    }
    let query = Query::new(&application, &profiles, Some(&label))?;
    render_environment(&app, &reader, query, &headers).await
}

async fn render_environment(app: &App, reader: &Reader, query: Query, headers: &HeaderMap) -> Result<Response, Error> {
    let v2 = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|text| text.contains(V2)));
    let views = app.views(&query, headers).await?;
    let (app, reader, headers) = (app.clone(), reader.clone(), headers.clone());
    app.clone()
        .compute(move || {
            reader.may_read(&query, &views)?;
            let tag = EntityTag::new(&app, &views, &["environment", &format!("{query:?} {v2}")]);
            if tag.matches(&headers) {
                return Ok(tag.not_modified());
            }
            let response = EnvironmentResponse::new(app.environment(query, &views, v2)?, v2);
            let media_type = if v2 { V2 } else { "application/json" };
            Ok(tag.add_to(([(header::CONTENT_TYPE, media_type)], Json(response)).into_response()))
        })
        .await?
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

/// Replaces each value by `{"value", "origin"}`: clients recognise an object with exactly these two keys.
fn add_origins(source: &mut PropertySource) {
    for (key, value) in &mut source.properties {
        let key = key.strip_prefix("invalid.").unwrap_or(key);
        let origin = source.origins.get(key).unwrap_or(&source.name);
        *value = serde_json::json!({"value": value.take(), "origin": origin});
    }
}
