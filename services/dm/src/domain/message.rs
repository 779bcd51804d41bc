//! A message and the two people it is between.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sosohappy_common::Account;
use utoipa::ToSchema;

use super::{MessageDate, MessageId, MessageState, MessageText};

/// Sender or receiver. Its `Debug` form does not name anybody.
#[derive(Clone, PartialEq, Eq)]
pub struct Party {
    pub account: Account,
    /// The one of the moment the message was written.
    pub nickname: String,
}

impl std::fmt::Debug for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Party(..)")
    }
}

/// The two accounts of a conversation, whichever is the sender: 128 bits of a SHA-256, in hex.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConversationId(String);

impl ConversationId {
    pub fn between(one: &Account, other: &Account) -> Self {
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        // No account has a control character in it.
        let digest = Sha256::digest(format!("{}\u{1f}{}", first.as_str(), second.as_str()));
        Self(hex::encode(&digest[..16]))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// By which a frame that is sent again is recognised: 128 bits of a SHA-256 of sender, receiver, date and text, in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatKey(String);

impl RepeatKey {
    /// For how long after a message a frame of the same key is the same message: the legacy app sends a frame again when it has
    /// reconnected.
    pub const WINDOW: SignedDuration = SignedDuration::from_mins(10);

    pub fn of(message: &Message) -> Self {
        let (sender, receiver) = (message.sender.account.as_str(), message.receiver.account.as_str());
        let date = i64::from(message.date);
        // No account has a control character in it, and the text is last.
        let identity = format!("{sender}\u{1f}{receiver}\u{1f}{date}\u{1f}{}", message.text.as_str());
        Self(hex::encode(&Sha256::digest(identity)[..16]))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// By which a frame with an id of its client is recognised when it is sent again, or a scheduled message: 128 bits of a
/// SHA-256 of sender and id, in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKey(String);

impl ClientKey {
    /// For how long after a message a frame of the same key is the same message.
    pub const WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);

    pub fn of(sender: &Account, id: &str) -> Self {
        // No account has a control character in it, and the id is last.
        let identity = format!("{}\u{1f}{id}", sender.as_str());
        Self(hex::encode(&Sha256::digest(identity)[..16]))
    }

    /// Of a scheduled message: no id of a client gives the same key.
    pub fn of_scheduled(sender: &Account, id: &str) -> Self {
        // No identity of a client's frame begins with a control character.
        let identity = format!("\u{1e}{}\u{1f}{id}", sender.as_str());
        Self(hex::encode(&Sha256::digest(identity)[..16]))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A message that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    pub message: Message,
    /// For a frame without an id of its own.
    pub repeat_key: Option<RepeatKey>,
    /// For a frame with an id of its own.
    pub client_key: Option<ClientKey>,
    /// The message of the conversation that it answers.
    pub reply_to: Option<MessageId>,
    /// When the token was issued that it was sent with.
    pub authorized_at: Timestamp,
    pub stored_at: Timestamp,
    /// When dm publishes it for a push unless a socket has shown it: while the notice service is Spring's, and not for a message that waits in
    /// a request.
    pub push_due: Option<Timestamp>,
    /// It waits in a request: only its sender sees it until it is released.
    pub is_held: bool,
}

/// A message as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "all records of a message name this time so")]
pub struct Stored {
    pub message: Message,
    /// Its number in the conversation, without a gap. None for a message that a release without numbers stored, and for one of the legacy
    /// Spring services.
    pub number: Option<i64>,
    pub stored_at: Timestamp,
    pub reply_to: Option<MessageId>,
    pub state: MessageState,
    /// It waits in a request.
    pub is_held: bool,
}

impl Stored {
    /// Returns the message as its people see it; `at`: since when moderators hide it.
    #[must_use]
    pub fn hidden_since(mut self, at: Option<Timestamp>) -> Self {
        self.state.hide(&mut self.message.text, at);
        self
    }
}

/// A message that no socket has shown in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    pub message: Message,
    pub stored_at: Timestamp,
}

/// A message of the legacy Spring services, which knew people by nickname only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclaimed {
    pub id: MessageId,
    pub sender: String,
    pub receiver: String,
}

/// The accounts of such a message.
#[derive(Debug, Clone)]
pub struct Claim {
    pub id: MessageId,
    pub sender: Account,
    pub receiver: Account,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub sender: Party,
    pub receiver: Party,
    pub date: MessageDate,
    pub text: MessageText,
}

impl Message {
    pub fn conversation(&self) -> ConversationId {
        ConversationId::between(&self.sender.account, &self.receiver.account)
    }

    /// Returns its two people; one of a message to oneself.
    pub fn people(&self) -> impl Iterator<Item = &Account> {
        let (sender, receiver) = (&self.sender.account, &self.receiver.account);
        std::iter::once(sender).chain((receiver != sender).then_some(receiver))
    }

    /// Returns the people who see it: its sender alone while it waits in a request.
    pub fn viewers(&self, is_held: bool) -> impl Iterator<Item = &Account> {
        let sender = &self.sender.account;
        self.people().filter(move |account| !is_held || *account == sender)
    }

    /// The same under other names.
    pub fn shown(self, sender: Option<String>, receiver: Option<String>) -> Shown {
        Shown {
            sender: sender.unwrap_or(self.sender.nickname),
            receiver: receiver.unwrap_or(self.receiver.nickname),
            date: self.date,
            text: match self.text.into_string() {
                // No text is empty until its message is retracted.
                retracted if retracted.is_empty() => RETRACTED.to_owned(),
                text => text,
            },
        }
    }
}

/// The text of a retracted message in answers that say so by nothing else.
const RETRACTED: &str = "삭제된 메시지입니다.";

/// A message as clients see it, in answers and in frames of version 1.
#[derive(Clone, Serialize, ToSchema)]
pub struct Shown {
    #[schema(example = "별이")]
    pub sender: String,
    #[schema(example = "달이")]
    pub receiver: String,
    pub date: MessageDate,
    #[schema(example = "오늘 하루도 수고했어요")]
    pub text: String,
}

impl Shown {
    /// Returns the frame of version 1.
    pub fn frame(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }
}

/// One resignation.
#[derive(Debug, Clone)]
pub struct Erasure {
    pub account: Account,
    /// The last nickname; empty where the event has none.
    pub nickname: String,
    /// Data created up to this moment is erased.
    pub until: Timestamp,
    /// Of the resignation.
    pub event: sosohappy_events::EventId,
    pub now: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_key_tells_sender_receiver_date_and_text_apart() {
        let party = |name: &str| Party {
            account: format!("{name}@example.com+kakao").parse().unwrap(),
            nickname: name.to_owned(),
        };
        let message = |sender: &str, receiver: &str, date: i64, text: &str| Message {
            id: MessageId::stored("any".to_owned()),
            sender: party(sender),
            receiver: party(receiver),
            date: MessageDate::try_from(date).unwrap(),
            text: MessageText::stored(text.to_owned()),
        };
        let key = |sender, receiver, date, text| RepeatKey::of(&message(sender, receiver, date, text));
        let date = 2_023_090_513_248_392;
        let first = key("kim", "lee", date, "hello");
        assert_eq!(first, key("kim", "lee", date, "hello"));
        for other in [
            key("lee", "kim", date, "hello"),
            key("kim", "park", date, "hello"),
            key("kim", "lee", date + 1, "hello"),
            key("kim", "lee", date, "hello "),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn a_client_key_tells_senders_and_ids_apart() {
        let account = |name: &str| -> Account { format!("{name}@example.com+kakao").parse().unwrap() };
        let key = |name: &str, id: &str| ClientKey::of(&account(name), id);
        assert_eq!(key("kim", "1"), key("kim", "1"));
        assert_ne!(key("kim", "1"), key("kim", "2"));
        assert_ne!(key("kim", "1"), key("lee", "1"));
        let scheduled = ClientKey::of_scheduled(&account("kim"), "1");
        assert_eq!(ClientKey::of_scheduled(&account("kim"), "1"), scheduled);
        for id in ["1", "scheduled:1", "\u{1e}1", "\u{1f}1"] {
            assert_ne!(key("kim", id), scheduled, "{id:?}");
        }
    }

    #[test]
    fn a_conversation_is_the_same_from_both_sides_and_no_other() {
        let account = |name: &str| -> Account { name.parse().unwrap() };
        let (kim, lee) = (account("kim@example.com+kakao"), account("lee@example.com+apple"));
        let both = ConversationId::between(&kim, &lee);
        assert_eq!(both, ConversationId::between(&lee, &kim));
        assert_eq!(both.as_str().len(), 32);
        assert_ne!(both, ConversationId::between(&kim, &kim));
        assert_ne!(
            ConversationId::between(&account("a+b"), &account("c+d")),
            ConversationId::between(&account("a+bc"), &account("+d+e")),
        );
    }
}
