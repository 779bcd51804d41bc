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
pub struct StatusUpdated {
    #[schema(example = true)]
    success: bool,
    #[schema(example = "업데이트 성공")]
    message: &'static str,
}

/// Makes one's own post of a day public, or private again.
#[utoipa::path(
    post,
    path = "/updatePublicStatus",
    tag = "post",
    request_body = OwnDay,
    responses((status = 200, body = StatusUpdated), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn update_public_status(
    State(app): State<App>,
    Act { caller, params }: Act<OwnDay>,
) -> Result<Json<StatusUpdated>, Error> {
    let DayOf(day) = params.date;
    if app.store.toggle_public(&caller.account, day).await? {
        Ok(Json(StatusUpdated {
            success: true,
            message: "업데이트 성공",
        }))
    } else {
        Err(Error::NoSuchPost)
    }
}
