//! Pages of a list, newest first.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

/// Entries of a page: 1 to 100, 50 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "u32")]
#[schema(value_type = u32, minimum = 1, maximum = 100, default = 50)]
pub struct PageSize(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a page has 1 to 100 entries")]
pub struct InvalidPageSize;

impl PageSize {
    pub fn get(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// One row more than the page has entries shows whether another page follows.
    pub fn rows(self) -> i64 {
        i64::from(self.0) + 1
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self(50)
    }
}

impl TryFrom<u32> for PageSize {
    type Error = InvalidPageSize;

    fn try_from(size: u32) -> Result<Self, InvalidPageSize> {
        if (1..=100).contains(&size) {
            Ok(Self(size))
        } else {
            Err(InvalidPageSize)
        }
    }
}

/// Where a page begins: `start`, or what the last answer gave as `nextCursor`. It is the time of the last entry of that page, which no other
/// entry of the list has, and tells nothing that the entry does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Cursor(Option<Timestamp>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is `start` or the `nextCursor` of an earlier answer")]
pub struct InvalidCursor;

impl TryFrom<String> for Cursor {
    type Error = InvalidCursor;

    fn try_from(text: String) -> Result<Self, InvalidCursor> {
        if text.is_empty() || text == "start" {
            return Ok(Self(None));
        }
        // A number may also be written with a sign; a cursor never is.
        let millis = Some(&text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let millis = millis.and_then(|text| text.parse().ok());
        let before = millis.and_then(|millis| Timestamp::from_millisecond(millis).ok());
        before.map(|before| Self(Some(before))).ok_or(InvalidCursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(before) => write!(f, "{}", before.as_millisecond()),
            None => f.write_str("start"),
        }
    }
}

/// Which entries are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Entries older than this.
    pub before: Timestamp,
    size: usize,
}

impl Page {
    pub fn new(cursor: Option<Cursor>, size: PageSize) -> Self {
        Self {
            before: cursor.unwrap_or_default().0.unwrap_or(Timestamp::MAX),
            size: usize::try_from(size.0).unwrap_or(usize::MAX),
        }
    }

    /// One row more than the page has entries shows whether another page follows.
    pub fn rows(self) -> i64 {
        i64::try_from(self.size).unwrap_or(i64::MAX).saturating_add(1)
    }

    /// Cuts what was read to the page, and returns the cursor of the next one.
    pub fn cut<T>(self, rows: &mut Vec<T>, since: impl Fn(&T) -> Timestamp) -> Option<String> {
        if rows.len() <= self.size {
            return None;
        }
        rows.truncate(self.size);
        rows.last().map(|last| Cursor(Some(since(last))).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(text: &str) -> Result<Cursor, InvalidCursor> {
        Cursor::try_from(text.to_owned())
    }

    #[test]
    fn cursors_come_back_and_others_are_refused() {
        let at = Cursor(Some(Timestamp::from_millisecond(1_700_000_000_123).unwrap()));
        assert_eq!(cursor(&at.to_string()), Ok(at));
        assert_eq!(cursor("start"), Ok(Cursor(None)));
        for text in ["-1", "+1", "1e3", "x", "99999999999999999999", "9223372036854775807"] {
            assert_eq!(cursor(text), Err(InvalidCursor), "{text}");
        }
    }

    #[test]
    fn a_page_is_cut_and_names_the_next() {
        let millis = |millis| Timestamp::from_millisecond(millis).unwrap();
        let page = Page::new(None, PageSize(2));
        assert_eq!((page.rows(), page.before), (3, Timestamp::MAX));
        let mut rows = vec![millis(9), millis(8), millis(7)];
        assert_eq!(page.cut(&mut rows, |at| *at).as_deref(), Some("8"));
        assert_eq!(rows, [millis(9), millis(8)]);
        assert_eq!(page.cut(&mut rows, |at| *at), None, "a full page may be the last");
    }
}
