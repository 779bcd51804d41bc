//! Pictures stored a second time under new ids, for posts whose old ids others know.

use std::time::Duration;

use jiff::Timestamp;
use sosohappy_media::{ImageId, Images};

use crate::error::Error;
use crate::store::{Copied, Store};

/// Longer than any request may take; pictures that are in no post then are garbage.
pub const RESERVATION: Duration = Duration::from_mins(10);

/// Stores pictures a second time, under new ids that are reserved first.
pub async fn make(store: &dyn Store, images: &Images, old: &[ImageId], now: Timestamp) -> Result<Vec<Copied>, Error> {
    if old.is_empty() {
        return Ok(Vec::new());
    }
    let copies: Vec<_> = old
        .iter()
        .map(|old| Copied {
            old: *old,
            new: images.new_id(),
        })
        .collect();
    let new: Vec<_> = copies.iter().map(|copied| copied.new).collect();
    store.reserve(&new, now + RESERVATION).await?;
    // One after the other, so that one picture is in memory. One that is missing from the store stays missing.
    for copied in &copies {
        if images.copy(copied.old, copied.new).await?.is_none() {
            tracing::warn!(image = copied.old.0, "image of a post is missing from the image store");
        }
    }
    Ok(copies)
}
