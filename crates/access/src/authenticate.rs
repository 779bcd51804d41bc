//! The port behind the protected routes: from account and token to caller.

use async_trait::async_trait;
use sosohappy_common::{Account, Problem};

use crate::Caller;

/// Why a caller was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Missing, forged, expired or revoked: 403.
    #[error("access denied")]
    Refused,
    /// The token cannot be checked now: 503 with Retry-After.
    #[error("authentication unavailable")]
    Unavailable,
    /// The stored data of the caller is corrupt: 500.
    #[error("internal error")]
    Internal,
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Refused => Self::access_denied(),
            Denied::Unavailable => Self::unavailable(),
            Denied::Internal => Self::internal(),
        }
    }
}

/// Checks access tokens. Two implementations: the registry (feed, dm, notice) and auth's own table.
#[async_trait]
pub trait Authenticator: std::fmt::Debug + Send + Sync {
    /// Returns the caller if the token is this account's, not expired and not revoked.
    async fn authenticate(&self, account: &Account, token: &str) -> Result<Caller, Denied>;
}
