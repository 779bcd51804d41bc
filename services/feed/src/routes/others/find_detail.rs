use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::Problem;
use utoipa::ToSchema;

use super::OtherFeed;
use crate::app::App;
use crate::domain::{DayOf, Nickname, PageFrom};
use crate::error::Error;
use crate::store::{By, Shown};

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindDetailFeed {
    src_nickname: Nickname,
    dst_nickname: Nickname,
    date: DayOf,
}

impl Actor for FindDetailFeed {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.src_nickname.as_str())
    }
}

/// One person's public post of a day.
#[utoipa::path(
    post,
    path = "/findDetailFeed",
    tag = "others",
    request_body = FindDetailFeed,
    responses((status = 200, body = OtherFeed), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn find_detail_feed(
    State(app): State<App>,
    Act { caller, params }: Act<FindDetailFeed>,
) -> Result<Json<OtherFeed>, Error> {
    let DayOf(day) = params.date;
    let author = app.account_of(&params.dst_nickname).await?.ok_or(Error::NoSuchPost)?;
    let shown = Shown {
        viewer: &caller.account,
        by: By::One(&author),
        day: Some(day),
    };
    let post = app
        .store
        .public(&shown, PageFrom::Offset(0), 1)
        .await?
        .pop()
        .ok_or(Error::NoSuchPost)?;
    Ok(Json(OtherFeed::new(params.dst_nickname.as_str().to_owned(), post)))
}
