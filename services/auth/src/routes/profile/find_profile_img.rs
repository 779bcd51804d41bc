use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sosohappy_common::http::{Params, Problem};
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Error;

#[derive(Debug, Deserialize, ToSchema)]
pub struct Asked {
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
    request_body = Asked,
    responses((status = 200, body = Photo), (status = 400, body = Problem)),
)]
pub async fn find_profile_img(State(app): State<Arc<App>>, Params(asked): Params<Asked>) -> Result<Json<Photo>, Error> {
    let Some(person) = app.bearer_of(&asked.nickname).await? else {
        return Ok(Json(Photo {
            nickname: None,
            profile_img: None,
        }));
    };
    let picture = match person.image {
        Some(image) => app.images.get(image).await?,
        None => None,
    };
    Ok(Json(Photo {
        nickname: Some(person.nickname.as_str().to_owned()),
        profile_img: picture.map(|picture| BASE64_STANDARD.encode(&picture.bytes)),
    }))
}
