//! `roomMessage`: every replica completes a message or a change, and makes the version 2 sockets that it holds of the members read their
//! streams.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::RoomMessageSent;
use sosohappy_realtime::Hub;

use crate::domain::MessageId;
use crate::store::Store;

#[derive(Debug)]
pub struct RoomMessages {
    pub hub: Hub,
    pub store: Arc<dyn Store>,
}

#[async_trait]
impl Consumer<RoomMessageSent> for RoomMessages {
    async fn handle(&self, Envelope { event, .. }: Envelope<RoomMessageSent>) -> Result<(), HandleError> {
        let message = MessageId::stored(event.message);
        let late = if event.change.is_some() {
            self.store.complete(&message).await?;
            Vec::new()
        } else {
            self.store.enlist_late(&event.room, &message, &event.members).await?
        };
        for member in event.members.iter().chain(&late) {
            self.hub.signal(member);
        }
        Ok(())
    }
}
