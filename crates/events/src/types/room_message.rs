//! `roomMessage`: a message was stored in a room, retracted or edited.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::{MessageChange, parse};
use crate::{Event, EventId, Malformed, Record, Topic};

/// Key: the room's id. Value: JSON `{"room","message","members"}`, of a change also `change`, of a new message also `push`. The text is in `push`
/// alone.
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
    /// Of a new message. An earlier release publishes none: its messages have no push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<RoomPush>,
}

/// Who gets a push of a message, and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomPush {
    pub sender: Account,
    /// The sender's nickname when it was stored.
    pub nickname: String,
    pub room_name: String,
    /// Of the message in the room.
    pub number: i64,
    /// Of the message: 16 digits.
    pub date: i64,
    pub text: String,
    /// The other members who see it: those in a block with the sender are not among them.
    pub receivers: Vec<Account>,
}

impl RoomMessageSent {
    /// Returns the id of a member's push of the message with that id.
    #[must_use]
    pub fn push_id(message: EventId, member: &Account) -> EventId {
        message.of_part(member.as_str())
    }
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
