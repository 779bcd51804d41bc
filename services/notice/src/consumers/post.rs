//! `post`: the notices about a post are withdrawn when it is deleted.

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::{PostChange, PostChanged};

use crate::delivery::Delivery;
use crate::domain::post_id;

/// At every replica.
pub struct Note(pub Delivery);

#[async_trait]
impl Consumer<PostChanged> for Note {
    async fn handle(&self, Envelope { event, meta }: Envelope<PostChanged>) -> Result<(), HandleError> {
        if event.change == PostChange::Deleted {
            self.0
                .note_withdrawal(post_id(&event.author, event.date), meta.occurred_at);
        }
        Ok(())
    }
}

/// At one replica.
pub struct Withdraw(pub Delivery);

#[async_trait]
impl Consumer<PostChanged> for Withdraw {
    async fn handle(&self, Envelope { event, meta }: Envelope<PostChanged>) -> Result<(), HandleError> {
        if event.change != PostChange::Deleted {
            return Ok(());
        }
        // The moment decides: a post that was written anew on the day is another one, and its notices happened later.
        self.0.withdraw_post(&event.author, event.date, meta.occurred_at).await
    }
}
