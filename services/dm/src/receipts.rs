//! Receipts: marks of delivered messages, for their senders, and `messageReceipt` events, by which the notice service decides about pushes.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use sosohappy_bus::{Bus, BusError};
use sosohappy_common::{Account, Context};
use sosohappy_events::types::{MessageReceipt, ReceiptProgress};
use sosohappy_events::{Envelope, Outgoing};
use sosohappy_realtime::Marks;
use sosohappy_store::StoreError;

use crate::domain::{MessageId, Receipt, ShownMessage};
use crate::store::Store;
use crate::unnumbered::Unnumbered;

/// Why a batch of marks was not written. It is written again, which changes nothing that is done already.
#[derive(Debug, thiserror::Error)]
enum MarkError {
    #[error("publishing receipts failed")]
    Bus(#[from] BusError),
    #[error("marking messages as delivered failed")]
    Store(#[from] StoreError),
}

/// Spawns the task that publishes which messages sockets have shown, marks them as delivered, and tells their senders.
pub fn spawn_shown_marks(
    context: &Context,
    store: &Arc<dyn Store>,
    bus: &Arc<dyn Bus>,
    unnumbered: &Unnumbered,
) -> Marks<ShownMessage> {
    let shown = ShownReports {
        store: store.clone(),
        bus: bus.clone(),
        unnumbered: unnumbered.clone(),
        context: context.clone(),
    };
    Marks::spawn(context, move |messages: Vec<ShownMessage>, at| {
        let shown = shown.clone();
        Box::pin(async move { shown.write(messages, at).await })
    })
}

/// Makes the event of a read receipt. `authorized_at`: when the reader's access token was issued.
pub fn read_event(receipt: &Receipt, authorized_at: Timestamp, context: &Context) -> Outgoing {
    let event = MessageReceipt {
        reader: receipt.reader.clone(),
        progress: ReceiptProgress::Read {
            sender: receipt.sender.clone(),
            message: receipt.message.to_string(),
        },
    };
    Envelope::new(event, context).authorized(authorized_at).to_outgoing()
}

/// Makes the event of a member's reading a room up to a number, or leaving it. `authorized_at`: as of [`read_event`].
pub fn room_read_event(
    reader: &Account,
    authorized_at: Timestamp,
    room: &str,
    number: i64,
    context: &Context,
) -> Outgoing {
    let event = MessageReceipt {
        reader: reader.clone(),
        progress: ReceiptProgress::ReadRoom {
            room: room.to_owned(),
            number,
        },
    };
    Envelope::new(event, context).authorized(authorized_at).to_outgoing()
}

#[derive(Clone)]
struct ShownReports {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    unnumbered: Unnumbered,
    context: Context,
}

impl ShownReports {
    /// Publishes first: the push is due soon, and the senders can wait. Past the outbox, because the event is about a client and not about
    /// the store: a crash before the client's answer is written anywhere loses the event in either case, and the message is pushed as well.
    async fn write(&self, messages: Vec<ShownMessage>, at: Timestamp) -> Result<(), MarkError> {
        self.bus.publish(&self.events(&messages)).await?;
        // Messages of rooms have no marks of delivery.
        let ids = messages.into_iter().filter(|shown| !shown.is_in_room);
        let ids: Vec<MessageId> = ids.map(|shown| shown.message).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let receipts = self.store.delivered(&ids, at).await?;
        self.unnumbered.tell(&receipts).await;
        Ok(())
    }

    /// Returns an event for each receiver. Messages of the legacy Spring services have no push here.
    fn events(&self, messages: &[ShownMessage]) -> Vec<Outgoing> {
        let mut by_reader = HashMap::<&Account, Vec<String>>::new();
        for shown in messages {
            if let Some(push) = shown.push() {
                by_reader.entry(&shown.reader).or_default().push(push.to_string());
            }
        }
        let event = |(reader, messages): (&Account, Vec<String>)| {
            let receipt = MessageReceipt {
                reader: reader.clone(),
                progress: ReceiptProgress::Shown { messages },
            };
            Envelope::new(receipt, &self.context).to_outgoing()
        };
        by_reader.into_iter().map(event).collect()
    }
}
