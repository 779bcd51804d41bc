//! Views of posts: the counts of each, and what the caller did with it.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::{Account, Nickname, Problem};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::view::PostView;
use crate::domain::{Cursor, DayOf, Days, ListName, MonthOf, PageFrom, PostDate, Slice, Visibility};
use crate::error::Error;
use crate::routes::params::CursorPage;
use crate::store::ViewsOf;

/// Counts of a post, and the caller's own marks on it. A change is in the view as soon as its event is applied, usually within a second. Nothing
/// of suspended people is counted until they are restored, nor are comments that are hidden or held for review.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedView {
    /// The author's present nickname.
    nickname: String,
    #[schema(value_type = i64, example = 2_023_090_513_248_392_i64)]
    date: PostDate,
    visibility: Visibility,
    /// True while the post is hidden from everybody but the caller, its author; left out otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    is_hidden: bool,
    like_count: i64,
    bookmark_count: i64,
    comment_count: i64,
    is_liked: bool,
    is_bookmarked: bool,
}

impl FeedView {
    fn new(nickname: String, view: &PostView) -> Self {
        Self {
            nickname,
            date: view.date,
            visibility: view.visibility,
            is_hidden: view.is_hidden,
            like_count: view.likes,
            bookmark_count: view.bookmarks,
            comment_count: view.comments,
            is_liked: view.is_liked,
            is_bookmarked: view.is_bookmarked,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct FindFeedView {
    /// The caller's own nickname; may be left out.
    #[param(inline)]
    src_nickname: Option<Nickname>,
    /// The nickname of the post's author.
    #[param(inline)]
    nickname: Nickname,
    #[param(inline)]
    date: DayOf,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct FindFeedViews {
    /// The caller's own nickname; may be left out.
    #[param(inline)]
    src_nickname: Option<Nickname>,
    /// The nickname of the posts' author.
    #[param(inline)]
    nickname: Nickname,
    /// Only posts of the month of this date.
    #[param(inline)]
    date: Option<MonthOf>,
}

fn acting(src_nickname: Option<&Nickname>) -> Acting<'_> {
    src_nickname.map_or(Acting::Caller, |nickname| Acting::Nickname(nickname.as_str()))
}

impl Actor for FindFeedView {
    fn acting(&self) -> Acting<'_> {
        acting(self.src_nickname.as_ref())
    }
}

impl Actor for FindFeedViews {
    fn acting(&self) -> Acting<'_> {
        acting(self.src_nickname.as_ref())
    }
}

/// Returns the author of views and the present nickname, unless the view is not built yet.
async fn author(app: &App, nickname: &Nickname) -> Result<Option<(Account, String)>, Error> {
    if !app.store.is_view_built().await? {
        return Err(Error::ViewNotBuilt);
    }
    let Some(account) = app.account_of(nickname).await? else {
        return Ok(None);
    };
    let name = app.nicknames_of(std::slice::from_ref(&account)).await?.pop();
    Ok(name.flatten().map(|name| (account, name)))
}

/// Returns the counts of a post that the caller sees, and whether the caller likes it and has bookmarked it.
#[utoipa::path(
    get,
    path = "/feedView",
    tag = "view",
    params(FindFeedView),
    responses((status = 200, body = FeedView), (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem))
)]
pub async fn find_feed_view(
    State(app): State<App>,
    Act { caller, params }: Act<FindFeedView>,
) -> Result<Json<FeedView>, Error> {
    let DayOf(day) = params.date;
    let (author, nickname) = author(&app, &params.nickname).await?.ok_or(Error::NoSuchPost)?;
    let of = ViewsOf {
        author: &author,
        days: Days { first: day, last: day },
    };
    let view = app
        .store
        .post_views(&caller.account, of, app.today(), PageFrom::Offset(0), 1)
        .await?
        .pop()
        .ok_or(Error::NoSuchPost)?;
    Ok(Json(FeedView::new(nickname, &view)))
}

/// Lists the views of one person's posts that the caller sees, newest first; none for an unknown nickname.
#[utoipa::path(
    get,
    path = "/feedViews",
    tag = "view",
    params(FindFeedViews, CursorPage),
    responses((status = 200, body = Slice<FeedView>), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub async fn find_feed_views(
    State(app): State<App>,
    Act {
        caller,
        params: (params, page),
    }: Act<(FindFeedViews, CursorPage)>,
) -> Result<Json<Slice<FeedView>>, Error> {
    let author = author(&app, &params.nickname).await?;
    let whose = author.as_ref().map_or("", |(account, _)| account.as_str());
    let days = params.date.map_or(Days::ALL, |MonthOf(month)| month.into());
    let list = ListName(format!("feedViews,{whose},{}", i32::from(days.last)));
    let paging = page.of(list, &app)?;
    let Some((author, nickname)) = author else {
        return Ok(Json(Slice::build(Vec::new(), &paging, |()| Cursor::NEWEST, |()| None)));
    };
    let of = ViewsOf { author: &author, days };
    let views = app
        .store
        .post_views(&caller.account, of, app.today(), paging.from, paging.rows())
        .await?;
    Ok(Json(Slice::build(
        views,
        &paging,
        |view| Cursor {
            rank: 0,
            date: view.date.into(),
            id: view.id,
        },
        |view| Some(FeedView::new(nickname.clone(), &view)),
    )))
}
