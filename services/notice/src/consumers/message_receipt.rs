//! `messageReceipt`: a message that a socket of dm has shown, or that was read in dm, gets no push; the banners of messages that were read
//! are removed from all devices.

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError, correlation_of};
use sosohappy_events::types::{MessageReceipt, ReceiptProgress};
use sosohappy_events::{Envelope, EventId};

use crate::delivery::Delivery;
use crate::store::{Conversation, OwnRoom, Reading, STORED_AT_ONCE};

pub struct Settle(pub Delivery);

#[async_trait]
impl Consumer<MessageReceipt> for Settle {
    const MOST_AT_ONCE: usize = STORED_AT_ONCE;

    async fn handle(&self, Envelope { event, meta }: Envelope<MessageReceipt>) -> Result<(), HandleError> {
        let reading = Reading::of(&meta);
        match event.progress {
            ReceiptProgress::Shown { messages } => self.settle(&pushes_of(&messages)).await,
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

    /// The members of a room show a message at the same time, each with a receipt of its own: their pushes are settled together.
    async fn handle_all(&self, receipts: Vec<Envelope<MessageReceipt>>) -> Result<(), HandleError> {
        for Part { shown, then } in parts(receipts) {
            self.settle(&shown).await?;
            if let Some(receipt) = then {
                correlation_of(&receipt.meta).scope(self.handle(receipt)).await?;
            }
        }
        Ok(())
    }
}

impl Settle {
    async fn settle(&self, pushes: &[EventId]) -> Result<(), HandleError> {
        if pushes.is_empty() {
            return Ok(());
        }
        Ok(self.0.store.settle(pushes, self.0.now()).await?)
    }

    /// Each step may be done again.
    async fn read(&self, conversation: &Conversation, up_to: EventId, reading: Reading) -> Result<(), HandleError> {
        let store = &self.0.store;
        store.raise_read(conversation, up_to, reading).await?;
        let read = store.unread_until(conversation, up_to).await?;
        self.0.messages_read(&conversation.account, &read).await
    }
}

/// Receipts in a row.
#[derive(Debug, Default)]
struct Part {
    /// The pushes of messages that were shown, each once.
    shown: Vec<EventId>,
    /// The receipt after them, of what was read.
    then: Option<Envelope<MessageReceipt>>,
}

/// Divides receipts, in their order, into parts that end with one of what was read.
fn parts(receipts: Vec<Envelope<MessageReceipt>>) -> Vec<Part> {
    let mut parts = vec![Part::default()];
    for receipt in receipts {
        let Some(part) = parts.last_mut() else { break };
        if let ReceiptProgress::Shown { messages } = &receipt.event.progress {
            part.shown.extend(pushes_of(messages));
        } else {
            part.then = Some(receipt);
            parts.push(Part::default());
        }
    }
    for part in &mut parts {
        part.shown.sort_unstable();
        part.shown.dedup();
    }
    parts
}

/// Returns the pushes of messages. A push has the id of its message; in a room each member's has one of its own. Messages of the legacy Spring
/// services have other ids, and no push here.
fn pushes_of(messages: &[String]) -> Vec<EventId> {
    messages.iter().filter_map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use sosohappy_common::Context;

    use super::*;

    #[test]
    fn receipts_of_shown_messages_in_a_row_are_one_step() {
        let context = Context::system("notice-service", 0);
        let mut ids: Vec<EventId> = (0..3).map(|_| EventId::new(&context)).collect();
        ids.sort_unstable();
        let receipt = |progress| {
            let reader = "kim@example.com+kakao".parse().unwrap();
            Envelope::new(MessageReceipt { reader, progress }, &context)
        };
        let shown = |ids: &[EventId]| {
            let messages = ids.iter().map(ToString::to_string);
            let legacy = "64d2f0c2a1b2c3d4e5f60718".to_owned();
            let messages = messages.chain([legacy]).collect();
            receipt(ReceiptProgress::Shown { messages })
        };
        let read = |number| {
            let room = "room".to_owned();
            receipt(ReceiptProgress::ReadRoom { room, number })
        };
        let (one, two) = (read(1), read(2));
        let (first, second) = (one.meta.id, two.meta.id);
        let receipts = vec![shown(&ids[1..]), shown(&ids[..2]), one, two, shown(&ids[..1])];
        let parts: Vec<_> = parts(receipts)
            .into_iter()
            .map(|part| (part.shown, part.then.map(|receipt| receipt.meta.id)))
            .collect();
        assert_eq!(
            parts,
            [
                (ids.clone(), Some(first)),
                (Vec::new(), Some(second)),
                (vec![ids[0]], None)
            ]
        );
    }
}
