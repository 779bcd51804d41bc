//! `relation`: one account blocks or follows another, or no longer does.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Relation {
    Block,
    Unblock,
    Follow,
    Unfollow,
}

/// Key: `acting account,other account,block` (or `follow`), so that compaction keeps the last word on each: an unfollow
/// must not push a block out of the topic. Value: JSON `{"relation","account","other"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationChanged {
    pub relation: Relation,
    pub account: Account,
    pub other: Account,
}

impl Event for RelationChanged {
    const TOPIC: Topic = Topic::Relation;
    const TYPE: &'static str = "RelationChanged";

    fn key(&self) -> Option<String> {
        let what = match self.relation {
            Relation::Block | Relation::Unblock => "block",
            Relation::Follow | Relation::Unfollow => "follow",
        };
        Some(format!("{},{},{what}", self.account.as_str(), self.other.as_str()))
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(parse::to_json(self))
    }

    fn aggregate(&self) -> String {
        self.account.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        parse::from_json(record)
    }
}
