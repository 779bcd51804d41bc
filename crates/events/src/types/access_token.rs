//! `accessToken`: auth issued an access token; feed, dm and notice accept it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sosohappy_common::Account;

use super::parse;
use crate::{Event, Malformed, Record, Topic};

/// The header that names a session.
pub(super) const SESSION_ID: &str = "session-id";
const ISSUED_AT: &str = "issued-at";
const EXPIRES_AT: &str = "expires-at";
const ROLE: &str = "role";

/// The most bytes of a token: more than fits into the headers of a request.
const MAX_TOKEN: usize = 16 * 1024;

/// SHA-256 of an access token; `sha256:<64 hex digits>` in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest(pub [u8; 32]);

impl TokenDigest {
    const PREFIX: &'static str = "sha256:";

    #[must_use]
    pub fn of(token: &str) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(token.as_bytes()).into())
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, hex::encode(self.0))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token digest is `sha256:` and 64 hex digits")]
pub struct InvalidDigest;

impl FromStr for TokenDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        let digits = text.strip_prefix(Self::PREFIX).ok_or(InvalidDigest)?;
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| InvalidDigest)?;
        Ok(Self(bytes))
    }
}

/// One sign-in on one device; random, not a secret. 16 hex digits on the wire, in headers and in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    /// Returns the session of a token without a session id: each such token is a session of its own.
    #[must_use]
    pub fn of_digest(digest: &TokenDigest) -> Self {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest.0[..8]);
        Self(u64::from_be_bytes(bytes))
    }

    /// Reads the header of ours that names a session.
    pub(super) fn of_header(record: &Record) -> Result<Option<Self>, Malformed> {
        record.header_as(SESSION_ID, |text| text.parse().ok())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session id is 16 hex digits")]
pub struct InvalidSession;

impl FromStr for SessionId {
    type Err = InvalidSession;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidSession)?;
        Ok(Self(u64::from_be_bytes(bytes)))
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// What an account may do beside acting for itself: `user`, `moderator` or `admin` in text. An admin may do all that a moderator may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Role {
    #[default]
    User,
    Moderator,
    Admin,
}

impl Role {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Moderator => "moderator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is `user`, `moderator` or `admin`")]
pub struct InvalidRole;

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::User, Self::Moderator, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(InvalidRole)
    }
}

/// Key: account. Value: `sha256:<hex>` or, in a mixed fleet, the token itself. Headers `session-id`, `issued-at`,
/// `expires-at` (milliseconds since the epoch), `role`. A Spring service sends none: then the session is derived from the
/// digest, and the lifetime is that of the token's `iat` and `exp`, else begins at the record's timestamp.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessTokenIssued {
    pub account: Account,
    pub digest: TokenDigest,
    /// The token itself, published while a Spring service reads the topic; never stored, never decoded.
    pub raw: Option<String>,
    pub session: SessionId,
    pub role: Role,
    pub issued_at: Timestamp,
    /// `None` when the record has no expiry: the reader adds the token lifetime to `issued_at`.
    pub expires_at: Option<Timestamp>,
}

impl fmt::Debug for AccessTokenIssued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokenIssued")
            .field("session", &self.session)
            .field("role", &self.role)
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Event for AccessTokenIssued {
    const TOPIC: Topic = Topic::AccessToken;
    const TYPE: &'static str = "AccessTokenIssued";

    fn key(&self) -> Option<String> {
        Some(self.account.as_str().to_owned())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(self.raw.clone().unwrap_or_else(|| self.digest.to_string()).into_bytes())
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            (SESSION_ID, self.session.to_string()),
            (ISSUED_AT, self.issued_at.as_millisecond().to_string()),
            (ROLE, self.role.to_string()),
        ];
        headers.extend(self.expires_at.map(|at| (EXPIRES_AT, at.as_millisecond().to_string())));
        headers
    }

    fn aggregate(&self) -> String {
        self.account.as_str().to_owned()
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        let value = record.value_text()?;
        let (digest, life) = if value.starts_with(TokenDigest::PREFIX) {
            let digest = value
                .parse()
                .map_err(|error: InvalidDigest| Malformed::new(error.to_string()))?;
            (digest, Life::default())
        } else if value.is_empty() || value.len() > MAX_TOKEN {
            return Err(Malformed::new("the value is not an access token"));
        } else {
            (TokenDigest::of(value), Life::of(value))
        };
        let issued_at = record
            .header_millis(ISSUED_AT)?
            .or_else(|| instant(life.iat?))
            .unwrap_or(record.timestamp);
        Ok(Self {
            account: parse::key_account(record)?,
            digest,
            raw: None,
            session: SessionId::of_header(record)?.unwrap_or_else(|| SessionId::of_digest(&digest)),
            // A role of a later release has no rights here that a user does not have.
            role: record
                .header(ROLE)
                .and_then(|role| role.parse().ok())
                .unwrap_or_default(),
            issued_at,
            expires_at: record.header_millis(EXPIRES_AT)?.or_else(|| instant(life.exp?)),
        })
    }
}

/// The lifetime claims of a JWT, in seconds since the epoch. Not verified: only auth may write to the topic.
#[derive(Debug, Default, Deserialize)]
struct Life {
    iat: Option<f64>,
    exp: Option<f64>,
}

impl Life {
    /// Returns empty claims for a token that is not a JWT.
    fn of(token: &str) -> Self {
        let claims = token
            .split('.')
            .nth(1)
            .and_then(|claims| URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok());
        claims
            .and_then(|claims| serde_json::from_slice(&claims).ok())
            .unwrap_or_default()
    }
}

/// A JWT's `NumericDate`, which may have a fraction.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float beyond the range saturates, and is then refused"
)]
fn instant(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond((seconds * 1000.0) as i64).ok()
}
