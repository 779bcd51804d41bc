//! Who a request comes from, as its token says.

use axum::extract::FromRequestParts;
use http::request::Parts;
use sosohappy_common::{Account, Problem};
use sosohappy_events::types::{Role, SessionId, TokenDigest};

/// Present on every route behind [`crate::protect()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub account: Account,
    /// Of the presented token: what auth is asked about again.
    pub token: TokenDigest,
    pub session: SessionId,
    pub role: Role,
    /// When the presented token was issued: an `expired` of its session from before then is about an older token.
    pub issued_at: jiff::Timestamp,
    /// When the presented token ends; a socket is closed then.
    pub expires_at: jiff::Timestamp,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get().cloned().ok_or_else(|| {
            tracing::error!("caller missing: route is not protected");
            Problem::access_denied()
        })
    }
}
