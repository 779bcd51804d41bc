//! `deviceToken`: where pushes for an account go.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_events::Envelope;
use sosohappy_events::consume::{Consumer, HandleError};
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
        match devices {
            Some(devices) => self.0.list(&DeviceList { account, devices, at }).await?,
            None => {
                let session = None;
                let change = DeviceChange {
                    account,
                    session,
                    token,
                    at,
                };
                self.0.change(&change).await?;
            }
        }
        Ok(())
    }
}
