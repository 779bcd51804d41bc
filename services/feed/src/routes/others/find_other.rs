use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::Problem;
use utoipa::IntoParams;

use super::{OtherFeed, slice};
use crate::app::App;
use crate::domain::{CursorParam, DayOf, Nickname, PageSize, Paging, Slice};
use crate::error::Error;
use crate::store::{By, Shown};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FindOtherFeed {
    #[param(inline)]
    nickname: Nickname,
    /// Only posts of this day.
    #[param(inline)]
    date: Option<DayOf>,
    /// From 0.
    #[serde(default)]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64)]
    page: u32,
    #[serde(default)]
    #[param(inline, required = false)]
    size: PageSize,
    /// Instead of a page number: `start`, then each answer's `nextCursor`. A page costs the same however deep it is, and nothing is
    /// shown twice or missed because somebody posts meanwhile.
    #[param(value_type = Option<String>, pattern = "^(start|[0-9]+-[0-9]+)$", example = "start")]
    cursor: Option<CursorParam>,
}

impl Actor for FindOtherFeed {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

/// The public posts of others, newest first.
#[utoipa::path(
    get,
    path = "/findOtherFeed",
    tag = "others",
    params(FindOtherFeed),
    responses((status = 200, body = Slice<OtherFeed>), (status = 400, body = Problem))
)]
pub async fn find_other_feed(
    State(app): State<App>,
    Act { caller, params }: Act<FindOtherFeed>,
) -> Result<Json<Slice<OtherFeed>>, Error> {
    let shown = Shown {
        viewer: &caller.account,
        by: By::Others,
        day: params.date.map(|DayOf(day)| day),
    };
    let paging = Paging {
        page: params.page,
        size: params.size,
        cursor: params.cursor,
    };
    Ok(Json(slice(&app, &shown, &paging).await?))
}
