//! The topics, in one table.

use std::time::Duration;

pub use sosohappy_common::Service;

/// A topic of the fleet. Its wire name may differ by settings (`events.topics`, `events.prefix`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    AccessToken,
    Expired,
    Resign,
    NoticeLike,
    ConfigBus,
    EmailAndNickname,
    DeviceToken,
    DirectMessage,
    Relation,
    Follow,
    AccountState,
    Erased,
    Notice,
    Heartbeat,
    SocketMessage,
    ConfigCanary,
    Post,
    Moderation,
    SocketFrame,
    MessageChange,
    MessageRequest,
    RoomMessage,
    MessageReceipt,
    ModerationApplied,
}

/// How long the broker keeps the records of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Deletes records older than this.
    For(Duration),
    /// Keeps the last record of each key.
    Compacted,
}

/// Partitions of a topic that we create on Kafka: six divide evenly among two, three or six replicas, and every replica reads all of
/// them for the state topics, so that more would only cost. An existing topic keeps its own number.
const PARTITIONS: i32 = 6;

/// The suffix of a topic's wire name for its dead letters.
pub const DEAD_LETTER_SUFFIX: &str = ".dlt";

/// The longest lifetime of an access token: shorter than the retention of `accessToken`, to allow for clock skew and for readers that
/// lag.
pub const LONGEST_TOKEN: Duration = Duration::from_hours(46);

const DAY: Duration = Duration::from_hours(24);

/// Short: the records of a volatile topic are read within seconds.
const VOLATILE_RETENTION: Duration = Duration::from_mins(10);

/// How long dead letters are kept for an operator.
pub const DEAD_LETTER_RETENTION: Duration = DAY.saturating_mul(30);

/// How long a compacted topic keeps tombstones: longer than any consumer may be stopped.
pub const TOMBSTONE_RETENTION: Duration = DAY.saturating_mul(7);

/// Names of tasks and gates are static: one table gives a prefix to each topic's name.
macro_rules! named {
    ($topic:expr, $prefix:literal) => {
        match $topic {
            Topic::AccessToken => concat!($prefix, "accessToken"),
            Topic::Expired => concat!($prefix, "expired"),
            Topic::Resign => concat!($prefix, "resign"),
            Topic::NoticeLike => concat!($prefix, "noticeLike"),
            Topic::ConfigBus => concat!($prefix, "configBus"),
            Topic::EmailAndNickname => concat!($prefix, "emailAndNickname"),
            Topic::DeviceToken => concat!($prefix, "deviceToken"),
            Topic::DirectMessage => concat!($prefix, "directMessage"),
            Topic::Relation => concat!($prefix, "relation"),
            Topic::Follow => concat!($prefix, "follow"),
            Topic::AccountState => concat!($prefix, "accountState"),
            Topic::Erased => concat!($prefix, "erased"),
            Topic::Notice => concat!($prefix, "notice"),
            Topic::Heartbeat => concat!($prefix, "heartbeat"),
            Topic::SocketMessage => concat!($prefix, "socketMessage"),
            Topic::ConfigCanary => concat!($prefix, "configCanary"),
            Topic::Post => concat!($prefix, "post"),
            Topic::Moderation => concat!($prefix, "moderation"),
            Topic::SocketFrame => concat!($prefix, "socketFrame"),
            Topic::MessageChange => concat!($prefix, "messageChange"),
            Topic::MessageRequest => concat!($prefix, "messageRequest"),
            Topic::RoomMessage => concat!($prefix, "roomMessage"),
            Topic::MessageReceipt => concat!($prefix, "messageReceipt"),
            Topic::ModerationApplied => concat!($prefix, "moderationApplied"),
        }
    };
}

impl Topic {
    pub const ALL: [Self; 24] = [
        Self::AccessToken,
        Self::Expired,
        Self::Resign,
        Self::NoticeLike,
        Self::ConfigBus,
        Self::EmailAndNickname,
        Self::DeviceToken,
        Self::DirectMessage,
        Self::Relation,
        Self::Follow,
        Self::AccountState,
        Self::Erased,
        Self::Notice,
        Self::Heartbeat,
        Self::SocketMessage,
        Self::ConfigCanary,
        Self::Post,
        Self::Moderation,
        Self::SocketFrame,
        Self::MessageChange,
        Self::MessageRequest,
        Self::RoomMessage,
        Self::MessageReceipt,
        Self::ModerationApplied,
    ];

