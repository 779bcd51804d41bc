//! The authenticated caller of a request.

use std::fmt;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use sosohappy_common::{Account, Problem};
use sosohappy_events::types::{Role, SessionId, TokenDigest};

/// Present on every route behind [`crate::protect()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub account: Account,
    /// The digest of the presented token, by which auth is asked again.
    pub token: TokenDigest,
    pub session: SessionId,
    pub role: Role,
    /// When the presented token was issued: an earlier `expired` of its session is about an older token.
    pub issued_at: jiff::Timestamp,
    /// When the presented token expires; a socket is closed then.
    pub expires_at: jiff::Timestamp,
    /// Kept only while auth is a Spring service, which accepts no other credential.
    pub bearer: Option<Bearer>,
}

/// An access token as it was presented. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(Arc<str>);

impl Bearer {
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(token.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
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

/// The caller of a call that moderators and admins may make; others get 403 `role-required`.
#[derive(Debug, Clone)]
pub struct Moderator(pub Caller);

/// The caller of a call that admins may make; others get 403 `role-required`.
#[derive(Debug, Clone)]
pub struct Admin(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for Moderator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let required = "the role moderator or admin is required";
        with_role(parts, state, Role::Moderator, required).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let required = "the role admin is required";
        with_role(parts, state, Role::Admin, required).await.map(Self)
    }
}

/// Returns the caller if their role is this one or a higher one.
async fn with_role<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    role: Role,
    required: &'static str,
) -> Result<Caller, Problem> {
    let caller = Caller::from_request_parts(parts, state).await?;
    if caller.role >= role {
        Ok(caller)
    } else {
        Err(Problem::role_required().detail(required))
    }
}
