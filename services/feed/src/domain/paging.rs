//! Slices of a list: by page number as the app asks, or by a signed cursor that costs the same however deep it is.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use utoipa::ToSchema;

/// Items of a page: 1 to 25, 7 by default.
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

/// The order of a list of others' posts; equals come newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Sort {
    #[default]
    Newest,
    Likes,
    Comments,
    Happiness,
}

impl Sort {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Likes => "likes",
            Self::Comments => "comments",
            Self::Happiness => "happiness",
        }
    }
}

/// The sort key of the last item of a page that was read: the next page begins behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The sort key before the date; 0 where the date comes first.
    pub rank: i64,
    pub date: i64,
    pub id: i64,
}

impl Cursor {
    /// Before every post of a list that is sorted by date.
    pub const NEWEST: Self = Self {
        rank: 0,
        date: i64::MAX,
        id: i64::MAX,
    };

    fn to_bytes(self) -> [u8; KEY] {
        let mut bytes = [0; KEY];
        for (part, number) in bytes.chunks_exact_mut(8).zip([self.rank, self.date, self.id]) {
            part.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn of_bytes(bytes: [u8; KEY]) -> Self {
        let (numbers, _) = bytes.as_chunks::<8>();
        Self {
            rank: i64::from_be_bytes(numbers[0]),
            date: i64::from_be_bytes(numbers[1]),
            id: i64::from_be_bytes(numbers[2]),
        }
    }
}

/// Bytes of the sort key in a cursor's text.
const KEY: usize = 24;
/// Bytes of the signature: HMAC-SHA-256, the left half.
const SIGNATURE: usize = 16;

/// Keeps a signature of this service apart from any other use of the key, and from that of a later format.
const FORMAT: &[u8] = b"sosohappy feed cursor 1\0";

/// Signs cursors, so that only a position that the service gave out is read, and only in the list that it was given out for. The key is
/// the same in all replicas.
#[derive(Clone)]
pub struct Cursors(Hmac<Sha256>);

impl fmt::Debug for Cursors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursors(..)")
    }
}

