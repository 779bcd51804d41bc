//! `moderationApplied`: the service that holds the content has carried out what moderators decided about it.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, EventId, Malformed, Record, Topic};

/// Key: the author's account. Value: JSON `{"author","service","order"}`; `order` is the event id of the `hidden` or `restored` of topic `moderation`
/// that it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModerationApplied {
    pub author: Account,
    pub service: String,
    pub order: EventId,
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
