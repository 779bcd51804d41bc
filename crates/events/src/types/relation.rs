//! `relation`: an account blocked, unblocked, followed or unfollowed another.

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

/// The last parts of the keys.
const BLOCK: &str = "block";
const FOLLOW: &str = "follow";

/// Key: `acting account,other account,block` (or `follow`), so that compaction keeps the latest record of each: an unfollow
/// must not remove a block from the topic. Value: JSON `{"relation","account","other"}`; a tombstone for `unblock` and `unfollow`, so
/// that compaction removes the pair and the addresses in its key.
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
            Relation::Block | Relation::Unblock => BLOCK,
            Relation::Follow | Relation::Unfollow => FOLLOW,
        };
        Some(format!("{},{},{what}", self.account.as_str(), self.other.as_str()))
    }

    fn value(&self) -> Option<Vec<u8>> {
        match self.relation {
            Relation::Block | Relation::Follow => Some(parse::to_json(self)),
            Relation::Unblock | Relation::Unfollow => None,
        }
    }

    fn aggregate(&self) -> String {
        self.account.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        match record.value {
            Some(_) => parse::from_json(record),
            None => tombstone(record.key_text()?),
        }
    }
}

/// Reads a tombstone from its key.
fn tombstone(key: &str) -> Result<RelationChanged, Malformed> {
    let no_pair = || Malformed::new("the key is not a pair of accounts");
    let (pair, what) = key.rsplit_once(',').ok_or_else(no_pair)?;
    let relation = match what {
        BLOCK => Relation::Unblock,
        FOLLOW => Relation::Unfollow,
        _ => return Err(Malformed::unknown_word("the key ends with an unknown word")),
    };
    // An address may have a comma: only one of the ways to split the key gives two accounts.
    let mut cuts = pair.match_indices(',').filter_map(|(at, _)| {
        let (account, other) = (pair[..at].parse().ok()?, pair[at + 1..].parse().ok()?);
        Some(RelationChanged {
            relation,
            account,
            other,
        })
    });
    let only = cuts.next().ok_or_else(no_pair)?;
    if cuts.next().is_some() {
        return Err(no_pair());
    }
    Ok(only)
}
