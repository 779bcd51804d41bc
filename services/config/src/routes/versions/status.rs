use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sosohappy_common::Problem;
use utoipa::ToSchema;

use crate::App;
use crate::credentials::Operator;
use crate::domain::finding::Finding;
use crate::error::Error;
use crate::source::ViewError;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusResponse {
    source: String,
    /// The newest good version of the source: what a request without a label gets.
    version: String,
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
    let published = app.source.published().ok_or(ViewError::NotYet)?;
    let condition = app.source.condition();
    let refused = condition.refused.into_iter().map(|refused| RefusedResponse {
        version: refused.version,
        label: refused.label,
        findings: refused.findings,
    });
    Ok(Json(StatusResponse {
        source: app.source.origin(),
        version: published.main.version.clone(),
        default_label: app.source.default_label(),
        away: condition.away.map(|(since, reason)| AwayResponse { since, reason }),
        refused: refused.collect(),
    }))
}
