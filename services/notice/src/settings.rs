//! The typed settings of the notice service; `settings.toml` has the defaults and what each means.

use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use sosohappy_common::rate::Rate;
use sosohappy_common::settings::{
    Access, ConfigClient, Credentials, Erasure, Events, Fleet, HttpUrl, Log, RateLimits, SecretUrl, Server, Tracing,
    schema, valid,
};
use sosohappy_realtime::Limits;

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
    pub inbox: InboxSettings,
    pub push: PushSettings,
    pub sockets: Limits,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct InboxSettings {
    pub url: SecretUrl,
    #[serde(deserialize_with = "valid::connections")]
    #[schemars(schema_with = "schema::connections")]
    pub max_connections: u32,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub retention: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct PushSettings {
    pub url: SecretUrl,
    pub fcm: FcmSettings,
    pub apns: ApnsSettings,
    #[serde(deserialize_with = "valid::duration_or_zero")]
    #[schemars(schema_with = "schema::duration_or_zero")]
    pub delivery_timeout: Duration,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub max_age: Duration,
    /// How long the likes of a post are collected before they are pushed.
    #[serde(deserialize_with = "valid::duration_or_zero")]
    #[schemars(schema_with = "schema::duration_or_zero")]
    pub like_delay: Duration,
    /// How long a device is kept that is not seen.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub device_retention: Duration,
    /// Pushes of one thread: the likes of one post, the messages of one sender.
    pub per_thread: Rate,
    /// Pushes to one account.
    pub per_account: Rate,
}

impl PushSettings {
    /// Returns how long a like waits for its push, at least: a socket may show it, and others of the post are collected.
    pub fn like_wait(&self) -> Duration {
        self.delivery_timeout.max(self.like_delay)
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct FcmSettings {
    pub url: HttpUrl,
    #[schemars(schema_with = "schema::optional_secret")]
    pub service_account: SecretString,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct ApnsSettings {
    pub url: HttpUrl,
    #[schemars(schema_with = "schema::optional_secret")]
    pub key: SecretString,
    pub key_id: String,
    pub team_id: String,
    pub topic: String,
}
