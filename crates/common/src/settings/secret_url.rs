//! URLs that may hold a password.

use std::ops::{Deref, DerefMut};

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use url::Url;

/// The URL of an engine, which may hold a password: formatted without it.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretUrl(#[schemars(schema_with = "super::schema::engine_url")] String);

impl SecretUrl {
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the scheme: `sqlite`, `mysql`, `mongodb`, `journal`, `kafka`, `file`, `s3`, `gs`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.0.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// Returns the text after the scheme and its colon.
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

/// A URL of HTTP, which may hold a user and a password: formatted without them, dereferenced as the full [`Url`].
#[derive(Clone, PartialEq, Eq, JsonSchema)]
#[serde(transparent)]
pub struct HttpUrl(Url);

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Only the parser's reason: the error of serde would quote the URL.
        let text = String::deserialize(deserializer)?;
        let url = Url::parse(&text).map_err(|error| D::Error::custom(format!("a URL is expected: {error}")))?;
        Ok(Self(url))
    }
}

impl std::fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = self.0.clone();
        // Fails for a URL that cannot have them, and then has none.
        if shown.set_username("").is_ok() && shown.set_password(None).is_ok() {
            shown.fmt(f)
        } else {
            self.0.fmt(f)
        }
    }
}

impl std::fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Deref for HttpUrl {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.0
    }
}

impl DerefMut for HttpUrl {
    fn deref_mut(&mut self) -> &mut Url {
        &mut self.0
    }
}

impl From<Url> for HttpUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl std::str::FromStr for HttpUrl {
    type Err = url::ParseError;

    fn from_str(text: &str) -> Result<Self, url::ParseError> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let url: HttpUrl = "http://fleet:hush@config:8888/config-service".parse().expect("a URL");
        assert_eq!(url.to_string(), "http://config:8888/config-service");
        assert_eq!(format!("{url:?}"), "http://config:8888/config-service");
        assert_eq!(url.password(), Some("hush"), "but sent");
    }
}
