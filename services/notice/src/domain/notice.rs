//! A notice, and the frame that shows it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sosohappy_common::Account;
use sosohappy_events::EventId;

use super::{AccountAt, Kind, Mute, PushContent, post_id};

impl Notice {
    /// Returns the ids by which it may have been withdrawn: its own, and that of the post it is about.
    pub fn withdrawal_ids(&self) -> Vec<EventId> {
        let post = match &self.content {
            Content::Like { date, .. } => Some(post_id(&self.receiver, *date)),
            Content::Follow { .. } => None,
            Content::Other { topic, data, about } => post_of(&self.receiver, about.as_ref(), topic, data),
        };
        [self.event].into_iter().chain(post).collect()
    }

    /// Returns the receiver, and the actor, whose resignations keep it out of the inbox.
    pub fn people(&self) -> [Option<AccountAt<'_>>; 2] {
        let acted_at = self.authorized_at.unwrap_or(self.occurred_at);
        let (account_at, actor_at) = if OWN_DOING.contains(&self.content.topic()) {
            (acted_at, self.occurred_at)
        } else {
            (self.occurred_at, acted_at)
        };
        let actor = self.content.actor().map(|actor| (actor, actor_at));
        [Some((&self.receiver, account_at)), actor]
    }
}

/// The topics of notices that the receiver caused: of these, [`Content::actor`] is the author of the post.
pub const OWN_DOING: [&str; 2] = ["bookmark", "bookmarkCanceled"];

/// The topic of a like's frame.
pub const LIKE: &str = "like";

/// The topics of the frame of a follow: `friend` where the receiver followed the follower before.
const FOLLOW: &str = "follow";
const FRIEND: &str = "friend";

/// Returns whether a notice of that topic is of a follow.
pub fn is_follow(topic: &str) -> bool {
    matches!(topic, FOLLOW | FRIEND)
}

/// A notice for one account.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// The id of the notice: [`like_id`](super::like_id) for a like, [`follow_id`](super::follow_id) for a follow, else that of the event.
    pub event: EventId,
    pub receiver: Account,
    pub occurred_at: Timestamp,
    /// When the access token was issued with which it was caused; `None` of a Spring service, of an earlier release, and of what no person caused.
    pub authorized_at: Option<Timestamp>,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A like of the receiver's post of that 16-digit date; `known_as` is the liker's nickname at that time.
    Like {
        liker: Account,
        known_as: String,
        date: i64,
    },
    /// An account follows the receiver; `friends` where each follows the other now.
    Follow { follower: Account, friends: bool },
    /// A frame as another service made it.
    Other {
        topic: String,
        data: Value,
        /// The other account that the data names.
        about: Option<Account>,
    },
}

/// Returns the id of the post that a stored or raised notice is about: of a like or comment the receiver's, of a bookmark that of the account
/// which the notice names, or the receiver's own.
pub fn post_of(receiver: &Account, actor: Option<&Account>, topic: &str, data: &Value) -> Option<EventId> {
    let day = data["date"].as_i64()?;
    match Kind::of_topic(topic)? {
        Kind::Like | Kind::Comment => Some(post_id(receiver, day)),
        Kind::Bookmark => Some(post_id(actor.unwrap_or(receiver), day)),
        _ => None,
    }
}

/// The topics of [`post_of`].
pub const ABOUT_POSTS: [&str; 4] = [LIKE, "comment", "bookmark", "bookmarkCanceled"];

#[derive(Serialize)]
struct Frame<'a, D> {
    topic: &'a str,
    data: D,
}

#[derive(Serialize)]
struct LikeData<'a> {
    liker: &'a str,
    date: i64,
}

#[derive(Serialize)]
struct FollowData<'a> {
    follower: Option<&'a str>,
}

#[derive(Serialize)]
struct StoredLike {
    date: i64,
}

impl Content {
    /// Returns the account that caused the notice, where that is known.
    pub fn actor(&self) -> Option<&Account> {
        match self {
            Self::Like { liker, .. } => Some(liker),
            Self::Follow { follower, .. } => Some(follower),
            Self::Other { about, .. } => about.as_ref(),
        }
    }

    pub fn topic(&self) -> &str {
        match self {
            Self::Like { .. } => LIKE,
            Self::Follow { friends: false, .. } => FOLLOW,
            Self::Follow { friends: true, .. } => FRIEND,
            Self::Other { topic, .. } => topic,
        }
    }

    /// Returns what is pushed for it; `None` for notices of the person's own doing, and for topics of a later release.
    pub fn push(&self) -> Option<PushContent> {
        let (notice, raised) = match self {
            Self::Like { date, .. } => return Some(PushContent::Like { date: *date }),
            Self::Follow { .. } => (Kind::of_topic(self.topic())?, &Value::Null),
            Self::Other { topic, data, .. } => (Kind::of_topic(topic)?, data),
        };
        let field = |name: &str| raised[name].as_str().map(str::to_owned);
        let (date, title, text) = match notice {
            Kind::Bookmark | Kind::Like | Kind::Message => return None,
            Kind::Comment => (raised["date"].as_i64(), None, None),
            Kind::Follow | Kind::Friend => (None, None, None),
            // Of an accepted or refused request.
            Kind::Request => (None, None, field("text")),
            Kind::Moderation | Kind::Role | Kind::System | Kind::Advertising => (None, field("title"), field("text")),
        };
        Some(PushContent::Notice {
            notice,
            date,
            title,
            text,
        })
    }

