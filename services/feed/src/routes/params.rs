//! Parameters that several calls read alike.

use serde::Deserialize;
use sosohappy_access::{Acting, Actor};
use sosohappy_common::Nickname;
use utoipa::ToSchema;

use crate::domain::{DayOf, MonthOf, YearOf};

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
#[derive(Debug, Deserialize, ToSchema)]
pub struct OwnYear {
    pub nickname: Nickname,
    pub date: YearOf,
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
