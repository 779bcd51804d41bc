//! Roles: a member applies, an admin decides; the first admin is made by an operator.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Admin, Caller};
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_events::types::Role;
use utoipa::ToSchema;

use super::moderation::Done;
use crate::app::App;
use crate::domain::moderation::Remark;
use crate::error::Error;
use crate::moderation;

/// Applications of one answer.
const APPLICATIONS: i64 = 100;

#[derive(Debug, Deserialize, ToSchema)]
pub struct ApplyRole {
    #[schema(pattern = "^(moderator|admin)$", example = "moderator")]
    role: String,
    /// Why, in at most 1,000 characters and 8,000 bytes.
    #[serde(default)]
    #[schema(value_type = String, max_length = 1000)]
    text: Remark,
}

fn role(text: &str) -> Result<Role, Error> {
    text.parse()
        .map_err(|_| Error::InvalidParameter("role: user, moderator or admin"))
}

/// Applies for a role above the present one; a later application replaces an earlier one. The decision comes as a notice `role`.
#[utoipa::path(
    post,
    path = "/applyRole",
    tag = "moderation",
    request_body = ApplyRole,
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem)),
)]
pub async fn apply_role(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(asked): Params<ApplyRole>,
) -> Result<Json<Done>, Error> {
    moderation::apply(&app, &caller.account, role(&asked.role)?, &asked.text).await?;
    Ok(Json(Done::new(true)))
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShownApplication {
    nickname: String,
    #[schema(example = "moderator")]
    role: &'static str,
    text: String,
    #[schema(value_type = String, format = DateTime)]
    applied_at: Timestamp,
}

/// At most 100.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoleApplications {
    content: Vec<ShownApplication>,
}

/// Lists applications that wait for a decision, the oldest first. For admins.
#[utoipa::path(
    get,
    path = "/admin/roleApplications",
    tag = "moderation",
    responses((status = 200, body = RoleApplications), (status = 503, body = Problem)),
)]
pub async fn list_role_applications(
    State(app): State<Arc<App>>,
    _admin: Admin,
) -> Result<Json<RoleApplications>, Error> {
    let found = app.store.role_applications(APPLICATIONS).await?;
    let shown = found.into_iter().map(|application| ShownApplication {
        nickname: application.nickname,
        role: application.role.as_str(),
        text: application.text,
        applied_at: application.applied_at,
    });
    Ok(Json(RoleApplications {
        content: shown.collect(),
    }))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct DecideRole {
    /// Who has applied.
    nickname: String,
    accepted: bool,
    /// For the audit, in at most 1,000 characters and 8,000 bytes.
    #[serde(default)]
    #[schema(value_type = String, max_length = 1000)]
    note: Remark,
}

/// Accepts or refuses an application. The role holds at once in this service, in others with the next access token. For admins.
#[utoipa::path(
    post,
    path = "/admin/decideRole",
    tag = "moderation",
    request_body = DecideRole,
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem)),
)]
pub async fn decide_role(
    State(app): State<Arc<App>>,
    Admin(admin): Admin,
    Params(asked): Params<DecideRole>,
) -> Result<Json<Done>, Error> {
    moderation::decide(&app, &admin, &asked.nickname, asked.accepted, &asked.note).await?;
    Ok(Json(Done::new(true)))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct GrantRole {
    #[schema(example = "kim@example.com+kakao")]
    account: String,
    #[schema(pattern = "^(user|moderator|admin)$", example = "admin")]
    role: String,
}

/// Gives an account a role, for operators (`fleet grant-role`). A lower role than before, and any after one that this release does not know, closes
/// its sessions.
#[utoipa::path(
    post,
    path = "/grantRole",
    tag = "fleet",
    request_body = GrantRole,
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem)),
)]
pub async fn grant_role(State(app): State<Arc<App>>, Params(asked): Params<GrantRole>) -> Result<Json<Done>, Error> {
    moderation::grant(&app, &asked.account.parse()?, role(&asked.role)?).await?;
    Ok(Json(Done::new(true)))
}