    /// Returns the mute that concerns the notice: of the receiver's post.
    pub fn mute(&self) -> Option<Mute> {
        match self {
            Self::Like { date, .. } => Some(Mute::Post(*date)),
            Self::Follow { .. } => None,
            Self::Other { topic, data, .. } => muted_post(topic, data),
        }
    }

    /// The data as it is kept: without the actor's nickname, which changes.
    pub fn stored(&self) -> String {
        match self {
            Self::Like { date, .. } => stored_like(*date),
            Self::Follow { .. } => "{}".to_owned(),
            Self::Other { data, .. } => data.to_string(),
        }
    }

    /// The frame as sockets carry it, with the actor's present nickname; without one, a like has the nickname of then, and a follow has none.
    pub fn frame(&self, nickname: Option<&str>) -> String {
        match self {
            Self::Like { date, known_as, .. } => json(&Frame {
                topic: LIKE,
                data: LikeData {
                    liker: nickname.unwrap_or(known_as),
                    date: *date,
                },
            }),
            Self::Follow { .. } => json(&Frame {
                topic: self.topic(),
                data: FollowData { follower: nickname },
            }),
            Self::Other { topic, data, .. } => json(&Frame { topic, data }),
        }
    }
}

/// Returns the mute of the post that a stored or raised notice is about.
pub fn muted_post(topic: &str, data: &Value) -> Option<Mute> {
    let is_about_post = topic == LIKE || Kind::of_topic(topic) == Some(Kind::Comment);
    data["date"].as_i64().filter(|_| is_about_post).map(Mute::Post)
}

/// Returns the data under which a like of the post of that date is kept.
pub fn stored_like(date: i64) -> String {
    json(&StoredLike { date })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and JSON values are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_like_is_shown_to_the_letter() {
        let liker = "kim@example.com+kakao".parse().unwrap();
        let like = Content::Like {
            liker,
            known_as: "kim".into(),
            date: 2_023_090_513_248_392,
        };
        assert_eq!(
            like.frame(Some("admin")),
            r#"{"topic":"like","data":{"liker":"admin","date":2023090513248392}}"#
        );
        assert_eq!(like.stored(), r#"{"date":2023090513248392}"#);
        assert_eq!(
            like.frame(Some(r#"a"b"#)),
            r#"{"topic":"like","data":{"liker":"a\"b","date":2023090513248392}}"#
        );
    }

    #[test]
    fn notices_about_a_post_have_its_id() {
        let [kim, lee]: [Account; 2] = ["kim", "lee"].map(|name| format!("{name}@example.com+kakao").parse().unwrap());
        let date = 2_023_090_513_248_392;
        let content = serde_json::json!({ "date": date });
        let post = post_id(&kim, date);
        assert_eq!(post_id(&kim, 2_023_090_500_000_000), post, "the day counts");
        assert_ne!(post_id(&kim, 2_023_090_600_000_000), post);
        assert_ne!(post_id(&lee, date), post);
        for topic in [LIKE, "comment"] {
            assert_eq!(post_of(&kim, Some(&lee), topic, &content), Some(post), "{topic}");
        }
        for topic in ["bookmark", "bookmarkCanceled"] {
            assert_eq!(post_of(&lee, Some(&kim), topic, &content), Some(post), "{topic}");
            assert_eq!(post_of(&kim, None, topic, &content), Some(post), "{topic}");
            assert_ne!(post_of(&kim, Some(&lee), topic, &content), Some(post), "{topic}");
        }
        for kind in Kind::ALL {
            let is_about_post = post_of(&kim, None, kind.as_str(), &content).is_some();
            assert_eq!(is_about_post, ABOUT_POSTS.contains(&kind.as_str()), "{}", kind.as_str());
        }
        assert_eq!(post_of(&kim, None, LIKE, &Value::Null), None);
    }

    #[test]
    fn another_notice_is_passed_on_as_it_is() {
        let data = serde_json::json!({ "postId": 7, "nickname": "kim" });
        let comment = Content::Other {
            topic: "comment".into(),
            data,
            about: None,
        };
        assert_eq!(
            comment.frame(None),
            r#"{"topic":"comment","data":{"postId":7,"nickname":"kim"}}"#
        );
        assert_eq!(comment.stored(), r#"{"postId":7,"nickname":"kim"}"#);
    }

    #[test]
    fn notices_of_others_and_of_operators_are_pushed() {
        let push = |topic: &str, data: Value| {
            let topic = topic.to_owned();
            let content = Content::Other {
                topic,
                data,
                about: None,
            };
            content.push()
        };
        let comment = push("comment", serde_json::json!({ "date": 7, "title": "no", "text": "no" }));
        let expected = PushContent::Notice {
            notice: Kind::Comment,
            date: Some(7),
            title: None,
            text: None,
        };
        assert_eq!(comment, Some(expected));
        let system = push("system", serde_json::json!({ "title": "Maintenance", "text": "at 3" }));
        let expected = PushContent::Notice {
            notice: Kind::System,
            date: None,
            title: Some("Maintenance".to_owned()),
            text: Some("at 3".to_owned()),
        };
        assert_eq!(system, Some(expected));
        for topic in ["bookmark", "bookmarkCanceled", "message", "like", "of a later release"] {
            assert_eq!(push(topic, Value::Null), None, "{topic}");
        }
    }
}
