//! Names of topics on the wire, and records as a broker takes them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sosohappy_common::settings::Events;

use crate::BusError;
use sosohappy_events::record::{MAX_DEAD_LETTER_BYTES, MAX_RECORD_BYTES};
use sosohappy_events::topic::{DEAD_LETTER_RETENTION, DEAD_LETTER_SUFFIX, Retention};
use sosohappy_events::{Headers, Outgoing, Topic};

/// Characters of the longest name Kafka takes.
const LONGEST_NAME: usize = 249;

/// A topic, or the dead letters of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Channel {
    pub topic: Topic,
    pub dead: bool,
}

impl Channel {
    pub(super) const fn live(topic: Topic) -> Self {
        Self { topic, dead: false }
    }

    pub(super) const fn dead(topic: Topic) -> Self {
        Self { topic, dead: true }
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        Topic::ALL
            .into_iter()
            .flat_map(|topic| [Self::live(topic), Self::dead(topic)])
    }

    pub(super) const fn is_volatile(self) -> bool {
        !self.dead && self.topic.is_volatile()
    }

    pub(super) const fn retention(self) -> Retention {
        if self.dead {
            Retention::For(DEAD_LETTER_RETENTION)
        } else {
            self.topic.retention()
        }
    }

    pub(super) const fn max_bytes(self) -> usize {
        if self.dead {
            MAX_DEAD_LETTER_BYTES
        } else {
            MAX_RECORD_BYTES
        }
    }
}

/// A record on its way out, as adapters take it.
#[derive(Debug, Clone)]
pub(super) struct WireRecord {
    pub channel: Channel,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Headers,
}

impl WireRecord {
    /// Refuses a topic that is not ours and a record that is too large, before anything else of a batch is sent.
    pub(super) fn of(record: &Outgoing) -> Result<Self, BusError> {
        let (name, dead) = match record.topic.strip_suffix(DEAD_LETTER_SUFFIX) {
            Some(name) => (name, true),
            None => (record.topic.as_str(), false),
        };
        let topic = Topic::ALL.into_iter().find(|topic| topic.default_name() == name);
        let topic = topic.ok_or_else(|| BusError::Refused(format!("no topic is called `{name}`")))?;
        let record = Self {
            channel: Channel { topic, dead },
            key: record.key.clone().map(Bytes::from),
            value: record.value.clone().map(Bytes::from),
            headers: record.headers.iter().map(|(name, value)| (name, value)).collect(),
        };
        let (bytes, limit) = (record.bytes(), record.channel.max_bytes());
        if bytes > limit {
            return Err(BusError::Refused(format!("{bytes} bytes are more than {limit}")));
        }
        Ok(record)
    }

    pub(super) fn bytes(&self) -> usize {
        self.headers.size() + self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Wire names by settings.
#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
    topics: BTreeMap<Topic, String>,
}

impl Names {
    pub(super) fn new(settings: &Events) -> Result<Self, BusError> {
        let known: BTreeSet<_> = Topic::ALL.into_iter().map(Topic::default_name).collect();
        if let Some(unknown) = settings.topics.keys().find(|name| !known.contains(name.as_str())) {
            return Err(BusError::Settings(format!("topics: no topic is called `{unknown}`")));
        }
        let named = |topic: Topic| {
            settings
                .topics
                .get(topic.default_name())
                .map_or(topic.default_name(), String::as_str)
        };
        let topics: BTreeMap<_, _> = Topic::ALL
            .into_iter()
            .map(|topic| (topic, format!("{}{}", settings.prefix, named(topic))))
            .collect();
        if let Some(name) = topics.values().find(|name| !acceptable(name)) {
            return Err(BusError::Settings(format!(
                "`{name}` is no name for a topic: letters, digits, `.`, `_`, `-`"
            )));
        }
        let this = Self {
            prefix: settings.prefix.clone(),
            topics,
        };
        let distinct: BTreeSet<_> = Channel::all().map(|channel| this.wire(channel)).collect();
        if distinct.len() != Channel::all().count() {
            return Err(BusError::Settings("topics: two topics have the same name".to_owned()));
        }
        Ok(this)
    }

    pub(super) fn wire(&self, channel: Channel) -> String {
        let suffix = if channel.dead { DEAD_LETTER_SUFFIX } else { "" };
        format!("{}{suffix}", self.topics[&channel.topic])
    }

    pub(super) fn group(&self, group: &str) -> String {
        format!("{}{group}", self.prefix)
    }
}

fn acceptable(name: &str) -> bool {
    let fits = (1..=LONGEST_NAME - DEAD_LETTER_SUFFIX.len()).contains(&name.len());
    fits && name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(prefix: &str, topics: &[(&str, &str)]) -> Result<Names, BusError> {
        let topics = topics
            .iter()
            .map(|(name, wire)| ((*name).to_owned(), (*wire).to_owned()))
            .collect();
        Names::new(&Events {
            topics,
            ..Events::new("journal:x", prefix)
        })
    }

    #[test]
    fn names_follow_the_settings() {
        let names = names("t1-", &[("configBus", "springCloudBus")]).unwrap();
        assert_eq!(names.wire(Channel::live(Topic::ConfigBus)), "t1-springCloudBus");
        assert_eq!(names.wire(Channel::dead(Topic::Resign)), "t1-resign.dlt");
        assert_eq!(names.group("feed-service"), "t1-feed-service");
    }

    #[test]
    fn names_that_would_mix_topics_up_are_refused() {
        assert!(names("", &[("configbus", "springCloudBus")]).is_err(), "unknown");
        assert!(names("", &[("configBus", "resign")]).is_err(), "twice");
        assert!(
            names("", &[("configBus", "resign.dlt")]).is_err(),
            "somebody's dead letters"
        );
        assert!(names("", &[("configBus", "a b")]).is_err(), "not a name");
        assert!(names(&"p".repeat(240), &[]).is_err(), "too long");
    }

    #[test]
    fn records_too_large_for_brokers_are_refused() {
        let record = |topic: &str, bytes| Outgoing {
            topic: topic.to_owned(),
            key: None,
            value: Some(vec![b'x'; bytes]),
            headers: vec![],
        };
        assert!(WireRecord::of(&record("resign", MAX_RECORD_BYTES)).is_ok());
        assert!(matches!(
            WireRecord::of(&record("resign", MAX_RECORD_BYTES + 1)),
            Err(BusError::Refused(_))
        ));
        assert!(WireRecord::of(&record("resign.dlt", MAX_RECORD_BYTES + 1)).is_ok());
        assert!(matches!(
            WireRecord::of(&record("Resign", 1)),
            Err(BusError::Refused(_))
        ));
    }
}
