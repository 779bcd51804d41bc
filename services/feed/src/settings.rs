//! The typed settings of the feed service; `settings.toml` has their defaults and descriptions.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use sosohappy_common::settings::{
    Access, ConfigClient, Credentials, Database, Erasure, Events, Fleet, Log, RateLimits, Server, Tracing, schema,
    valid,
};
use sosohappy_media::ImageSettings;

use crate::domain::PostLimits;
use crate::domain::word_list::ReviewSettings;

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
    pub database: Database,
    pub images: ImageSettings,
    pub imported: Imported,
    pub post: PostLimits,
    pub review: ReviewSettings,
    pub recommendations: Recommendations,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Imported {
    #[serde(deserialize_with = "valid::duration_or_zero")]
    #[schemars(schema_with = "schema::duration_or_zero")]
    pub image_ids: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Recommendations {
    pub phrases: Option<PathBuf>,
}
