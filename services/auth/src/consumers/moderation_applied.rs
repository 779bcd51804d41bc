//! `moderationApplied`: a service says what became of an order to hide or restore content, or a moderator has decided about content there.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::{ModerationApplied, ModerationOutcome};

use crate::app::App;
use crate::error::Error;
use crate::moderation;

#[derive(Debug)]
pub struct NoteApplied(pub Arc<App>);

#[async_trait]
impl Consumer<ModerationApplied> for NoteApplied {
    /// The first answer counts. An order of an older release is not known, which is no error.
    async fn handle(&self, Envelope { event, meta }: Envelope<ModerationApplied>) -> Result<(), HandleError> {
        let Some(decision) = &event.decision else {
            let outcome = event.outcome.unwrap_or(ModerationOutcome::Applied);
            return Ok(moderation::note_answer(&self.0, event.order, outcome, meta.occurred_at).await?);
        };
        match moderation::note_decision(&self.0, &event, decision, meta.occurred_at).await {
            Ok(()) => Ok(()),
            Err(Error::Store(error)) => Err(error.into()),
            Err(error) => Err(HandleError::Unavailable(error.into())),
        }
    }
}
