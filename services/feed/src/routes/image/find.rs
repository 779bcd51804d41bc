use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::Problem;
use sosohappy_common::images::ImageId;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Error;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindFeedImage {
    image_id: i64,
}

impl Actor for FindFeedImage {
    fn acting(&self) -> Acting<'_> {
        Acting::Caller
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FeedImage {
    /// Base64.
    image: String,
}

/// A picture as text.
#[utoipa::path(
    post,
    path = "/findFeedImage",
    tag = "image",
    request_body(content((FindFeedImage = "application/x-www-form-urlencoded"), (FindFeedImage = "application/json"))),
    responses((status = 200, body = FeedImage), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn find_feed_image(
    State(app): State<App>,
    Act { params, .. }: Act<FindFeedImage>,
) -> Result<Json<FeedImage>, Error> {
    let picture = app
        .images
        .get(ImageId(params.image_id))
        .await?
        .ok_or(Error::NoSuchImage)?;
    Ok(Json(FeedImage {
        image: STANDARD.encode(&picture.bytes),
    }))
}
