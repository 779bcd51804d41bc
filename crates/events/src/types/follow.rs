//! `follow`: an account followed or unfollowed another.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// Key: the followed account. Value: JSON `{"follower","followed","following","friends"}`. For notices, and for messages that
/// wait until the two are friends; the state of a pair is on `relation`, in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowChanged {
    pub follower: Account,
    pub followed: Account,
    /// False when the follow ended.
    pub following: bool,
    /// Whether each follows the other from now on.
    pub friends: bool,
}

impl Event for FollowChanged {
    const TOPIC: Topic = Topic::Follow;
    const TYPE: &'static str = "FollowChanged";

    fn key(&self) -> Option<String> {
        Some(self.followed.as_str().to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(parse::to_json(self))
    }

    fn aggregate(&self) -> String {
        self.followed.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        parse::from_json(record)
    }
}
