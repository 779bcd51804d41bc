use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use sosohappy_access::Act;
use sosohappy_common::Problem;

use super::{OwnFeed, show};
use crate::app::App;
use crate::domain::{DayOf, Days};
use crate::error::Error;
use crate::routes::params::OwnDay;

/// One's own post of a day.
#[utoipa::path(
    post,
    path = "/findDayFeed",
    tag = "post",
    request_body = OwnDay,
    responses(
        (status = 200, description = "The post, or an empty body when there is none", body = OwnFeed),
        (status = 400, body = Problem),
    )
)]
pub async fn find_day_feed(State(app): State<App>, Act { caller, params }: Act<OwnDay>) -> Result<Response, Error> {
    let DayOf(day) = params.date;
    let posts = app.store.own(&caller.account, Days { first: day, last: day }).await?;
    let post = show(&app, &params.nickname, posts).await?.pop();
    Ok(post.map_or_else(|| StatusCode::OK.into_response(), |post| Json(post).into_response()))
}
