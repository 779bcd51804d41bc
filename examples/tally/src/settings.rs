//! The typed settings of the tally service; `settings.toml` has their defaults and descriptions.

use schemars::JsonSchema;
use serde::Deserialize;
use sosohappy_common::settings::{ConfigClient, Credentials, Erasure, Events, Fleet, Log, RateLimits, Server, Tracing};

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
}
