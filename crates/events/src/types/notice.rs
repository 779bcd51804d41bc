//! `notice`: a notice of any kind but a like.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// Key: the receiving account. Value: JSON `{"receiver","topic","data"}`; `topic` and `data` are those of the socket frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoticeRaised {
    pub receiver: Account,
    pub topic: String,
    pub data: serde_json::Value,
}

impl Event for NoticeRaised {
    const TOPIC: Topic = Topic::Notice;
    const TYPE: &'static str = "NoticeRaised";

    fn key(&self) -> Option<String> {
        Some(self.receiver.as_str().to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(parse::to_json(self))
    }

    fn aggregate(&self) -> String {
        self.receiver.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        parse::from_json(record)
    }
}
