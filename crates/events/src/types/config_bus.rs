//! `configBus`: Spring Cloud Bus messages.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sosohappy_common::Context;

use super::parse;
use crate::{Event, EventId, Malformed, Record, Topic};

/// The package of Spring's own event classes, which acknowledgements name in full.
const PACKAGE: &str = "org.springframework.cloud.bus.event";
/// The destination of messages to all services.
const ALL: &str = "**";

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
    pub rest: Map<String, Value>,
}

/// The settings and the health of an instance. A message type of ours on Spring's topic: Spring services ignore unknown types.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingsReport {
    /// The version in the config service's answer; `None` without a config service.
    pub version: Option<String>,
    /// Changed keys that take effect at the next start.
    pub needs_restart: Vec<String>,
    /// Why the newest settings were refused; the older ones are in effect.
    pub refused: Option<String>,
    /// `UP`, or the failed checks; `None` from a service of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Flags that were evaluated since the last report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

impl BusMessage {
    /// Creates a message that makes its destination re-read its settings.
    pub const REFRESH: &str = "RefreshRemoteApplicationEvent";
    /// Creates a message that makes its destination override settings with these `values`.
    pub const ENVIRONMENT_CHANGE: &str = "EnvironmentChangeRemoteApplicationEvent";
    pub const ACK: &str = "AckRemoteApplicationEvent";
    /// Creates a message with a [`SettingsReport`].
    pub const REPORT: &str = "SettingsReportRemoteApplicationEvent";

    /// Creates a message of this instance.
    fn new(context: &Context, kind: &str, destination: &str, rest: Map<String, Value>) -> Self {
        Self {
            kind: kind.to_owned(),
            timestamp: context.clock.now().as_millisecond(),
            origin_service: context.instance.to_string(),
            destination_service: Some(destination.to_owned()),
            id: EventId::new(context).to_string(),
            rest,
        }
    }

    #[must_use]
    pub fn refresh(context: &Context, destination: &str) -> Self {
        Self::new(context, Self::REFRESH, destination, Map::new())
    }

    #[must_use]
    pub fn environment_change(context: &Context, destination: &str, values: Map<String, Value>) -> Self {
        let rest = Map::from_iter([("values".to_owned(), Value::Object(values))]);
        Self::new(context, Self::ENVIRONMENT_CHANGE, destination, rest)
    }

    /// Creates the acknowledgement of a message that this instance received.
    #[must_use]
    pub fn ack(context: &Context, of: &Self) -> Self {
        let rest = [
            ("ackId", json!(of.id)),
            ("ackDestinationService", json!(of.destination_service)),
            ("event", json!(format!("{PACKAGE}.{}", of.kind))),
        ];
        let rest = rest.map(|(key, value)| (key.to_owned(), value));
        Self::new(context, Self::ACK, ALL, Map::from_iter(rest))
    }

    #[must_use]
    pub fn report(context: &Context, report: &SettingsReport) -> Self {
        let rest = match serde_json::to_value(report) {
            Ok(Value::Object(rest)) => rest,
            other => unreachable!("a struct becomes an object, not {other:?}"),
        };
        Self::new(context, Self::REPORT, ALL, rest)
    }

    /// Returns the report of a [`Self::report`] message; `None` for other messages, and for a malformed report.
    #[must_use]
    pub fn to_report(&self) -> Option<SettingsReport> {
        let report = (self.kind == Self::REPORT).then(|| Value::Object(self.rest.clone()))?;
        serde_json::from_value(report).ok()
    }

    /// Returns the `values` of an [`Self::environment_change`] message.
    #[must_use]
    pub fn values(&self) -> Map<String, Value> {
        let values = self.rest.get("values").and_then(Value::as_object);
        values.cloned().unwrap_or_default()
    }
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
        self.destination_service.clone().unwrap_or_else(|| ALL.to_owned())
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
