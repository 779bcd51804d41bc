//! Events of messages.

use jiff::Timestamp;
use sosohappy_common::Context;
use sosohappy_events::Envelope;
use sosohappy_events::types::{DirectMessageSent, Recipient};
use sosohappy_realtime::SocketId;

use crate::domain::Message;

/// Makes the event of a message. Its id is the message's, however often it is published. `is_pushed_later`: it is for sockets only, and
/// published again without this flag if a push is due.
pub fn sent(
    message: &Message,
    stored_at: Timestamp,
    is_pushed_later: bool,
    origin: Option<SocketId>,
    context: &Context,
) -> Envelope<DirectMessageSent> {
    let event = DirectMessageSent {
        recipient: Recipient::Account(message.receiver.account.clone()),
        message_id: Some(message.id.to_string()),
        sender_account: Some(message.sender.account.clone()),
        sender_socket: origin.map(|origin| origin.0),
        receiver_online: is_pushed_later,
        numbered: true,
        released: false,
        frame: message.clone().shown(None, None).frame(),
    };
    let mut envelope = Envelope::new(event, context);
    envelope.meta.id = message.id.event().unwrap_or(envelope.meta.id);
    envelope.meta.occurred_at = stored_at;
    envelope
}
