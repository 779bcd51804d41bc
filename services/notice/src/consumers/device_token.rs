//! `deviceToken`: where pushes for an account go.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_events::Envelope;
use sosohappy_events::consume::{Consumer, HandleError};
use sosohappy_events::types::DeviceTokenSet;

use crate::store::{DeviceChange, Store};

pub struct Change(pub Arc<dyn Store>);

#[async_trait]
impl Consumer<DeviceTokenSet> for Change {
    async fn handle(&self, Envelope { event, meta }: Envelope<DeviceTokenSet>) -> Result<(), HandleError> {
        let DeviceTokenSet {
            account,
            token,
            session,
        } = event;
        Ok(self
            .0
            .change(&DeviceChange {
                account,
                session,
                token,
                at: meta.occurred_at,
            })
            .await?)
    }
}
