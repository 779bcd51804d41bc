//! Says that a push went; nothing of what it says or whom it reaches.

use async_trait::async_trait;
use sosohappy_events::EventId;

use super::{Gateway, PushError};
use crate::domain::PushText;

#[derive(Debug)]
pub struct LogGateway;

#[async_trait]
impl Gateway for LogGateway {
    async fn push(&self, _device: &str, event: EventId, text: &PushText) -> Result<(), PushError> {
        tracing::info!(%event, data = text.data.0, "push delivered");
        Ok(())
    }
}
