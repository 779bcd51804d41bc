//! Pages of a conversation.

use sosohappy_common::Account;
use sosohappy_store::StoreError;

use crate::domain::{Boundary, ConversationId, Message};
use crate::store::{Range, Store};

/// The most messages by which a page grows to hold all of its oldest date.
const MOST_TIES: u32 = 1000;

/// Returns the newest messages between the viewer and another person from before the boundary, the oldest of them first.
///
/// Clients page by the date of the oldest message that they have, while the order is the server's: dates repeat, and those of a phone whose
/// clock is wrong are anywhere. So a page runs on until no earlier message has the date of its oldest, and the next page ends before the
/// first message of that date. Nothing is lost or shown twice unless more than [`MOST_TIES`] messages share a date.
pub async fn page(
    store: &dyn Store,
    (viewer, other): (&Account, &Account),
    boundary: Option<Boundary>,
    limit: u32,
) -> Result<Vec<Message>, StoreError> {
    let conversation = ConversationId::between(viewer, other);
    let mut range = Range::default();
    if let Some(boundary) = boundary {
        range.before = store.first_of_date(&conversation, boundary.date).await?;
        // No message has this date: the client asks for messages from before now.
        if range.before.is_none() && !boundary.is_future {
            range.before_date = Some(boundary.date);
        }
    }
    let mut page = messages(store, &conversation, viewer, &range, limit).await?;
    if let Some(oldest) = page.last()
        && page.len() >= usize::try_from(limit).unwrap_or(usize::MAX)
    {
        let ties = Range {
            from: store.first_of_date(&conversation, oldest.date.into()).await?,
            before: Some(oldest.id.position()),
            before_date: None,
        };
        page.extend(messages(store, &conversation, viewer, &ties, MOST_TIES).await?);
    }
    page.reverse();
    Ok(page)
}

async fn messages(
    store: &dyn Store,
    conversation: &ConversationId,
    viewer: &Account,
    range: &Range,
    limit: u32,
) -> Result<Vec<Message>, StoreError> {
    let found = store.newest_within(conversation, viewer, range, limit).await?;
    Ok(found.into_iter().map(|stored| stored.message).collect())
}
