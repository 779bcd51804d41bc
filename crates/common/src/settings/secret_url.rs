//! URLs of engines, which may hold a password.

use schemars::JsonSchema;
use serde::Deserialize;

/// A URL that may hold a password: shown without it.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretUrl(#[schemars(schema_with = "super::schema::engine_url")] String);

impl SecretUrl {
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `sqlite`, `mysql`, `mongodb`, `journal`, `kafka`, `file`, `s3`, `gs`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.0.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// What follows the scheme and its colon.
    #[must_use]
    pub fn rest(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, rest)| rest)
    }
}

impl From<&str> for SecretUrl {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:[redacted]", self.scheme())
    }
}
