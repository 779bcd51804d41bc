//! `socketFrame`: every replica writes the frame to the version 2 sockets that it holds of the account.

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::SocketFrameSent;
use sosohappy_realtime::Hub;

#[derive(Debug)]
pub struct SocketFrames(pub Hub);

#[async_trait]
impl Consumer<SocketFrameSent> for SocketFrames {
    async fn handle(&self, Envelope { event, .. }: Envelope<SocketFrameSent>) -> Result<(), HandleError> {
        self.0.send_unnumbered(&event.account, &event.frame);
        Ok(())
    }
}
