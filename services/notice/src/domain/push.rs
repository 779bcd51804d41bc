//! The content and the texts of pushes.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_common::Account;
use sosohappy_events::EventId;
use unicode_segmentation::UnicodeSegmentation as _;

use super::Language;

/// From this many user-perceived characters on a message is cut in a push, to this many.
const LONG: usize = 30;
const CUT: usize = 25;
/// Bytes of a push's body. One user-perceived character can have any number of combining marks.
const MOST_BODY: usize = 1024;
const ELLIPSIS: &str = "...";

/// Where a push goes.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// To all devices of the account.
    Account(Account),
    /// To one device: a Spring dm names no account.
    Token(String),
}

/// A push token is as good as an address.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Account(_) => "Account(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

/// A push that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingPush {
    /// Also what a gateway recognises a repeated push by.
    pub event: EventId,
    pub target: Target,
    /// Whose doing it is, where that is known.
    pub actor: Option<Account>,
    pub content: PushContent,
    pub occurred_at: Timestamp,
    pub queued_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// Devices that it was sent to already.
    pub sent: Vec<String>,
}

impl WaitingPush {
    /// Returns the thread of the push: the likes of one post, the messages of one sender.
    pub fn thread(&self) -> Thread {
        let topic = match (&self.content, &self.actor) {
            (PushContent::Like { date }, _) => format!("like {date}"),
            (PushContent::Message { .. }, Some(sender)) => format!("message {}", sender.as_str()),
            (PushContent::Message { frame }, None) => {
                let sender = serde_json::from_str::<MessageFrame>(frame).map(|message| message.sender);
                format!("message {}", sender.unwrap_or_default())
            }
        };
        Thread::of(&self.target, &topic)
    }

    /// Returns the thread of all pushes of this kind to the target, in which those over its limit are sent.
    pub fn kind_thread(&self) -> Thread {
        Thread::of(&self.target, self.content.kind())
    }
}

/// Pushes to one target that are sent as one when they are due at the same time. A digest: it names nobody.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Thread(pub String);

impl Thread {
    fn of(target: &Target, topic: &str) -> Self {
        const THREADS: EventId = EventId(uuid::Uuid::from_u128(0x0074_6872_6561_6473));
        let target = match target {
            Target::Account(account) => account.as_str(),
            Target::Token(token) => token,
        };
        Self(THREADS.of_part(&format!("{target}\u{1f}{topic}")).to_string())
    }

    /// Returns the thread that stands for everything a target gets, by which its pushes are counted.
    pub fn whole(target: &Target) -> Self {
        Self::of(target, "")
    }
}

/// Pushes of one thread that are sent as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushGroup {
    /// As it is queued: the push's own thread, or that of its kind.
    pub thread: Thread,
    /// The one that the push shows. Its `attempts` are the most of any of the group.
    pub newest: WaitingPush,
    /// All of the group, the newest included.
    pub events: Vec<EventId>,
    /// How many accounts caused them.
    pub actors: usize,
}

/// What is kept of a push until it goes; names are looked up then.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum PushContent {
    /// A like of the target's post of that 16-digit date.
    Like { date: i64 },
    /// A direct message's frame.
    Message { frame: String },
}

impl PushContent {
    /// The value of the metrics' `kind` label.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Like { .. } => "like",
            Self::Message { .. } => "message",
        }
    }

    /// Returns the text of a message whose frame can be read.
    pub fn message_text(&self) -> Option<String> {
        match self {
            Self::Like { .. } => None,
            Self::Message { frame } => Some(serde_json::from_str::<MessageFrame>(frame).ok()?.text),
        }
    }
}

/// Holds a message.
impl fmt::Debug for PushContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PushContent").field(&self.kind()).finish()
    }
}

/// A push's content with the names of its people, before it is put into a language.
#[derive(Clone, PartialEq, Eq)]
pub enum Wording {
    /// `liker` is the newest of the people who like the author's post of that date; `others` counts the rest.
    Like {
        liker: String,
        others: usize,
        author: String,
        date: i64,
    },
    /// One message.
    Message {
        sender: String,
        text: String,
        frame: String,
    },
    /// Several messages of one sender, or of several (`None`); the frame is the newest.
    Messages {
        sender: Option<String>,
        count: usize,
        frame: String,
    },
}

