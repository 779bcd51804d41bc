//! Notices of the operators to one person.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::ToSchema;

use super::moderation::Done;
use crate::app::App;
use crate::domain::moderation::Remark;
use crate::domain::system_notice::SystemNotice;
use crate::error::Error;
use crate::moderation;

#[derive(Debug, Deserialize, ToSchema)]
pub struct SendSystemNotice {
    #[schema(example = "kim@example.com+kakao")]
    account: String,
    /// One line of at most 1,000 characters; with the text at most 4,096 bytes as JSON.
    #[schema(value_type = String, min_length = 1, max_length = 1000, example = "Maintenance")]
    title: Remark,
    /// At most 1,000 characters.
    #[schema(value_type = String, min_length = 1, max_length = 1000, example = "Tonight at 3")]
    text: Remark,
}

/// Sends an account a notice `system`, for operators (`fleet system-notice`). A repeated call sends another one.
#[utoipa::path(
    post,
    path = "/sendSystemNotice",
    tag = "fleet",
    request_body = SendSystemNotice,
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem)),
)]
pub async fn send_system_notice(
    State(app): State<Arc<App>>,
    Params(asked): Params<SendSystemNotice>,
) -> Result<Json<Done>, Error> {
    let notice = SystemNotice::new(asked.title, asked.text)?;
    moderation::send_system_notice(&app, &asked.account.parse()?, &notice).await?;
    Ok(Json(Done::new(true)))
}
