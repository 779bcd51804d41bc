//! What is served, what was, and who did what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::credentials::Operator;
use crate::domain::diff;
use crate::domain::diff::FileChange;
use crate::domain::finding::Finding;
use crate::domain::snapshot::Snapshot;
use crate::error::Error;
use crate::source::ViewError;
use crate::state::record::{Action, Entry};

/// Who did what when, newest first.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "versions",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(NewestParameters),
    responses((status = 200, body = Vec<Entry>), (status = 401, body = Problem))
)]
pub async fn show_audit(
    _: Operator,
    State(app): State<App>,
    Params(parameters): Params<NewestParameters>,
) -> Result<Json<Vec<Entry>>, Error> {
    app.entries(parameters.most(), |_| true).await.map(Json)
}

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
        None => app.source.served(None).ok_or(Error::NoVersion)?,
    };
    let source = app.source.clone();
    let compare = move || DiffResponse {
        from: from.version.clone(),
        to: to.version.clone(),
        files: diff::between(&from, &to, source.checker()),
    };
    app.compute(compare).await.map(Json)
}

async fn version(app: &App, version: &str) -> Result<Arc<Snapshot>, Error> {
    let found = app.source.version(version).await.map_err(Error::BadVersion)?;
    found.ok_or(Error::NoVersion)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NewestParameters {
    /// How many, 100 unless told; at most 1,000.
    #[serde(default = "hundred")]
    pub limit: usize,
}

fn hundred() -> usize {
    100
}

impl NewestParameters {
    pub fn most(&self) -> usize {
        self.limit.clamp(1, 1_000)
    }
}

/// Returns the versions that were published or refused, newest first.
#[utoipa::path(
    get,
    path = "/history",
    tag = "versions",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(NewestParameters),
    responses((status = 200, body = Vec<Entry>), (status = 401, body = Problem))
)]
pub async fn show_history(
    _: Operator,
    State(app): State<App>,
    Params(parameters): Params<NewestParameters>,
) -> Result<Json<Vec<Entry>>, Error> {
    let is_history = |entry: &Entry| Action::is_history(entry.action);
    app.entries(parameters.most(), is_history).await.map(Json)
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusResponse {
    source: String,
    /// The newest good version of the source: what a request without a label gets.
    version: String,
    /// A newer one that is not served until `busrefresh`, or until a canary has ended.
    waiting: Option<String>,
    default_label: Option<String>,
    /// Since when, and why; none while it can be read.
    away: Option<AwayResponse>,
    /// Versions that are not served.
    refused: Vec<RefusedResponse>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AwayResponse {
    #[schema(value_type = String, format = DateTime)]
    since: jiff::Timestamp,
    reason: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedResponse {
    version: String,
    /// None: the one without a name.
    label: Option<String>,
    findings: Vec<Finding>,
}

/// What is served, and what is not and why.
#[utoipa::path(
    get,
    path = "/status",
    tag = "versions",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    responses((status = 200, body = StatusResponse), (status = 401, body = Problem), (status = 500, body = Problem))
)]
pub async fn show_status(_: Operator, State(app): State<App>) -> Result<Json<StatusResponse>, Error> {
    let served = app.source.served(None).ok_or(ViewError::NotYet)?;
    let condition = app.source.condition();
    let refused = condition.refused.into_iter().map(|refused| RefusedResponse {
        version: refused.version,
        label: refused.label,
        findings: refused.findings,
    });
    Ok(Json(StatusResponse {
        source: app.source.origin(),
        version: served.version.clone(),
        waiting: app.source.waiting(),
        default_label: app.source.default_label(),
        away: condition.away.map(|(since, reason)| AwayResponse { since, reason }),
        refused: refused.collect(),
    }))
}
