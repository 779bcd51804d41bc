//! `deviceToken`: where a Spring notice pushes to, which reads push tokens as the keys of `directMessage`.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::DeviceTokenSet;

use crate::store::Store;

#[derive(Debug)]
pub struct Devices(pub Arc<dyn Store>);

#[async_trait]
impl Consumer<DeviceTokenSet> for Devices {
    async fn handle(&self, Envelope { event, meta }: Envelope<DeviceTokenSet>) -> Result<(), HandleError> {
        let mut tokens: Vec<String> = match event.devices {
            Some(devices) => devices.into_iter().map(|device| device.token).collect(),
            // A Spring auth knows of one device an account.
            None => event.token.into_iter().collect(),
        };
        tokens.sort();
        tokens.dedup();
        Ok(self.0.set_devices(&event.account, &tokens, meta.occurred_at).await?)
    }
}
