//! Served and refused versions, their history and differences, and the audit record, for operators.

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

/// Returns the audit record, newest first.
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
    app.entries(parameters.limit(), |_| true).await.map(Json)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DiffParameters {
    /// A version, or at least its first seven digits.
    from: String,
    /// The served version by default.
    to: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DiffResponse {
    from: String,
    to: String,
    files: Vec<FileChange>,
}

/// Returns the differences between two versions, with secrets redacted.
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
    /// 1 to 1,000; 100 by default.
    #[serde(default = "default_limit")]
    pub limit: usize,
}

fn default_limit() -> usize {
    100
}

impl NewestParameters {
    pub fn limit(&self) -> usize {
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
    app.entries(parameters.limit(), is_history).await.map(Json)
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusResponse {
    source: String,
    /// The newest valid version, served to requests without a label.
    version: String,
    /// A newer version that is held back until `busrefresh` or the end of a canary.
    waiting: Option<String>,
    default_label: Option<String>,
    /// Since when the source is unavailable, and why; null while it can be read.
    away: Option<UnavailableResponse>,
    /// Versions that failed the checks and are not served.
    refused: Vec<RefusedResponse>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AwayResponse)]
pub struct UnavailableResponse {
    #[schema(value_type = String, format = DateTime)]
    since: jiff::Timestamp,
    reason: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedResponse {
    version: String,
    /// Null for the default label.
    label: Option<String>,
    findings: Vec<Finding>,
}

/// Returns the served version, the refused ones, and the availability of the source.
#[utoipa::path(
    get,
    path = "/status",
    tag = "versions",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    responses((status = 200, body = StatusResponse), (status = 401, body = Problem), (status = 500, body = Problem))
)]
pub async fn show_status(_: Operator, State(app): State<App>) -> Result<Json<StatusResponse>, Error> {
    let served = app.source.served(None).ok_or(ViewError::NothingServed)?;
    let status = app.source.status();
    let refused = status.refused.into_iter().map(|refused| RefusedResponse {
        version: refused.version,
        label: refused.label,
        findings: refused.findings,
    });
    Ok(Json(StatusResponse {
        source: app.source.origin(),
        version: served.version.clone(),
        waiting: app.source.waiting(),
        default_label: app.source.default_label(),
        away: status
            .unavailable
            .map(|(since, reason)| UnavailableResponse { since, reason }),
        refused: refused.collect(),
    }))
}
