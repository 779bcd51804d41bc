//! Parameters that several calls read alike.

use serde::Deserialize;
use sosohappy_access::{Acting, Actor};
use sosohappy_common::Nickname;
use sosohappy_common::http::params::comma_list;
use utoipa::{IntoParams, ToSchema};

use crate::domain::{Category, DayOf, MonthOf, YearOf};

/// A day of one's own.
#[derive(Debug, Deserialize, ToSchema)]
pub struct OwnDay {
    pub nickname: Nickname,
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
