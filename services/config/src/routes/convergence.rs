//! The versions that instances run, for operators.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sosohappy_common::Problem;
use utoipa::ToSchema;

use crate::App;
use crate::convergence::{Instance, InstanceStatus};
use crate::credentials::Operator;
use crate::domain::canary::{Canary, Phase};

/// The version of the configuration that each instance runs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConvergenceResponse {
    /// The newest version, served to requests without a label.
    version: String,
    /// When this replica first served it, RFC 3339.
    since: String,
    /// Whether every known instance runs it.
    converged: bool,
    services: BTreeMap<String, ServiceResponse>,
    /// The running canary, or the last one.
    canary: Option<CanaryResponse>,
}

/// A new version that is served to a growing list of instances.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryResponse {
    id: String,
    /// The version before, which a rollback serves again.
    from: String,
    to: String,
    phase: Phase,
    /// RFC 3339.
    started_at: String,
    /// The operator.
    started_by: String,
    /// Bus ids of instances that are served the new version.
    updated: Vec<String>,
    /// Bus ids of instances of later steps.
    waiting: Vec<String>,
    /// The reason for the rollback.
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
    /// The number of instances by version.
    versions: BTreeMap<String, usize>,
    instances: Vec<InstanceResponse>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceResponse {
    /// The bus id, `feed-service:8891:<random>`.
    id: String,
    /// Null for an instance that started without a response of the config service.
    version: Option<String>,
    /// `newest`; `following` within `convergence.late-after` of a new version; `late` after it; or `refusing`.
    standing: &'static str,
    /// Changed keys that take effect at the next start.
    needs_restart: Vec<String>,
    /// The reason for refusing the newest settings.
    refused: Option<String>,
    /// `UP`, or the failed checks; null for services that do not report it.
    health: Option<String>,
    /// RFC 3339.
    heard_at: String,
}

/// Returns the instances of each service with the version that each runs.
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
        converged: instances.all(|instance| instance.status == InstanceStatus::Newest),
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
            standing: instance.status.name(),
            needs_restart: instance.report.needs_restart,
            refused: instance.report.refused,
            health: instance.report.health,
            heard_at: instance.reported_at.to_string(),
        });
        Self {
            versions,
            instances: instances.collect(),
        }
    }
}
