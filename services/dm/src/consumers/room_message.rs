//! `roomMessage`: every replica makes the version 2 sockets that it holds of the members read their streams.

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::RoomMessageSent;
use sosohappy_realtime::Hub;

#[derive(Debug)]
pub struct RoomMessages(pub Hub);

#[async_trait]
impl Consumer<RoomMessageSent> for RoomMessages {
    async fn handle(&self, Envelope { event, .. }: Envelope<RoomMessageSent>) -> Result<(), HandleError> {
        for member in &event.members {
            self.0.signal(member);
        }
        Ok(())
    }
}
