//! `post`: feed's own events keep the post view.

use std::slice::from_ref;
use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_common::Context;
use sosohappy_events::Envelope;
use sosohappy_events::types::PostChanged;

use crate::store::Store;

/// Events that are applied in one transaction. On `SQLite` one that commits keeps the requests that write waiting.
const APPLIED_AT_ONCE: usize = 100;

#[derive(Debug)]
pub struct Viewed {
    pub store: Arc<dyn Store>,
    pub context: Context,
}

#[async_trait]
impl Consumer<PostChanged> for Viewed {
    const MOST_AT_ONCE: usize = APPLIED_AT_ONCE;

    async fn handle(&self, Envelope { event, .. }: Envelope<PostChanged>) -> Result<(), HandleError> {
        Ok(self
            .store
            .apply_to_view(from_ref(&event), self.context.clock.now())
            .await?)
    }

    async fn handle_all(&self, events: Vec<Envelope<PostChanged>>) -> Result<(), HandleError> {
        let events: Vec<PostChanged> = events.into_iter().map(|Envelope { event, .. }| event).collect();
        Ok(self.store.apply_to_view(&events, self.context.clock.now()).await?)
    }
}
