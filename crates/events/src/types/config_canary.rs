//! `configCanary`: replicas of the config service agree on the canary that is running.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sosohappy_common::Context;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// No key. Value: JSON `{"originService","type","canary"?}`. Only config may write it, so that no other service can start, stop or
/// roll back a canary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryUpdated {
    /// The replica that sent it, by its bus id.
    pub origin_service: String,
    #[serde(flatten)]
    pub update: CanaryUpdate,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum CanaryUpdate {
    /// The newest canary that the sender knows.
    State { canary: Value },
    /// An operator asked the sender to publish the version that `canary.hold` keeps back.
    PublishHeldVersion,
}

impl CanaryUpdated {
    #[must_use]
    pub fn new(context: &Context, update: CanaryUpdate) -> Self {
        Self {
            origin_service: context.instance.to_string(),
            update,
        }
    }
}

impl Event for CanaryUpdated {
    const TOPIC: Topic = Topic::ConfigCanary;
    const TYPE: &'static str = "CanaryUpdated";

    fn key(&self) -> Option<String> {
        None
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(parse::to_json(self))
    }

    fn aggregate(&self) -> String {
        self.origin_service.clone()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        parse::json(record)
    }
}
