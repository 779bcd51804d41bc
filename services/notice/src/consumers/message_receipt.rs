//! `messageReceipt`: a message that a socket of dm has shown, or that was read in dm, gets no push; the banners of messages that were read
//! are removed from all devices.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::types::{MessageReceipt, ReceiptProgress};
use sosohappy_events::{Envelope, EventId};

use crate::delivery::Delivery;
use crate::store::Conversation;

pub struct Settle(pub Delivery);

#[async_trait]
impl Consumer<MessageReceipt> for Settle {
    async fn handle(&self, Envelope { event, meta }: Envelope<MessageReceipt>) -> Result<(), HandleError> {
        // A push has the id of its message. Messages of the legacy Spring services have other ids, and no push here.
        match event.progress {
            ReceiptProgress::Shown { messages } => {
                let pushes: Vec<EventId> = messages.iter().filter_map(|id| id.parse().ok()).collect();
                Ok(self.0.store.settle(&pushes, self.0.now()).await?)
            }
            ReceiptProgress::Read { sender, message } => {
                let account = event.reader;
                match message.parse() {
                    Ok(up_to) => {
                        self.read(&Conversation { account, sender }, up_to, meta.occurred_at)
                            .await
                    }
                    Err(_) => Ok(()),
                }
            }
        }
    }
}

impl Settle {
    /// Each step may be done again. The messages are handled after their pushes are settled: a crash in between leaves them unread, and the
    /// record is handled again.
    async fn read(&self, conversation: &Conversation, up_to: EventId, at: Timestamp) -> Result<(), HandleError> {
        let (store, now) = (&self.0.store, self.0.now());
        store.raise_read(conversation, up_to, at).await?;
        let read = store.unread_until(conversation, up_to).await?;
        store.settle(&read, now).await?;
        store.handle_messages(&read).await?;
        Ok(self
            .0
            .banners
            .withdraw_handled(&conversation.account, None, now)
            .await?)
    }
}
