//! `configBus`: Spring Cloud Bus messages.

use serde::{Deserialize, Serialize};

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// A message of Spring Cloud Bus, read in `camelCase` and `snake_case`, written in `camelCase`. No key. Fields beyond these are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BusMessage {
    #[serde(rename = "type")]
    pub kind: String,
    /// Milliseconds since the epoch.
    #[serde(default)]
    pub timestamp: i64,
    #[serde(alias = "origin_service")]
    pub origin_service: String,
    #[serde(alias = "destination_service", default)]
    pub destination_service: Option<String>,
    #[serde(default)]
    pub id: String,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// Fields that some fleets write in `snake_case`, and that are not named in [`BusMessage`].
const RENAMED: [(&str, &str); 2] = [
    ("ack_id", "ackId"),
    ("ack_destination_service", "ackDestinationService"),
];

impl Event for BusMessage {
    const TOPIC: Topic = Topic::ConfigBus;
    const TYPE: &'static str = "BusMessage";

    fn key(&self) -> Option<String> {
        None
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(parse::to_json(self))
    }

    fn aggregate(&self) -> String {
        self.destination_service.clone().unwrap_or_else(|| "**".to_owned())
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        let mut message: Self = parse::json(record)?;
        for (snake, camel) in RENAMED {
            if let Some(value) = message.rest.remove(snake) {
                message.rest.entry(camel).or_insert(value);
            }
        }
        Ok(message)
    }
}
