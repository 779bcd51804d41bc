//! `moderationApplied`: a service has hidden or restored content as it was ordered to.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::ModerationApplied;

use crate::app::App;
use crate::moderation;

#[derive(Debug)]
pub struct NoteApplied(pub Arc<App>);

#[async_trait]
impl Consumer<ModerationApplied> for NoteApplied {
    /// The first answer counts. An order of an older release is not known, which is no error.
    async fn handle(&self, event: Envelope<ModerationApplied>) -> Result<(), HandleError> {
        Ok(moderation::note_applied(&self.0, event.event.order, event.meta.occurred_at).await?)
    }
}
