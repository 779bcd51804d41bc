//! `deviceToken`: where pushes for an account go.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::DeviceTokenSet;

use crate::store::{DeviceChange, DeviceList, Store};

pub struct Change(pub Arc<dyn Store>);

#[async_trait]
impl Consumer<DeviceTokenSet> for Change {
    async fn handle(&self, Envelope { event, meta }: Envelope<DeviceTokenSet>) -> Result<(), HandleError> {
        let DeviceTokenSet {
            account,
            token,
            devices,
        } = event;
        let at = meta.occurred_at;
        if let Some(devices) = devices {
            self.0.list(&DeviceList { account, devices, at }).await?;
        } else {
            let session = None;
            let change = DeviceChange {
                account,
                session,
                token,
                at,
            };
            self.0.change(&change).await?;
        }
        Ok(())
    }
}
