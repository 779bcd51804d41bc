//! The content and the texts of pushes.

use std::collections::HashSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_common::Account;
use sosohappy_common::correlation::Correlation;
use sosohappy_events::EventId;
use sosohappy_events::types::RoomPush;
use unicode_segmentation::UnicodeSegmentation as _;

use super::{AccountAt, Kind, Language, Mute, post_id};

/// From this many user-perceived characters on a message is cut in a push, to this many.
const LONG: usize = 30;
const CUT: usize = 25;
/// Bytes of a push's body. One user-perceived character can have any number of combining marks.
const MOST_BODY: usize = 1024;
/// The metrics' label of a push that removes banners.
pub const HANDLED: &str = "handled";
/// Bytes of the title that a service wrote.
const MOST_TITLE: usize = 256;
const ELLIPSIS: &str = "...";

/// The receiver of a push.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// To all devices of the account.
    Account(Account),
    /// To one device: a Spring dm names no account.
    Token(String),
}

/// Hides the account and the push token.
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
    /// The account that caused it, where that is known.
    pub actor: Option<Account>,
    pub content: PushContent,
    pub occurred_at: Timestamp,
    /// As of a notice.
    pub authorized_at: Option<Timestamp>,
    pub queued_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// Devices that it was sent to already.
    pub sent: Vec<String>,
    /// The request that caused it: the push continues its log lines and its trace.
    pub cause: Option<Correlation>,
}

impl WaitingPush {
    /// Returns the ids by which it may have been withdrawn: its own, and that of the post it is about.
    pub fn withdrawal_ids(&self) -> Vec<EventId> {
        let date = match &self.content {
            PushContent::Like { date } => Some(*date),
            PushContent::Notice {
                notice: Kind::Comment,
                date,
                ..
            } => *date,
            PushContent::Notice { .. }
            | PushContent::Message { .. }
            | PushContent::RoomMessage { .. }
            | PushContent::Handled { .. } => None,
        };
        let post = match (&self.target, date) {
            (Target::Account(author), Some(date)) => Some(post_id(author, date)),
            _ => None,
        };
        [self.event].into_iter().chain(post).collect()
    }

    /// Returns the receiver, and the actor, whose resignations keep it out of the queue.
    pub fn people(&self) -> [Option<AccountAt<'_>>; 2] {
        let receiver = match &self.target {
            Target::Account(account) => Some((account, self.occurred_at)),
            Target::Token(_) => None,
        };
        let acted_at = self.authorized_at.unwrap_or(self.occurred_at);
        [receiver, self.actor.as_ref().map(|actor| (actor, acted_at))]
    }

    /// Returns the thread of the push: the likes of one post, the messages of one sender, those of one room.
    pub fn thread(&self) -> Thread {
        let topic = match (&self.content, &self.actor) {
            (PushContent::Like { date }, _) => format!("like {date}"),
            (PushContent::Message { .. }, Some(sender)) => format!("message {}", sender.as_str()),
            (PushContent::Message { frame }, None) => {
                let sender = serde_json::from_str::<MessageFrame>(frame).map(|message| message.sender);
                format!("message {}", sender.unwrap_or_default())
            }
            (PushContent::RoomMessage { frame, .. }, _) => format!("room {}", frame.room_id),
            (PushContent::Notice { notice, date, .. }, _) => match (notice, date) {
                (_, Some(date)) => format!("{} {date}", notice.as_str()),
                (Kind::Follow | Kind::Friend | Kind::Request, None) => notice.as_str().to_owned(),
                // Each has a text of its own.
                _ => format!("{} {}", notice.as_str(), self.event),
            },
            // Each names other notices.
            (PushContent::Handled { .. }, _) => format!("{HANDLED} {}", self.event),
        };
        let thread = Thread::of(&self.target, &topic);
        if matches!(self.content, PushContent::Like { .. }) {
            Thread(format!("{}{}", Thread::LIKES, thread.0))
        } else {
            thread
        }
    }

    /// Returns the thread of all pushes of this kind to the target, in which those over its limit are sent.
    pub fn kind_thread(&self) -> Thread {
        Thread::of(&self.target, self.content.label())
    }

