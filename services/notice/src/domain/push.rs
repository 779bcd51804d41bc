//! What a push says.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_common::Account;
use sosohappy_events::EventId;

/// From this many characters on a message is cut in a push, to this many.
const LONG: usize = 30;
const CUT: usize = 25;

/// Where a push goes.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// To all devices of the account.
    Account(Account),
    /// To one device: a Spring dm names no account.
    Token(String),
}

/// A push token is as good as an address.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Account(_) => "Account(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

/// A push that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingPush {
    /// Also what a gateway recognises a repeated push by.
    pub event: EventId,
    pub target: Target,
    /// Whose doing it is, where that is known.
    pub actor: Option<Account>,
    pub content: PushContent,
    pub occurred_at: Timestamp,
    pub queued_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
}

/// What is kept of a push until it goes; names are looked up then.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum PushContent {
    /// A like of the target's post of that 16-digit date.
    Like { date: i64 },
    /// A direct message's frame.
    Message { frame: String },
}

impl PushContent {
    /// The value of the metrics' `kind` label.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Like { .. } => "like",
            Self::Message { .. } => "message",
        }
    }
}

/// Holds a message.
impl fmt::Debug for PushContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PushContent").field(&self.kind()).finish()
    }
}

/// What a device shows, and what the app gets with it.
#[derive(Clone, PartialEq, Eq)]
pub struct PushText {
    pub title: String,
    pub body: String,
    /// Name and value of the one data field.
    pub data: (&'static str, String),
}

/// Names people and holds their messages.
impl fmt::Debug for PushText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushText")
            .field("data", &self.data.0)
            .finish_non_exhaustive()
    }
}

impl PushText {
    pub fn like(liker: &str, author: &str, date: i64) -> Self {
        Self {
            title: "소소해피".to_owned(),
            body: format!("{liker}님이 {author}님의 행복을 응원합니다🩷"),
            data: ("date", date.to_string()),
        }
    }

    pub fn message(sender: &str, text: &str, frame: &str) -> Self {
        let body = if text.chars().nth(LONG - 1).is_some() {
            text.chars().take(CUT).chain("...".chars()).collect()
        } else {
            text.to_owned()
        };
        Self {
            title: sender.to_owned(),
            body,
            data: ("messageDto", frame.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_like_reads_as_the_app_knows_it() {
        let push = PushText::like("해피", "소소", 2_023_090_513_248_392);
        assert_eq!(push.title, "소소해피");
        assert_eq!(push.body, "해피님이 소소님의 행복을 응원합니다🩷");
        assert_eq!(push.data, ("date", "2023090513248392".to_owned()));
    }

    #[test]
    fn a_message_of_30_characters_is_cut_to_25() {
        let body = |text: &str| PushText::message("kim", text, "{}").body;
        assert_eq!(body(&"가".repeat(29)), "가".repeat(29));
        assert_eq!(body(&"가".repeat(30)), format!("{}...", "가".repeat(25)));
        assert_eq!(body(&"🩷".repeat(40)), format!("{}...", "🩷".repeat(25)));
        assert_eq!(body(""), "");

        let push = PushText::message("kim", "hello", r#"{"text":"hello"}"#);
        assert_eq!(
            (push.title.as_str(), &push.data),
            ("kim", &("messageDto", r#"{"text":"hello"}"#.to_owned()))
        );
    }

    #[test]
    fn nothing_personal_shows_in_a_debug_line() {
        let shown = format!("{:?}", PushText::message("kim", "secret", "{}"));
        assert!(!shown.contains("kim") && !shown.contains("secret"), "{shown}");
    }
}
