//! Asks auth again about known tokens while revocations may be missing.

use std::sync::Arc;

use jiff::Timestamp;
use sosohappy_bus::Bus;
use sosohappy_common::{Account, Context};
use sosohappy_events::types::{SessionId, TokenDigest};

use crate::heartbeats::Heartbeats;
use crate::introspection::Confirmation;
use crate::{AuthClient, Caller, Revocations};

/// Clones share breaker, caches and revocations.
#[derive(Debug, Clone)]
pub struct Revalidation {
    pub(crate) auth: AuthClient,
    pub(crate) revocations: Revocations,
    pub(crate) heartbeats: Heartbeats,
}

impl Revalidation {
    /// Starts the reader of heartbeats; until the first one arrives, revocations may be missing.
    #[must_use]
    pub fn start(context: &Context, bus: &Arc<dyn Bus>, auth: AuthClient, revocations: Revocations) -> Self {
        Self {
            auth,
            revocations,
            heartbeats: Heartbeats::start(context, bus),
        }
    }

    /// Returns whether revocations may be missing in this replica.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.heartbeats.are_current()
    }

    /// Revokes the caller's session up to the caller's token when auth says that the token is no longer valid.
    pub async fn revalidate(&self, caller: &Caller) {
        self.check(&caller.account, &caller.token, caller.session, caller.issued_at)
            .await;
    }

    /// Leaves the token valid when auth does not answer.
    pub(crate) async fn check(
        &self,
        account: &Account,
        digest: &TokenDigest,
        session: SessionId,
        issued_at: Timestamp,
    ) {
        if self.auth.confirm(account, digest).await == Confirmation::Inactive {
            // Older tokens of the session are inactive as well; later ones may be active, and are asked about by themselves.
            self.revocations.close_session(account, session, issued_at);
        }
    }
}
