//! Public posts, as others see them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::{Nickname, Problem};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::{Cursor, CursorParam, DayOf, PageFrom, PageSize, Paging, PostDate, SeenPost, Slice};
use crate::error::Error;
use crate::store::{By, Shown};

/// A public post as somebody else sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OtherFeed {
    nickname: String,
    #[schema(example = "sunny")]
    weather: String,
    #[schema(value_type = i64, example = 2_023_090_513_248_392_i64)]
    date: PostDate,
    #[schema(example = 5)]
    happiness: i32,
    text: String,
    category_list: Vec<String>,
    image_id_list: Vec<i64>,
    is_liked: bool,
}

impl OtherFeed {
    fn new(nickname: String, post: SeenPost) -> Self {
        Self {
            nickname,
            weather: post.weather,
            date: post.date,
            happiness: post.happiness,
            text: post.text,
            category_list: post.categories,
            image_id_list: post.images.into_iter().map(|image| image.0).collect(),
            is_liked: post.is_liked,
        }
    }
}

/// A page of public posts with the present nicknames of their authors; who has resigned meanwhile is not shown.
async fn slice(app: &App, shown: &Shown<'_>, paging: &Paging) -> Result<Slice<OtherFeed>, Error> {
    let posts = app.store.public(shown, paging.from(), paging.rows()).await?;
    let authors: Vec<_> = posts.iter().map(|post| post.author.clone()).collect();
    let names = app.names.nicknames_of(&authors).await?;
    let rows = posts.into_iter().zip(names).collect();
    let cursor = |(post, _): &(SeenPost, _)| Cursor {
        date: post.date.into(),
        post: post.id,
    };
    Ok(Slice::build(rows, paging, cursor, |(post, name)| {
        name.map(|nickname| OtherFeed::new(nickname, post))
    }))
}

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
        today: app.today(),
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
        today: app.today(),
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
        today: app.today(),
        by: By::One(&author),
        day: None,
    };
    Ok(Json(slice(&app, &shown, &paging).await?))
}
