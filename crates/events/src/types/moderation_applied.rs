//! `moderationApplied`: the service that holds the content says what became of an order of moderators, or what a moderator decided there.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::{ModeratedContent, parse};
use crate::{Event, EventId, Malformed, Record, Topic};

/// Key: the author's account. Value: JSON `{"author","service","order","outcome"}`; `order` is the event id of the `hidden` or `restored` of topic
/// `moderation` that it answers. With `decision`, there was no order: a moderator decided at the service itself, and `order` is an id of the decision's
/// own, by which a duplicate is known. Releases before `decision` know no such order, and ignore the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModerationApplied {
    pub author: Account,
    pub service: String,
    pub order: EventId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<ReviewDecision>,
    /// `None` with `decision`, and of releases before it, which answered every order alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ModerationOutcome>,
}

/// What became of an order. The same order, delivered again, has the same outcome while the content is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ModerationOutcome {
    /// The content is there, and hidden or shown as ordered.
    Applied,
    /// The author has no such content, or, of what a report hides at once, the reporter does not see it.
    NotFound,
    /// A later order is in force, and says the opposite.
    Superseded,
}

impl ModerationOutcome {
    /// Returns the outcome of an order that came late or again: `hidden` says what is in force, and `ordered` what the order says.
    #[must_use]
    pub const fn in_force(hidden: bool, ordered: bool) -> Self {
        if hidden == ordered {
            Self::Applied
        } else {
            Self::Superseded
        }
    }

    /// Returns its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NotFound => "notFound",
            Self::Superseded => "superseded",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an outcome is `applied`, `notFound` or `superseded`")]
pub struct InvalidOutcome;

impl FromStr for ModerationOutcome {
    type Err = InvalidOutcome;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Applied, Self::NotFound, Self::Superseded]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or(InvalidOutcome)
    }
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
