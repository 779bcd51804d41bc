//! `moderation`: content was reported, hidden or restored, or a report of it was closed.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ModerationAction {
    /// Who holds the content keeps a copy of it for the decision, under the number of the report.
    Reported,
    /// Only the author sees the content.
    Hidden,
    Restored,
    /// The report is decided: its copy is deleted.
    Closed,
}

/// Which content of its author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum ModeratedContent {
    Post {
        /// The post's 16-digit date.
        date: i64,
    },
    Comment {
        comment: i64,
    },
    Message {
        message: String,
    },
}

/// Key: the author's account, so that the events of one author stay in order. Value: JSON, without any text that people wrote. Of two events that
/// hide or restore the same content the one with the greater `occurred-at` is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentModerated {
    pub action: ModerationAction,
    pub author: Account,
    #[serde(flatten)]
    pub content: ModeratedContent,
    /// Who has reported it, in `reported` and in what a report hides at once; `None` in records of older releases and of decisions. The
    /// service that holds the content checks that they see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reporter: Option<Account>,
    /// The number of the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<i64>,
}

impl Event for ContentModerated {
    const TOPIC: Topic = Topic::Moderation;
    const TYPE: &'static str = "ContentModerated";

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
