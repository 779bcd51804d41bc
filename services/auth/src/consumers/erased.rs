//! `erased`: a service gives its receipt for a resignation.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::AccountErased;

use crate::app::App;
use crate::error::Error;
use crate::resignations;

#[derive(Debug)]
pub struct CountReceipt(pub Arc<App>);

#[async_trait]
impl Consumer<AccountErased> for CountReceipt {
    /// A receipt is one row, however often it is delivered, so nothing else needs to be remembered.
    async fn handle(&self, event: Envelope<AccountErased>) -> Result<(), HandleError> {
        match resignations::acknowledge(&self.0, &event.event).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(HandleError::Rejected("there never was such a resignation".to_owned())),
            Err(Error::Store(error)) => Err(error.into()),
            Err(error) => Err(HandleError::Unavailable(error.into())),
        }
    }
}
