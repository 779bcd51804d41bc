//! When a message was written.

use serde::{Deserialize, Serialize};
use sosohappy_events::date::{OutOfRange, in_range};
use utoipa::ToSchema;

/// When a message was written, as its sender's phone told it. It orders a conversation; nothing is computed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "i64", into = "i64")]
#[schema(value_type = i64, minimum = 2_000_000_000_000_000_i64, maximum = 9_999_999_999_999_999_i64, example = 2_023_090_513_248_392_i64)]
pub struct MessageDate(i64);

impl TryFrom<i64> for MessageDate {
    type Error = OutOfRange;

    fn try_from(date: i64) -> Result<Self, OutOfRange> {
        in_range(date).map(Self)
    }
}

impl From<MessageDate> for i64 {
    fn from(date: MessageDate) -> Self {
        date.0
    }
}
