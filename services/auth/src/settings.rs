//! The typed settings of the auth service; `settings.toml` has the defaults and what each means.

use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use sosohappy_common::settings::{ConfigClient, Credentials, Events, Log, SecretUrl, Server, Tracing, schema, valid};

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    pub server: Server,
    pub log: Log,
    pub tracing: Tracing,
    pub events: Events,
    pub credentials: Credentials,
    pub config: ConfigClient,
    pub database: Database,
    pub images: ImageSettings,
    pub sign_in: SignIn,
    pub tokens: Tokens,
    pub sessions: Sessions,
    pub resignation: Resignation,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Database {
    pub url: SecretUrl,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_connections: u32,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImageSettings {
    pub url: SecretUrl,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_bytes: usize,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_pixels: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    None,
    IdToken,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SignIn {
    pub proof: Proof,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub code_lifetime: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tokens {
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub access_lifetime: Duration,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub refresh_lifetime: Duration,
    #[serde(deserialize_with = "valid::duration_or_zero")]
    #[schemars(schema_with = "schema::duration_or_zero")]
    pub rotation_grace: Duration,
    pub keys: Vec<SigningKey>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SigningKey {
    pub kid: String,
    #[schemars(schema_with = "schema::secret")]
    pub secret: SecretString,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sessions {
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub per_account: usize,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Resignation {
    pub services: Vec<String>,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub retry_after: Duration,
}
