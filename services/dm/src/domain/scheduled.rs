//! Messages that are sent later.

use jiff::{SignedDuration, Timestamp};
use sosohappy_common::Account;

use super::MessageText;

/// How far ahead a message may be scheduled.
pub const FARTHEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Scheduled messages of one account.
pub const MOST_SCHEDULED: u32 = 100;

/// A message that waits for its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// A UUID of version 7.
    pub id: String,
    pub sender: Account,
    pub receiver: Account,
    /// Of the moment it was scheduled.
    pub receiver_nickname: String,
    pub text: MessageText,
    pub send_at: Timestamp,
    pub made_at: Timestamp,
    /// When the token was issued that it was scheduled with.
    pub authorized_at: Timestamp,
    /// The code of the refusal, when it was not sent.
    pub failure: Option<String>,
}
