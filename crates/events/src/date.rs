//! Dates of the app: sixteen digits `yyyyMMddHHmmssSS` of local time, one JSON integer.

use jiff::civil::Date;

/// The smallest and the largest date.
pub const FIRST: i64 = 2_000_000_000_000_000;
pub const LAST: i64 = 9_999_999_999_999_999;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a date has 16 digits, yyyyMMddHHmmssSS, from {FIRST} to {LAST}")]
pub struct OutOfRange;

/// Returns the date if it has sixteen digits and a year from 2000 on; does not check that the day exists.
pub fn in_range(date: i64) -> Result<i64, OutOfRange> {
    if (FIRST..=LAST).contains(&date) {
        Ok(date)
    } else {
        Err(OutOfRange)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the date of a post has 16 digits, yyyyMMddHHmmssSS, of which the first 8 are a day of the calendar from 2000 on"
)]
pub struct NoDateOfPost;

/// Returns the date if a post can have it: [`in_range`], and its first 8 digits are a day of the calendar, as feed checks them. Hour, minute and
/// second may be any digits.
///
/// # Errors
/// For any other number.
pub fn of_post(date: i64) -> Result<i64, NoDateOfPost> {
    let part = |divisor: i64| i8::try_from(date / divisor % 100).map_err(|_| NoDateOfPost);
    in_range(date).map_err(|OutOfRange| NoDateOfPost)?;
    let year = i16::try_from(date / 1_000_000_000_000).map_err(|_| NoDateOfPost)?;
    Date::new(year, part(10_000_000_000)?, part(100_000_000)?).map_err(|_| NoDateOfPost)?;
    Ok(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_sixteen_digits() {
        for good in [FIRST, LAST, 2_023_090_513_248_392] {
            assert_eq!(in_range(good), Ok(good));
        }
        for bad in [FIRST - 1, LAST + 1, 0, -FIRST, i64::MAX, i64::MIN] {
            assert_eq!(in_range(bad), Err(OutOfRange), "{bad}");
        }
    }

    #[test]
    fn posts_have_dates_of_the_calendar() {
        for date in [2_023_090_513_248_392, 2_024_022_900_000_000, 9_999_123_199_999_999] {
            assert_eq!(of_post(date), Ok(date));
        }
        for date in [
            2_000_000_000_000_000,
            2_023_130_100_000_000,
            2_023_013_200_000_000,
            2_023_022_900_000_000,
            1_999_123_100_000_000,
            7,
            -5,
            i64::MIN,
            i64::MAX,
        ] {
            assert_eq!(of_post(date), Err(NoDateOfPost), "{date}");
        }
    }
}
