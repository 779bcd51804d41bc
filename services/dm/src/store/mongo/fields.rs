//! The collections of messages and of their changes, and the fields of their documents that several files read or write.

use sosohappy_common::Account;

use crate::domain::ConversationId;

/// `messageRoomId`, `date`, `sender`, `receiver`, `text` as the legacy Spring services had them, and what they did not have: the accounts (`accounts`
/// and `from` by their SHA-256, by which a resignation is remembered), the hash of the conversation, times. Until it is claimed, a message of the legacy Spring services has an `ObjectId` and no `conversation`.
pub(super) const MESSAGES: &str = "message";

/// `_id`, `room`, `senderAccount`, `sender`, `from` (SHA-256 of the account), `date`, `text`, [`NUMBER`], [`PLACE`], `madeAt`, `storedAt`,
/// [`CLIENT_KEY`], `replyTo`, [`REVISION`], [`EDITED_AT`], [`RETRACTED_AT`], [`REACTIONS`], [`HIDDEN_AT`], [`MODERATED_AT`], [`UNNUMBERED`], the event.
pub(super) const ROOM_MESSAGES: &str = "room_message";

/// `_id` (the message's id, a colon, the revision with 9 digits), `message`, `revision`, `kind`, `account`, `accounts` (SHA-256 of both people),
/// `content`, `text` (of an edit until it is applied), `at`, `madeAt` (when the token was issued), [`UNNUMBERED`], the event. Of a message in a room also `room`; `accounts` has its
/// sender then, and second who reacted, if that is another person.
pub(super) const CHANGES: &str = "message_change";

/// The id of a message of ours whose `_id` is an `ObjectId`.
pub(super) const MESSAGE_ID: &str = "messageId";

/// Where a message stands in the server's order.
pub(super) const POSITION: &str = "position";

/// The number of a message in its conversation.
pub(super) const NUMBER: &str = "number";

/// Conversation, colon, number with 19 digits; unique.
pub(super) const PLACE: &str = "place";

/// The two people again, of the newest message of a conversation only: by it the list of conversations is read. An older message keeps it
/// until the conversation is settled.
pub(super) const NEWEST_OF: &str = "newestOf";

/// By which a frame that is sent again is recognised; unique.
pub(super) const REPEAT_KEY: &str = "repeatKey";

/// By which a frame with an id of its client is recognised; unique.
pub(super) const CLIENT_KEY: &str = "clientKey";

/// In a message's document: the number of its last change, when it was edited and retracted, and the reactions, each under the SHA-256 of
/// its account.
pub(super) const REVISION: &str = "revision";
pub(super) const EDITED_AT: &str = "editedAt";
pub(super) const RETRACTED_AT: &str = "retractedAt";
pub(super) const REACTIONS: &str = "reactions";

/// In a message's document: since when moderators hide it, and when they decided last.
pub(super) const HIDDEN_AT: &str = "hiddenAt";
pub(super) const MODERATED_AT: &str = "moderatedAt";

/// SHA-256 of the receiver, a colon, the conversation; taken away when the receiver has read the message.
pub(super) const UNREAD: &str = "unread";

pub(super) fn unread(receiver: &Account, conversation: &ConversationId) -> String {
    format!("{}:{}", receiver.fingerprint(), conversation.as_str())
}

/// In a message that waits: SHA-256 of its receiver.
pub(super) const HELD: &str = "held";

/// The people (SHA-256 of their accounts) whose streams lack a message.
pub(super) const UNNUMBERED: &str = "unnumbered";

/// In a change of a message in a room.
pub(super) const ROOM: &str = "room";
