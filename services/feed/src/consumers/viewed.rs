//! `post`: feed's own events keep the post view.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_common::Context;
use sosohappy_events::Envelope;
use sosohappy_events::types::PostChanged;

use crate::store::Store;

#[derive(Debug)]
pub struct Viewed {
    pub store: Arc<dyn Store>,
    pub context: Context,
}

#[async_trait]
impl Consumer<PostChanged> for Viewed {
    async fn handle(&self, Envelope { event, .. }: Envelope<PostChanged>) -> Result<(), HandleError> {
        Ok(self.store.apply_to_view(&event, self.context.clock.now()).await?)
    }
}
