//! Tells the other replicas, and the services that push, whose sockets are here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_common::lifecycle::Stage;
use sosohappy_common::{Account, Context};
use sosohappy_store::{Presence, StoreError};
use tokio::time::MissedTickBehavior;

use crate::Hub;

/// A replica that was killed counts as holding its sockets for this long.
const HELD: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The accounts of a hub, as the other replicas see them. Clones share it.
#[derive(Debug, Clone)]
pub struct Present {
    presence: Arc<dyn Presence>,
    hub: Hub,
    context: Context,
}

impl Present {
    /// Spawns the heartbeat.
    #[must_use]
    pub fn spawn(context: &Context, presence: Arc<dyn Presence>, hub: Hub) -> Self {
        let present = Self {
            presence,
            hub,
            context: context.clone(),
        };
        // Beats for as long as sockets are closed one after the other.
        let (beating, draining) = (present.clone(), context.lifecycle.draining_at(Stage::Consuming));
        context
            .lifecycle
            .spawn_at(Stage::Consuming, "presence-heartbeat", async move {
                let mut beat = tokio::time::interval(HEARTBEAT);
                beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while draining.run_until_cancelled(beat.tick()).await.is_some() {
                    beating.hold(&beating.hub.accounts()).await;
                }
                Ok(())
            });
        present
    }

    /// Whether any replica holds a socket of the account.
    pub async fn anywhere(&self, account: &Account) -> Result<bool, StoreError> {
        Ok(self.hub.online(account) || self.presence.online(account, self.now()).await?)
    }

    /// For [`crate::Protocol::opened`].
    pub async fn opened(&self, account: &Account) {
        self.hold(std::slice::from_ref(account)).await;
    }

    /// For [`crate::Protocol::closed`].
    pub async fn closed(&self, account: &Account) {
        if self.hub.online(account) {
            return;
        }
        if let Err(error) = self.presence.release(&self.context.instance, account).await {
            // The row runs out by itself.
            tracing::warn!(error = &error as &dyn std::error::Error, "releasing presence failed");
        }
        // Another socket of theirs was opened meanwhile, and its word may have been overtaken by ours.
        if self.hub.online(account) {
            self.opened(account).await;
        }
    }

    async fn hold(&self, accounts: &[Account]) {
        if accounts.is_empty() {
            return;
        }
        let until = self.now() + HELD;
        if let Err(error) = self.presence.hold(&self.context.instance, accounts, until).await {
            // The next beat tries again; until then somebody here may get a push beside the frame.
            tracing::warn!(error = &error as &dyn std::error::Error, "renewing presence failed");
        }
    }

    fn now(&self) -> Timestamp {
        self.context.clock.now()
    }
}
