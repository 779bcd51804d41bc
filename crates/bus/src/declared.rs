//! The topics as they are declared: partitions, retention and compaction of each, from the table in [`sosohappy_events::topic`].
//! The Kafka adapter makes them, `fleet topics` compares them with a broker, and manifests are written from them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use sosohappy_common::settings::Events;

use crate::BusError;
use crate::names::{Channel, Names};
use sosohappy_events::topic::{Retention, TOMBSTONE_RETENTION};

/// Bytes a broker counts beside key, value and headers.
pub(super) const OVERHEAD: usize = 48_588;

/// Dead letters are few, and looked at in the order they came.
const DEAD_LETTER_PARTITIONS: i32 = 1;

/// A broker deletes closed segments only, and closes one after a week by default: a topic kept for less than this gets segments as
/// long as its retention.
const SHORT: Duration = Duration::from_hours(1);

/// A topic as a broker is to keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// On the wire.
    pub name: String,
    pub partitions: i32,
    /// By the names Kafka gives them; times in milliseconds, sizes in bytes.
    pub settings: BTreeMap<&'static str, String>,
}

impl Declared {
    pub(super) fn of(channel: Channel, names: &Names) -> Self {
        let mut settings = match channel.retention() {
            Retention::For(time) => BTreeMap::from([
                ("cleanup.policy", "delete".to_owned()),
                ("retention.ms", time.as_millis().to_string()),
            ]),
            Retention::Compacted => BTreeMap::from([
                ("cleanup.policy", "compact".to_owned()),
                ("delete.retention.ms", TOMBSTONE_RETENTION.as_millis().to_string()),
            ]),
        };
        if let Retention::For(time) = channel.retention()
            && time < SHORT
        {
            settings.insert("segment.ms", time.as_millis().to_string());
        }
        settings.insert("max.message.bytes", (channel.max_bytes() + OVERHEAD).to_string());
        Self {
            name: names.wire(channel),
            partitions: if channel.dead {
                DEAD_LETTER_PARTITIONS
            } else {
                channel.topic.partitions()
            },
            settings,
        }
    }
}

/// `accessToken: 6 partitions, cleanup.policy=delete, …`
impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.partitions == 1 { "" } else { "s" };
        write!(f, "{}: {} partition{plural}", self.name, self.partitions)?;
        self.settings
            .iter()
            .try_for_each(|(key, value)| write!(f, ", {key}={value}"))
    }
}

/// Every topic of the fleet, each followed by its dead letters, under the names that the settings give them.
pub fn declared(settings: &Events) -> Result<Vec<Declared>, BusError> {
    let names = Names::new(settings)?;
    Ok(Channel::all().map(|channel| Declared::of(channel, &names)).collect())
}
