//! Parameters that several calls read alike.

use serde::Deserialize;
use sosohappy_access::{Acting, Actor};
use sosohappy_common::Nickname;
use sosohappy_common::http::params::comma_list;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::paging::InvalidCursor;
use crate::domain::{Category, CursorParam, DayOf, ListName, MonthOf, PageSize, Paging, Sort, YearOf};

/// The page of a list that is read by cursor only.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CursorPage {
    #[serde(default)]
    #[param(inline, required = false)]
    size: PageSize,
    /// Each answer's `nextCursor`; `start`, or nothing, for the first page.
    #[param(value_type = Option<String>, example = "start")]
    cursor: Option<CursorParam>,
}

impl CursorPage {
    /// Checks the cursor, which is valid only in the list that it was given out for.
    pub fn of(self, list: ListName, app: &App) -> Result<Paging, InvalidCursor> {
        let cursor = self.cursor.unwrap_or(CursorParam::Start);
        Paging::new(0, self.size, Some(&cursor), &app.cursors, list)
    }
}

/// The page and the order of a list of others' posts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SortedPage {
    /// From 0.
    #[serde(default)]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64)]
    page: u32,
    #[serde(default)]
    #[param(inline, required = false)]
    size: PageSize,
    /// Instead of a page number: `start`, then each answer's `nextCursor`, which is opaque and valid for the same filters and order only. A
    /// page costs the same however deep it is, and no post is shown twice or left out because of what is written meanwhile, but for one
    /// that moves itself: with `sort=likes` or `comments`, a post whose number of them changes between two pages may be on both or on neither.
    #[param(value_type = Option<String>, example = "start")]
    cursor: Option<CursorParam>,
    /// Equals come newest first.
    #[serde(default)]
    #[param(inline, required = false)]
    pub sort: Sort,
}

impl SortedPage {
    /// Checks the cursor, as [`CursorPage::of`].
    pub fn of(self, list: ListName, app: &App) -> Result<Paging, InvalidCursor> {
        Paging::new(self.page, self.size, self.cursor.as_ref(), &app.cursors, list)
    }
}

/// A day of one's own.
#[derive(Debug, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OwnDay {
    #[param(inline)]
    pub nickname: Nickname,
    #[param(inline)]
    pub date: DayOf,
}

/// A month of one's own.
#[derive(Debug, Deserialize, ToSchema)]
pub struct OwnMonth {
    pub nickname: Nickname,
    pub date: MonthOf,
}

/// A year of one's own.
#[derive(Debug, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OwnYear {
    #[param(inline)]
    pub nickname: Nickname,
    #[param(inline)]
    pub date: YearOf,
}

/// Everything of one's own.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Own {
    #[param(inline)]
    pub nickname: Nickname,
}

impl Actor for Own {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

impl Actor for OwnDay {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

impl Actor for OwnMonth {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

impl Actor for OwnYear {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(self.nickname.as_str())
    }
}

/// Reads a list of categories in any of the forms of lists.
pub fn categories<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Category>, D::Error> {
    let names = comma_list(deserializer)?;
    names
        .into_iter()
        .map(|name| Category::try_from(name).map_err(serde::de::Error::custom))
        .collect()
}
