//! Why messages and other frames are not taken.

use sosohappy_access::Denied;
use sosohappy_realtime::Close;
use sosohappy_store::StoreError;

use crate::domain::InvalidText;
use crate::store::WriteError;

/// Why a message or another frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// The sender gets an error frame; the socket stays open.
    Refused(Refusal),
    Closed(Close),
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Denied> for NotTaken {
    fn from(_denied: Denied) -> Self {
        Self::Refused(Refusal::Unavailable)
    }
}

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "storing message failed");
        Self::Refused(Refusal::Unavailable)
    }
}

impl From<WriteError> for NotTaken {
    fn from(error: WriteError) -> Self {
        match error {
            // The socket makes another id, or admits the message again.
            WriteError::Behind(_) | WriteError::RequestDecided | WriteError::Unreleased => {
                Self::Refused(Refusal::Unavailable)
            }
            WriteError::Resigned => Self::Closed(Close::Policy),
            WriteError::ReceiverResigned => Self::Refused(Refusal::ReceiverUnknown),
            WriteError::Store(error) => error.into(),
        }
    }
}

/// The reason why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    ReceiverUnknown,
    Blocked,
    /// The receiver is suspended, or the sender of a scheduled message.
    Suspended,
    InvalidDate,
    EmptyText,
    TextTooLong,
    /// The text has a character that not every database and client keeps.
    InvalidText,
    Unavailable,
    /// The frame is over the rate limit of its account.
    RateLimited,
    /// It took so long that it was given up, stored or not.
    Overdue,
    /// Of version 2: a field is missing or invalid.
    InvalidFrame,
    /// Of version 2: the socket takes no frames of the topic.
    UnknownTopic,
    /// Of version 2: the message that it answers is not in the conversation.
    ReplyUnknown,
    /// Of version 2: the sender is in no room with the id.
    RoomUnknown,
    /// [`crate::domain::MOST_HELD`] messages wait until the receiver accepts the request.
    RequestPending,
    /// Of version 2: the conversation or room of a `read` frame has no frame with the number.
    SeqUnknown,
}

impl From<InvalidText> for Refusal {
    fn from(invalid: InvalidText) -> Self {
        match invalid {
            InvalidText::Empty => Self::EmptyText,
            InvalidText::TooLong(_) => Self::TextTooLong,
            InvalidText::Unportable => Self::InvalidText,
        }
    }
}

impl Refusal {
    pub const ALL: [Self; 14] = [
        Self::ReceiverUnknown,
        Self::Blocked,
        Self::Suspended,
        Self::InvalidDate,
        Self::EmptyText,
        Self::TextTooLong,
        Self::InvalidText,
        Self::Unavailable,
        Self::RateLimited,
        Self::InvalidFrame,
        Self::UnknownTopic,
        Self::ReplyUnknown,
        Self::RoomUnknown,
        Self::RequestPending,
    ];

    /// The label of the metric.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ReceiverUnknown => "receiver-unknown",
            Self::Blocked => "blocked",
            Self::Suspended => "suspended",
            Self::InvalidDate => "invalid-date",
            Self::EmptyText => "empty-text",
            Self::TextTooLong => "text-too-long",
            Self::InvalidText => "invalid-text",
            Self::RateLimited => "rate-limited",
            Self::Unavailable | Self::Overdue => "unavailable",
            Self::InvalidFrame | Self::SeqUnknown => "invalid-frame",
            Self::UnknownTopic => "unknown-topic",
            Self::ReplyUnknown => "reply-unknown",
            Self::RoomUnknown => "room-unknown",
            Self::RequestPending => "request-pending",
        }
    }

    pub const fn typed_detail(self) -> &'static str {
        match self {
            Self::ReceiverUnknown | Self::Blocked | Self::Suspended => "the message cannot be delivered",
            Self::InvalidDate => "a date has 16 digits, yyyyMMddHHmmssSS, and a day, an hour and a minute that exist",
            Self::EmptyText => "the text has no visible character",
            Self::TextTooLong => "the text is too long",
            Self::InvalidText => "the text has the character U+0000",
            Self::Unavailable => "the message was not stored, try again later",
            Self::RateLimited => "too many messages: the message was not stored, try again later",
            Self::Overdue => "it took too long: look at the history before trying again",
            Self::InvalidFrame => "a field of the frame is missing or invalid",
            Self::UnknownTopic => "this socket takes no frames of this topic",
            Self::ReplyUnknown => "the message that this one answers is not in the conversation",
            Self::RoomUnknown => "the sender is in no room with the id",
            Self::RequestPending => "20 messages wait: no more are stored until the receiver accepts the request",
            Self::SeqUnknown => "`seq` is the number of no frame of the conversation or room",
        }
    }

    /// The code that the sender receives; stable, a client may match on it. It does not tell whether the receiver is unknown, has resigned, is
    /// suspended or has blocked the sender.
    pub const fn typed_code(self) -> &'static str {
        match self {
            Self::ReceiverUnknown | Self::Blocked | Self::Suspended => "not-delivered",
            _ => self.code(),
        }
    }

    /// Whether the same frame is refused again when it is sent again.
    pub const fn is_final(self) -> bool {
        match self {
            Self::ReceiverUnknown
            | Self::Blocked
            | Self::Suspended
            | Self::InvalidDate
            | Self::EmptyText
            | Self::TextTooLong
            | Self::InvalidText
            | Self::ReplyUnknown
            | Self::RoomUnknown
            | Self::RequestPending => true,
            Self::Unavailable
            | Self::RateLimited
            | Self::Overdue
            | Self::InvalidFrame
            | Self::UnknownTopic
            | Self::SeqUnknown => false,
        }
    }

    pub fn frame(self) -> String {
        serde_json::json!({ "error": { "code": self.typed_code(), "detail": self.typed_detail() } }).to_string()
    }
}