    /// Returns the mute that concerns the push: of the post, of the conversation, or of the room.
    pub fn mute(&self) -> Option<Mute> {
        match &self.content {
            PushContent::Like { date } => Some(Mute::Post(*date)),
            PushContent::Notice { date, .. } => date.map(Mute::Post),
            PushContent::Message { .. } => self.actor.clone().map(Mute::Conversation),
            PushContent::RoomMessage { frame, .. } => Some(Mute::Room(frame.room_id.clone())),
            PushContent::Handled { .. } => None,
        }
    }
}

/// Pushes to one target that are sent as one when they are due at the same time. A digest without personal data, that of the likes of a post behind
/// [`Thread::LIKES`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Thread(pub String);

impl Thread {
    /// What waits in such a thread is sent when the first of it is due.
    pub const LIKES: &str = "likes-";

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
    /// Those before the newest, as far as their content was read: the next newest first.
    pub older: Vec<WaitingPush>,
    /// All of the group, the newest included.
    pub events: Vec<EventId>,
    /// Who caused each of the events, in their order, where that is known.
    pub actors: Vec<Option<Account>>,
}

impl PushGroup {
    /// Returns how many accounts caused the pushes.
    pub fn people(&self) -> usize {
        self.actors.iter().flatten().collect::<HashSet<_>>().len()
    }

    /// Returns the group without what these accounts caused, and the events that are left out. `None`: nothing of the group is left whose
    /// content was read.
    pub fn without(&self, hidden: &[Account]) -> (Option<Self>, Vec<EventId>) {
        let hidden: HashSet<&Account> = hidden.iter().collect();
        let is_hidden = |actor: Option<&Account>| actor.is_some_and(|actor| hidden.contains(actor));
        let (mut left_out, mut events, mut actors) = (Vec::new(), Vec::new(), Vec::new());
        for (event, actor) in self.events.iter().zip(&self.actors) {
            if is_hidden(actor.as_ref()) {
                left_out.push(*event);
            } else {
                events.push(*event);
                actors.push(actor.clone());
            }
        }
        let read = [&self.newest].into_iter().chain(&self.older);
        let mut kept = read.filter(|push| !is_hidden(push.actor.as_ref())).cloned();
        let group = kept.next().map(|newest| Self {
            thread: self.thread.clone(),
            newest: WaitingPush {
                attempts: self.newest.attempts,
                ..newest
            },
            older: kept.collect(),
            events,
            actors,
        });
        (group, left_out)
    }
}

/// The stored content of a push that waits; names are looked up when it is sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum PushContent {
    /// A like of the target's post of that 16-digit date.
    Like { date: i64 },
    /// A direct message's frame.
    Message { frame: String },
    /// A message of the room of that name.
    RoomMessage { name: String, frame: RoomFrame },
    /// Any other notice: its kind, of a comment the date of the target's post, and the text that the raising service wrote for the person.
    Notice {
        notice: Kind,
        date: Option<i64>,
        title: Option<String>,
        text: Option<String>,
    },
    /// The account has handled these notices elsewhere: their banners are removed from the devices with these push tokens. It shows nothing.
    Handled { events: Vec<EventId>, tokens: Vec<String> },
}

impl PushContent {
    /// Returns the kind whose preferences decide; `None` for a push that shows nothing.
    pub const fn kind(&self) -> Option<Kind> {
        match self {
            Self::Like { .. } => Some(Kind::Like),
            Self::Message { .. } | Self::RoomMessage { .. } => Some(Kind::Message),
            Self::Notice { notice, .. } => Some(*notice),
            Self::Handled { .. } => None,
        }
    }

    /// Returns the value of the metrics' `kind` label.
    pub fn label(&self) -> &'static str {
        self.kind().map_or(HANDLED, Kind::as_str)
    }

    /// Returns the text of a message whose frame can be read.
    pub fn message_text(&self) -> Option<String> {
        match self {
            Self::Like { .. } | Self::Notice { .. } | Self::Handled { .. } => None,
            Self::Message { frame } => Some(serde_json::from_str::<MessageFrame>(frame).ok()?.text),
            Self::RoomMessage { frame, .. } => Some(frame.text.clone()),
        }
    }
}