impl Wording {
    pub fn text(&self, language: Language) -> PushText {
        match self {
            Self::Like {
                liker,
                others,
                author,
                date,
            } => PushText {
                title: app_name(language),
                body: like_body(language, liker, *others, author),
                data: ("date", date.to_string()),
                thread: "like".to_owned(),
                category: "LIKE",
                collapse: Some(format!("like-{date}")),
                badge: None,
            },
            Self::Message { sender, text, frame } => PushText {
                body: shortened(text),
                ..messages(sender.clone(), format!("message-{sender}"), frame)
            },
            Self::Messages { sender, count, frame } => {
                let (title, thread) = match sender {
                    Some(sender) => (sender.clone(), format!("message-{sender}")),
                    None => (app_name(language), "message".to_owned()),
                };
                PushText {
                    body: match language {
                        Language::Ko => format!("새 메시지 {count}개"),
                        Language::En => format!("{count} new messages"),
                    },
                    ..messages(title, thread, frame)
                }
            }
        }
    }
}

/// The title of a push that no one person wrote.
fn app_name(language: Language) -> String {
    match language {
        Language::Ko => "소소해피",
        Language::En => "SoSoHappy",
    }
    .to_owned()
}

fn like_body(language: Language, liker: &str, others: usize, author: &str) -> String {
    match (language, others) {
        (Language::Ko, 0) => format!("{liker}님이 {author}님의 행복을 응원합니다🩷"),
        (Language::Ko, others) => format!("{liker}님 외 {others}명이 {author}님의 행복을 응원합니다🩷"),
        (Language::En, 0) => format!("{liker} cheers for {author}'s happiness🩷"),
        (Language::En, 1) => format!("{liker} and 1 other cheer for {author}'s happiness🩷"),
        (Language::En, others) => format!("{liker} and {others} others cheer for {author}'s happiness🩷"),
    }
}

fn messages(title: String, thread: String, frame: &str) -> PushText {
    PushText {
        title,
        body: String::new(),
        data: ("messageDto", frame.to_owned()),
        thread,
        category: "MESSAGE",
        collapse: None,
        badge: None,
    }
}

/// A message as the body of a push: of 30 characters or more the first 25, and at most [`MOST_BODY`] bytes.
fn shortened(text: &str) -> String {
    let is_long = text.graphemes(true).nth(LONG - 1).is_some();
    let shown = text.graphemes(true).take(if is_long { CUT } else { LONG });
    let (shown, is_whole) = fitting(shown, MOST_BODY);
    if is_long || !is_whole { shown + ELLIPSIS } else { shown }
}

/// The text and settings of a push for one device, and the data that the app gets with it.
#[derive(Clone, PartialEq, Eq)]
pub struct PushText {
    pub title: String,
    pub body: String,
    /// Name and value of the one data field.
    pub data: (&'static str, String),
    /// Pushes of one thread are grouped by the device.
    pub thread: String,
    /// Which actions the app offers.
    pub category: &'static str,
    /// A push replaces an earlier one of the same name; without a name it replaces its own repetition only.
    pub collapse: Option<String>,
    /// The number on the app's icon: the unread notices of the account. `None` leaves it as it is.
    pub badge: Option<u64>,
}

/// A message as sockets and pushes carry it.
#[derive(Serialize, Deserialize)]
struct MessageFrame {
    sender: String,
    receiver: String,
    date: i64,
    text: String,
}

/// Names people and holds their messages.
impl fmt::Debug for PushText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushText")
            .field("data", &self.data.0)
            .finish_non_exhaustive()
    }
}

impl PushText {
    /// The same push with the text inside its data cut to this many bytes, between user-perceived characters. The app loads the whole
    /// message when it is opened.
    pub fn cut_to(&self, bytes: usize) -> Self {
        let mut cut = self.clone();
        if let Ok(mut message) = serde_json::from_str::<MessageFrame>(&self.data.1) {
            let (text, is_whole) = fitting(message.text.graphemes(true), bytes);
            message.text = if is_whole { text } else { text + ELLIPSIS };
            cut.data.1 = serde_json::to_string(&message).expect("strings and numbers are JSON");
        } else if self.data.1.len() > bytes {
            // A frame of a form that only its sender knows.
            cut.data.1 = String::new();
        }
        cut
    }
}

