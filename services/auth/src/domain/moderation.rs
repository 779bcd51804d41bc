//! Reports, what is decided about them, and the audit of decisions.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sosohappy_common::Account;
use sosohappy_events::types::{ContentModerated, ModeratedContent, ModerationAction};
use unicode_segmentation::UnicodeSegmentation as _;
use utoipa::ToSchema;

/// User-perceived characters of a text beside a report, an application or a decision.
const MAX_CHARACTERS: usize = 1000;

/// Bytes of such a text.
const MAX_BYTES: usize = 8000;

/// Hex digits of the id of a message of the legacy Spring services.
const LEGACY_ID: usize = 24;

/// Why something is reported, or an account suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// Imagery that is unlawful to show, such as sexual images of children: hidden at once.
    UnlawfulImagery,
    SexualContent,
    Violence,
    Harassment,
    Hate,
    SelfHarm,
    Spam,
    Impersonation,
    Privacy,
    Other,
}

impl Reason {
    pub const ALL: [Self; 10] = [
        Self::UnlawfulImagery,
        Self::SexualContent,
        Self::Violence,
        Self::Harassment,
        Self::Hate,
        Self::SelfHarm,
        Self::Spam,
        Self::Impersonation,
        Self::Privacy,
        Self::Other,
    ];

    /// Returns the name in requests, answers and the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnlawfulImagery => "unlawfulImagery",
            Self::SexualContent => "sexualContent",
            Self::Violence => "violence",
            Self::Harassment => "harassment",
            Self::Hate => "hate",
            Self::SelfHarm => "selfHarm",
            Self::Spam => "spam",
            Self::Impersonation => "impersonation",
            Self::Privacy => "privacy",
            Self::Other => "other",
        }
    }

    /// Whether the content is hidden before anybody has decided.
    pub const fn hides_at_once(self) -> bool {
        matches!(self, Self::UnlawfulImagery)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown name")]
pub struct UnknownName;

impl FromStr for Reason {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or(UnknownName)
    }
}

/// What is reported of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The person: nickname, photo, introduction or behaviour.
    Person,
    /// By its 16-digit date.
    Post(i64),
    /// By feed's number.
    Comment(i64),
    /// By dm's id.
    Message(MessageId),
}

/// The id of a message: 1 to 64 letters and digits. Older releases stored any such text; [`MessageId::is_of_a_message`] checks a new one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MessageId(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message: the id of a message, 1 to 64 letters, digits or hyphens")]
pub struct InvalidMessageId;

impl TryFrom<String> for MessageId {
    type Error = InvalidMessageId;

    fn try_from(text: String) -> Result<Self, InvalidMessageId> {
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(is_id) {
            Ok(Self(text))
        } else {
            Err(InvalidMessageId)
        }
    }
}

impl MessageId {
    /// Returns whether dm gives such ids: UUIDs, or 24 hex digits for messages of the legacy Spring services.
    pub fn is_of_a_message(&self) -> bool {
        let id = &self.0;
        match id.len() {
            LEGACY_ID => id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            uuid::fmt::Hyphenated::LENGTH => uuid::Uuid::try_parse(id).is_ok(),
            _ => false,
        }
    }
}

impl Subject {
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Post(_) => "post",
            Self::Comment(_) => "comment",
            Self::Message(_) => "message",
        }
    }

    /// Returns which of the kind it is; empty for a person.
    pub fn content(&self) -> String {
        match self {
            Self::Person => String::new(),
            Self::Post(number) | Self::Comment(number) => number.to_string(),
            Self::Message(MessageId(id)) => id.clone(),
        }
    }

    /// Reads what [`Subject::kind`] and [`Subject::content`] gave.
    pub fn stored(kind: &str, content: &str) -> Option<Self> {
        match kind {
            "person" => Some(Self::Person),
            "post" => content.parse().ok().map(Self::Post),
            "comment" => content.parse().ok().map(Self::Comment),
            "message" => MessageId::try_from(content.to_owned()).ok().map(Self::Message),
            _ => None,
        }
    }

    /// Returns the event for the service that holds the content; `None` for a person.
    pub fn event(
        &self,
        action: ModerationAction,
        author: &Account,
        report: Option<i64>,
        reporter: Option<&Account>,
    ) -> Option<ContentModerated> {
        let content = match self {
            Self::Person => return None,
            Self::Post(date) => ModeratedContent::Post { date: *date },
            Self::Comment(comment) => ModeratedContent::Comment { comment: *comment },
            Self::Message(MessageId(message)) => ModeratedContent::Message {
                message: message.clone(),
            },
        };
        Some(ContentModerated {
            action,
            author: author.clone(),
            content,
            reporter: reporter.cloned(),
            report,
        })
    }

    /// Returns the key of one reporter's report of this subject: the same as often as they report it.
    pub fn repeat_key(&self, reporter: &Account, target: &Account) -> [u8; 32] {
        digest(&[
            reporter.as_str().as_bytes(),
            target.as_str().as_bytes(),
            self.kind().as_bytes(),
            self.content().as_bytes(),
        ])
    }
}

