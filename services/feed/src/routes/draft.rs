//! Drafts, which only the person who writes them sees.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, Acting, Actor};
use sosohappy_common::{Nickname, Problem};
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, writer};
use crate::domain::draft::{Draft, SavedDraft};
use crate::domain::{Category, Cursor, DayOf, ListName, PostDate, Slice, Visibility, Weather};
use crate::error::Error;
use crate::routes::params::{CursorPage, OwnDay, categories};

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SaveDraft {
    nickname: Nickname,
    /// As of `saveFeed`.
    date: PostDate,
    weather: Option<Weather>,
    happiness: Option<i32>,
    #[serde(default, deserialize_with = "categories")]
    category_list: Vec<Category>,
    #[serde(default)]
    text: String,
    is_public: Option<bool>,
    visibility: Option<Visibility>,
}

impl Actor for SaveDraft {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DraftSaved {
    #[schema(example = true)]
    success: bool,
}

/// Saves a draft of a day's post, without pictures, in the place of an earlier draft of that day. `saveFeed` of the day deletes it.
#[utoipa::path(
    post,
    path = "/saveDraft",
    tag = "draft",
    request_body = SaveDraft,
    responses(
        (status = 200, body = DraftSaved),
        (status = 400, body = Problem),
        (status = 409, description = "There are drafts of too many days", body = Problem),
    )
)]
pub async fn save_draft(
    State(app): State<App>,
    Act { caller, params }: Act<SaveDraft>,
) -> Result<Json<DraftSaved>, Error> {
    let limits = app.settings.get().post;
    let draft = Draft {
        date: params.date,
        weather: params.weather,
        happiness: params.happiness,
        text: params.text,
        categories: params.category_list,
        is_public: params.is_public,
        visibility: params.visibility,
    };
    let draft = draft.check(&limits, app.today())?;
    let saved = app
        .store
        .save_draft(&writer(caller), &draft, limits.drafts, app.now())
        .await?;
    if !saved {
        return Err(Error::TooManyDrafts(limits.drafts));
    }
    Ok(Json(DraftSaved { success: true }))
}

/// A draft as it was saved.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedDraft {
    #[schema(value_type = i64, example = 2_023_090_513_248_392_i64)]
    date: PostDate,
    #[schema(value_type = Option<String>)]
    weather: Option<Weather>,
    happiness: Option<i32>,
    #[schema(value_type = Vec<String>)]
    category_list: Vec<Category>,
    text: String,
    is_public: Option<bool>,
    visibility: Option<Visibility>,
    #[schema(value_type = String, format = DateTime)]
    saved_at: Timestamp,
}

impl From<SavedDraft> for FeedDraft {
    fn from(SavedDraft { draft, saved_at }: SavedDraft) -> Self {
        Self {
            date: draft.date,
            weather: draft.weather,
            happiness: draft.happiness,
            category_list: draft.categories,
            text: draft.text,
            is_public: draft.is_public,
            visibility: draft.visibility,
            saved_at,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FindDraft {
    #[param(inline)]
    nickname: Nickname,
    /// Only the draft of this day.
    #[param(inline)]
    date: Option<DayOf>,
}

impl Actor for FindDraft {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

/// Lists the caller's drafts, that of the latest day first.
#[utoipa::path(
    get,
    path = "/findDraft",
    tag = "draft",
    params(FindDraft, CursorPage),
    responses((status = 200, body = Slice<FeedDraft>), (status = 400, body = Problem))
)]
pub async fn find_draft(
    State(app): State<App>,
    Act {
        caller,
        params: (params, page),
    }: Act<(FindDraft, CursorPage)>,
) -> Result<Json<Slice<FeedDraft>>, Error> {
    let day = params.date.map(|DayOf(day)| day);
    let list = ListName(format!(
        "findDraft,{},{}",
        caller.account.as_str(),
        day.map_or(0, i32::from)
    ));
    let paging = page.of(list, &app)?;
    let drafts = app
        .store
        .drafts(&caller.account, day, paging.from, paging.rows())
        .await?;
    let cursor = |saved: &SavedDraft| Cursor {
        rank: 0,
        date: i32::from(saved.draft.date.day()).into(),
        id: 0,
    };
    Ok(Json(Slice::build(drafts, &paging, cursor, |draft| Some(draft.into()))))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DraftDeleted {
    #[schema(example = true)]
    result: bool,
}

/// Deletes the caller's draft of a day.
#[utoipa::path(
    post,
    path = "/deleteDraft",
    tag = "draft",
    request_body = OwnDay,
    responses((status = 200, body = DraftDeleted), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn delete_draft(
    State(app): State<App>,
    Act { caller, params }: Act<OwnDay>,
) -> Result<Json<DraftDeleted>, Error> {
    let DayOf(day) = params.date;
    if !app.store.delete_draft(&caller.account, day).await? {
        return Err(Error::NoSuchDraft);
    }
    Ok(Json(DraftDeleted { result: true }))
}
