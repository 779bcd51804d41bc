//! Earlier versions of the caller's own posts.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::{Nickname, Problem};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::post::PostVersion;
use crate::domain::{Cursor, CursorParam, DayOf, ListName, PageSize, Paging, PostDate, Slice};
use crate::error::Error;

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

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FindFeedHistory {
    #[param(inline)]
    nickname: Nickname,
    #[param(inline)]
    date: DayOf,
    #[serde(default)]
    #[param(inline, required = false)]
    size: PageSize,
    /// Each answer's `nextCursor`; `start`, or nothing, for the first page.
    #[param(value_type = Option<String>, example = "start")]
    cursor: Option<CursorParam>,
}

impl Actor for FindFeedHistory {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

/// Lists the earlier versions of the caller's post of a day, the newest first; the 50 newest are kept, unless set otherwise.
#[utoipa::path(
    get,
    path = "/findFeedHistory",
    tag = "post",
    params(FindFeedHistory),
    responses((status = 200, body = Slice<FeedVersion>), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn find_feed_history(
    State(app): State<App>,
    Act { caller, params }: Act<FindFeedHistory>,
) -> Result<Json<Slice<FeedVersion>>, Error> {
    let DayOf(day) = params.date;
    let list = ListName(format!(
        "findFeedHistory,{},{}",
        caller.account.as_str(),
        i32::from(day)
    ));
    let cursor = params.cursor.unwrap_or(CursorParam::Start);
    let paging = Paging::new(0, params.size, Some(&cursor), &app.cursors, list)?;
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
