//! `messageRequest`: the first messages between two people who are not friends wait, or were accepted or refused.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RequestChange {
    Asked,
    Accepted,
    Refused,
}

/// Key: the receiving account. Value: JSON `{"request","change","asker","receiver"}`, of `asked` also `message`, the id of a message that
/// waits (one record each), and `socket`, the socket that it came in on. Without texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRequestChanged {
    /// The request's id.
    pub request: String,
    pub change: RequestChange,
    pub asker: Account,
    pub receiver: Account,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<u64>,
}

impl Event for MessageRequestChanged {
    const TOPIC: Topic = Topic::MessageRequest;
    const TYPE: &'static str = "MessageRequestChanged";

    fn key(&self) -> Option<String> {
        Some(self.receiver.as_str().to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(parse::to_json(self))
    }

    fn aggregate(&self) -> String {
        self.request.clone()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        parse::from_json(record)
    }
}
