//! `moderationApplied`: the service that holds the content has carried out what moderators decided about it.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::{ModeratedContent, parse};
use crate::{Event, EventId, Malformed, Record, Topic};

/// Key: the author's account. Value: JSON `{"author","service","order"}`; `order` is the event id of the `hidden` or `restored` of topic `moderation`
/// that it answers. With `decision`, there was no order: a moderator decided at the service itself, and `order` is an id of the decision's own, by which
/// a duplicate is known. Releases before `decision` know no such order, and ignore the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModerationApplied {
    pub author: Account,
    pub service: String,
    pub order: EventId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<ReviewDecision>,
}

/// What a moderator decided about content that its service held for review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewDecision {
    pub moderator: Account,
    /// Whether others see the content from now on.
    pub accepted: bool,
    #[serde(flatten)]
    pub content: ModeratedContent,
}

impl Event for ModerationApplied {
    const TOPIC: Topic = Topic::ModerationApplied;
    const TYPE: &'static str = "ModerationApplied";

    fn key(&self) -> Option<String> {
        Some(self.author.as_str().to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(parse::to_json(self))
    }

    fn aggregate(&self) -> String {
        self.author.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        parse::from_json(record)
    }
}