impl Cursors {
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    /// Returns the text of a cursor: URL-safe Base64 of the sort key and its signature.
    #[must_use]
    pub fn sign(&self, list: &ListName, cursor: Cursor) -> String {
        let key = cursor.to_bytes();
        let signature = self.mac(list, key).finalize().into_bytes();
        let mut bytes = [0; KEY + SIGNATURE];
        bytes[..KEY].copy_from_slice(&key);
        bytes[KEY..].copy_from_slice(&signature[..SIGNATURE]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn open(&self, list: &ListName, text: &str) -> Result<Cursor, InvalidCursor> {
        let mut bytes = [0; KEY + SIGNATURE];
        let read = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        if read != Ok(bytes.len()) {
            return Err(InvalidCursor);
        }
        let (key, signature) = bytes.split_at(KEY);
        let key: [u8; KEY] = key.try_into().expect("the key has its length");
        let mac = self.mac(list, key);
        mac.verify_truncated_left(signature).map_err(|_| InvalidCursor)?;
        Ok(Cursor::of_bytes(key))
    }

    fn mac(&self, ListName(name): &ListName, key: [u8; KEY]) -> Hmac<Sha256> {
        self.0
            .clone()
            .chain_update(FORMAT)
            .chain_update(name)
            .chain_update(b"\0")
            .chain_update(key)
    }
}

/// The list that a cursor belongs to: the call, its order and its filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListName(pub String);

/// The `cursor` parameter: `start`, or the `nextCursor` of the last answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum CursorParam {
    Start,
    After(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "cursor: `start`, or the `nextCursor` of an earlier answer to the same call with the same filters and order, is expected"
)]
pub struct InvalidCursor;

impl From<String> for CursorParam {
    fn from(text: String) -> Self {
        if text.is_empty() || text == "start" {
            Self::Start
        } else {
            Self::After(text)
        }
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
#[derive(Debug, Clone)]
pub struct Paging {
    pub page: u32,
    pub size: PageSize,
    pub from: PageFrom,
    /// Signs the next cursor, for a client that pages by cursor.
    signer: Option<(Cursors, ListName)>,
}

impl Paging {
    /// Checks the cursor, which wins over a page number.
    pub fn new(
        page: u32,
        size: PageSize,
        cursor: Option<&CursorParam>,
        cursors: &Cursors,
        list: ListName,
    ) -> Result<Self, InvalidCursor> {
        let from = match cursor {
            Some(CursorParam::Start) => PageFrom::Offset(0),
            Some(CursorParam::After(text)) => PageFrom::After(cursors.open(&list, text)?),
            None => PageFrom::Offset(i64::from(page) * i64::from(size.get())),
        };
        Ok(Self {
            page,
            size,
            from,
            signer: cursor.map(|_| (cursors.clone(), list)),
        })
    }

    /// One item more than the page holds: it shows whether another page follows.
    #[must_use]
    pub fn rows(&self) -> i64 {
        i64::from(self.size.get()) + 1
    }
}

/// A page as the app reads it. `nextCursor` is present only where the request had a cursor; null on the last page.
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
    /// From up to [`Paging::rows`] rows, each with its cursor. Rows that `show` leaves out are not counted.
    pub fn build<R>(
        mut rows: Vec<R>,
        paging: &Paging,
        cursor: impl Fn(&R) -> Cursor,
        show: impl FnMut(R) -> Option<T>,
    ) -> Self {
        let size = usize::try_from(paging.size.get()).expect("a page is small");
        let is_last = rows.len() <= size;
        rows.truncate(size);
        let last = rows.last().filter(|_| !is_last).map(cursor);
        let next = paging
            .signer
            .as_ref()
            .map(|(cursors, list)| NextCursor(last.map(|cursor| cursors.sign(list, cursor))));
        let content: Vec<T> = rows.into_iter().filter_map(show).collect();
        Self {
            number_of_elements: content.len(),
            content,
            page_number: paging.page,
            page_size: paging.size.get(),
            is_last,
            next_cursor: next,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list() -> ListName {
        ListName("findOtherFeed,newest".to_owned())
    }

    fn paging(cursor: Option<&CursorParam>) -> Paging {
        Paging::new(3, PageSize(2), cursor, &Cursors::new(b"key"), list()).unwrap()
    }

    fn cursor(row: i64) -> Cursor {
        Cursor {
            rank: 0,
            date: row,
            id: 0,
        }
    }

    fn slice(rows: i64, param: Option<&CursorParam>) -> Slice<i64> {
        Slice::build((1..=rows).collect(), &paging(param), |row| cursor(*row), Some)
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
        let NextCursor(next) = slice(3, Some(&CursorParam::Start)).next_cursor.unwrap();
        let after = paging(Some(&CursorParam::After(next.unwrap())));
        assert_eq!(after.from, PageFrom::After(cursor(2)));
        assert_eq!(slice(2, Some(&CursorParam::Start)).next_cursor, Some(NextCursor(None)));
    }

    #[test]
    fn the_last_page_number_does_not_overflow() {
        let paging = Paging::new(u32::MAX, PageSize(25), None, &Cursors::new(b"key"), list()).unwrap();
        assert_eq!(paging.from, PageFrom::Offset(25 * i64::from(u32::MAX)));
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written_and_nowhere_else(rank: i64, date: i64, id: i64, at in 0usize..KEY + SIGNATURE, bit in 0u8..8) {
            let (cursors, cursor) = (Cursors::new(b"key"), Cursor { rank, date, id });
            let text = cursors.sign(&list(), cursor);
            prop_assert_eq!(cursors.open(&list(), &text), Ok(cursor));
            prop_assert_eq!(cursors.open(&ListName("findOtherFeed,likes".to_owned()), &text), Err(InvalidCursor));
            prop_assert_eq!(Cursors::new(b"another key").open(&list(), &text), Err(InvalidCursor));
            let mut forged = URL_SAFE_NO_PAD.decode(&text).unwrap();
            forged[at] ^= 1 << bit;
            prop_assert_eq!(cursors.open(&list(), &URL_SAFE_NO_PAD.encode(forged)), Err(InvalidCursor));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            prop_assert_eq!(Cursors::new(b"key").open(&list(), &text), Err(InvalidCursor));
        }
    }
}
