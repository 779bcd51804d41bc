//! `notice`: a notice of any kind but a like, and the withdrawal of a like.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// Key: the receiving account. Value: JSON `{"receiver","topic","data","about"}`; `topic` and `data` are those of the socket frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoticeRaised {
    pub receiver: Account,
    pub topic: String,
    pub data: serde_json::Value,
    /// The other account whom the data names: the notice goes when that account resigns, and is not shown across a block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Account>,
}

/// The topic of a notice that withdraws an earlier one; it is never shown.
const LIKE_WITHDRAWN: &str = "likeWithdrawn";

/// The data of a withdrawn like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawnLike {
    pub liker: Account,
    /// The post's 16-digit date.
    pub date: i64,
}

impl NoticeRaised {
    /// Returns the notice that withdraws the like of an author's post. It is on this topic because no Spring service reads it.
    #[must_use]
    pub fn like_withdrawn(author: Account, like: &WithdrawnLike) -> Self {
        Self {
            receiver: author,
            topic: LIKE_WITHDRAWN.to_owned(),
            data: serde_json::to_value(like).expect("strings and numbers are JSON"),
            about: None,
        }
    }

    /// Returns the like that the notice withdraws; `None` for a notice that is to be shown.
    ///
    /// # Errors
    /// When it withdraws a like and does not say which.
    pub fn withdrawn_like(&self) -> Result<Option<WithdrawnLike>, Malformed> {
        if self.topic != LIKE_WITHDRAWN {
            return Ok(None);
        }
        let like = WithdrawnLike::deserialize(&self.data);
        like.map(Some)
            .map_err(|_| Malformed::new("the data of `likeWithdrawn` is wrong"))
    }
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
