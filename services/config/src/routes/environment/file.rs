use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header;
use sosohappy_common::Problem;

use crate::App;
use crate::credentials::Reader;
use crate::domain::query::{Query, is_safe};
use crate::error::Error;

/// A file of the source as it is; a profile's variant (`name-profile.ext`) wins over the plain one.
#[utoipa::path(
    get,
    path = "/{application}/{profiles}/{label}/{*path}",
    tag = "environment",
    params(("application" = String, Path), ("profiles" = String, Path), ("label" = String, Path), ("path" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn show_file(
    _: Reader,
    State(app): State<App>,
    Path((application, profiles, label, path)): Path<(String, String, String, String)>,
) -> Result<Response, Error> {
    let query = Query::new(&application, &profiles, Some(&label))?;
    if !is_safe(&path) {
        return Err(crate::domain::query::InvalidQuery::Name.into());
    }
    let snapshot = app.source.snapshot();
    let label = query.label.as_deref().unwrap_or_default();
    if !snapshot.has_folder(label) {
        return Err(crate::domain::environment::UnknownLabel(label.to_owned()).into());
    }
    let (stem, extension) = path
        .rsplit_once('.')
        .map_or((path.as_str(), String::new()), |(s, e)| (s, format!(".{e}")));
    let names = query
        .profiles
        .iter()
        .rev()
        .map(|profile| format!("{stem}-{profile}{extension}"))
        .chain([path.clone()]);
    let folders = [
        format!("{label}/{}/", query.application),
        format!("{label}/"),
        String::new(),
    ];
    let found = names
        .flat_map(|name| folders.clone().map(|folder| format!("{folder}{name}")))
        .find_map(|path| snapshot.files.get(&path));
    let file = found.ok_or(Error::NoFile)?;
    let media_type = match std::str::from_utf8(&file.bytes) {
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    };
    Ok(([(header::CONTENT_TYPE, media_type)], file.bytes.clone()).into_response())
}
