//! Preferences of a person: which notices come on which way, and when.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Deserializer, Serialize};
use sosohappy_common::Account;
use utoipa::ToSchema;

/// A kind of notice, or a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    Like,
    Comment,
    Bookmark,
    Follow,
    Friend,
    Request,
    Moderation,
    Role,
    System,
    Advertising,
    Message,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::Like,
        Self::Comment,
        Self::Bookmark,
        Self::Follow,
        Self::Friend,
        Self::Request,
        Self::Moderation,
        Self::Role,
        Self::System,
        Self::Advertising,
        Self::Message,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Like => "like",
            Self::Comment => "comment",
            Self::Bookmark => "bookmark",
            Self::Follow => "follow",
            Self::Friend => "friend",
            Self::Request => "request",
            Self::Moderation => "moderation",
            Self::Role => "role",
            Self::System => "system",
            Self::Advertising => "advertising",
            Self::Message => "message",
        }
    }

    /// Returns the kind of a frame's topic; `None` for a topic of a later release, which has no preference.
    pub fn of_topic(topic: &str) -> Option<Self> {
        match topic {
            "bookmarkCanceled" => Some(Self::Bookmark),
            "message" => None,
            topic => topic.parse().ok(),
        }
    }

    /// Whether quiet hours do not delay its pushes: decisions about the account and notices of the operators.
    pub const fn is_urgent(self) -> bool {
        matches!(self, Self::Moderation | Self::System)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a kind of notice is unknown")]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or(UnknownKind)
    }
}

/// A daily time span in minutes since midnight, local time. It may span midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietHours {
    start: u16,
    end: u16,
}

/// When advertisements are not pushed without a separate consent: article 50 (3) of Korea's Network Act.
const NIGHT: QuietHours = QuietHours {
    start: 21 * 60,
    end: 8 * 60,
};

impl QuietHours {
    /// Returns when the span ends in which the moment is; `None` outside of it.
    fn end_after(self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let local = now.to_zoned(zone.clone());
        let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or_default();
        let is_inside = if self.start < self.end {
            (self.start..self.end).contains(&minute)
        } else {
            minute >= self.start || minute < self.end
        };
        if !is_inside {
            return None;
        }
        let today = local.date();
        let day = if minute < self.end {
            today
        } else {
            today.tomorrow().unwrap_or(today)
        };
        let (hour, minute) = (i8::try_from(self.end / 60).ok()?, i8::try_from(self.end % 60).ok()?);
        let time = Time::new(hour, minute, 0, 0).ok()?;
        let end = day.to_datetime(time).to_zoned(zone.clone()).ok()?.timestamp();
        // Where clocks are set back, the end of that name may have passed once already.
        Some(end.max(now + Duration::from_mins(1)))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("quiet hours are two different times of day as HH:MM-HH:MM")]
pub struct InvalidHours;

impl FromStr for QuietHours {
    type Err = InvalidHours;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let number = |text: &str| {
                let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
                is_number.then(|| text.parse::<u16>().ok()).flatten()
            };
            let (hour, minute) = (number(hour)?, number(minute)?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let span = text.split_once('-').and_then(|(start, end)| {
            Some(Self {
                start: time(start)?,
                end: time(end)?,
            })
        });
        span.filter(|span| span.start != span.end).ok_or(InvalidHours)
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60)
    }
}

/// The name of a time zone in the IANA database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ZoneName(String);

#[derive(Debug, thiserror::Error)]
#[error("a time zone is a name of the IANA database, for example Asia/Seoul")]
pub struct UnknownZone;

impl ZoneName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the zone; Korean time where this machine's database does not have it.
    fn zone(&self) -> TimeZone {
        TimeZone::get(&self.0).unwrap_or_else(|error| {
            tracing::warn!(zone = self.0, %error, "time zone unavailable; using Korean time");
            TimeZone::fixed(Offset::constant(9))
        })
    }
}

impl Default for ZoneName {
    fn default() -> Self {
        Self("Asia/Seoul".to_owned())
    }
}

impl FromStr for ZoneName {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        // The database is a folder of files, and no path may lead out of it.
        let is_name = name.len() <= 64
            && !name.contains("..")
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte));
        if !is_name {
            return Err(UnknownZone);
        }
        let zone = TimeZone::get(name).map_err(|_| UnknownZone)?;
        Ok(Self(zone.iana_name().unwrap_or(name).to_owned()))
    }
}

/// Whether advertisements may be pushed: the last decision, its time and the version of the wording it was asked with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisingConsent {
    pub allowed: bool,
    pub at: Option<Timestamp>,
    pub wording: Option<String>,
}

/// The preferences of an account. The default is everything at any time, and no advertising.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preferences {
    /// Kinds that open sockets do not show.
    #[serde(deserialize_with = "known_kinds")]
    pub socket_off: BTreeSet<Kind>,
    /// Kinds that are not pushed.
    #[serde(deserialize_with = "known_kinds")]
    pub push_off: BTreeSet<Kind>,
    pub quiet_hours: Option<QuietHours>,
    pub time_zone: ZoneName,
    pub advertising: AdvertisingConsent,
}

