//! `messageChange`: a message that its sender retracted, or that moderators hide, gets no push any more, its banner is removed, and it does not count
//! as unread.

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::{MessageChange, MessageChanged};

use crate::delivery::Delivery;

pub struct Withdraw(pub Delivery);

#[async_trait]
impl Consumer<MessageChanged> for Withdraw {
    async fn handle(&self, Envelope { event, meta }: Envelope<MessageChanged>) -> Result<(), HandleError> {
        match (event.change, event.message.parse()) {
            // A push has the id of its message.
            (MessageChange::Retracted, Ok(push)) => self.0.withdraw(&event.receiver, push, meta.occurred_at).await,
            // A message of the legacy Spring services has another kind of id, and was pushed by them.
            (MessageChange::Retracted, Err(_)) | (MessageChange::Edited | MessageChange::Reacted, _) => Ok(()),
        }
    }
}
