//! `post`: a post was written, changed or deleted, or others liked it or commented on it.

use serde::{Deserialize, Serialize};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// The change of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PostChange {
    /// The first save of its day.
    Saved,
    /// Another save of its day, or another state: public or private, open to comments or not.
    Changed,
    Deleted,
    Liked,
    Unliked,
    Commented,
    CommentChanged,
    CommentDeleted,
    /// The post was hidden from everybody but its author, by a moderator or because its text waits for review.
    Hidden,
    Restored,
    /// The actor saved the post for themselves; no other person is notified.
    Bookmarked,
    Unbookmarked,
    /// A change of a later release. The rest of the event says how the post is after it.
    #[serde(other)]
    Unknown,
}

/// Key: the author's account, so that the events of one author stay in order. Value: JSON, without any text that people wrote. The
/// counts are those after the change: a consumer that has missed events, or sees one twice, is right again with the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostChanged {
    pub change: PostChange,
    pub author: Account,
    /// The post's 16-digit date.
    pub date: i64,
    /// The id of the post in feed's database. The post of a day that was deleted and written again has another one.
    pub post: i64,
    pub is_public: bool,
    /// Whether it is visible to friends of the author only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_for_friends: bool,
    /// Whether only its author sees it, whatever the audience is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_hidden: bool,
    pub likes: i64,
    #[serde(default)]
    pub bookmarks: i64,
    pub comments: i64,
    /// Counts the changes of this post: of two events the one with the greater number is the later one. 0 from a release that did not count.
    #[serde(default)]
    pub revision: i64,
    /// The account that liked, saved or commented, or no longer does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Account>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<i64>,
}

impl Event for PostChanged {
    const TOPIC: Topic = Topic::Post;
    const TYPE: &'static str = "PostChanged";

    fn key(&self) -> Option<String> {
        Some(self.author.as_str().to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(parse::to_json(self))
    }

    fn aggregate(&self) -> String {
        format!("{},{}", self.author.as_str(), self.date)
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        parse::from_json(record)
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_common::Context;

    use super::*;
    use crate::Envelope;
    use crate::testing::record_of;

    #[test]
    fn a_post_event_is_json_by_its_author() {
        let event = PostChanged {
            change: PostChange::Liked,
            author: "kim@example.com+kakao".parse().unwrap(),
            date: 2_023_090_513_248_392,
            post: 7,
            is_public: true,
            is_for_friends: false,
            is_hidden: false,
            likes: 2,
            bookmarks: 3,
            comments: 0,
            revision: 5,
            actor: Some("lee@example.com+google".parse().unwrap()),
            comment: None,
        };
        let sent = Envelope::new(event.clone(), &Context::system("test", 0)).to_outgoing();
        assert_eq!(sent.key.as_deref(), Some("kim@example.com+kakao"));
        assert_eq!(
            String::from_utf8(sent.value.clone().unwrap()).unwrap(),
            r#"{"change":"liked","author":"kim@example.com+kakao","date":2023090513248392,"post":7,"isPublic":true,"likes":2,"bookmarks":3,"comments":0,"revision":5,"actor":"lee@example.com+google"}"#
        );
        assert_eq!(Envelope::<PostChanged>::decode(&record_of(&sent)).unwrap().event, event);
    }

    #[test]
    fn events_of_other_releases_are_read() {
        let read = |json: &'static str| serde_json::from_str::<PostChanged>(json).unwrap();
        let older =
            read(r#"{"change":"liked","author":"a@b+kakao","date":1,"post":7,"isPublic":true,"likes":2,"comments":0}"#);
        assert_eq!((older.revision, older.bookmarks, older.is_hidden), (0, 0, false));
        let newer = read(
            r#"{"change":"pinned","author":"a@b+kakao","date":1,"post":7,"isPublic":true,"likes":2,"comments":0,"pins":1}"#,
        );
        assert_eq!(newer.change, PostChange::Unknown);
    }
}