/// Hides the text of a message.
impl fmt::Debug for PushContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PushContent").field(&self.label()).finish()
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
    /// Another notice. `who` caused it, `others` counts further people of the same kind; `text` is what the raising service wrote.
    Notice {
        kind: Kind,
        who: Option<String>,
        others: usize,
        date: Option<i64>,
        title: Option<String>,
        text: Option<String>,
    },
    /// Messages of the room of that name, the newest of which is given; without a name also others.
    RoomMessages {
        name: Option<String>,
        count: usize,
        newest: RoomFrame,
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
            Self::Notice {
                kind,
                who,
                others,
                date,
                title,
                text,
            } => PushText {
                title: notice_title(language, *kind, title.as_deref()),
                body: notice_body(language, *kind, who.as_deref(), *others, text.as_deref()),
                data: match date {
                    Some(date) => ("date", date.to_string()),
                    None => ("topic", kind.as_str().to_owned()),
                },
                thread: kind.as_str().to_owned(),
                category: notice_category(*kind),
                collapse: date.map(|date| format!("{}-{date}", kind.as_str())),
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
                    body: new_messages(language, *count),
                    ..messages(title, thread, frame)
                }
            }
            Self::RoomMessages { name, count, newest } => room_messages(language, name.as_deref(), *count, newest),
        }
    }
}

fn new_messages(language: Language, count: usize) -> String {
    match language {
        Language::Ko => format!("새 메시지 {count}개"),
        Language::En => format!("{count} new messages"),
    }
}

