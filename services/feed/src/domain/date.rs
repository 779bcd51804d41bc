//! Dates as the app writes them: sixteen digits `yyyyMMddHHmmssSS` of local time, one JSON integer.
//!
//! No date names its time zone: the day of a post is the day its author read off the phone. A post may be dated at most to its author's
//! tomorrow; as the author's zone is unknown, the earliest of all zones decides (UTC+14). The calendar part a call works with
//! has to exist; the time of day only orders posts, so only a new one is asked for an hour and a minute that exist.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};
use sosohappy_events::date::{OutOfRange, in_range};
use utoipa::ToSchema;

const DIGITS_BELOW_DAY: i64 = 100_000_000;
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDate {
    #[error(transparent)]
    Range(#[from] OutOfRange),
    #[error("the first 8 digits of a date are a day of the calendar")]
    NoSuchDay,
    #[error("digits 5 and 6 of a date are a month, 01 to 12")]
    NoSuchMonth,
}

/// The local date and time of a post, from its author's phone; the day exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "i64", into = "i64")]
#[schema(value_type = i64, minimum = 2_000_010_100_000_000_i64, maximum = 9_999_123_199_999_999_i64, example = 2_023_090_513_248_392_i64)]
pub struct PostDate(i64);

impl PostDate {
    #[must_use]
    pub fn day(self) -> Day {
        Day(i32::try_from(self.0 / DIGITS_BELOW_DAY).expect("eight digits fit"))
    }

    /// Whether hour and minute exist. Seconds are as they come: the legacy app has shown 83 of them.
    #[must_use]
    pub fn has_time_of_day(self) -> bool {
        let (hour, minute) = (self.0 / 1_000_000 % 100, self.0 / 10_000 % 100);
        hour < 24 && minute < 60
    }
}

impl TryFrom<i64> for PostDate {
    type Error = InvalidDate;

    fn try_from(date: i64) -> Result<Self, InvalidDate> {
        let date = in_range(date)?;
        Day::try_from(i32::try_from(date / DIGITS_BELOW_DAY).expect("eight digits fit"))?;
        Ok(Self(date))
    }
}

impl From<PostDate> for i64 {
    fn from(date: PostDate) -> Self {
        date.0
    }
}

/// A day of the calendar as eight digits, `yyyyMMdd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Day(i32);

impl Day {
    /// From 1 to 31.
    #[must_use]
    pub fn of_month(self) -> u8 {
        u8::try_from(self.0 % 100).expect("two digits fit")
    }

    #[must_use]
    pub fn month(self) -> Month {
        Month(self.0 / 100)
    }

    /// The first and the last date a post of this day can have.
    #[must_use]
    pub fn dates(self) -> (i64, i64) {
        let first = i64::from(self.0) * DIGITS_BELOW_DAY;
        (first, first + DIGITS_BELOW_DAY - 1)
    }
}

impl Day {
    /// The day that it is where days begin first, in UTC+14: no author's own calendar is ahead of it.
    #[must_use]
    pub fn first_today(now: Timestamp) -> Self {
        Self::of(Offset::constant(14).to_datetime(now).date())
    }

    /// The day before the one that it is where days begin last, in UTC-12: an author who wrote then has missed no day yet.
    #[must_use]
    pub fn last_yesterday(now: Timestamp) -> Self {
        let today = Offset::constant(-12).to_datetime(now).date();
        Self::of(today.yesterday().unwrap_or(today))
    }

    /// The day that it is in Korea (UTC+9), where the app is used: no call names a time zone.
    #[must_use]
    pub fn in_korea(now: Timestamp) -> Self {
        Self::of(Offset::constant(9).to_datetime(now).date())
    }

    #[must_use]
    pub fn tomorrow(self) -> Self {
        let part = |digits: i32| i8::try_from(digits % 100).expect("two digits fit");
        let year = i16::try_from(self.0 / 10_000).expect("four digits fit");
        let date = Date::new(year, part(self.0 / 100), part(self.0)).expect("the day exists");
        // The last day of the calendar has none.
        date.tomorrow().map_or(self, Self::of)
    }

    fn of(date: Date) -> Self {
        Self(i32::from(date.year()) * 10_000 + i32::from(date.month()) * 100 + i32::from(date.day()))
    }
}

impl TryFrom<i32> for Day {
    type Error = InvalidDate;

    fn try_from(day: i32) -> Result<Self, InvalidDate> {
        let part = |digits: i32| i8::try_from(digits % 100).map_err(|_| InvalidDate::NoSuchDay);
        let year = i16::try_from(day / 10_000).map_err(|_| InvalidDate::NoSuchDay)?;
        if !(2000..=9999).contains(&year) {
            return Err(OutOfRange.into());
        }
        Date::new(year, part(day / 100)?, part(day)?).map_err(|_| InvalidDate::NoSuchDay)?;
        Ok(Self(day))
    }
}

impl From<Day> for i32 {
    fn from(day: Day) -> Self {
        day.0
    }
}

/// A month as six digits, `yyyyMM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(i32);

impl Month {
    /// From 1 to 12.
    #[must_use]
    pub fn of_year(self) -> u8 {
        u8::try_from(self.0 % 100).expect("two digits fit")
    }

    /// 28 to 31.
    #[must_use]
    pub fn length(self) -> u8 {
        let year = i16::try_from(self.0 / 100).expect("four digits fit");
        let month = i8::try_from(self.0 % 100).expect("two digits fit");
        let date = Date::new(year, month, 1).expect("every month of these years exists");
        u8::try_from(date.days_in_month()).expect("a month is short")
    }
}

/// From one day to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    pub first: Day,
    pub last: Day,
}

