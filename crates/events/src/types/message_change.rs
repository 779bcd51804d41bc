//! `messageChange`: a message was retracted, edited or reacted to.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MessageChange {
    /// Also when moderators have hidden it: its pushes are withdrawn.
    Retracted,
    Edited,
    Reacted,
}

/// Key: the receiver of the message. Value: JSON `{"message","sender","receiver","change"}`, without the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageChanged {
    /// The message's id, which is that of its `directMessage` event.
    pub message: String,
    pub sender: Account,
    pub receiver: Account,
    pub change: MessageChange,
}

impl Event for MessageChanged {
    const TOPIC: Topic = Topic::MessageChange;
    const TYPE: &'static str = "MessageChanged";

    fn key(&self) -> Option<String> {
        Some(self.receiver.as_str().to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(parse::to_json(self))
    }

    fn aggregate(&self) -> String {
        self.message.clone()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        parse::from_json(record)
    }
}