fn room_messages(language: Language, name: Option<&str>, count: usize, newest: &RoomFrame) -> PushText {
    let (title, thread) = match name {
        Some(name) => (written(name, MOST_TITLE), format!("room-{}", newest.room_id)),
        None => (app_name(language), "message".to_owned()),
    };
    PushText {
        title,
        body: match count {
            1 => format!("{}: {}", newest.sender, shortened(&newest.text)),
            count => new_messages(language, count),
        },
        data: (
            "roomMessageDto",
            serde_json::to_string(newest).expect("strings and numbers are JSON"),
        ),
        thread,
        category: "ROOM_MESSAGE",
        collapse: None,
        badge: None,
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

/// Advertisements begin with the mark that article 50 (4) of Korea's Network Act asks for.
fn notice_title(language: Language, kind: Kind, title: Option<&str>) -> String {
    let title = title.map_or_else(|| app_name(language), |title| written(title, MOST_TITLE));
    match (kind, language) {
        (Kind::Advertising, Language::Ko) => format!("(광고) {title}"),
        (Kind::Advertising, Language::En) => format!("(Ad) {title}"),
        _ => title,
    }
}

/// The text that the raising service wrote, else what `who` and the others did.
fn notice_body(language: Language, kind: Kind, who: Option<&str>, others: usize, text: Option<&str>) -> String {
    match (text, who) {
        (Some(text), _) => written(text, MOST_BODY),
        (None, Some(who)) => match language {
            Language::Ko => korean_body(kind, who, others),
            Language::En => english_body(kind, who, others),
        },
        (None, None) => generic_body(language),
    }
}

fn korean_body(kind: Kind, who: &str, others: usize) -> String {
    let people = match others {
        0 => format!("{who}님"),
        others => format!("{who}님 외 {others}명"),
    };
    match kind {
        Kind::Comment => format!("{people}이 회원님의 행복에 댓글을 남겼습니다💬"),
        Kind::Follow => format!("{people}이 회원님을 팔로우합니다"),
        Kind::Friend => format!("{people}과 친구가 되었습니다"),
        Kind::Request => format!("{people}이 대화를 신청했습니다"),
        _ => generic_body(Language::Ko),
    }
}

fn english_body(kind: Kind, who: &str, others: usize) -> String {
    let people = match others {
        0 => who.to_owned(),
        1 => format!("{who} and 1 other"),
        others => format!("{who} and {others} others"),
    };
    match kind {
        Kind::Comment => format!("{people} commented on your happiness💬"),
        Kind::Follow if others == 0 => format!("{people} follows you"),
        Kind::Follow => format!("{people} follow you"),
        Kind::Friend => format!("You are friends with {people} now"),
        Kind::Request => format!("{people} would like to talk to you"),
        _ => generic_body(Language::En),
    }
}

fn generic_body(language: Language) -> String {
    match language {
        Language::Ko => "새로운 알림이 있습니다",
        Language::En => "There is a new notice for you",
    }
    .to_owned()
}

/// A text of a service without control characters (which JSON escapes with six bytes each), cut to this many bytes.
fn written(text: &str, bytes: usize) -> String {
    let text: String = text
        .chars()
        .filter(|char| !char.is_control() || *char == '\n')
        .collect();
    let (shown, is_whole) = fitting(text.graphemes(true), bytes);
    if is_whole { shown } else { shown + ELLIPSIS }
}

/// The name of the actions that the app offers.
const fn notice_category(kind: Kind) -> &'static str {
    match kind {
        Kind::Like => "LIKE",
        Kind::Comment => "COMMENT",
        Kind::Bookmark => "BOOKMARK",
        Kind::Follow => "FOLLOW",
        Kind::Friend => "FRIEND",
        Kind::Request => "REQUEST",
        Kind::Moderation => "MODERATION",
        Kind::Role => "ROLE",
        Kind::System => "SYSTEM",
        Kind::Advertising => "ADVERTISING",
        Kind::Message => "MESSAGE",
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

/// The content of one request for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushMessage {
    /// A banner.
    Alert(PushText),
    /// Wakes the app, which removes the banners of these notices and shows the number on its icon.
    Handled { events: Vec<EventId>, badge: u64 },
    /// The number on the icon only, for an app that is not woken.
    Badge(u64),
}

impl PushMessage {
    /// Returns names and values of the data that the app gets with it. `noticeId` is the id of the notice, as in a frame and in `findNotice`.
    pub fn data(&self, event: EventId) -> Vec<(&'static str, String)> {
        match self {
            Self::Alert(text) => vec![(text.data.0, text.data.1.clone()), ("noticeId", event.to_string())],
            Self::Handled { events, badge } => {
                let ids: Vec<String> = events.iter().map(ToString::to_string).collect();
                vec![("handledIdList", ids.join(",")), ("badge", badge.to_string())]
            }
            Self::Badge(_) => Vec::new(),
        }
    }
}

/// A banner that a device was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Banner {
    /// The notice that it shows: the newest of its group.
    pub event: EventId,
    pub token: String,
    /// A later banner of the same name replaces it on the device.
    pub name: String,
    /// When that notice happened: one that happens again has another banner.
    pub occurred_at: Timestamp,
}

/// A message as sockets and pushes carry it.
#[derive(Serialize, Deserialize)]
struct MessageFrame {
    sender: String,
    receiver: String,
    date: i64,
    text: String,
}

/// A message of a room as pushes carry it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomFrame {
    pub room_id: String,
    /// As in the frames of dm. The id of the push is another one for each member.
    pub message_id: EventId,
    pub sender: String,
    pub date: i64,
    pub text: String,
}