impl Days {
    /// All that a post can have.
    pub const ALL: Self = Self {
        first: Day(20_000_101),
        last: Day(99_991_231),
    };

    /// The first and the last date a post of these days can have.
    #[must_use]
    pub fn dates(self) -> (i64, i64) {
        (self.first.dates().0, self.last.dates().1)
    }
}

impl From<Month> for Days {
    fn from(month: Month) -> Self {
        Self {
            first: Day(month.0 * 100 + 1),
            last: Day(month.0 * 100 + i32::from(month.length())),
        }
    }
}

/// A date that was given for its day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(value_type = i64, minimum = 2_000_010_100_000_000_i64, maximum = 9_999_123_199_999_999_i64, example = 2_023_090_513_248_392_i64)]
pub struct DayOf(pub Day);

impl TryFrom<i64> for DayOf {
    type Error = InvalidDate;

    fn try_from(date: i64) -> Result<Self, InvalidDate> {
        PostDate::try_from(date).map(|date| Self(date.day()))
    }
}

/// A date that was given for its month; the rest of it may be zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(value_type = i64, minimum = 2_000_010_000_000_000_i64, maximum = 9_999_129_999_999_999_i64, example = 2_023_090_513_248_392_i64)]
pub struct MonthOf(pub Month);

impl TryFrom<i64> for MonthOf {
    type Error = InvalidDate;

    fn try_from(date: i64) -> Result<Self, InvalidDate> {
        let month = in_range(date)? / DIGITS_BELOW_DAY / 100;
        if !(1..=12).contains(&(month % 100)) {
            return Err(InvalidDate::NoSuchMonth);
        }
        Ok(Self(Month(i32::try_from(month).expect("six digits fit"))))
    }
}

/// A date that was given for its year; the rest of it may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(value_type = i64, minimum = 2_000_000_000_000_000_i64, maximum = 9_999_999_999_999_999_i64, example = 2_023_090_513_248_392_i64)]
pub struct YearOf(i32);

impl From<YearOf> for Days {
    fn from(year: YearOf) -> Self {
        Self {
            first: Day(year.0 * 10_000 + 101),
            last: Day(year.0 * 10_000 + 1231),
        }
    }
}

impl TryFrom<i64> for YearOf {
    type Error = InvalidDate;

