use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::Problem;
use utoipa::ToSchema;

use super::shown;
use crate::app::App;
use crate::domain::Shown;
use crate::error::Error;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindDirectMessage {
    /// The caller's own nickname.
    #[schema(example = "별이")]
    sender: String,
    /// The nickname of the other one.
    #[schema(example = "달이")]
    receiver: String,
    /// Messages from before this date; without it the newest.
    #[serde(default)]
    #[schema(example = 2_023_090_513_248_392_i64)]
    time_boundary: Option<i64>,
    /// At most 500, unless set otherwise.
    #[serde(default = "twenty")]
    #[schema(default = 20, minimum = 1)]
    message_cnt: u32,
}

const fn twenty() -> u32 {
    20
}

impl Actor for FindDirectMessage {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(&self.sender)
    }
}

/// Pages backwards through the conversation with somebody: the newest messages from before a date, oldest first
#[utoipa::path(
    post,
    path = "/findDirectMessage",
    tag = "message",
    request_body = FindDirectMessage,
    responses(
        (status = 200, body = [Shown]),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn find_direct_message(
    State(app): State<App>,
    Act { caller, params }: Act<FindDirectMessage>,
) -> Result<Json<Vec<Shown>>, Error> {
    let most = app.settings.get().history.max_count;
    if !(1..=most).contains(&params.message_cnt) {
        return Err(Error::Count(most));
    }
    let Some(other) = app.names.account_of(&params.receiver).await? else {
        return Ok(Json(Vec::new()));
    };
    let messages = app
        .store
        .conversation(&caller.account, &other, params.time_boundary, params.message_cnt)
        .await?;
    Ok(Json(shown(&*app.names, messages).await?))
}
