//! Copies of reported messages: evidence for the moderators until the report is decided.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::StoreError;

use crate::domain::{MessageId, Stored};

/// A report of a message.
#[derive(Debug, Clone)]
pub struct NewReport {
    /// Auth's number.
    pub report: i64,
    pub message: MessageId,
    /// Who is said to have sent the message.
    pub author: Account,
    /// Who says to have received it.
    pub reporter: Account,
    pub at: Timestamp,
}

impl NewReport {
    /// Whether a message is the reported one: its author sent it to the reporter, who has received it, and it has a text. Nobody reports a
    /// conversation of others, or a message that waits in a request.
    pub fn is_about(&self, stored: &Stored) -> bool {
        let (sender, receiver) = (&stored.message.sender.account, &stored.message.receiver.account);
        let is_theirs = *sender == self.author && *receiver == self.reporter;
        is_theirs && !stored.is_held && stored.state.retracted_at.is_none()
    }
}

/// A decision of moderators about a message, or what a report hides at once.
#[derive(Debug, Clone)]
pub struct Moderation {
    pub message: MessageId,
    /// Who is said to have sent the message.
    pub author: Account,
    /// Of what a report hides at once: who says to have received it.
    pub reporter: Option<Account>,
    pub hidden: bool,
    /// Of two decisions the later one is in force.
    pub at: Timestamp,
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
    /// Copies a reported message, unless the report has a copy or was closed; false if the message is not there or not the reporter's.
    async fn keep_reported(&self, report: &NewReport) -> Result<bool, StoreError>;

    /// Hides a message from both people, or shows it again; false if the message is not there, not of these people, or a later decision is known.
    /// The same decision again is applied again: its consumer may have crashed before it published what follows from it.
    async fn moderate(&self, moderation: &Moderation) -> Result<bool, StoreError>;

    /// Deletes the copy, and keeps a later [`Reports::keep_reported`] from making another.
    async fn close_reported(&self, report: i64, at: Timestamp) -> Result<(), StoreError>;

    async fn reported(&self, report: i64) -> Result<Option<ReportedMessage>, StoreError>;

    /// Deletes what is left of reports from before that moment.
    async fn forget_reported(&self, before: Timestamp) -> Result<(), StoreError>;
}