    fn try_from(date: i64) -> Result<Self, InvalidDate> {
        let year = in_range(date)? / DIGITS_BELOW_DAY / 10_000;
        Ok(Self(i32::try_from(year).expect("four digits fit")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sosohappy_events::date::{FIRST, LAST};

    use super::*;

    #[test]
    fn days_must_exist() {
        for good in [2_000_010_100_000_000, 2_024_022_923_595_999, 9_999_123_199_999_999] {
            assert_eq!(i64::from(PostDate::try_from(good).unwrap()), good);
        }
        for bad in [
            2_023_022_900_000_000,
            2_023_139_900_000_000,
            2_023_043_100_000_000,
            2_023_000_100_000_000,
        ] {
            assert_eq!(PostDate::try_from(bad), Err(InvalidDate::NoSuchDay), "{bad}");
        }
        for outside in [0, -1, i64::MIN, i64::MAX, FIRST - 1, LAST + 1] {
            assert_eq!(PostDate::try_from(outside), Err(OutOfRange.into()), "{outside}");
            assert_eq!(MonthOf::try_from(outside), Err(OutOfRange.into()), "{outside}");
            assert_eq!(YearOf::try_from(outside), Err(OutOfRange.into()), "{outside}");
        }
    }

    #[test]
    fn a_day_begins_in_utc_plus_14() {
        let today = |text: &str| i32::from(Day::first_today(text.parse().unwrap()));
        assert_eq!(today("2023-12-31T09:59:59Z"), 20_231_231);
        assert_eq!(today("2023-12-31T10:00:00Z"), 20_240_101);
        let yesterday = |text: &str| i32::from(Day::last_yesterday(text.parse().unwrap()));
        assert_eq!(yesterday("2024-01-02T11:59:59Z"), 20_231_231);
        assert_eq!(yesterday("2024-01-02T12:00:00Z"), 20_240_101);
        let in_korea = |text: &str| i32::from(Day::in_korea(text.parse().unwrap()));
        assert_eq!(in_korea("2023-12-31T14:59:59Z"), 20_231_231);
        assert_eq!(in_korea("2023-12-31T15:00:00Z"), 20_240_101);
        let tomorrow = |day: i32| i32::from(Day::try_from(day).unwrap().tomorrow());
        assert_eq!(tomorrow(20_240_228), 20_240_229);
        assert_eq!(tomorrow(20_231_231), 20_240_101);
        assert_eq!(tomorrow(99_991_231), 99_991_231);
    }

    #[test]
    fn a_month_or_a_year_may_leave_the_rest_open() {
        let MonthOf(february) = MonthOf::try_from(2_024_020_000_000_000).unwrap();
        assert_eq!((february.of_year(), february.length()), (2, 29));
        assert_eq!(
            Days::from(february),
            Days {
                first: Day(20_240_201),
                last: Day(20_240_229)
            }
        );
        assert_eq!(MonthOf::try_from(2_023_130_100_000_000), Err(InvalidDate::NoSuchMonth));

        let year = YearOf::try_from(2_000_000_000_000_000).unwrap();
        assert_eq!(
            Days::from(year),
            Days {
                first: Day(20_000_101),
                last: Day(20_001_231)
            }
        );
    }

    proptest! {
        #[test]
        fn every_calendar_day_is_taken_with_any_time(days in 0i32..2_900_000, time in 0i64..100_000_000) {
            let date = Date::constant(2000, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap();
            let day = i64::from(date.year()) * 10_000 + i64::from(date.month()) * 100 + i64::from(date.day());
            let post = PostDate::try_from(day * 100_000_000 + time).unwrap();
            prop_assert_eq!(i64::from(i32::from(post.day())), day);
            let (first, last) = post.day().dates();
            prop_assert!((first..=last).contains(&i64::from(post)));
            let month = Days::from(post.day().month());
            prop_assert!((month.first..=month.last).contains(&post.day()));
            prop_assert_eq!(month.last.of_month(), post.day().month().length());
        }

        #[test]
        fn no_number_panics(date in any::<i64>(), near in FIRST..=LAST) {
            for date in [date, near] {
                let _ = (PostDate::try_from(date), DayOf::try_from(date), MonthOf::try_from(date), YearOf::try_from(date));
            }
        }

        #[test]
        fn a_day_is_a_day_of_its_month(date in FIRST..=LAST) {
            if let Ok(day) = PostDate::try_from(date) {
                let MonthOf(month) = MonthOf::try_from(date).unwrap();
                prop_assert_eq!(day.day().month(), month);
                prop_assert!(day.day().of_month() <= month.length());
            }
        }
    }
}
