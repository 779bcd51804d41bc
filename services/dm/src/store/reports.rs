//! Copies of reported messages: evidence for the moderators until the report is decided.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::ModerationOutcome;
use sosohappy_store::StoreError;

use crate::domain::{MessageDate, MessageId, MessageText, RoomMessage, Stored};

/// A report of a message.
#[derive(Debug, Clone)]
pub struct NewReport {
    /// Auth's number.
    pub report: i64,
    pub message: MessageId,
    /// Who is said to have sent the message.
    pub author: Account,
    /// Who says to have received it, or to have seen it in its room.
    pub reporter: Account,
    pub at: Timestamp,
}

impl NewReport {
    /// Returns date and text of a message if it is the reported one: its author sent it, the reporter has received it, or has seen it in its
    /// room, and it has a text. A block between the two changes nothing: people report and block at once, in either order. A conversation of
    /// others, or a message that waits in a request, cannot be reported.
    pub fn copy_of(&self, message: Reportable) -> Option<(MessageDate, MessageText)> {
        if !message.is_of(&self.author, Some(&self.reporter)) {
            return None;
        }
        match message {
            Reportable::Direct(stored) => {
                let is_shown = !stored.is_held && stored.state.retracted_at.is_none();
                is_shown.then_some((stored.message.date, stored.message.text))
            }
            Reportable::InRoom { message, .. } => {
                let has_text = message.state.retracted_at.is_none();
                has_text.then_some((message.date, message.text))
            }
        }
    }
}

/// A message that may be reported and decided about.
#[derive(Debug)]
pub enum Reportable {
    Direct(Stored),
    InRoom {
        message: RoomMessage,
        /// Those who joined before it was sent, also those in a block with its sender.
        members: Vec<Account>,
        /// SHA-256 of those who joined before it was sent and have left after it, of the last days.
        former: Vec<String>,
    },
}

impl Reportable {
    /// Whether the author sent it, and the reporter is another person whom it was sent to.
    fn is_of(&self, author: &Account, reporter: Option<&Account>) -> bool {
        let (sender, is_reporters) = match self {
            Self::Direct(stored) => {
                let receiver = &stored.message.receiver.account;
                (
                    &stored.message.sender.account,
                    reporter.is_none_or(|reporter| reporter == receiver),
                )
            }
            Self::InRoom {
                message,
                members,
                former,
            } => {
                let has_seen =
                    |reporter: &Account| members.contains(reporter) || former.contains(&reporter.fingerprint());
                let is_sent_to = |reporter: &Account| reporter != author && has_seen(reporter);
                (&message.sender.account, reporter.is_none_or(is_sent_to))
            }
        };
        sender == author && is_reporters
    }
}

/// A decision of moderators about a message, or what a report hides at once.
#[derive(Debug, Clone)]
pub struct Moderation {
    pub message: MessageId,
    /// Who is said to have sent the message.
    pub author: Account,
    /// Of what a report hides at once: who says to have received it, or to have seen it in its room.
    pub reporter: Option<Account>,
    pub hidden: bool,
    /// Of two decisions the later one is in force.
    pub at: Timestamp,
}

impl Moderation {
    /// Whether a message is the one of the decision: its author sent it, and the reporter of what is hidden at once received it, or has seen it
    /// in its room.
    pub fn is_about(&self, message: &Reportable) -> bool {
        message.is_of(&self.author, self.reporter.as_ref())
    }
}

/// A message as it was when it was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedMessage {
    pub text: String,
    /// As its sender's phone had it.
    pub date: i64,
}

#[async_trait]
pub trait Reports: Send + Sync {
    /// Returns a message, also one that moderators hide.
    async fn reportable(&self, message: &MessageId) -> Result<Option<Reportable>, StoreError>;

    /// Copies a reported message, also of a room, unless the report has a copy or was closed; false if the message is not there or was not sent to
    /// the reporter.
    async fn keep_reported(&self, report: &NewReport) -> Result<bool, StoreError>;

    /// Hides a message from both people, or from all members of its room, or shows it again, unless a later decision is known. The same decision
    /// again is applied again: its consumer may have crashed before it published what follows from it.
    async fn moderate(&self, moderation: &Moderation) -> Result<ModerationOutcome, StoreError>;

    /// Deletes the copy, and keeps a later [`Reports::keep_reported`] from making another.
    async fn close_reported(&self, report: i64, at: Timestamp) -> Result<(), StoreError>;

    async fn reported(&self, report: i64) -> Result<Option<ReportedMessage>, StoreError>;

    /// Deletes what is left of reports from before that moment.
    async fn forget_reported(&self, before: Timestamp) -> Result<(), StoreError>;
}
