//! When a message was written.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};
use sosohappy_events::date::{OutOfRange, in_range};
use utoipa::ToSchema;

/// When a message was written, as its sender's phone has it. It is shown, and never orders: phones' clocks are wrong.
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

impl MessageDate {
    /// Returns the date of a moment in UTC, for a client that gives none.
    pub fn at(moment: Timestamp) -> Self {
        let utc = Offset::UTC.to_datetime(moment);
        let parts = [
            (i64::from(utc.year()), 1_000_000_000_000),
            (utc.month().into(), 10_000_000_000),
            (utc.day().into(), 100_000_000),
            (utc.hour().into(), 1_000_000),
            (utc.minute().into(), 10_000),
            (utc.second().into(), 100),
            ((utc.millisecond() / 10).into(), 1),
        ];
        Self(parts.into_iter().map(|(part, unit): (i64, i64)| part * unit).sum())
    }

    /// Whether day, hour and minute exist. Seconds are as they come: the legacy app has sent 83 of them.
    pub fn exists(self) -> bool {
        let part = |below: i64, digits: i64| i8::try_from(self.0 / below % digits).unwrap_or(i8::MAX);
        let year = i16::try_from(self.0 / 1_000_000_000_000).unwrap_or(i16::MAX);
        let day = Date::new(year, part(10_000_000_000, 100), part(100_000_000, 100));
        day.is_ok() && part(1_000_000, 100) < 24 && part(10_000, 100) < 60
    }
}

/// Where a page of history ends: before the messages of this date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boundary {
    pub date: i64,
    /// It was this late nowhere yet: a phone that asks for what is before now means the newest messages, also those of a phone whose
    /// clock is ahead.
    pub is_future: bool,
}

impl Boundary {
    pub fn new(date: i64, now: Timestamp) -> Self {
        // The earliest local time there is.
        let local = Offset::constant(-12).to_datetime(now);
        let now = [
            (i64::from(local.year()), 1_000_000_000_000),
            (local.month().into(), 10_000_000_000),
            (local.day().into(), 100_000_000),
            (local.hour().into(), 1_000_000),
            (local.minute().into(), 10_000),
        ];
        let now: i64 = now.into_iter().map(|(part, unit)| part * unit).sum();
        Self {
            date,
            is_future: date >= now,
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
    fn a_date_exists_when_its_day_hour_and_minute_do() {
        for (date, exists) in [
            (2_023_090_513_248_392, true),
            (2_024_022_923_599_999, true),
            (2_023_022_900_000_000, false),
            (2_023_130_100_000_000, false),
            (2_023_090_024_000_000, false),
            (2_023_090_524_000_000, false),
            (2_023_090_523_600_000, false),
            (9_999_999_999_999_999, false),
            (9_999_123_123_595_999, true),
        ] {
            assert_eq!(MessageDate::try_from(date).unwrap().exists(), exists, "{date}");
        }
    }

    #[test]
    fn a_moment_has_a_date_in_utc() {
        let date = MessageDate::at("2023-09-05T13:24:08.397Z".parse().unwrap());
        assert_eq!(i64::from(date), 2_023_090_513_240_839);
        assert!(date.exists());
    }

    #[test]
    fn a_boundary_is_in_the_future_when_no_phone_shows_it_yet() {
        // 2023-09-05 13:24 UTC is 01:24 where it is earliest.
        let now: Timestamp = "2023-09-05T13:24:00Z".parse().unwrap();
        for (date, is_future) in [
            (2_023_090_513_240_000, true),
            (2_023_090_501_240_000, true),
            (2_023_090_501_230_000, false),
            (2_022_090_513_240_000, false),
            (i64::MIN, false),
        ] {
            assert_eq!(Boundary::new(date, now), Boundary { date, is_future });
        }
    }
}