/// A text that a person writes beside a report, an application or a decision: at most 1,000 characters, without control characters but line breaks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Remark(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "at most {MAX_CHARACTERS} characters and {MAX_BYTES} bytes, without control characters but line breaks and tabs"
)]
pub struct InvalidRemark;

impl TryFrom<String> for Remark {
    type Error = InvalidRemark;

    fn try_from(text: String) -> Result<Self, InvalidRemark> {
        let is_odd = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t');
        if text.len() > MAX_BYTES || text.contains(is_odd) || text.graphemes(true).nth(MAX_CHARACTERS).is_some() {
            return Err(InvalidRemark);
        }
        Ok(Self(text))
    }
}

impl Remark {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a moderator decides about a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Resolution {
    /// Only the author sees the content; of a person, introduction and photo.
    Hide,
    /// Everybody sees the content again.
    Restore,
    /// The person gets a notice.
    Warn,
    /// The account is suspended, until a time or until it is restored.
    Suspend,
    /// Nothing is to be done.
    Dismiss,
}

impl Resolution {
    pub const ALL: [Self; 5] = [Self::Hide, Self::Restore, Self::Warn, Self::Suspend, Self::Dismiss];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hide => "hide",
            Self::Restore => "restore",
            Self::Warn => "warn",
            Self::Suspend => "suspend",
            Self::Dismiss => "dismiss",
        }
    }
}

impl FromStr for Resolution {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL
            .into_iter()
            .find(|resolution| resolution.as_str() == text)
            .ok_or(UnknownName)
    }
}

/// What the next decision about a report depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportState {
    pub reason: Reason,
    pub hidden_at_once: bool,
    /// The decision in force, and when it was made. `None` before the first one, and where it is one that only a later release knows.
    pub decision: Option<(Resolution, Timestamp)>,
}

impl ReportState {
    /// Returns whether the report hides its content while this decision is in force; `None` as in [`ReportState::decision`].
    pub const fn hides(&self, decision: Option<Resolution>) -> bool {
        match decision {
            Some(Resolution::Hide) => true,
            Some(Resolution::Restore | Resolution::Dismiss) => false,
            // These are about the person: what was hidden at once stays hidden.
            Some(Resolution::Warn | Resolution::Suspend) | None => self.hidden_at_once,
        }
    }
}

/// Why an account may not come in, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspension {
    pub reason: Reason,
    pub since: Timestamp,
    /// `None`: until it is restored.
    pub until: Option<Timestamp>,
}

impl fmt::Display for Suspension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reason: {}", self.reason.as_str())?;
        match self.until {
            Some(until) => write!(f, "; until: {until}"),
            None => f.write_str("; until: further notice"),
        }
    }
}

/// An action of the audit: letters.
pub mod action {
    pub const RESOLVE: &str = "resolveReport";
    pub const SUSPEND: &str = "suspend";
    pub const RESTORE: &str = "restore";
    /// The end of a suspension came by itself.
    pub const SUSPENSION_ENDED: &str = "suspensionEnded";
    /// Ordered to be hidden at once, for its reason.
    pub const HIDDEN_AT_ONCE: &str = "hiddenAtOnce";
    /// A session was closed: a refresh token was shown whose successor was used.
    pub const REFRESH_TOKEN_REUSED: &str = "refreshTokenReused";
    /// Content that its service held for review is shown to others.
    pub const RELEASE_HELD: &str = "releaseHeld";
    /// Or it stays its author's alone.
    pub const REFUSE_HELD: &str = "refuseHeld";
    pub const OPEN_CONNECTION_LOG: &str = "openConnectionLog";
    pub const GRANT_ROLE: &str = "grantRole";
    pub const REFUSE_ROLE: &str = "refuseRole";
    /// An operator has sent the person a notice.
    pub const SEND_SYSTEM_NOTICE: &str = "sendSystemNotice";
}

/// An entry of the audit as it is stored: no account and no free text, only keyed hashes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub entry: i64,
    pub at: Timestamp,
    pub action: String,
    /// Empty where an operator or the service itself acted.
    pub actor: Vec<u8>,
    pub target: Vec<u8>,
    /// `report 7`, `post 2023090513248392`, a role: what it was about beside the target.
    pub subject: String,
    pub reason: String,
    /// Empty without a note.
    pub note: Vec<u8>,
}

/// The digest before the first entry.
pub const NO_ENTRY: [u8; 32] = [0; 32];

