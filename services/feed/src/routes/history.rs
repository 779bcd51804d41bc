//! Earlier versions of the caller's own posts.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use sosohappy_access::Act;
use sosohappy_common::Problem;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::post::PostVersion;
use crate::domain::{Cursor, DayOf, ListName, PostDate, Slice};
use crate::error::Error;
use crate::routes::params::{CursorPage, OwnDay};

/// A post as it was until it was edited. Its pictures were deleted then.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedVersion {
    weather: String,
    #[schema(value_type = i64, example = 2_023_090_513_248_392_i64)]
    date: PostDate,
    happiness: i32,
    text: String,
    is_public: bool,
    category_list: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    replaced_at: Timestamp,
}

impl From<PostVersion> for FeedVersion {
    fn from(version: PostVersion) -> Self {
        Self {
            weather: version.weather,
            date: version.date,
            happiness: version.happiness,
            text: version.text,
            is_public: version.is_public,
            category_list: version.categories,
            replaced_at: version.replaced_at,
        }
    }
}

/// Lists the earlier versions of the caller's post of a day, the newest first; the 50 newest are kept, unless set otherwise.
#[utoipa::path(
    get,
    path = "/findFeedHistory",
    tag = "post",
    params(OwnDay, CursorPage),
    responses((status = 200, body = Slice<FeedVersion>), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn find_feed_history(
    State(app): State<App>,
    Act {
        caller,
        params: (own, page),
    }: Act<(OwnDay, CursorPage)>,
) -> Result<Json<Slice<FeedVersion>>, Error> {
    let DayOf(day) = own.date;
    let list = ListName(format!(
        "findFeedHistory,{},{}",
        caller.account.as_str(),
        i32::from(day)
    ));
    let paging = page.of(list, &app)?;
    let versions = app
        .store
        .history(&caller.account, day, paging.from, paging.rows())
        .await?
        .ok_or(Error::NoSuchPost)?;
    let cursor = |version: &PostVersion| Cursor {
        rank: 0,
        date: 0,
        id: version.id,
    };
    Ok(Json(Slice::build(versions, &paging, cursor, |version| {
        Some(version.into())
    })))
}
