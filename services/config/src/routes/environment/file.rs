use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde::Deserialize;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::IntoParams;

use crate::App;
use crate::credentials::Reader;
use crate::domain::placeholders;
use crate::domain::query::{InvalidQuery, Query, is_safe};
use crate::error::Error;
use crate::routes::etag::EntityTag;
use crate::source::View;

const OCTETS: &str = "application/octet-stream";

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct FileParameters {
    /// There is no label in the path: what stands in its place is the first part of the file's path.
    pub use_default_label: Option<String>,
    /// Whether `${…}` is resolved in text; true by default.
    #[serde(default = "yes")]
    pub resolve_placeholders: bool,
}

fn yes() -> bool {
    true
}

/// A file of the source. A profile's variant (`name-profile.ext`) wins over the plain one. `${…}` in text is resolved unless the client
/// wants `application/octet-stream`.
#[utoipa::path(
    get,
    path = "/{application}/{profiles}/{label}/{*path}",
    tag = "environment",
    security(("serviceToken" = []), ("serviceBasic" = []), ("operatorToken" = []), ("operatorBasic" = [])),
    params(("application" = String, Path), ("profiles" = String, Path), ("label" = String, Path), ("path" = String, Path), FileParameters),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 304, description = "as in If-None-Match"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem))
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
    answer(&app, &reader, query, &path, parameters.resolve_placeholders, &headers).await
}

pub async fn answer(
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
    reader.may_read(&query)?;
    let views = app.views(&query).await?;
    let (path, view) = find(&views, &query, path).ok_or(Error::NoFile)?;
    reader.may_read_file(&path)?;
    let octets = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|text| text.contains(OCTETS)));
    let asked = format!("{query:?} {resolve} {octets}");
    let tag = EntityTag::new(app, &views, &["file", &path, &asked]);
    if tag.is_known(headers) {
        return Ok(tag.not_modified());
    }
    let bytes = view.snapshot.files.get(&path).ok_or(Error::NoFile)?.bytes.clone();
    let response = match std::str::from_utf8(&bytes) {
        Ok(text) if !octets => {
            let text = if resolve && text.contains("${") {
                placeholders::resolve_in(text, &app.environment(query, &views, false)?.merged())
            } else {
                text.to_owned()
            };
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        }
        _ => ([(header::CONTENT_TYPE, OCTETS)], bytes).into_response(),
    };
    Ok(tag.on(response))
}

/// The path inside the source, and the view that has it: of the last label that has, a profile's variant first.
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
        let mut folders = vec![format!("{}/", query.application), String::new()];
        if let Some(folder) = &view.folder {
            folders.splice(0..0, [format!("{folder}/{}/", query.application), format!("{folder}/")]);
        }
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
