//! Slices of a list, newest first: by page number as the app asks, or by a cursor that costs the same however deep it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many items a page has: 1 to 25, 7 unless told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "u32")]
#[schema(value_type = u32, minimum = 1, maximum = 25, default = 7)]
pub struct PageSize(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a page has 1 to 25 items")]
pub struct InvalidPageSize;

impl Default for PageSize {
    fn default() -> Self {
        Self(7)
    }
}

impl PageSize {
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for PageSize {
    type Error = InvalidPageSize;

    fn try_from(size: u32) -> Result<Self, InvalidPageSize> {
        if (1..=25).contains(&size) {
            Ok(Self(size))
        } else {
            Err(InvalidPageSize)
        }
    }
}

/// The last post of a page that was read: the next page begins behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub date: i64,
    pub post: i64,
}

impl Cursor {
    /// Before every post.
    pub const NEWEST: Self = Self {
        date: i64::MAX,
        post: i64::MAX,
    };
}

/// The `cursor` parameter: `start`, or what the last answer gave as `nextCursor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum CursorParam {
    Start,
    After(Cursor),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is `start` or the `nextCursor` of an earlier answer")]
pub struct InvalidCursor;

impl TryFrom<String> for CursorParam {
    type Error = InvalidCursor;

    fn try_from(text: String) -> Result<Self, InvalidCursor> {
        if text.is_empty() || text == "start" {
            Ok(Self::Start)
        } else {
            text.parse().map(Self::After)
        }
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        // A number may also be written with a sign; a cursor never is.
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let number = |text: &str| text.parse().ok().filter(|_| digits(text)).ok_or(InvalidCursor);
        let (date, post) = text.split_once('-').ok_or(InvalidCursor)?;
        Ok(Self {
            date: number(date)?,
            post: number(post)?,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.date, self.post)
    }
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageFrom {
    /// Behind so many items.
    Offset(i64),
    After(Cursor),
}

/// Which page was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Paging {
    pub page: u32,
    pub size: PageSize,
    pub cursor: Option<CursorParam>,
}

impl Paging {
    /// Where it begins; a cursor wins over a page number.
    #[must_use]
    pub fn from(&self) -> PageFrom {
        match self.cursor {
            Some(CursorParam::Start) => PageFrom::Offset(0),
            Some(CursorParam::After(cursor)) => PageFrom::After(cursor),
            None => PageFrom::Offset(i64::from(self.page) * i64::from(self.size.get())),
        }
    }

    /// One more item than the page holds tells whether another page follows.
    #[must_use]
    pub fn rows(&self) -> i64 {
        i64::from(self.size.get()) + 1
    }
}

/// A page as the app reads it. `nextCursor` is there only for who asked with a cursor; null says that was the last page.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slice<T> {
    pub content: Vec<T>,
    pub number_of_elements: usize,
    #[schema(value_type = i64)]
    pub page_number: u32,
    pub page_size: u32,
    pub is_last: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub next_cursor: Option<NextCursor>,
}

/// Null on the last page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct NextCursor(Option<String>);

impl<T> Slice<T> {
    /// From up to [`Paging::rows`] rows, each with its cursor. What `show` leaves out is counted neither here nor there.
    pub fn build<R>(
        mut rows: Vec<R>,
        paging: &Paging,
        cursor: impl Fn(&R) -> Cursor,
        show: impl FnMut(R) -> Option<T>,
    ) -> Self {
        let size = usize::try_from(paging.size.get()).expect("a page is small");
        let is_last = rows.len() <= size;
        rows.truncate(size);
        let next = (!is_last)
            .then(|| rows.last().map(|row| cursor(row).to_string()))
            .flatten();
        let content: Vec<T> = rows.into_iter().filter_map(show).collect();
        Self {
            number_of_elements: content.len(),
            content,
            page_number: paging.page,
            page_size: paging.size.get(),
            is_last,
            next_cursor: paging.cursor.map(|_| NextCursor(next)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slice(rows: i64, cursor: Option<CursorParam>) -> Slice<i64> {
        let paging = Paging {
            page: 3,
            size: PageSize(2),
            cursor,
        };
        Slice::build(
            (1..=rows).collect(),
            &paging,
            |row| Cursor { date: *row, post: 0 },
            Some,
        )
    }

    #[test]
    fn the_extra_row_only_tells_that_more_follows() {
        assert_eq!((slice(3, None).content, slice(3, None).is_last), (vec![1, 2], false));
        assert_eq!((slice(2, None).content, slice(2, None).is_last), (vec![1, 2], true));
        assert_eq!((slice(0, None).number_of_elements, slice(0, None).is_last), (0, true));
    }

    #[test]
    fn only_who_pages_by_cursor_gets_one() {
        assert_eq!(slice(3, None).next_cursor, None);
        assert_eq!(
            slice(3, Some(CursorParam::Start)).next_cursor,
            Some(NextCursor(Some("2-0".to_owned())))
        );
        assert_eq!(slice(2, Some(CursorParam::Start)).next_cursor, Some(NextCursor(None)));
    }

    #[test]
    fn the_last_page_number_does_not_overflow() {
        let paging = Paging {
            page: u32::MAX,
            size: PageSize(25),
            cursor: None,
        };
        assert_eq!(paging.from(), PageFrom::Offset(25 * i64::from(u32::MAX)));
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(date in 0i64.., post in 0i64..) {
            let cursor = Cursor { date, post };
            prop_assert_eq!(CursorParam::try_from(cursor.to_string()), Ok(CursorParam::After(cursor)));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = CursorParam::try_from(text);
        }
    }
}
