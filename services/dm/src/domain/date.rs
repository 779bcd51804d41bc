//! Dates as the app writes them: sixteen digits `yyyyMMddHHmmssSS` of local time, one JSON integer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const FIRST: i64 = 2_000_000_000_000_000;
const LAST: i64 = 9_999_999_999_999_999;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a date has 16 digits, yyyyMMddHHmmssSS, from {FIRST} to {LAST}")]
pub struct InvalidDate;

/// When a message was written, as its sender's phone told it. It orders a conversation; nothing is computed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "i64", into = "i64")]
#[schema(value_type = i64, minimum = 2_000_000_000_000_000_i64, maximum = 9_999_999_999_999_999_i64, example = 2_023_090_513_248_392_i64)]
pub struct MessageDate(i64);

impl TryFrom<i64> for MessageDate {
    type Error = InvalidDate;

    fn try_from(date: i64) -> Result<Self, InvalidDate> {
        if (FIRST..=LAST).contains(&date) {
            Ok(Self(date))
        } else {
            Err(InvalidDate)
        }
    }
}

impl From<MessageDate> for i64 {
    fn from(date: MessageDate) -> Self {
        date.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_sixteen_digits() {
        for good in [FIRST, LAST, 2_023_090_513_248_392] {
            assert_eq!(MessageDate::try_from(good).map(i64::from), Ok(good));
        }
        for bad in [FIRST - 1, LAST + 1, 0, -FIRST, i64::MAX, i64::MIN] {
            assert_eq!(MessageDate::try_from(bad), Err(InvalidDate), "{bad}");
        }
    }
}
