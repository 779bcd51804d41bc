//! Parameters of lists that are read in pages.

use crate::domain::Position;
use crate::error::Error;

/// Returns the position in a cursor; `None` at the start.
pub fn position(cursor: Option<&str>) -> Result<Option<Position>, Error> {
    match cursor {
        None | Some("" | "start") => Ok(None),
        Some(cursor) => Ok(Some(cursor.parse().map_err(|_| Error::Cursor)?)),
    }
}

/// Returns the size of a page: from 1 to `most`.
pub fn size(size: Option<u32>, default: u32, most: u32) -> Result<u32, Error> {
    let size = size.unwrap_or(default);
    (1..=most).contains(&size).then_some(size).ok_or(Error::Size(most))
}
