//! The typed settings of the auth service; `settings.toml` has their defaults and descriptions.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use sosohappy_common::http::params::comma_list;
use sosohappy_common::rate::Rate;
use sosohappy_common::settings::{
    ConfigClient, Credentials, Database, Erasure, Events, Fleet, HttpUrl, Log, RateLimits, SecretUrl, Server, Tracing,
    schema, valid,
};
use sosohappy_media::ImageSettings;

use crate::domain::provider::Provider;

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
    pub database: Database,
    pub images: ImageSettings,
    #[serde(deserialize_with = "sign_in")]
    pub sign_in: SignIn,
    pub email: EmailAccounts,
    pub mail: MailSettings,
    pub passwords: PasswordSettings,
    pub tokens: Tokens,
    pub sessions: Sessions,
    pub nicknames: Nicknames,
    pub resignation: Resignation,
    pub apple: AppleSettings,
    pub kakao: KakaoSettings,
    pub moderation: Moderation,
    pub contact: Contact,
    pub connection_log: ConnectionLog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    None,
    IdToken,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct SignIn {
    pub proof: Proof,
    pub apple: ProviderSettings,
    pub google: ProviderSettings,
    pub kakao: ProviderSettings,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub code_lifetime: Duration,
    /// Failed sign-ins a minute of one account.
    pub failures_per_minute: Rate,
    /// Failed sign-ins a minute of all accounts.
    pub failures_of_all_per_minute: Rate,
    #[serde(deserialize_with = "valid::duration_or_zero")]
    #[schemars(schema_with = "schema::duration_or_zero")]
    pub slow_down: Duration,
}

impl SignIn {
    pub fn provider(&self, provider: Provider) -> &ProviderSettings {
        match provider {
            Provider::Apple => &self.apple,
            Provider::Google => &self.google,
            Provider::Kakao => &self.kakao,
        }
    }

    pub fn proof_of(&self, provider: Provider) -> Proof {
        self.provider(provider).proof.unwrap_or(self.proof)
    }
}

/// A provider that proves identities needs an audience.
fn sign_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SignIn, D::Error> {
    let sign_in = SignIn::deserialize(deserializer)?;
    for provider in Provider::ALL {
        if sign_in.proof_of(provider) == Proof::IdToken && sign_in.provider(provider).audience.is_empty() {
            return Err(D::Error::custom(format!(
                "{}.audience is empty; the app's client ids are required for proof = \"id-token\"",
                provider.as_str()
            )));
        }
    }
    Ok(sign_in)
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct ProviderSettings {
    /// In place of `sign-in.proof`.
    pub proof: Option<Proof>,
    #[serde(deserialize_with = "comma_list")]
    pub audience: Vec<String>,
    pub keys_url: HttpUrl,
    pub trust_address: bool,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct EmailAccounts {
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub code_lifetime: Duration,
    /// Codes a minute for one address.
    pub codes_per_minute: Rate,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct MailSettings {
    pub url: Option<SecretUrl>,
    pub ca: Option<PathBuf>,
    pub from: String,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct PasswordSettings {
    pub cost: PasswordCost,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub at_once: usize,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub waiting: usize,
}

/// The parameters of argon2id (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct PasswordCost {
    /// KiB.
    #[serde(deserialize_with = "password_memory")]
    #[schemars(range(min = 64, max = 1_048_576))]
    pub memory: u32,
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub iterations: u32,
    #[serde(deserialize_with = "password_lanes")]
    #[schemars(range(min = 1, max = 8))]
    pub parallelism: u32,
}

/// KiB, from what 8 lanes need to a gibibyte.
fn password_memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 64..=1_048_576)
}

fn password_lanes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 1..=8)
}

