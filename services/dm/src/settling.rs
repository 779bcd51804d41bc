//! Settles conversations after their messages are stored ([`Store::settle`]), off the way of the messages.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sosohappy_common::Context;
use tokio::sync::mpsc;

use crate::domain::ConversationId;
use crate::store::Store;

/// Conversations in the queue. One more is dropped: its next message settles it.
const WAITING: usize = 10_000;
const BATCH: usize = 500;
/// For how long conversations are collected before they are settled: a conversation with many messages is settled once.
const COLLECT: Duration = Duration::from_millis(100);

/// Takes conversations that got a message. Clones write to the same queue.
#[derive(Debug, Clone)]
pub struct Settling(mpsc::Sender<ConversationId>);

impl Settling {
    pub fn spawn(context: &Context, store: &Arc<dyn Store>) -> Self {
        let (sender, mut waiting) = mpsc::channel(WAITING);
        let (store, draining) = (store.clone(), context.lifecycle.draining());
        context.lifecycle.spawn("settle-conversations", async move {
            let mut batch = Vec::new();
            while draining
                .run_until_cancelled(waiting.recv_many(&mut batch, BATCH))
                .await
                .is_some()
            {
                if batch.is_empty() {
                    // No sender is left.
                    return Ok(());
                }
                draining.run_until_cancelled(tokio::time::sleep(COLLECT)).await;
                while batch.len() < BATCH
                    && let Ok(conversation) = waiting.try_recv()
                {
                    batch.push(conversation);
                }
                for conversation in batch.drain(..).collect::<HashSet<_>>() {
                    if let Err(error) = store.settle(&conversation).await {
                        // The next message of the conversation settles it.
                        tracing::warn!(error = &error as &dyn std::error::Error, "settling conversation failed");
                    }
                }
            }
            Ok(())
        });
        Self(sender)
    }

    /// Settles a conversation soon.
    pub fn settle(&self, conversation: ConversationId) {
        if self.0.try_send(conversation).is_err() {
            tracing::debug!("settling queue full; conversation dropped");
        }
    }
}
