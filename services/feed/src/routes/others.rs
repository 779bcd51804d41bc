//! Public posts, as others see them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::{Account, Nickname, Problem};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::{Cursor, DayOf, ListName, PageFrom, Paging, PostDate, SeenPost, Slice, Sort};
use crate::error::Error;
use crate::routes::params::{CursorPage, Own, SortedPage};
use crate::store::{By, Shown};

/// A post as other people see it.
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
    pub fn new(nickname: String, post: SeenPost) -> Self {
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

/// A page of posts with the present nicknames of their authors. Posts of authors who are resigned or suspended, and posts of others with a word that the
/// viewer has muted, are left out.
async fn shown_page(
    app: &App,
    viewer: &Account,
    posts: Vec<SeenPost>,
    sort: Sort,
    paging: &Paging,
) -> Result<Slice<OtherFeed>, Error> {
    let authors: Vec<_> = posts.iter().map(|post| post.author.clone()).collect();
    let (names, muted) = tokio::join!(app.nicknames_of(&authors), app.muted_words.of(viewer));
    let (names, now) = (names?, app.now());
    let rows = posts.into_iter().zip(names).collect();
    let cursor = |(post, _): &(SeenPost, _)| Cursor {
        rank: match sort {
            Sort::Newest => 0,
            Sort::Likes => post.likes,
            Sort::Comments => post.comments,
            Sort::Happiness => post.happiness.into(),
        },
        date: post.date.into(),
        id: post.id,
    };
    Ok(Slice::build(rows, paging, cursor, |(post, name)| {
        if post.author != *viewer && muted.is_in(&post.text, now) {
            return None;
        }
        name.map(|nickname| OtherFeed::new(nickname, post))
    }))
}

async fn slice(app: &App, shown: &Shown<'_>, paging: &Paging) -> Result<Slice<OtherFeed>, Error> {
    let posts = app.store.public(shown, paging.from, paging.rows()).await?;
    shown_page(app, shown.viewer, posts, shown.sort, paging).await
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

/// Returns a person's public post of a day, or one for friends whose author is the caller's friend.
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
        sort: Sort::Newest,
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
}

impl Actor for FindOtherFeed {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

/// Lists the public posts of others, newest first unless another order is asked for. A page may hold fewer posts than its size: those with a word
/// that the caller has muted are left out.
#[utoipa::path(
    get,
    path = "/findOtherFeed",
    tag = "others",
    params(FindOtherFeed, SortedPage),
    responses((status = 200, body = Slice<OtherFeed>), (status = 400, body = Problem))
)]
pub async fn find_other_feed(
    State(app): State<App>,
    Act {
        caller,
        params: (params, page),
    }: Act<(FindOtherFeed, SortedPage)>,
) -> Result<Json<Slice<OtherFeed>>, Error> {
    let shown = Shown {
        viewer: &caller.account,
        today: app.today(),
        by: By::Others,
        day: params.date.map(|DayOf(day)| day),
        sort: page.sort,
    };
    let day = shown.day.map_or(0, i32::from);
    let list = ListName(format!("findOtherFeed,{},{day}", shown.sort.name()));
    let paging = page.of(list, &app)?;
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
}

impl Actor for FindUserFeed {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.src_nickname.as_str())
    }
}

/// Lists the public posts of one person, and those for friends if the caller is one, newest first unless another order is asked for; none for an
/// unknown nickname. Those with a word that the caller has muted are left out.
#[utoipa::path(
    get,
    path = "/findUserFeed",
    tag = "others",
    params(FindUserFeed, SortedPage),
    responses((status = 200, body = Slice<OtherFeed>), (status = 400, body = Problem))
)]
pub async fn find_user_feed(
    State(app): State<App>,
    Act {
        caller,
        params: (params, page),
    }: Act<(FindUserFeed, SortedPage)>,
) -> Result<Json<Slice<OtherFeed>>, Error> {
    let author = app.account_of(&params.dst_nickname).await?;
    let whose = author.as_ref().map_or("", Account::as_str);
    let sort = page.sort;
    let list = ListName(format!("findUserFeed,{},{whose}", sort.name()));
    let paging = page.of(list, &app)?;
    let Some(author) = author else {
        return Ok(Json(Slice::build(Vec::new(), &paging, |()| Cursor::NEWEST, |()| None)));
    };
    let shown = Shown {
        viewer: &caller.account,
        today: app.today(),
        by: By::One(&author),
        day: None,
        sort,
    };
    Ok(Json(slice(&app, &shown, &paging).await?))
}

/// Lists the posts of friends, newest first: their public ones and those for friends. Friends are people who follow each other.
#[utoipa::path(
    get,
    path = "/findFriendFeed",
    tag = "others",
    params(Own, CursorPage),
    responses((status = 200, body = Slice<OtherFeed>), (status = 400, body = Problem))
)]
pub async fn find_friend_feed(
    State(app): State<App>,
    Act {
        caller,
        params: (_, page),
    }: Act<(Own, CursorPage)>,
) -> Result<Json<Slice<OtherFeed>>, Error> {
    let list = ListName(format!("findFriendFeed,{}", caller.account.as_str()));
    let paging = page.of(list, &app)?;
    let posts = app
        .store
        .of_friends(&caller.account, app.today(), paging.from, paging.rows())
        .await?;
    let slice = shown_page(&app, &caller.account, posts, Sort::Newest, &paging).await?;
    Ok(Json(slice))
}
