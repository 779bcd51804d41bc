//! The typed settings of the notice service; `settings.toml` has the defaults and what each means.

use std::time::Duration;

use serde::Deserialize;
use sosohappy_common::settings::{Access, ConfigClient, Credentials, Events, Log, SecretUrl, Server, Tracing, valid};
use sosohappy_sockets::Limits;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    pub server: Server,
    pub log: Log,
    pub tracing: Tracing,
    pub events: Events,
    pub credentials: Credentials,
    pub config: ConfigClient,
    pub access: Access,
    pub inbox: InboxSettings,
    pub push: PushSettings,
    pub sockets: Limits,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct InboxSettings {
    pub url: SecretUrl,
    #[serde(deserialize_with = "valid::at_least_one")]
    pub max_connections: u32,
    #[serde(deserialize_with = "valid::duration")]
    pub retention: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PushSettings {
    pub url: SecretUrl,
    #[serde(deserialize_with = "valid::duration_or_zero")]
    pub grace: Duration,
    #[serde(deserialize_with = "valid::duration")]
    pub give_up_after: Duration,
}