/// Leaves out kinds of a later release: a replica of this one has no notices of them.
fn known_kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Kind>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Whether a push may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    Send,
    /// Not before this moment.
    Defer(Timestamp),
    /// The person does not want it.
    Refuse,
}

impl Preferences {
    /// Decides on a push:
    ///
    /// | kind | push of the kind | time | decision |
    /// | --- | --- | --- | --- |
    /// | any | off | any | refuse |
    /// | advertising without consent | any | any | refuse |
    /// | advertising | on | 21:00 to 08:00, or quiet hours | defer to the later end |
    /// | urgent | on | any | send |
    /// | other | on | quiet hours | defer to their end |
    /// | other | on | else | send |
    pub fn gate(&self, kind: Kind, now: Timestamp) -> Gate {
        let is_advertising = kind == Kind::Advertising;
        if self.push_off.contains(&kind) || (is_advertising && !self.advertising.allowed) {
            return Gate::Refuse;
        }
        if kind.is_urgent() {
            return Gate::Send;
        }
        let quiet = [self.quiet_hours, is_advertising.then_some(NIGHT)];
        if quiet == [None, None] {
            return Gate::Send;
        }
        let zone = self.time_zone.zone();
        let ends = quiet
            .into_iter()
            .flatten()
            .filter_map(|span| span.end_after(now, &zone));
        ends.max().map_or(Gate::Send, Gate::Defer)
    }

    /// Returns whether open sockets show notices of a frame's topic.
    pub fn shows(&self, topic: &str) -> bool {
        match Kind::of_topic(topic) {
            Some(Kind::Advertising) if !self.advertising.allowed => false,
            Some(kind) => !self.socket_off.contains(&kind),
            None => true,
        }
    }
}

/// One post, conversation or room of which a person wants no frames of notices and no pushes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Mute {
    /// The person's own post of that 16-digit date.
    Post(i64),
    /// The messages of that account.
    Conversation(Account),
    /// The messages of the room of that id.
    Room(String),
}

