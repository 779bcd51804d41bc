//! `accountState`: the pictures of a suspended author get new ids, as those of a hidden post do, and counts follow.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::{AccountStateChanged, State};

use crate::housekeeping::RenewalHandle;
use crate::store::Store;

#[derive(Debug)]
pub struct Suspended {
    pub store: Arc<dyn Store>,
    pub renewals: RenewalHandle,
}

#[async_trait]
impl Consumer<AccountStateChanged> for Suspended {
    /// An author who was restored keeps the new ids, so that a late or repeated record does no harm.
    async fn handle(&self, Envelope { event, meta }: Envelope<AccountStateChanged>) -> Result<(), HandleError> {
        let is_suspended = event.state == State::Suspended;
        self.store
            .set_suspended(&event.account, is_suspended, meta.occurred_at)
            .await?;
        if is_suspended {
            self.store.request_renewal(&event.account, meta.occurred_at).await?;
        }
        self.renewals.wake();
        Ok(())
    }
}
