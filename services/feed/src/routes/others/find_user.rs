use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::Problem;
use utoipa::IntoParams;

use super::{OtherFeed, slice};
use crate::app::App;
use crate::domain::{Cursor, CursorParam, Nickname, PageSize, Paging, Slice};
use crate::error::Error;
use crate::store::{By, Shown};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct FindUserFeed {
    #[param(inline)]
    src_nickname: Nickname,
    #[param(inline)]
    dst_nickname: Nickname,
    /// From 0.
    #[serde(default)]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64)]
    page: u32,
    #[serde(default)]
    #[param(inline, required = false)]
    size: PageSize,
    /// Instead of a page number: `start`, then each answer's `nextCursor`.
    #[param(value_type = Option<String>, pattern = "^(start|[0-9]+-[0-9]+)$", example = "start")]
    cursor: Option<CursorParam>,
}

impl Actor for FindUserFeed {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.src_nickname.as_str())
    }
}

/// The public posts of one person, newest first; none of somebody unknown.
#[utoipa::path(
    get,
    path = "/findUserFeed",
    tag = "others",
    params(FindUserFeed),
    responses((status = 200, body = Slice<OtherFeed>), (status = 400, body = Problem))
)]
pub async fn find_user_feed(
    State(app): State<App>,
    Act { caller, params }: Act<FindUserFeed>,
) -> Result<Json<Slice<OtherFeed>>, Error> {
    let paging = Paging {
        page: params.page,
        size: params.size,
        cursor: params.cursor,
    };
    let Some(author) = app.account_of(&params.dst_nickname).await? else {
        return Ok(Json(Slice::build(
            Vec::new(),
            &paging,
            |()| Cursor { date: 0, post: 0 },
            |()| None,
        )));
    };
    let shown = Shown {
        viewer: &caller.account,
        by: By::One(&author),
        day: None,
    };
    Ok(Json(slice(&app, &shown, &paging).await?))
}
