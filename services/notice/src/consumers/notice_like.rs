//! `noticeLike`: the author of a post gets a notice of each like.

use async_trait::async_trait;
use sosohappy_access::Denied;
use sosohappy_bus::consume::{Consumer, HandleError, correlation_of};
use sosohappy_common::Account;
use sosohappy_events::types::PostLiked;
use sosohappy_events::{Envelope, Meta};

use crate::delivery::{Delivery, Raised};
use crate::domain::{Content, Notice, like_id};
use crate::metrics::Outcome;
use crate::shows::Shows;
use crate::store::STORED_AT_ONCE;

/// At every replica.
pub struct Show(pub Shows);

#[async_trait]
impl Consumer<PostLiked> for Show {
    async fn handle(&self, like: Envelope<PostLiked>) -> Result<(), HandleError> {
        match notice(&self.0.delivery, like).await {
            Ok(Some(notice)) => self.0.show(notice),
            Ok(None) => {}
            // The consumer that keeps it may find the author later, and push it.
            Err(denied) => tracing::warn!(%denied, "like not delivered: author unknown"),
        }
        Ok(())
    }
}

/// At one replica.
pub struct Keep(pub Delivery);

#[async_trait]
impl Consumer<PostLiked> for Keep {
    const MOST_AT_ONCE: usize = STORED_AT_ONCE;

    async fn handle(&self, like: Envelope<PostLiked>) -> Result<(), HandleError> {
        match notice(&self.0, like).await {
            Ok(Some(notice)) => self.0.keep(notice).await,
            Ok(None) => Ok(()),
            Err(denied) => {
                // While the inbox is unavailable the record is retried. Auth alone may be unavailable for long.
                self.0.store.ping().await?;
                Err(HandleError::Rejected(format!("names: {denied}")))
            }
        }
    }

    async fn handle_all(&self, likes: Vec<Envelope<PostLiked>>) -> Result<(), HandleError> {
        let raised: Option<Vec<Raised>> = likes.into_iter().map(complete).collect();
        // A name may have to be looked up for long, and may belong to no account.
        let raised = raised.ok_or_else(|| HandleError::Rejected("a like names no account".to_owned()))?;
        let kept = self.0.keep_all(raised).await?;
        self.0.metrics.notices(Outcome::Kept, kept);
        Ok(())
    }
}

/// Returns the notice of a like whose record names both accounts.
fn complete(like: Envelope<PostLiked>) -> Option<Raised> {
    let Envelope { event, meta } = like;
    let (receiver, liker) = (event.author_account?, event.liker_account?);
    let cause = Some(correlation_of(&meta));
    Some(Raised {
        notice: like_notice(receiver, liker, event.liker, event.date, &meta),
        cause,
    })
}

fn like_notice(receiver: Account, liker: Account, known_as: String, date: i64, meta: &Meta) -> Notice {
    Notice {
        event: like_id(&receiver, &liker, date),
        receiver,
        occurred_at: meta.occurred_at,
        authorized_at: meta.authorized_at,
        content: Content::Like { liker, known_as, date },
    }
}

/// A Spring feed writes this for an author whose name it does not have: it loses its names when it restarts. It is not the person of that
/// nickname.
const UNKNOWN_AUTHOR: &str = "null";

/// Builds the notice. A record of a Spring feed names people by nickname only: without an account of that nickname there is no notice.
async fn notice(delivery: &Delivery, like: Envelope<PostLiked>) -> Result<Option<Notice>, Denied> {
    let Envelope { event, meta } = like;
    if meta.foreign && event.author == UNKNOWN_AUTHOR {
        return Ok(None);
    }
    let Some(receiver) = who(delivery, event.author_account, &event.author).await? else {
        return Ok(None);
    };
    let Some(liker) = who(delivery, event.liker_account, &event.liker).await? else {
        return Ok(None);
    };
    Ok(Some(like_notice(receiver, liker, event.liker, event.date, &meta)))
}

async fn who(delivery: &Delivery, account: Option<Account>, nickname: &str) -> Result<Option<Account>, Denied> {
    match account {
        Some(account) => Ok(Some(account)),
        None => delivery.names.account_of_patiently(nickname).await,
    }
}
