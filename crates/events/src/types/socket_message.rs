//! `socketMessage`: `directMessage` for the replicas of our dm alone, while a Spring notice reads that topic in a form of its own.

use super::DirectMessageSent;
use crate::{Event, Malformed, Record, Topic};

/// Key, value and headers are those of [`DirectMessageSent`] with the receiver's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketMessageSent(pub DirectMessageSent);

impl Event for SocketMessageSent {
    const TOPIC: Topic = Topic::SocketMessage;
    const TYPE: &'static str = DirectMessageSent::TYPE;

    fn key(&self) -> Option<String> {
        self.0.key()
    }

    fn value(&self) -> Option<Vec<u8>> {
        self.0.value()
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        self.0.headers()
    }

    fn aggregate(&self) -> String {
        self.0.aggregate()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        DirectMessageSent::decode(record).map(Self)
    }
}
