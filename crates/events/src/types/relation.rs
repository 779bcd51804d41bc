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

/// The ends of the keys.
const BLOCK: &str = "block";
const FOLLOW: &str = "follow";

/// Key: `acting account,other account,block` (or `follow`), so that compaction keeps the last word on each: an unfollow
/// must not push a block out of the topic. Value: JSON `{"relation","account","other"}`; null when it is over, so that compaction
/// forgets the pair and the addresses in its key.
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
            None => over(record.key_text()?).ok_or_else(|| Malformed::new("the key is no pair of accounts")),
        }
    }
}

/// What the key alone says.
fn over(key: &str) -> Option<RelationChanged> {
    let (pair, what) = key.rsplit_once(',')?;
    let relation = match what {
        BLOCK => Relation::Unblock,
        FOLLOW => Relation::Unfollow,
        _ => return None,
    };
    // An address may hold a comma; of the ways to cut in two one gives two accounts.
    let mut cuts = pair.match_indices(',').filter_map(|(at, _)| {
        let (account, other) = (pair[..at].parse().ok()?, pair[at + 1..].parse().ok()?);
        Some(RelationChanged {
            relation,
            account,
            other,
        })
    });
    let only = cuts.next()?;
    cuts.next().is_none().then_some(only)
}
