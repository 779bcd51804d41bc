use axum::Json;
use axum::extract::State;
use sosohappy_access::Act;
use sosohappy_common::Problem;

use super::{OwnFeed, show};
use crate::app::App;
use crate::domain::MonthOf;
use crate::error::Error;
use crate::routes::params::OwnMonth;

/// One's own posts of a month, newest first.
#[utoipa::path(
    post,
    path = "/findMonthFeed",
    tag = "post",
    request_body = OwnMonth,
    responses((status = 200, body = Vec<OwnFeed>), (status = 400, body = Problem))
)]
pub async fn find_month_feed(
    State(app): State<App>,
    Act { caller, params }: Act<OwnMonth>,
) -> Result<Json<Vec<OwnFeed>>, Error> {
    let MonthOf(month) = params.date;
    let posts = app.store.own(&caller.account, month.into()).await?;
    Ok(Json(show(&app, &params.nickname, posts).await?))
}
