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
    AccountState,
    Erased,
    Notice,
    Heartbeat,
    SocketMessage,
    ConfigCanary,
}

/// How a topic is kept by the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Records older than this go.
    For(Duration),
    /// The last record of each key stays.
    Compacted,
}

/// Partitions of a topic we make on Kafka: six are shared out evenly among two, three or six replicas, and every
/// replica reads all of them for the state topics, so that more would only cost. A topic that exists keeps its own.
const PARTITIONS: i32 = 6;

/// What follows a topic's wire name for its dead letters.
pub const DEAD_LETTER_SUFFIX: &str = ".dlt";

/// The longest life of an access token: the topic that tells of tokens forgets them later, for clocks that differ and readers that are
/// behind.
pub const LONGEST_TOKEN: Duration = Duration::from_hours(46);

const DAY: Duration = Duration::from_hours(24);

/// Heartbeats are of use for seconds.
const HEARTBEAT_RETENTION: Duration = Duration::from_mins(10);

/// How long dead letters wait for somebody to look at them.
pub const DEAD_LETTER_RETENTION: Duration = DAY.saturating_mul(30);

/// How long a compacted topic keeps the null value that forgets a key: longer than any consumer may be away.
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
            Topic::AccountState => concat!($prefix, "accountState"),
            Topic::Erased => concat!($prefix, "erased"),
            Topic::Notice => concat!($prefix, "notice"),
            Topic::Heartbeat => concat!($prefix, "heartbeat"),
            Topic::SocketMessage => concat!($prefix, "socketMessage"),
            Topic::ConfigCanary => concat!($prefix, "configCanary"),
        }
    };
}

impl Topic {
    pub const ALL: [Self; 15] = [
        Self::AccessToken,
        Self::Expired,
        Self::Resign,
        Self::NoticeLike,
        Self::ConfigBus,
        Self::EmailAndNickname,
        Self::DeviceToken,
        Self::DirectMessage,
        Self::Relation,
        Self::AccountState,
        Self::Erased,
        Self::Notice,
        Self::Heartbeat,
        Self::SocketMessage,
        Self::ConfigCanary,
    ];

    /// The name on the wire unless settings say otherwise.
    #[must_use]
    pub const fn default_name(self) -> &'static str {
        named!(self, "")
    }

    /// The name of the task that consumes it in a group.
    #[must_use]
    pub const fn consumer_name(self) -> &'static str {
        named!(self, "consumer-")
    }

    /// The name of the task that reads it for every replica, and of the gate it holds readiness back with.
    #[must_use]
    pub const fn reader_name(self) -> &'static str {
        named!(self, "reader-")
    }

    /// Returns the partitions of the topic we make on Kafka. Heartbeats and canary states have one: they are few, and in order.
    #[must_use]
    pub const fn partitions(self) -> i32 {
        match self {
            Self::Heartbeat | Self::ConfigCanary => 1,
            _ => PARTITIONS,
        }
    }

    /// Whether records are for those who read at the moment only: a bus need not store them.
    #[must_use]
    pub const fn is_volatile(self) -> bool {
        matches!(self, Self::Heartbeat)
    }

    #[must_use]
    pub const fn retention(self) -> Retention {
        match self {
            Self::AccessToken | Self::Expired => Retention::For(DAY.saturating_mul(2)),
            Self::ConfigBus | Self::SocketMessage | Self::ConfigCanary => Retention::For(DAY),
            Self::Heartbeat => Retention::For(HEARTBEAT_RETENTION),
            Self::Resign | Self::NoticeLike | Self::DirectMessage | Self::Erased | Self::Notice => {
                Retention::For(DAY.saturating_mul(7))
            }
            Self::EmailAndNickname | Self::DeviceToken | Self::Relation | Self::AccountState => Retention::Compacted,
        }
    }

    /// The services that publish it. No other may write it: `fleet topics --acls`.
    #[must_use]
    pub const fn producers(self) -> &'static [Service] {
        match self {
            Self::AccessToken
            | Self::Expired
            | Self::Resign
            | Self::EmailAndNickname
            | Self::DeviceToken
            | Self::Relation
            | Self::AccountState
            | Self::Heartbeat => &[Service::Auth],
            Self::NoticeLike => &[Service::Feed],
            Self::ConfigBus => &Service::ALL,
            Self::ConfigCanary => &[Service::Config],
            Self::DirectMessage | Self::SocketMessage => &[Service::Dm],
            Self::Erased => &[Service::Feed, Service::Dm, Service::Notice],
            Self::Notice => &[Service::Feed, Service::Auth, Service::Dm],
        }
    }

    /// The services that read it. No other may.
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
            Self::NoticeLike | Self::Notice => &[Service::Notice],
            Self::SocketMessage => &[Service::Dm],
            Self::ConfigBus => &Service::ALL,
            Self::ConfigCanary => &[Service::Config],
            Self::DeviceToken | Self::DirectMessage => &[Service::Dm, Service::Notice],
            Self::Erased => &[Service::Auth],
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
    fn the_document_names_who_publishes_and_reads() {
        let document = include_str!("../../../docs/events.md");
        let rows = document.lines().filter_map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            (cells.len() == 8).then_some(cells)
        });
        let mut told = 0;
        for cells in rows {
            let name = cells[1].trim_matches('`');
            let Some(topic) = Topic::ALL.into_iter().find(|topic| topic.default_name() == name) else {
                continue;
            };
            assert_eq!(named(cells[5]), sorted(topic.producers()), "{name} is published by");
            assert_eq!(named(cells[6]), sorted(topic.consumers()), "{name} is read by");
            told += 1;
        }
        assert_eq!(told, Topic::ALL.len());
    }
}
