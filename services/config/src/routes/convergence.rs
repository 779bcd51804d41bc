//! Which instances run on which version.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sosohappy_common::Problem;
use utoipa::ToSchema;

use crate::App;
use crate::convergence::{Instance, Standing};
use crate::credentials::Operator;
use crate::domain::canary::{Canary, Phase};

/// Who runs on which version of the configuration.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConvergenceResponse {
    /// The newest version, that a request without a label gets.
    version: String,
    /// When it was first seen here, RFC 3339.
    since: String,
    /// Whether every instance that is known runs on it.
    converged: bool,
    services: BTreeMap<String, ServiceResponse>,
    /// The one that is running, or was the last.
    canary: Option<CanaryResponse>,
}

/// A new version that is served to some instances first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryResponse {
    id: String,
    /// The version before, which is gone back to.
    from: String,
    to: String,
    phase: Phase,
    /// RFC 3339.
    started_at: String,
    /// The operator.
    started_by: String,
    /// Bus ids of instances that got the new version.
    updated: Vec<String>,
    /// Bus ids of instances whose turn has not come.
    waiting: Vec<String>,
    /// Why it was rolled back.
    reason: Option<String>,
}

impl From<Canary> for CanaryResponse {
    fn from(canary: Canary) -> Self {
        Self {
            updated: canary.updated().map(str::to_owned).collect(),
            waiting: canary.waiting().map(str::to_owned).collect(),
            id: canary.id,
            from: canary.from,
            to: canary.to,
            phase: canary.phase,
            started_at: canary.started_at.to_string(),
            started_by: canary.started_by,
            reason: canary.reason,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceResponse {
    /// How many instances run on each version.
    versions: BTreeMap<String, usize>,
    instances: Vec<InstanceResponse>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceResponse {
    /// Its bus id, `feed-service:8891:<random>`.
    id: String,
    /// Null when it was started without an answer of the config service.
    version: Option<String>,
    /// `newest`, `following` (for a moment), `late`, or `refusing`.
    standing: &'static str,
    /// Changed keys that take effect with its next start.
    needs_restart: Vec<String>,
    /// Why it does not take the newest settings.
    refused: Option<String>,
    /// `UP`, or the checks that failed; null where it does not say.
    health: Option<String>,
    /// RFC 3339.
    heard_at: String,
}

/// How many instances of each service run on which version.
#[utoipa::path(
    get,
    path = "/convergence",
    tag = "governance",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    responses((status = 200, body = ConvergenceResponse), (status = 401, body = Problem))
)]
pub async fn show_convergence(_: Operator, State(app): State<App>) -> Json<ConvergenceResponse> {
    let progress = app.convergence.progress();
    let mut instances = progress.services.values().flatten();
    Json(ConvergenceResponse {
        version: progress.newest.clone(),
        since: progress.since.to_string(),
        converged: instances.all(|instance| instance.standing == Standing::Newest),
        services: progress
            .services
            .into_iter()
            .map(|(service, instances)| (service, ServiceResponse::new(instances)))
            .collect(),
        canary: app.source.canary().map(|(canary, _)| canary.into()),
    })
}

impl ServiceResponse {
    fn new(instances: Vec<Instance>) -> Self {
        let mut versions: BTreeMap<String, usize> = BTreeMap::new();
        for version in instances.iter().filter_map(|instance| instance.report.version.as_ref()) {
            *versions.entry(version.clone()).or_default() += 1;
        }
        let instances = instances.into_iter().map(|instance| InstanceResponse {
            id: instance.id,
            version: instance.report.version,
            standing: instance.standing.name(),
            needs_restart: instance.report.needs_restart,
            refused: instance.report.refused,
            health: instance.report.health,
            heard_at: instance.heard_at.to_string(),
        });
        Self {
            versions,
            instances: instances.collect(),
        }
    }
}
