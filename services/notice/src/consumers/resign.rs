//! `resign`: erases everything of the account, and acknowledges it to auth.

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_bus::relay::RelayHandle;
use sosohappy_common::crash_point;
use sosohappy_events::Envelope;
use sosohappy_events::types::{AccountErased, AccountResigned};

use crate::SERVICE;
use crate::delivery::Delivery;
use crate::store::Erasure;

pub struct Erase {
    pub delivery: Delivery,
    pub relay: RelayHandle,
}

#[async_trait]
impl Consumer<AccountResigned> for Erase {
    async fn handle(&self, Envelope { event, meta }: Envelope<AccountResigned>) -> Result<(), HandleError> {
        let account = event.account;
        let receipt = AccountErased {
            account: account.clone(),
            service: SERVICE.to_owned(),
            resignation: meta.id,
        };
        let receipt = Envelope::new(receipt, &self.delivery.context).to_outgoing();
        let erasure = Erasure {
            account,
            event: meta.id,
            at: meta.occurred_at,
            receipt,
        };
        self.delivery.store.erase(&erasure, self.delivery.now()).await?;
        crash_point("notice.account-erased");
        self.relay.wake();
        Ok(())
    }
}
