//! The port behind the closed routes: from account and token to caller.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_common::{Account, Problem};

use crate::{Caller, Names};

/// Why nobody was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Missing, forged, expired or revoked: 403.
    #[error("access denied")]
    Refused,
    /// Nobody could be asked: 503 with Retry-After.
    #[error("cannot be told now")]
    Unavailable,
    /// What is stored about the caller cannot be read: 500.
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

/// Tells whether this token is this account's. Two implementations: the registry (feed, dm, notice) and auth itself.
#[async_trait]
pub trait Authenticator: std::fmt::Debug + Send + Sync {
    async fn authenticate(&self, account: &Account, token: &str) -> Result<Caller, Denied>;
}

/// What the closed routes of a service need.
#[derive(Debug, Clone)]
pub struct Identity {
    pub authenticator: Arc<dyn Authenticator>,
    pub names: Arc<dyn Names>,
}
