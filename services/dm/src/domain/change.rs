//! Changes of messages that are stored: retracting, editing, reacting.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_common::nickname::has_visible;
use unicode_segmentation::UnicodeSegmentation as _;

use super::text::{BYTES_A_CHARACTER, is_portable};
use super::{MessageId, MessageText};

/// Changes of one message by each person; more are refused. Fewer in unit tests, which reach it on every engine.
pub const MOST_CHANGES: i64 = if cfg!(test) { 20 } else { 500 };

/// A person's reaction to a message: one user-perceived character of at most 40 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction(String);

impl Reaction {
    pub fn new(text: String) -> Option<Self> {
        let is_one = text.graphemes(true).count() == 1 && has_visible(&text) && text.len() <= BYTES_A_CHARACTER;
        (is_one && is_portable(&text)).then_some(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// By the sender: the text is deleted for everybody.
    Retract,
    /// By the sender.
    Edit(MessageText),
    /// By one of the two, or by a member of the room; `None` takes the person's reaction back.
    React(Option<Reaction>),
}

/// A change that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChange {
    pub message: MessageId,
    pub by: Account,
    pub change: Change,
    /// When the person's token was issued: a resignation takes back what was made with older ones.
    pub authorized_at: Timestamp,
    pub at: Timestamp,
}

/// The kind of a change that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Retracted,
    Edited,
    Reacted,
}

impl ChangeKind {
    pub const ALL: [Self; 3] = [Self::Retracted, Self::Edited, Self::Reacted];

    /// In the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retracted => "retracted",
            Self::Edited => "edited",
            Self::Reacted => "reacted",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Change {
    pub const fn kind(&self) -> ChangeKind {
        match self {
            Self::Retract => ChangeKind::Retracted,
            Self::Edit(_) => ChangeKind::Edited,
            Self::React(_) => ChangeKind::Reacted,
        }
    }
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Counts the changes of a message from 1.
    pub revision: i64,
    pub kind: ChangeKind,
    pub by: Account,
    /// Of an edit the text before it, of a reaction what it is; `None` of a reaction that was taken back, and of a retracted message.
    pub content: Option<String>,
    pub at: Timestamp,
}

/// The state that changes have left a message in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageState {
    /// Of the last change; 0 if there was none.
    pub revision: i64,
    pub edited_at: Option<Timestamp>,
    /// Also of a message that moderators hide, since when they do.
    pub retracted_at: Option<Timestamp>,
    pub reactions: BTreeMap<Account, String>,
    /// Moderators hide it, and the sender has not retracted it.
    pub is_hidden: bool,
}

impl MessageState {
    /// Takes text and reactions of a message that moderators hide since then, unless it is retracted: the store keeps them, so that it can be
    /// restored.
    pub(super) fn hide(&mut self, text: &mut MessageText, at: Option<Timestamp>) {
        if let (Some(at), None) = (at, self.retracted_at) {
            *text = MessageText::stored(String::new());
            self.retracted_at = Some(at);
            self.reactions.clear();
            self.is_hidden = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reaction_is_one_visible_character() {
        for good in ["🩷", "👨‍👩‍👧‍👦", "네"] {
            assert!(Reaction::new(good.to_owned()).is_some(), "{good}");
        }
        let long = format!("a{}", "\u{301}".repeat(40));
        for bad in ["", " ", "\u{200b}", "ab", "🩷🩷", "a\0", &long] {
            assert!(Reaction::new(bad.to_owned()).is_none(), "{bad}");
        }
    }
}
