//! The typed settings of the config service; `settings.toml` has the defaults and what each means.

use std::collections::BTreeMap;
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
    pub state: StateSettings,
    pub check: CheckSettings,
    /// Tokens by the application that shows them.
    pub applications: BTreeMap<String, ApplicationToken>,
    /// Nested as in a file.
    pub overrides: serde_json::Map<String, serde_json::Value>,
    pub encrypt: Encrypt,
    pub webhooks: Webhooks,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct ApplicationToken(#[serde(deserialize_with = "valid::credential")] pub SecretString);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SourceSettings {
    pub url: SecretUrl,
    #[serde(default, with = "humantime_serde::option")]
    pub poll: Option<Duration>,
    pub accept_empty: bool,
    pub default_label: Option<String>,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    #[serde(deserialize_with = "valid::duration")]
    pub timeout: Duration,
    pub ssh_command: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StateSettings {
    pub folder: String,
    #[serde(deserialize_with = "valid::at_least_one")]
    pub versions: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownKeys {
    Refuse,
    Accept,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CheckSettings {
    pub enabled: bool,
    pub unknown_keys: UnknownKeys,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CipherForm {
    /// Spring's: hex of AES-256-CBC.
    Spring,
    /// Ours: AES-256-GCM.
    Gcm,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Encrypt {
    pub key: Option<SecretString>,
    /// By alias.
    pub keys: BTreeMap<String, SecretString>,
    pub salt: String,
    pub enabled: bool,
    pub form: CipherForm,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Webhooks {
    pub secret: Option<SecretString>,
    #[serde(deserialize_with = "valid::duration")]
    pub tolerance: Duration,
}
