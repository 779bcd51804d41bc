use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header;
use serde::{Deserialize, Serialize};
use sosohappy_common::http::{Params, Problem, ResponseMemory};
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Error;

/// The picture itself, its base64 and the JSON around it: times its size, rounded up.
const COPIES: usize = 4;

#[derive(Debug, Deserialize, ToSchema)]
pub struct FindProfileImg {
    nickname: String,
}

/// Both null when nobody bears the nickname.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Photo {
    nickname: Option<String>,
    /// Base64; null when there is none.
    profile_img: Option<String>,
}

/// Somebody's photo.
#[utoipa::path(
    post,
    path = "/findProfileImg",
    tag = "profile",
    request_body = FindProfileImg,
    responses((status = 200, body = Photo), (status = 400, body = Problem), (status = 503, body = Problem)),
)]
pub async fn find_profile_img(
    State(app): State<Arc<App>>,
    memory: ResponseMemory,
    Params(asked): Params<FindProfileImg>,
) -> Result<Response, Error> {
    let person = app.bearer_of(&asked.nickname).await?;
    let nickname = person.as_ref().map(|person| person.nickname.as_str().to_owned());
    let picture = match person.and_then(|person| person.image) {
        Some(image) => app.images.find(image).await?,
        None => None,
    };
    let Some(picture) = picture else {
        return Ok(Json(Photo {
            nickname,
            profile_img: None,
        })
        .into_response());
    };
    let share = memory.share(picture.size().saturating_mul(COPIES)).await?;
    let profile_img = BASE64_STANDARD.encode(picture.read().await?);
    let photo = Photo {
        nickname,
        profile_img: Some(profile_img),
    };
    let json = serde_json::to_vec(&photo).expect("two texts are JSON");
    drop(photo);
    Ok(([(header::CONTENT_TYPE, "application/json")], share.hold(json)).into_response())
}
