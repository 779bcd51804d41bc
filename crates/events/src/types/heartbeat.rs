//! `heartbeat`: a relay is running, and has published every event that was committed before a moment.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// Key: service. Value: JSON `{"service","relay","sentAt","publishedUntil"}`, times in milliseconds since the epoch by the relay's
/// clock. A reader without a recent one may be missing events of that service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayHeartbeat {
    pub service: String,
    /// The replica that holds the relay's lease.
    pub relay: String,
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub sent_at: Timestamp,
    /// Every event committed before this moment has been published.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub published_until: Timestamp,
}

impl Event for RelayHeartbeat {
    const TOPIC: Topic = Topic::Heartbeat;
    const TYPE: &'static str = "RelayHeartbeat";

    fn key(&self) -> Option<String> {
        Some(self.service.clone())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(parse::to_json(self))
    }

    fn aggregate(&self) -> String {
        self.service.clone()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        parse::from_json(record)
    }
}
