//! `resign`: deletes the messages that the person sent and received, and sends auth a receipt.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_bus::relay::RelayHandle;
use sosohappy_common::{Context, crash_point};
use sosohappy_events::Envelope;
use sosohappy_events::types::{AccountErased, AccountResigned};
use sosohappy_store::Directory;

use crate::SERVICE;
use crate::domain::Erasure;
use crate::store::Store;

#[derive(Debug)]
pub struct Resigned {
    pub store: Arc<dyn Store>,
    pub directory: Arc<dyn Directory>,
    pub context: Context,
    pub relay: RelayHandle,
}

#[async_trait]
impl Consumer<AccountResigned> for Resigned {
    async fn handle(&self, Envelope { event, meta }: Envelope<AccountResigned>) -> Result<(), HandleError> {
        // Before the receipt, which says that everything is deleted. Idempotent.
        self.directory.erase(&event.account, meta.occurred_at).await?;
        let receipt = AccountErased {
            account: event.account.clone(),
            service: SERVICE.to_owned(),
            resignation: meta.id,
        };
        let record = Envelope::new(receipt, &self.context).to_outgoing();
        let now = self.context.clock.now();
        let erasure = Erasure {
            account: event.account,
            nickname: event.nickname,
            until: meta.occurred_at,
            event: meta.id,
            now,
        };
        self.store.erase(&erasure, &record).await?;
        crash_point("dm.account-erased");
        self.relay.wake();
        Ok(())
    }
}
