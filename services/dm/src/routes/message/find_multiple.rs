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

/// More people than anybody talks to; bounds the answer.
const MOST_CONVERSATIONS: u32 = 1000;

#[derive(Debug, Deserialize, ToSchema)]
pub struct FindMultipleDirectMessage {
    /// The caller's own nickname.
    #[schema(example = "별이")]
    sender: String,
}

impl Actor for FindMultipleDirectMessage {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(&self.sender)
    }
}

/// Lists the newest message of each of one's conversations, newest first
#[utoipa::path(
    post,
    path = "/findMultipleDirectMessage",
    tag = "message",
    request_body = FindMultipleDirectMessage,
    responses(
        (status = 200, body = [Shown]),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn find_multiple_direct_message(
    State(app): State<App>,
    Act { caller, .. }: Act<FindMultipleDirectMessage>,
) -> Result<Json<Vec<Shown>>, Error> {
    let messages = app.store.newest(&caller.account, MOST_CONVERSATIONS).await?;
    Ok(Json(shown(&*app.names, messages).await?))
}
