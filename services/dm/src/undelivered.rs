//! Messages that no socket has shown in time, while the notice service is Spring's: it pushes every record that it reads, so dm publishes
//! a message to it only then. Our notice service decides about pushes by itself ([`sosohappy_events::types::MessageReceipt`]).

use std::sync::Arc;
use std::time::Duration;

use sosohappy_bus::relay::RelayHandle;
use sosohappy_common::Context;
use sosohappy_store::StoreError;

use crate::events;
use crate::store::Store;

const EVERY: Duration = Duration::from_secs(1);
const AT_ONCE: u32 = 100;

pub fn spawn(context: &Context, store: Arc<dyn Store>, relay: RelayHandle) {
    let (context, mut rounds) = (context.clone(), context.lifecycle.rounds(EVERY));
    context.lifecycle.clone().spawn("undelivered-messages", async move {
        while rounds.next().await {
            if let Err(error) = push(&context, &*store, &relay).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "publishing undelivered messages failed; retrying"
                );
            }
        }
        Ok(())
    });
}

async fn push(context: &Context, store: &dyn Store, relay: &RelayHandle) -> Result<(), StoreError> {
    let undelivered = store.undelivered(context.clock.now(), AT_ONCE).await?;
    for found in &undelivered {
        let event = events::sent(&found.message, found.stored_at, false, None, context);
        store
            .push(&found.message.id, &event.to_outgoing(), context.clock.now())
            .await?;
    }
    if !undelivered.is_empty() {
        relay.wake();
    }
    Ok(())
}
