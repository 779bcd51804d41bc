//! Logs that a push was sent, without its text and receiver.

use async_trait::async_trait;
use sosohappy_events::EventId;

use super::{Gateway, PushError};
use crate::domain::PushMessage;

#[derive(Debug)]
pub struct LogGateway;

#[async_trait]
impl Gateway for LogGateway {
    async fn push(&self, _device: &str, event: EventId, message: &PushMessage) -> Result<(), PushError> {
        let kind = match message {
            PushMessage::Alert(text) => text.data.0,
            PushMessage::Handled { .. } => "handled",
            PushMessage::Badge(_) => "badge",
        };
        tracing::info!(%event, kind, "push delivered");
        Ok(())
    }
}
