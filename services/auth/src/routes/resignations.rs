//! Resignations that not every service has acknowledged, for admins and operators.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use sosohappy_access::Admin;
use sosohappy_common::Problem;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Error;
use crate::resignations;

/// Resignations of one answer.
const MOST: u32 = 100;

/// Holds no names: only the erasure knows the resigned accounts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingResignation {
    /// The id of its event, as in logs.
    id: String,
    #[schema(value_type = String, format = DateTime)]
    resigned_at: Timestamp,
    /// How long it has been pending.
    age_seconds: i64,
    /// Services that have erased everything.
    acknowledged: Vec<String>,
    /// Services whose receipts are awaited.
    missing: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PendingResignations {
    /// How many there are in all.
    count: i64,
    /// The oldest 100.
    content: Vec<PendingResignation>,
}

/// Lists the resignations that are pending, the oldest first. Only for admins; others get 403 `role-required`.
#[utoipa::path(
    get,
    path = "/admin/resignations",
    tag = "admin",
    responses((status = 200, body = PendingResignations), (status = 403, body = Problem), (status = 503, body = Problem)),
)]
pub async fn list_resignations(State(app): State<Arc<App>>, _admin: Admin) -> Result<Json<PendingResignations>, Error> {
    pending(&app).await
}

/// Lists the resignations that are pending, the oldest first, for operators.
#[utoipa::path(
    get,
    path = "/pendingResignations",
    tag = "fleet",
    responses((status = 200, body = PendingResignations), (status = 401, body = Problem), (status = 503, body = Problem)),
)]
pub async fn show_resignations(State(app): State<Arc<App>>) -> Result<Json<PendingResignations>, Error> {
    pending(&app).await
}

async fn pending(app: &App) -> Result<Json<PendingResignations>, Error> {
    let count = app.store.unfinished_resignations().await?.count;
    let now = app.now();
    let pending = app.store.pending_resignations(MOST).await?.into_iter();
    let content = pending.map(|pending| PendingResignation {
        id: pending.id,
        resigned_at: pending.resigned_at,
        age_seconds: now.duration_since(pending.resigned_at).as_secs(),
        missing: resignations::missing(app, &pending.acknowledged),
        acknowledged: pending.acknowledged,
    });
    Ok(Json(PendingResignations {
        count,
        content: content.collect(),
    }))
}
