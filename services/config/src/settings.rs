//! The typed settings of the config service; `settings.toml` has the defaults and what each means.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use sosohappy_common::settings::{ConfigClient, Credentials, Events, Log, SecretUrl, Server, Tracing, valid};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    pub server: Server,
    pub log: Log,
    pub tracing: Tracing,
    pub events: Events,
    pub credentials: Credentials,
    /// Its own source is never another config service: `url` stays unset.
    pub config: ConfigClient,
    pub source: SourceSettings,
    pub encrypt: Encrypt,
    pub convergence: ConvergenceSettings,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SourceSettings {
    pub url: SecretUrl,
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
    pub accept_empty: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConvergenceSettings {
    #[serde(deserialize_with = "valid::duration")]
    pub late_after: Duration,
    #[serde(deserialize_with = "valid::duration")]
    pub forget_after: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Encrypt {
    pub key: Option<SecretString>,
    pub salt: String,
    pub enabled: bool,
}