impl AuditEntry {
    /// Returns the digest of the entry and of all entries before it.
    pub fn digest(&self, previous: &[u8; 32]) -> [u8; 32] {
        digest(&[
            previous,
            &self.entry.to_be_bytes(),
            &self.at.as_millisecond().to_be_bytes(),
            self.action.as_bytes(),
            &self.actor,
            &self.target,
            self.subject.as_bytes(),
            self.reason.as_bytes(),
            &self.note,
        ])
    }
}

/// SHA-256 of fields, each with its length before it, so that no two lists of fields are the same bytes.
fn digest(fields: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for field in fields {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        format!("{name}@example.com+kakao").parse().unwrap()
    }

    #[test]
    fn names_come_back() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        for resolution in Resolution::ALL {
            assert_eq!(resolution.as_str().parse(), Ok(resolution));
        }
        let message = MessageId::try_from("0189-ab".to_owned()).unwrap();
        for subject in [
            Subject::Person,
            Subject::Post(2_023_090_513_248_392),
            Subject::Comment(7),
            Subject::Message(message),
        ] {
            assert_eq!(Subject::stored(subject.kind(), &subject.content()), Some(subject));
        }
        assert_eq!(Subject::stored("post", "x"), None);
    }

    #[test]
    fn messages_have_ids_of_dm() {
        let is_id = |text: &str| MessageId::try_from(text.to_owned()).is_ok_and(|id| id.is_of_a_message());
        assert!(is_id("01890000-0000-7000-8000-000000000000") && is_id("64f6b9d05c1e2a0001a3b4c5"));
        for text in [
            "nope",
            "0189-ab",
            "64f6b9d05c1e2a0001a3b4cx",
            "01890000-0000-7000-8000-00000000000x",
        ] {
            assert!(!is_id(text), "{text}");
        }
    }

    #[test]
    fn the_console_offers_every_reason() {
        let page = include_str!("../../../../web/moderation/page.js");
        let offered = page
            .lines()
            .find(|line| line.starts_with("const REASONS"))
            .expect("a list of reasons");
        for reason in Reason::ALL {
            assert!(offered.contains(&format!("'{}'", reason.as_str())), "{reason:?}");
        }
    }

    #[test]
    fn one_reporter_and_one_subject_have_one_key() {
        let (kim, lee) = (account("kim"), account("lee"));
        let key = |subject: Subject| subject.repeat_key(&kim, &lee);
        assert_eq!(key(Subject::Post(1)), key(Subject::Post(1)));
        assert_ne!(key(Subject::Post(1)), key(Subject::Comment(1)));
        assert_ne!(key(Subject::Person), Subject::Person.repeat_key(&lee, &kim));
    }

    #[test]
    fn a_decision_hides_what_it_says() {
        let state = |hidden_at_once| ReportState {
            reason: Reason::UnlawfulImagery,
            hidden_at_once,
            decision: None,
        };
        for hidden_at_once in [true, false] {
            let hides = |decision| state(hidden_at_once).hides(decision);
            assert!(hides(Some(Resolution::Hide)));
            assert!(!hides(Some(Resolution::Restore)) && !hides(Some(Resolution::Dismiss)));
            for decision in [None, Some(Resolution::Warn), Some(Resolution::Suspend)] {
                assert_eq!(hides(decision), hidden_at_once, "{decision:?}");
            }
        }
    }

    #[test]
    fn texts_are_bounded() {
        let remark = |text: String| Remark::try_from(text).is_ok();
        assert!(remark("가".repeat(1000)) && remark("one\ntwo".into()) && remark(String::new()));
        assert!(!remark("가".repeat(1001)) && !remark("a\u{0}".into()) && !remark("a".repeat(9000)));
    }

    #[test]
    fn every_field_of_an_entry_and_the_entries_before_it_change_its_digest() {
        let entry = AuditEntry {
            entry: 1,
            at: Timestamp::from_second(1_700_000_000).unwrap(),
            action: action::SUSPEND.into(),
            actor: vec![1],
            target: vec![2],
            subject: String::new(),
            reason: "spam".into(),
            note: Vec::new(),
        };
        let digest = entry.digest(&NO_ENTRY);
        let change = |change: fn(&mut AuditEntry)| {
            let mut changed = entry.clone();
            change(&mut changed);
            changed.digest(&NO_ENTRY)
        };
        for changed in [
            change(|entry| entry.entry = 2),
            change(|entry| entry.at = Timestamp::UNIX_EPOCH),
            change(|entry| entry.action = action::RESTORE.into()),
            change(|entry| entry.actor = vec![3]),
            change(|entry| entry.target.push(1)),
            change(|entry| entry.subject.push('s')),
            change(|entry| entry.reason.clear()),
            change(|entry| entry.note.push(1)),
            entry.digest(&digest),
        ] {
            assert_ne!(changed, digest);
        }
    }
}
