//! The typed settings of the config service; `settings.toml` has their defaults and descriptions.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use sosohappy_common::http::params::comma_list;
use sosohappy_common::settings::{
    ConfigClient, Credentials, Erasure, Events, Fleet, Log, RateLimits, SecretUrl, Server, Tracing, schema, valid,
};

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
    /// `url` stays unset: config reads its settings from no other config service.
    pub config: ConfigClient,
    pub erasure: Erasure,
    pub source: SourceSettings,
    pub state: StateSettings,
    pub check: CheckSettings,
    /// Tokens by application.
    pub applications: BTreeMap<String, ApplicationToken>,
    /// Nested as in a file.
    pub overrides: serde_json::Map<String, serde_json::Value>,
    pub encrypt: Encrypt,
    pub webhooks: Webhooks,
    pub convergence: ConvergenceSettings,
    pub canary: CanarySettings,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ApplicationToken(
    #[serde(deserialize_with = "valid::credential")]
    #[schemars(schema_with = "schema::credential")]
    pub SecretString,
);

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct SourceSettings {
    pub url: SecretUrl,
    #[serde(default, deserialize_with = "valid::optional_duration")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub poll: Option<Duration>,
    pub accept_empty: bool,
    pub default_label: Option<String>,
    #[serde(deserialize_with = "comma_list")]
    pub search_paths: Vec<String>,
    pub submodules: bool,
    pub username: Option<String>,
    #[schemars(schema_with = "schema::optional_secret")]
    pub password: Option<SecretString>,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Duration,
    pub ssh_command: String,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct StateSettings {
    pub folder: String,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub versions: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Handling {
    Refuse,
    Accept,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct CheckSettings {
    pub enabled: bool,
    pub unknown_keys: Handling,
    pub fault_flags: Handling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CipherForm {
    /// Spring's: hex of AES-256-CBC.
    Spring,
    /// Ours: AES-256-GCM.
    Gcm,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct ConvergenceSettings {
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub late_after: Duration,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub forget_after: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct CanarySettings {
    pub hold: bool,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub wait: Duration,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub watch: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Encrypt {
    #[schemars(schema_with = "schema::optional_secret")]
    pub key: Option<SecretString>,
    /// By alias.
    #[schemars(schema_with = "schema::secrets")]
    pub keys: BTreeMap<String, SecretString>,
    pub salt: String,
    pub enabled: bool,
    pub form: CipherForm,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Webhooks {
    #[schemars(schema_with = "schema::optional_secret")]
    pub secret: Option<SecretString>,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub tolerance: Duration,
}
