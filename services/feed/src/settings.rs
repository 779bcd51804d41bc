//! The typed settings of the feed service; `settings.toml` has the defaults and what each means.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use sosohappy_common::settings::{
    Access, ConfigClient, Credentials, Database, Events, Fleet, Log, RateLimits, SecretUrl, Server, Tracing, schema,
    valid,
};

use crate::domain::PostLimits;

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
    pub access: Access,
    pub database: Database,
    pub images: ImageSettings,
    pub post: PostLimits,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct ImageSettings {
    pub url: SecretUrl,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_bytes: usize,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_pixels: u64,
    #[serde(deserialize_with = "valid::duration_or_zero")]
    #[schemars(schema_with = "schema::duration_or_zero")]
    pub legacy_ids: Duration,
}
