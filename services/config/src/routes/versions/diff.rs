use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::credentials::Operator;
use crate::domain::diff::{self, FileChange};
use crate::domain::snapshot::Snapshot;
use crate::error::Error;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DiffParameters {
    /// A version, or its first seven digits or more.
    from: String,
    /// What is served now, unless told.
    to: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DiffResponse {
    from: String,
    to: String,
    files: Vec<FileChange>,
}

/// What is different between two versions; secrets are left out.
#[utoipa::path(
    get,
    path = "/diff",
    tag = "versions",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(DiffParameters),
    responses((status = 200, body = DiffResponse), (status = 401, body = Problem), (status = 404, body = Problem))
)]
pub async fn show_diff(
    _: Operator,
    State(app): State<App>,
    Params(parameters): Params<DiffParameters>,
) -> Result<Json<DiffResponse>, Error> {
    let from = version(&app, &parameters.from).await?;
    let to = match parameters.to.as_deref().filter(|to| !to.is_empty()) {
        Some(to) => version(&app, to).await?,
        None => app.source.published().ok_or(Error::NoVersion)?.main.clone(),
    };
    Ok(Json(DiffResponse {
        from: from.version.clone(),
        to: to.version.clone(),
        files: diff::between(&from, &to, app.source.checker()),
    }))
}

async fn version(app: &App, version: &str) -> Result<Arc<Snapshot>, Error> {
    let found = app.source.version(version).await.map_err(Error::BadVersion)?;
    found.ok_or(Error::NoVersion)
}