/// As many of the characters as fit, and whether all did.
fn fitting<'a>(characters: impl Iterator<Item = &'a str>, bytes: usize) -> (String, bool) {
    let mut fitting = String::new();
    for character in characters {
        if fitting.len() + character.len() > bytes {
            return (fitting, false);
        }
        fitting.push_str(character);
    }
    (fitting, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, frame: &str) -> PushText {
        let wording = Wording::Message {
            sender: "kim".to_owned(),
            text: text.to_owned(),
            frame: frame.to_owned(),
        };
        wording.text(Language::Ko)
    }

    #[test]
    fn a_like_reads_as_the_app_knows_it() {
        let like = |others| Wording::Like {
            liker: "해피".to_owned(),
            others,
            author: "소소".to_owned(),
            date: 2_023_090_513_248_392,
        };
        let push = like(0).text(Language::Ko);
        assert_eq!(push.title, "소소해피");
        assert_eq!(push.body, "해피님이 소소님의 행복을 응원합니다🩷");
        assert_eq!(push.data, ("date", "2023090513248392".to_owned()));
        assert_eq!(
            like(4).text(Language::Ko).body,
            "해피님 외 4명이 소소님의 행복을 응원합니다🩷"
        );
        let push = like(0).text(Language::En);
        assert_eq!(
            (push.title.as_str(), push.body.as_str()),
            ("SoSoHappy", "해피 cheers for 소소's happiness🩷")
        );
        assert_eq!(
            like(1).text(Language::En).body,
            "해피 and 1 other cheer for 소소's happiness🩷"
        );
        assert_eq!(
            like(4).text(Language::En).body,
            "해피 and 4 others cheer for 소소's happiness🩷"
        );
    }

    #[test]
    fn several_messages_are_counted() {
        let of_one = Wording::Messages {
            sender: Some("kim".to_owned()),
            count: 1_998,
            frame: r#"{"text":"hello"}"#.to_owned(),
        };
        let push = of_one.text(Language::Ko);
        assert_eq!((push.title.as_str(), push.body.as_str()), ("kim", "새 메시지 1998개"));
        assert_eq!(push.data, ("messageDto", r#"{"text":"hello"}"#.to_owned()));
        assert_eq!(of_one.text(Language::En).body, "1998 new messages");
        let of_many = Wording::Messages {
            sender: None,
            count: 12,
            frame: "{}".to_owned(),
        };
        for (language, title, body) in [
            (Language::Ko, "소소해피", "새 메시지 12개"),
            (Language::En, "SoSoHappy", "12 new messages"),
        ] {
            let push = of_many.text(language);
            assert_eq!((push.title.as_str(), push.body.as_str()), (title, body));
        }
    }

    #[test]
    fn a_message_of_30_characters_is_cut_to_25() {
        let body = |text: &str| message(text, "{}").body;
        assert_eq!(body(&"가".repeat(29)), "가".repeat(29));
        assert_eq!(body(&"가".repeat(30)), format!("{}...", "가".repeat(25)));
        assert_eq!(body(&"🩷".repeat(40)), format!("{}...", "🩷".repeat(25)));
        assert_eq!(body(""), "");
        // Case D4: a family of seven scalars is one character, and is not cut inside.
        let family = "👨‍👩‍👧‍👦";
        assert_eq!(body(&family.repeat(29)), family.repeat(29));
        assert_eq!(body(&family.repeat(40)), format!("{}...", family.repeat(25)));
        assert_eq!(
            body(&format!("{}{}", "가".repeat(24), family.repeat(9))),
            format!("{}{family}...", "가".repeat(24))
        );
        let endless = format!("ab{}", "\u{301}".repeat(5_000));
        assert_eq!(body(&endless), "a...");

        let push = message("hello", r#"{"text":"hello"}"#);
        assert_eq!(
            (push.title.as_str(), &push.data),
            ("kim", &("messageDto", r#"{"text":"hello"}"#.to_owned()))
        );
    }

    #[test]
    fn data_is_cut_between_characters() {
        let text = "👨‍👩‍👧‍👦".repeat(600);
        let frame = format!(r#"{{"sender":"kim","receiver":"lee","date":2023090513248392,"text":"{text}"}}"#);
        let push = message(&text, &frame);
        let cut = push.cut_to(100);
        assert_eq!(
            cut.data.1,
            format!(
                r#"{{"sender":"kim","receiver":"lee","date":2023090513248392,"text":"{}..."}}"#,
                "👨‍👩‍👧‍👦".repeat(4)
            )
        );
        assert_eq!((cut.title, cut.body), (push.title.clone(), push.body.clone()));
        assert_eq!(push.cut_to(100_000), push);
        assert_eq!(message("x", "no frame").cut_to(1).data.1, "");
    }

    #[test]
    fn nothing_personal_shows_in_a_debug_line() {
        let shown = format!("{:?}", message("secret", "{}"));
        assert!(!shown.contains("kim") && !shown.contains("secret"), "{shown}");
    }
}
