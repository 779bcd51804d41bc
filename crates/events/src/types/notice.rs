//! `notice`: a notice of any kind but a like, and the withdrawal of a like or of another notice.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, EventId, Malformed, Record, Topic};

/// Key: the receiving account. Value: JSON `{"receiver","topic","data","about"}`; `topic` and `data` are those of the socket frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoticeRaised {
    pub receiver: Account,
    pub topic: String,
    pub data: serde_json::Value,
    /// The other account whom the data names: the notice is deleted when that account resigns, and is not shown across a block.
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

/// The topic of a notice that withdraws another one by its id; it is never shown.
const NOTICE_WITHDRAWN: &str = "noticeWithdrawn";

#[derive(Serialize, Deserialize)]
struct WithdrawnNotice {
    notice: EventId,
}

impl NoticeRaised {
    /// Returns the event id of the notice that a post's author gets of a comment, by which it is withdrawn.
    #[must_use]
    pub fn comment_id(author: &Account, comment: i64) -> EventId {
        const COMMENTS: EventId = EventId(uuid::Uuid::from_u128(0x63_6f6d_6d65_6e74));
        COMMENTS.of_part(&format!("{}\u{1f}{comment}", author.as_str()))
    }

    /// Returns the notice that withdraws an earlier one of that event id.
    #[must_use]
    pub fn withdrawn(receiver: Account, notice: EventId) -> Self {
        Self {
            receiver,
            topic: NOTICE_WITHDRAWN.to_owned(),
            data: serde_json::to_value(WithdrawnNotice { notice }).expect("strings are JSON"),
            about: None,
        }
    }

    /// Returns the event id of the notice that this one withdraws; `None` for another kind of notice.
    ///
    /// # Errors
    /// When it withdraws a notice and does not say which.
    pub fn withdrawn_notice(&self) -> Result<Option<EventId>, Malformed> {
        if self.topic != NOTICE_WITHDRAWN {
            return Ok(None);
        }
        let withdrawn = WithdrawnNotice::deserialize(&self.data);
        withdrawn
            .map(|withdrawn| Some(withdrawn.notice))
            .map_err(|_| Malformed::new("the data of `noticeWithdrawn` is wrong"))
    }

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
