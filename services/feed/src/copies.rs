//! Pictures stored a second time under new ids, for posts whose old ids others know.

use std::time::Duration;

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_common::clock::Clock;
use sosohappy_media::{ImageId, Images};

use crate::error::Error;
use crate::store::{Copied, HiddenPost, Store, Toggled};

/// Longer than any request may take; pictures that are in no post then are garbage.
pub const RESERVATION: Duration = Duration::from_mins(10);

/// Tries to renew the pictures of a post, of which each but the last has met another write to the post.
const RENEWALS: usize = 5;

/// Outcome of [`renew`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Renewed {
    /// No picture of the post has an id that others know.
    Done,
    /// Each try met another write to the post: its pictures may have ids that others know.
    Contended,
}

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

/// Gives the pictures of a post that others no longer see new, unknown ids.
pub async fn renew(
    store: &dyn Store,
    images: &Images,
    clock: &dyn Clock,
    author: &Account,
    post: HiddenPost,
) -> Result<Renewed, Error> {
    for _ in 0..RENEWALS {
        let Some((_, old)) = store.visibility(author, post.date.day()).await? else {
            return Ok(Renewed::Done);
        };
        let now = clock.now();
        let copies = make(store, images, &old, now).await?;
        let toggled = store.renew_images(post, &copies, now).await?;
        if toggled == Toggled::Done {
            return Ok(Renewed::Done);
        }
        let new: Vec<_> = copies.iter().map(|copied| copied.new).collect();
        store.give_up(&new, now).await?;
        // The day may have another post by now, whose pictures have ids of their own.
        if toggled == Toggled::NoPost {
            return Ok(Renewed::Done);
        }
    }
    tracing::warn!(
        tries = RENEWALS,
        "pictures not renewed: the post was written to at each try; retrying later"
    );
    Ok(Renewed::Contended)
}