impl Mute {
    const POST: &'static str = "post";
    const CONVERSATION: &'static str = "conversation";
    const ROOM: &'static str = "room";
    /// Stored mutes of other kinds are of a later release: they silence no notice of this one.
    pub const KINDS: [&'static str; 3] = [Self::POST, Self::CONVERSATION, Self::ROOM];

    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Post(_) => Self::POST,
            Self::Conversation(_) => Self::CONVERSATION,
            Self::Room(_) => Self::ROOM,
        }
    }

    pub fn target(&self) -> String {
        match self {
            Self::Post(date) => date.to_string(),
            Self::Conversation(other) => other.as_str().to_owned(),
            Self::Room(room) => room.clone(),
        }
    }

    /// Returns the other account of a conversation.
    pub const fn other(&self) -> Option<&Account> {
        match self {
            Self::Conversation(other) => Some(other),
            Self::Post(_) | Self::Room(_) => None,
        }
    }

    /// Reads [`Mute::kind`] and [`Mute::target`].
    pub fn of(kind: &str, target: &str) -> Option<Self> {
        match kind {
            Self::POST => target.parse().ok().map(Self::Post),
            Self::CONVERSATION => target.parse().ok().map(Self::Conversation),
            Self::ROOM => Some(Self::Room(target.to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn quiet(hours: &str, zone: &str) -> Preferences {
        Preferences {
            quiet_hours: Some(hours.parse().unwrap()),
            time_zone: zone.parse().unwrap(),
            ..Preferences::default()
        }
    }

    #[test]
    fn quiet_hours_defer_to_their_end_in_the_zone_of_the_person() {
        let night = quiet("22:30-07:00", "Asia/Seoul");
        for (now, gate) in [
            // 22:29, 22:30, 06:59 and 07:00 in Seoul.
            ("2026-03-01T13:29:59Z", Gate::Send),
            ("2026-03-01T13:30:00Z", Gate::Defer(at("2026-03-01T22:00:00Z"))),
            ("2026-03-01T21:59:59Z", Gate::Defer(at("2026-03-01T22:00:00Z"))),
            ("2026-03-01T22:00:00Z", Gate::Send),
        ] {
            // The last minute before the end defers by a minute at least.
            let expected = match gate {
                Gate::Defer(until) => Gate::Defer(until.max(at(now) + Duration::from_mins(1))),
                other => other,
            };
            assert_eq!(night.gate(Kind::Like, at(now)), expected, "{now}");
        }
        let noon = quiet("12:00-13:00", "America/New_York");
        assert_eq!(
            noon.gate(Kind::Message, at("2026-07-01T16:30:00Z")),
            Gate::Defer(at("2026-07-01T17:00:00Z")),
            "summer time"
        );
        assert_eq!(
            noon.gate(Kind::Message, at("2026-01-15T17:30:00Z")),
            Gate::Defer(at("2026-01-15T18:00:00Z"))
        );
        assert_eq!(noon.gate(Kind::Message, at("2026-01-15T16:30:00Z")), Gate::Send);
    }

    /// On 2026-11-01 clocks in New York go from 02:00 back to 01:00; 2026-03-08 has no 02:30.
    #[test]
    fn changes_of_the_clock_neither_lose_nor_spin() {
        let early = quiet("00:00-01:45", "America/New_York");
        let second_time = at("2026-11-01T06:30:00Z");
        assert_eq!(
            early.gate(Kind::Like, second_time),
            Gate::Defer(second_time + Duration::from_mins(1))
        );
        let gap = quiet("01:00-02:30", "America/New_York");
        assert_eq!(
            gap.gate(Kind::Like, at("2026-03-08T06:30:00Z")),
            Gate::Defer(at("2026-03-08T07:30:00Z"))
        );
    }

    #[test]
    fn urgent_kinds_pass_quiet_hours_and_not_a_switched_off_push() {
        let mut all_day = quiet("00:00-23:59", "UTC");
        let now = at("2026-03-01T12:00:00Z");
        assert_eq!(all_day.gate(Kind::System, now), Gate::Send);
        assert_eq!(all_day.gate(Kind::Moderation, now), Gate::Send);
        assert!(matches!(all_day.gate(Kind::Comment, now), Gate::Defer(_)));
        all_day.push_off = BTreeSet::from([Kind::System, Kind::Comment]);
        assert_eq!(all_day.gate(Kind::System, now), Gate::Refuse);
        assert_eq!(all_day.gate(Kind::Comment, now), Gate::Refuse);
    }

    #[test]
    fn advertising_needs_consent_and_daylight() {
        let mut preferences = Preferences::default();
        // Noon, 21:00 and 07:59 in Seoul.
        let [noon, evening, morning] = ["2026-03-01T03:00:00Z", "2026-03-01T12:00:00Z", "2026-03-01T22:58:00Z"].map(at);
        assert_eq!(preferences.gate(Kind::Advertising, noon), Gate::Refuse);
        assert!(!preferences.shows("advertising"));
        preferences.advertising.allowed = true;
        assert!(preferences.shows("advertising"));
        assert_eq!(preferences.gate(Kind::Advertising, noon), Gate::Send);
        let eight = Gate::Defer(at("2026-03-01T23:00:00Z"));
        assert_eq!(preferences.gate(Kind::Advertising, evening), eight);
        assert_eq!(preferences.gate(Kind::Advertising, morning), eight);
        assert_eq!(preferences.gate(Kind::Like, evening), Gate::Send);
        preferences.quiet_hours = Some("20:00-10:00".parse().unwrap());
        let ten = Gate::Defer(at("2026-03-02T01:00:00Z"));
        assert_eq!(preferences.gate(Kind::Advertising, evening), ten, "the later end");
    }

    #[test]
    fn what_is_stored_reads_back_and_kinds_of_a_later_release_are_left_out() {
        let preferences = Preferences {
            socket_off: BTreeSet::from([Kind::Like]),
            ..quiet("22:30-07:00", "Asia/Seoul")
        };
        let stored = serde_json::to_string(&preferences).unwrap();
        assert_eq!(serde_json::from_str::<Preferences>(&stored).unwrap(), preferences);
        let later = r#"{"socketOff":["like","poke"],"later":1}"#;
        assert_eq!(
            serde_json::from_str::<Preferences>(later).unwrap().socket_off,
            BTreeSet::from([Kind::Like])
        );
        assert_eq!(
            serde_json::from_str::<Preferences>("{}").unwrap(),
            Preferences::default()
        );
    }

    #[test]
    fn only_valid_spans_and_zones_are_taken() {
        assert_eq!("22:05-07:00".parse::<QuietHours>().unwrap().to_string(), "22:05-07:00");
        for text in [
            "",
            "off",
            "22-07",
            "24:00-07:00",
            "22:00-22:00",
            "22:60-07:00",
            "2:00-07:00",
            "22:00-+7:00",
        ] {
            assert!(text.parse::<QuietHours>().is_err(), "{text}");
        }
        for name in ["", "Seoul", "../etc/passwd", "Asia/Seoul\0", "Asia/../Asia/Seoul"] {
            assert!(name.parse::<ZoneName>().is_err(), "{name}");
        }
        assert_eq!("asia/seoul".parse::<ZoneName>().unwrap().as_str(), "Asia/Seoul");
        let kim: Account = "kim@example.com+kakao".parse().unwrap();
        let mutes = [
            Mute::Post(2_023_090_513_248_392),
            Mute::Conversation(kim),
            Mute::Room("r-1".to_owned()),
        ];
        assert_eq!(Mute::KINDS, mutes.each_ref().map(Mute::kind));
        for mute in mutes {
            assert_eq!(Mute::of(mute.kind(), &mute.target()), Some(mute));
        }
    }
}
