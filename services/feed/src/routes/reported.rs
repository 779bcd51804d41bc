//! Reported content, for moderators.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::Moderator;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::Error;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FindReported {
    /// The number of the report, from auth's `admin/reports`.
    report: i64,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reported {
    /// As it was when it was reported.
    text: String,
    /// The post's present pictures.
    image_id_list: Vec<i64>,
}

/// Shows the post or comment of an open report; 404 when it was deleted before, the report is decided, or the author has resigned. For moderators.
#[utoipa::path(
    get,
    path = "/admin/reportedContent",
    tag = "moderation",
    params(FindReported),
    responses((status = 200, body = Reported), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn find_reported_content(
    State(app): State<App>,
    _moderator: Moderator,
    Params(asked): Params<FindReported>,
) -> Result<Json<Reported>, Error> {
    let reported = app.store.reported(asked.report).await?.ok_or(Error::NoSuchReport)?;
    Ok(Json(Reported {
        text: reported.text,
        image_id_list: reported.images.into_iter().map(|image| image.0).collect(),
    }))
}
