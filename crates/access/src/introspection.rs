//! Calls to auth: `POST /auth-service/introspect` (RFC 7662 in spirit), `lookup` and `mutedWordsOf`, with the service credential,
//! a timeout, a circuit breaker, single flight and a negative cache of a second.

mod breaker;
mod client;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_common::Account;
use sosohappy_events::types::TokenDigest;

pub use client::{AuthClient, Confirmation};

/// The request of `POST /auth-service/introspect`, JSON. It names the token by its digest.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntrospectRequest {
    pub account: String,
    /// `sha256:<hex>` of the access token.
    pub token_digest: String,
}

impl IntrospectRequest {
    #[must_use]
    pub fn new(account: &Account, digest: &TokenDigest) -> Self {
        Self {
            account: account.as_str().to_owned(),
            token_digest: digest.to_string(),
        }
    }
}

/// Times in milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntrospectResponse {
    pub active: bool,
    /// 16 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// `user` or `admin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

impl IntrospectResponse {
    /// Returns the answer for an unknown, expired or revoked token: it does not tell which.
    #[must_use]
    pub const fn inactive() -> Self {
        Self {
            active: false,
            session: None,
            issued_at: None,
            expires_at: None,
            role: None,
        }
    }
}

/// The request of `POST /auth-service/lookup`, JSON: exactly one of `nickname` and `account`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LookupRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nickname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Another account: the answer says whether one of the two blocks the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
}

/// The answer of `lookup`: account and nickname, or both null when there is no such account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LookupResponse {
    pub account: Option<String>,
    pub nickname: Option<String>,
    /// Absent where there is none, and from an auth of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introduction: Option<String>,
    /// Absent without `other`, and when there is no such account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_blocked: Option<bool>,
}

/// The request of `POST /auth-service/mutedWordsOf`, JSON.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MutedWordsRequest {
    pub account: String,
}

/// A muted word in lower case and NFC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MutedWordEntry {
    pub word: String,
    /// Null: until it is taken off the list.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// The answer of `mutedWordsOf`: at most 200, in the order of their letters; none of an unknown account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MutedWordsResponse {
    pub words: Vec<MutedWordEntry>,
}
