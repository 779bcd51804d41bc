//! The typed settings of the dm service; `settings.toml` has the defaults and what each means.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use sosohappy_common::settings::{
    Access, ConfigClient, Credentials, Erasure, Events, Fleet, Log, RateLimits, SecretUrl, Server, Tracing, schema,
    valid,
};
use sosohappy_realtime::Limits;

use crate::domain::largest_frame;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Settings {
    pub server: Server,
    pub rate_limits: RateLimits,
    pub log: Log,
    pub tracing: Tracing,
    pub events: Events,
    pub fleet: Fleet,
    pub credentials: Credentials,
    pub config: ConfigClient,
    pub erasure: Erasure,
    pub access: Access,
    pub messages: MessageSettings,
    pub history: HistorySettings,
    pub sockets: Limits,
}

impl Settings {
    /// Returns the limits of sockets. A text within `messages.max-characters` fits in a frame whatever `sockets.frame-bytes` says.
    #[must_use]
    pub fn socket_limits(&self) -> Limits {
        let mut limits = self.sockets;
        limits.frame_bytes = limits.frame_bytes.max(largest_frame(self.messages.max_characters));
        limits
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct MessageSettings {
    pub url: SecretUrl,
    #[serde(deserialize_with = "valid::connections")]
    #[schemars(schema_with = "schema::connections")]
    pub max_connections: u32,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_characters: usize,
    #[serde(deserialize_with = "valid::duration_or_zero")]
    #[schemars(schema_with = "schema::duration_or_zero")]
    pub delivery_timeout: Duration,
    pub requests: bool,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct HistorySettings {
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_count: u32,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub frames: u32,
}
