//! `messageChange`: every replica completes the change, and makes the version 2 sockets that it holds of both people read their streams.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::MessageChanged;
use sosohappy_realtime::Hub;

use crate::domain::MessageId;
use crate::store::Store;

#[derive(Debug)]
pub struct MessageChanges {
    pub hub: Hub,
    pub store: Arc<dyn Store>,
}

#[async_trait]
impl Consumer<MessageChanged> for MessageChanges {
    async fn handle(&self, Envelope { event, .. }: Envelope<MessageChanged>) -> Result<(), HandleError> {
        self.store.complete(&MessageId::stored(event.message)).await?;
        self.hub.signal(&event.sender);
        self.hub.signal(&event.receiver);
        Ok(())
    }
}
