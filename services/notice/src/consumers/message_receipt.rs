//! `messageReceipt`: a message that a socket of dm has shown, or that was read in dm, gets no push; the banners of messages that were read
//! are removed from all devices.

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::types::{MessageReceipt, ReceiptProgress};
use sosohappy_events::{Envelope, EventId};

use crate::delivery::Delivery;
use crate::store::{Conversation, OwnRoom, Reading};

pub struct Settle(pub Delivery);

#[async_trait]
impl Consumer<MessageReceipt> for Settle {
    async fn handle(&self, Envelope { event, meta }: Envelope<MessageReceipt>) -> Result<(), HandleError> {
        // A push has the id of its message; in a room each member's has one of its own. Messages of the legacy Spring services have other ids, and
        // no push here.
        let reading = Reading::of(&meta);
        match event.progress {
            ReceiptProgress::Shown { messages } => {
                let pushes: Vec<EventId> = messages.iter().filter_map(|id| id.parse().ok()).collect();
                Ok(self.0.store.settle(&pushes, self.0.now()).await?)
            }
            ReceiptProgress::Read { sender, message } => {
                let account = event.reader;
                match message.parse() {
                    Ok(up_to) => self.read(&Conversation { account, sender }, up_to, reading).await,
                    Err(_) => Ok(()),
                }
            }
            ReceiptProgress::ReadRoom { room, number } => {
                let account = event.reader;
                self.0.read_room(&OwnRoom { account, room }, number, reading).await
            }
        }
    }
}

impl Settle {
    /// Each step may be done again.
    async fn read(&self, conversation: &Conversation, up_to: EventId, reading: Reading) -> Result<(), HandleError> {
        let store = &self.0.store;
        store.raise_read(conversation, up_to, reading).await?;
        let read = store.unread_until(conversation, up_to).await?;
        self.0.messages_read(&conversation.account, &read).await
    }
}
