use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sosohappy_access::Act;
use sosohappy_common::Problem;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::DayOf;
use crate::error::Error;
use crate::routes::params::OwnDay;

#[derive(Debug, Serialize, ToSchema)]
pub struct FeedDeleted {
    #[schema(example = true)]
    result: bool,
}

/// Deletes one's own post of a day, its likes and its pictures.
#[utoipa::path(
    post,
    path = "/deleteFeed",
    tag = "post",
    request_body = OwnDay,
    responses((status = 200, body = FeedDeleted), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn delete_feed(
    State(app): State<App>,
    Act { caller, params }: Act<OwnDay>,
) -> Result<Json<FeedDeleted>, Error> {
    let DayOf(day) = params.date;
    if !app.store.delete(&caller.account, day, app.now()).await? {
        return Err(Error::NoSuchPost);
    }
    app.garbage.wake();
    Ok(Json(FeedDeleted { result: true }))
}
