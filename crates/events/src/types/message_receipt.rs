//! `messageReceipt`: sockets of dm have shown messages to their receiver, or the receiver has read a conversation or a room.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// Key: the receiver of the messages. Value: JSON `{"reader","state":"shown","messages"}`, `{"reader","state":"read","sender","message"}`, or
/// `{"reader","state":"readRoom","room","number"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageReceipt {
    pub reader: Account,
    #[serde(flatten)]
    pub progress: ReceiptProgress,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ReceiptProgress {
    /// A socket has shown these messages. An id is that of the message's `directMessage` event; of a message in a room it is that of the reader's
    /// push ([`RoomMessageSent::push_id`](super::RoomMessageSent::push_id)).
    Shown { messages: Vec<String> },
    /// The receiver has read the messages from this sender, up to this one (inclusive). Ids of messages ascend within a conversation.
    Read { sender: Account, message: String },
    /// A member has read the messages of a room up to this number (inclusive), or has left the room, whose newest message had it then.
    ReadRoom { room: String, number: i64 },
}

impl Event for MessageReceipt {
    const TOPIC: Topic = Topic::MessageReceipt;
    const TYPE: &'static str = "MessageReceipt";

    fn key(&self) -> Option<String> {
        Some(self.aggregate())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(parse::to_json(self))
    }

    fn aggregate(&self) -> String {
        self.reader.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        parse::from_json(record)
    }
}
