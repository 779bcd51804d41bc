//! Remembers which messages were shown, in batches: whoever shows them does not wait for it.

use std::sync::Arc;
use std::time::Duration;

use sosohappy_common::Context;
use sosohappy_common::lifecycle::Stage;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::domain::MessageId;
use crate::store::Store;

/// Marks waiting to be written; a mark over it is left out, and counts as a message that was not shown: it gets a push.
const WAITING: usize = 20_000;
const BATCH: usize = 500;
/// For how long marks are collected before they are written.
const COLLECT: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub struct DeliveredHandle(mpsc::Sender<MessageId>);

impl DeliveredHandle {
    pub fn mark(&self, message: MessageId) {
        match self.0.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => tracing::warn!("delivered-mark queue full; mark dropped"),
            Err(TrySendError::Closed(_)) => tracing::debug!("shutting down; delivered mark dropped"),
        }
    }
}

pub fn spawn(context: &Context, store: Arc<dyn Store>) -> DeliveredHandle {
    let (sender, mut marks) = mpsc::channel(WAITING);
    let (clock, draining) = (context.clock.clone(), context.lifecycle.draining_at(Stage::Publishing));
    context
        .lifecycle
        .spawn_at(Stage::Publishing, "delivered-marks", async move {
            let mut batch = Vec::with_capacity(BATCH);
            loop {
                let leaving = draining
                    .run_until_cancelled(marks.recv_many(&mut batch, BATCH))
                    .await
                    .is_none();
                if leaving {
                    while let Ok(mark) = marks.try_recv() {
                        batch.push(mark);
                    }
                } else if batch.len() < BATCH {
                    draining.run_until_cancelled(tokio::time::sleep(COLLECT)).await;
                    while batch.len() < BATCH
                        && let Ok(mark) = marks.try_recv()
                    {
                        batch.push(mark);
                    }
                }
                for marks in batch.chunks(BATCH) {
                    if let Err(error) = store.delivered(marks, clock.now()).await {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "marking delivered messages failed"
                        );
                    }
                }
                batch.clear();
                if leaving {
                    return Ok(());
                }
            }
        });
    DeliveredHandle(sender)
}