impl RoomFrame {
    /// Makes the frame of a message. Each member's push has it: of a long text as much as a push shows.
    pub fn new(room: &str, message: EventId, push: &RoomPush) -> Self {
        Self {
            room_id: room.to_owned(),
            message_id: message,
            sender: push.nickname.clone(),
            date: push.date,
            text: written(&push.text, MOST_BODY),
        }
    }
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
        } else if let Ok(mut message) = serde_json::from_str::<RoomFrame>(&self.data.1) {
            message.text = written(&message.text, bytes);
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

    fn notice(kind: Kind, who: Option<&str>, others: usize, text: Option<&str>) -> Wording {
        Wording::Notice {
            kind,
            who: who.map(str::to_owned),
            others,
            date: (kind == Kind::Comment).then_some(2_023_090_513_248_392),
            title: None,
            text: text.map(str::to_owned),
        }
    }

    #[test]
    fn other_notices_read_in_both_languages() {
        for (kind, others, korean, english) in [
            (
                Kind::Comment,
                0,
                "kim님이 회원님의 행복에 댓글을 남겼습니다💬",
                "kim commented on your happiness💬",
            ),
            (Kind::Follow, 0, "kim님이 회원님을 팔로우합니다", "kim follows you"),
            (
                Kind::Follow,
                2,
                "kim님 외 2명이 회원님을 팔로우합니다",
                "kim and 2 others follow you",
            ),
            (
                Kind::Friend,
                1,
                "kim님 외 1명과 친구가 되었습니다",
                "You are friends with kim and 1 other now",
            ),
            (
                Kind::Request,
                0,
                "kim님이 대화를 신청했습니다",
                "kim would like to talk to you",
            ),
        ] {
            let wording = notice(kind, Some("kim"), others, None);
            assert_eq!(wording.text(Language::Ko).body, korean);
            assert_eq!(wording.text(Language::En).body, english);
        }
        let comment = notice(Kind::Comment, Some("kim"), 0, None).text(Language::Ko);
        assert_eq!(comment.data, ("date", "2023090513248392".to_owned()));
        assert_eq!(comment.collapse.as_deref(), Some("comment-2023090513248392"));
        let role = notice(Kind::Role, None, 0, None).text(Language::En);
        assert_eq!(role.body, "There is a new notice for you");
        assert_eq!(role.data, ("topic", "role".to_owned()));
    }

    #[test]
    fn a_text_of_a_service_is_bounded_and_an_advertisement_is_marked() {
        let long = format!("{}\u{1}{}", "\u{1}".repeat(5_000), "👨‍👩‍👧‍👦".repeat(500));
        let push = notice(Kind::System, None, 0, Some(&long)).text(Language::Ko);
        assert!(
            push.body.starts_with("👨‍👩‍👧‍👦") && push.body.ends_with("👨‍👩‍👧‍👦..."),
            "{}",
            push.body
        );
        assert!(push.body.len() <= MOST_BODY + ELLIPSIS.len());
        let push = notice(Kind::Advertising, None, 0, Some("new")).text(Language::Ko);
        assert_eq!((push.title.as_str(), push.body.as_str()), ("(광고) 소소해피", "new"));
        assert_eq!(
            notice(Kind::Advertising, None, 0, Some("new")).text(Language::En).title,
            "(Ad) SoSoHappy"
        );
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
    fn a_message_of_a_room_names_room_and_sender_and_is_cut() {
        let push = RoomPush {
            sender: "kim@example.com+kakao".parse().unwrap(),
            nickname: "kim".to_owned(),
            room_name: "우리반".to_owned(),
            number: 1,
            date: 2_023_090_513_248_392,
            text: "가".repeat(4_000),
            receivers: Vec::new(),
        };
        let message = EventId(uuid::Uuid::from_u128(7));
        let newest = RoomFrame::new("r-1", message, &push);
        assert!(newest.text.len() <= MOST_BODY + ELLIPSIS.len() && newest.text.ends_with("가..."));
        let text = |name: Option<&str>, count| {
            let name = name.map(str::to_owned);
            let newest = newest.clone();
            Wording::RoomMessages { name, count, newest }.text(Language::En)
        };
        let one = text(Some("우리반"), 1);
        assert_eq!(one.title, "우리반");
        assert_eq!(one.body, format!("kim: {}...", "가".repeat(25)));
        assert_eq!((one.thread.as_str(), one.category), ("room-r-1", "ROOM_MESSAGE"));
        let three = text(Some("우리반"), 3);
        assert_eq!(
            (three.title.as_str(), three.body.as_str()),
            ("우리반", "3 new messages")
        );
        assert_eq!(text(None, 3).title, "SoSoHappy", "also of other rooms");
        let data = format!(
            r#"{{"roomId":"r-1","messageId":"{message}","sender":"kim","date":2023090513248392,"text":"가가..."}}"#
        );
        assert_eq!(one.cut_to(6).data, ("roomMessageDto", data));
    }

    #[test]
    fn nothing_personal_shows_in_a_debug_line() {
        let shown = format!("{:?}", message("secret", "{}"));
        assert!(!shown.contains("kim") && !shown.contains("secret"), "{shown}");
    }
}