fn within<'de, D: Deserializer<'de>>(deserializer: D, range: RangeInclusive<u32>) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if range.contains(&number) {
        return Ok(number);
    }
    let (min, max) = range.into_inner();
    Err(D::Error::custom(format!("must be between {min} and {max}")))
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Tokens {
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub access_lifetime: Duration,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub refresh_lifetime: Duration,
    #[serde(deserialize_with = "signing_keys")]
    #[schemars(schema_with = "signing_keys_schema")]
    pub keys: Vec<SigningKey>,
    #[schemars(schema_with = "schema::secret")]
    pub legacy_key: SecretString,
    #[serde(deserialize_with = "signing_keys")]
    #[schemars(schema_with = "signing_keys_schema")]
    pub provider_keys: Vec<SigningKey>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct SigningKey {
    pub kid: String,
    #[schemars(schema_with = "schema::secret")]
    pub secret: SecretString,
}

fn signing_keys_schema(generator: &mut SchemaGenerator) -> Schema {
    let text = schema::secret(generator);
    let list = generator.subschema_for::<Vec<SigningKey>>();
    json_schema!({"anyOf": [text, list]})
}

/// A list of keys, or one text: `kid:secret,kid:secret`.
fn signing_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SigningKey>, D::Error> {
    struct Keys;

    impl<'de> Visitor<'de> for Keys {
        type Value = Vec<SigningKey>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of { kid, secret }, or `kid:secret` joined by commas")
        }

        // The text holds secrets: no error quotes it.
        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty());
            keys.map(|key| {
                let (kid, secret) = key
                    .split_once(':')
                    .ok_or_else(|| E::custom("`kid:secret`, joined by commas, is expected"))?;
                Ok(SigningKey {
                    kid: kid.to_owned(),
                    secret: secret.into(),
                })
            })
            .collect()
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut keys = Vec::new();
            while let Some(key) = items.next_element()? {
                keys.push(key);
            }
            Ok(keys)
        }
    }

    deserializer.deserialize_any(Keys)
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Sessions {
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub per_account: usize,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub lifetime: Duration,
    /// Re-issues a minute of one session.
    pub reissues_per_minute: Rate,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Nicknames {
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub reservation: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Resignation {
    #[serde(deserialize_with = "comma_list")]
    pub services: Vec<String>,
    #[serde(deserialize_with = "valid::duration_or_zero")]
    #[schemars(schema_with = "schema::duration_or_zero")]
    pub sign_up_wait: Duration,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub retry_after: Duration,
    pub ledger: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct AppleSettings {
    pub client_id: String,
    pub team_id: String,
    pub key_id: String,
    #[schemars(schema_with = "schema::secret")]
    pub private_key: SecretString,
    pub token_url: HttpUrl,
    pub revoke_url: HttpUrl,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Moderation {
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub deadline: Duration,
    /// Reports a minute of one account.
    pub reports_per_minute: Rate,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub report_retention: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct KakaoSettings {
    #[schemars(schema_with = "schema::secret")]
    pub admin_key: SecretString,
    pub app_id: String,
    pub unlink_url: HttpUrl,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Contact {
    pub email: String,
    pub url: String,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct ConnectionLog {
    pub enabled: bool,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub retention: Duration,
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use sosohappy_common::settings::{Sources, load};

    use super::*;

    async fn read(more: &[(&str, &str)]) -> Result<Settings, String> {
        let credentials = [
            ("credentials.service-token", "service-token-of-a-test"),
            ("credentials.operator-token", "operator-token-of-a-test"),
        ];
        let overrides = credentials.iter().chain(more);
        let sources = Sources {
            service: "auth",
            defaults: crate::DEFAULTS,
            file: None,
            overrides: overrides.map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            environment: false,
        };
        let live = load::<Settings>(&sources).await.map_err(|error| error.to_string())?;
        Ok(Settings::clone(&live.get()))
    }

    #[tokio::test]
    async fn no_claim_is_believed_by_default() {
        let told = read(&[]).await.expect_err("somebody must choose");
        assert_eq!(
            told,
            "sign-in.proof: missing; set it in a file or as SOSOHAPPY_AUTH__SIGN_IN__PROOF"
        );
    }

    #[tokio::test]
    async fn proof_needs_an_audience() {
        let mut settings = vec![("sign-in.proof", "id-token"), ("sign-in.apple.audience", "app")];
        let told = read(&settings).await.expect_err("an audience is missing");
        assert!(
            told.starts_with("sign-in: google.audience is empty; the app's client ids are required"),
            "{told}"
        );
        settings.extend([("sign-in.google.audience", "app"), ("sign-in.kakao.proof", "none")]);
        read(&settings).await.expect("valid");
    }

    #[tokio::test]
    async fn lists_can_be_given_as_one_text() {
        let settings = read(&[
            ("sign-in.proof", "none"),
            ("tokens.keys", "2024-05:a:b, 2024-04:c"),
            ("resignation.services", "feed-service, dm-service"),
        ])
        .await
        .expect("valid");
        let keys = settings.tokens.keys.iter();
        let keys: Vec<_> = keys.map(|key| (key.kid.as_str(), key.secret.expose_secret())).collect();
        assert_eq!(keys, [("2024-05", "a:b"), ("2024-04", "c")]);
        assert_eq!(settings.resignation.services, ["feed-service", "dm-service"]);

        let listed = read(&[
            ("sign-in.proof", "none"),
            ("tokens.keys[0].kid", "a"),
            ("tokens.keys[0].secret", "b"),
        ]);
        assert_eq!(listed.await.expect("valid").tokens.keys.len(), 1);
        let told = read(&[("sign-in.proof", "none"), ("tokens.keys", "hush")]).await;
        let told = told.expect_err("no kid");
        assert!(told.starts_with("tokens.keys: ") && !told.contains("hush"), "{told}");
    }
}
