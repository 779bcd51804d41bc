//! `messageReceipt`: sockets of dm have shown messages to their receiver, or the receiver has read a conversation.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// Key: the receiver of the messages. Value: JSON `{"reader","state":"shown","messages"}`, or `{"reader","state":"read","sender","message"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageReceipt {
    pub reader: Account,
    #[serde(flatten)]
    pub progress: ReceiptProgress,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ReceiptProgress {
    /// A socket has shown these messages. An id is that of the message's `directMessage` event.
    Shown { messages: Vec<String> },
    /// The receiver has read the messages from this sender, up to this one (inclusive). Ids of messages ascend within a conversation.
    Read { sender: Account, message: String },
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
