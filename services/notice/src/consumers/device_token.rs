//! `deviceToken`: where pushes for an account go.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_common::settings::Live;
use sosohappy_events::Envelope;
use sosohappy_events::types::DeviceTokenSet;

use crate::settings::Settings;
use crate::store::{DeviceChange, DeviceList, Store};

pub struct Change {
    pub settings: Live<Settings>,
    pub store: Arc<dyn Store>,
}

#[async_trait]
impl Consumer<DeviceTokenSet> for Change {
    async fn handle(&self, Envelope { event, meta }: Envelope<DeviceTokenSet>) -> Result<(), HandleError> {
        let DeviceTokenSet {
            account,
            token,
            devices,
            sessions,
        } = event;
        let at = meta.occurred_at;
        if let Some(devices) = devices {
            let unseen = self.settings.get().push.device_retention;
            let list = DeviceList {
                account,
                devices,
                sessions,
                at,
                seen_since: at.checked_sub(unseen).unwrap_or(Timestamp::MIN),
            };
            self.store.list(&list).await?;
        } else {
            let session = None;
            let change = DeviceChange {
                account,
                session,
                token,
                at,
            };
            self.store.change(&change).await?;
        }
        Ok(())
    }
}
