use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_common::http::{Params, Problem};
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Error;

#[derive(Debug, Deserialize, ToSchema)]
pub struct FindIntroduction {
    nickname: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Told {
    /// Empty when there is none.
    introduction: String,
}

/// What somebody tells about themselves.
#[utoipa::path(
    post,
    path = "/findIntroduction",
    tag = "profile",
    request_body = FindIntroduction,
    responses((status = 200, body = Told), (status = 400, body = Problem)),
)]
pub async fn find_introduction(
    State(app): State<Arc<App>>,
    Params(asked): Params<FindIntroduction>,
) -> Result<Json<Told>, Error> {
    let person = app.bearer_of(&asked.nickname).await?;
    Ok(Json(Told {
        introduction: person
            .map(|person| person.introduction.as_str().to_owned())
            .unwrap_or_default(),
    }))
}
