//! `roomMessage`: a message was stored in a room, retracted or edited.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::{MessageChange, parse};
use crate::{Event, Malformed, Record, Topic};

/// Key: the room's id. Value: JSON `{"room","message","members"}`, of a change also `change`; without the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomMessageSent {
    pub room: String,
    /// The message's id.
    pub message: String,
    /// The members when it was stored or changed, the sender included: whose streams have it.
    pub members: Vec<Account>,
    /// Of a message that was stored before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<MessageChange>,
}

impl Event for RoomMessageSent {
    const TOPIC: Topic = Topic::RoomMessage;
    const TYPE: &'static str = "RoomMessageSent";

    fn key(&self) -> Option<String> {
        Some(self.room.clone())
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
