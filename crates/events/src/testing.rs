//! Support for tests of codecs and consumers.

use bytes::Bytes;
use jiff::Timestamp;

use crate::{Outgoing, Record, Topic};

/// Returns the record that a reader gets of a published one, at an arbitrary position.
///
/// # Panics
/// When its topic is not one of the fleet's.
pub fn record_of(sent: &Outgoing) -> Record {
    let topic = Topic::ALL
        .into_iter()
        .find(|topic| topic.default_name() == sent.topic)
        .expect("a topic of the fleet");
    Record {
        topic,
        partition: 3,
        offset: 14,
        key: sent.key.clone().map(Bytes::from),
        value: sent.value.clone().map(Bytes::from),
        headers: sent.headers.iter().map(|(name, value)| (name, value)).collect(),
        timestamp: Timestamp::from_millisecond(1_700_000_000_500).expect("a valid time"),
    }
}
