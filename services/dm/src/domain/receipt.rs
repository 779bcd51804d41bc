//! How far a person has got in a conversation.

use jiff::Timestamp;
use serde::Serialize;
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_events::types::RoomMessageSent;

use super::MessageId;

/// Frames that a client may have missed to get them on its socket. A client that missed more reads the conversations. Fewer in unit tests,
/// which reach it on every engine.
pub const MOST_MISSED: i64 = if cfg!(test) { 100 } else { 1_000 };

/// The state of the messages up to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// A device has shown them.
    Delivered,
    /// The person has read them.
    Read,
}

/// A message that a socket of its receiver, or of a member of its room, has shown.
#[derive(Debug, Clone)]
pub struct ShownMessage {
    pub reader: Account,
    pub message: MessageId,
    pub is_in_room: bool,
}

impl ShownMessage {
    /// Returns the id by which notice knows the push; none of a message of the legacy Spring services, which has no push there.
    pub fn push(&self) -> Option<EventId> {
        let message = self.message.event()?;
        Some(if self.is_in_room {
            RoomMessageSent::push_id(message, &self.reader)
        } else {
            message
        })
    }
}

/// A person has got further in a conversation than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub reader: Account,
    /// The other person of the conversation.
    pub sender: Account,
    pub progress: Progress,
    /// The newest of the messages.
    pub message: MessageId,
    pub number: i64,
    pub at: Timestamp,
}

/// A conversation as one of its people sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Messages that the person has not read.
    pub unread: u64,
    /// Up to which number the devices of the other person have shown the messages; 0 if none.
    pub delivered: i64,
    /// Up to which number the other person has read them.
    pub read: i64,
}
