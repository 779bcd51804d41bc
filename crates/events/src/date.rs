//! Dates of the app: sixteen digits `yyyyMMddHHmmssSS` of local time, one JSON integer.

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
}