    /// Returns the wire name, which settings may change.
    #[must_use]
    pub const fn default_name(self) -> &'static str {
        named!(self, "")
    }

    /// Returns the name of the task that consumes the topic in a group, and of the gate it holds readiness back with if the topic is compacted.
    #[must_use]
    pub const fn consumer_name(self) -> &'static str {
        named!(self, "consumer-")
    }

    /// Returns the name of the task that reads the topic in every replica, and of its readiness gate.
    #[must_use]
    pub const fn reader_name(self) -> &'static str {
        named!(self, "reader-")
    }

    /// Returns the number of partitions with which we create the topic on Kafka. Heartbeats and canary states have one: they are few, and
    /// ordered.
    #[must_use]
    pub const fn partitions(self) -> i32 {
        match self {
            Self::Heartbeat | Self::ConfigCanary => 1,
            _ => PARTITIONS,
        }
    }

    /// Returns whether only current readers need the records, so that a bus need not store them.
    #[must_use]
    pub const fn is_volatile(self) -> bool {
        matches!(self, Self::Heartbeat | Self::SocketFrame)
    }

    /// Whether the newest record of each key is the state of that key, kept for good.
    #[must_use]
    pub const fn is_compacted(self) -> bool {
        matches!(self.retention(), Retention::Compacted)
    }

    #[must_use]
    pub const fn retention(self) -> Retention {
        match self {
            Self::AccessToken | Self::Expired => Retention::For(DAY.saturating_mul(2)),
            Self::ConfigBus | Self::SocketMessage | Self::ConfigCanary => Retention::For(DAY),
            Self::Heartbeat | Self::SocketFrame => Retention::For(VOLATILE_RETENTION),
            Self::Resign
            | Self::NoticeLike
            | Self::DirectMessage
            | Self::Follow
            | Self::Erased
            | Self::Notice
            | Self::Post
            | Self::Moderation
            | Self::MessageChange
            | Self::MessageRequest
            | Self::RoomMessage
            | Self::MessageReceipt
            | Self::ModerationApplied => Retention::For(DAY.saturating_mul(7)),
            Self::EmailAndNickname | Self::DeviceToken | Self::Relation | Self::AccountState => Retention::Compacted,
        }
    }

    /// Returns the services that may write the topic: `fleet topics --acls`.
    #[must_use]
    pub const fn producers(self) -> &'static [Service] {
        match self {
            Self::AccessToken
            | Self::Expired
            | Self::Resign
            | Self::EmailAndNickname
            | Self::DeviceToken
            | Self::Relation
            | Self::Follow
            | Self::AccountState
            | Self::Moderation
            | Self::Heartbeat => &[Service::Auth],
            Self::NoticeLike | Self::Post => &[Service::Feed],
            Self::ConfigBus => &Service::ALL,
            Self::ConfigCanary => &[Service::Config],
            Self::DirectMessage
            | Self::SocketMessage
            | Self::SocketFrame
            | Self::MessageChange
            | Self::MessageRequest
            | Self::RoomMessage
            | Self::MessageReceipt => &[Service::Dm],
            Self::Erased => &[Service::Feed, Service::Dm, Service::Notice],
            Self::ModerationApplied => &[Service::Feed, Service::Dm],
            Self::Notice => &[Service::Feed, Service::Auth, Service::Dm],
        }
    }

    /// Returns the services that may read the topic.
    #[must_use]
    pub const fn consumers(self) -> &'static [Service] {
        match self {
            Self::AccessToken
            | Self::Expired
            | Self::Resign
            | Self::EmailAndNickname
            | Self::Relation
            | Self::AccountState
            | Self::Heartbeat => &[Service::Feed, Service::Dm, Service::Notice],
            Self::NoticeLike | Self::Notice | Self::MessageReceipt => &[Service::Notice],
            Self::Moderation => &[Service::Feed, Service::Dm],
            // Services to come may read it, too.
            Self::Post => &[Service::Feed, Service::Notice],
            Self::SocketMessage | Self::SocketFrame | Self::MessageRequest => &[Service::Dm],
            Self::ConfigBus => &Service::ALL,
            Self::ConfigCanary => &[Service::Config],
            Self::DeviceToken | Self::DirectMessage | Self::Follow | Self::MessageChange | Self::RoomMessage => {
                &[Service::Dm, Service::Notice]
            }
            Self::Erased | Self::ModerationApplied => &[Service::Auth],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The services that a cell of the table names: `every replica of dm; notice`.
    fn named(cell: &str) -> Vec<Service> {
        let words: Vec<_> = cell.split(|letter: char| !letter.is_ascii_alphabetic()).collect();
        let every = cell.contains("every service");
        let mut named = Service::ALL.to_vec();
        named.retain(|service| every || words.contains(&service.short_name()));
        named
    }

    fn sorted(services: &[Service]) -> Vec<Service> {
        let mut services = services.to_vec();
        services.sort();
        services
    }

    #[test]
    fn the_document_names_publishers_and_readers() {
        let document = include_str!("../../../docs/events.md");
        let rows = document.lines().filter_map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            (cells.len() == 8).then_some(cells)
        });
        let mut documented = 0;
        for cells in rows {
            let name = cells[1].trim_matches('`');
            let Some(topic) = Topic::ALL.into_iter().find(|topic| topic.default_name() == name) else {
                continue;
            };
            assert_eq!(named(cells[5]), sorted(topic.producers()), "{name} is published by");
            assert_eq!(named(cells[6]), sorted(topic.consumers()), "{name} is read by");
            documented += 1;
        }
        assert_eq!(documented, Topic::ALL.len());
    }
}
