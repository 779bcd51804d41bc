//! `resign`: erases the account's posts, pictures, likes, bookmarks and comments, and sends auth a receipt.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_bus::relay::RelayHandle;
use sosohappy_common::{Context, crash_point};
use sosohappy_events::Envelope;
use sosohappy_events::types::{AccountErased, AccountResigned};
use sosohappy_store::Directory;

use crate::SERVICE;
use crate::housekeeping::GarbageHandle;
use crate::store::Store;

#[derive(Debug)]
pub struct Resigned {
    pub store: Arc<dyn Store>,
    pub directory: Arc<dyn Directory>,
    pub context: Context,
    pub relay: RelayHandle,
    pub garbage: GarbageHandle,
}

#[async_trait]
impl Consumer<AccountResigned> for Resigned {
    async fn handle(&self, Envelope { event, meta }: Envelope<AccountResigned>) -> Result<(), HandleError> {
        // Before the receipt, which says that everything is erased. Idempotent.
        self.directory.erase(&event.account, meta.occurred_at).await?;
        let receipt = AccountErased {
            account: event.account,
            service: SERVICE.to_owned(),
            resignation: meta.id,
        };
        let record = Envelope::new(receipt.clone(), &self.context).to_outgoing();
        let now = self.context.clock.now();
        self.store
            .erase(&receipt.account, meta.occurred_at, &record, now)
            .await?;
        crash_point("feed.account-erased");
        self.relay.wake();
        self.garbage.wake();
        Ok(())
    }
}
