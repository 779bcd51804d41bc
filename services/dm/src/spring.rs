//! Toward services of the legacy Spring fleet: messages as a Spring notice reads them, ids as a Spring dm reads them.

use std::sync::Arc;
use std::time::Duration;

use sosohappy_bus::BusError;
use sosohappy_bus::relay::RecordMapping;
use sosohappy_common::{Account, Context};
use sosohappy_events::{Mixed, Topic};

use crate::store::Store;

/// Returns the form in which the relay publishes a message: the one that the notice service reads at that moment.
pub fn message_records(mixed: &Mixed, store: &Arc<dyn Store>) -> RecordMapping {
    let (mixed, store) = (mixed.clone(), store.clone());
    Arc::new(move |record| {
        let (mixed, store) = (mixed.clone(), store.clone());
        Box::pin(async move {
            if record.topic != Topic::DirectMessage.default_name() {
                return Ok(vec![record]);
            }
            let account: Option<Account> = record.key.as_deref().and_then(|key| key.parse().ok());
            let devices = match account.filter(|_| mixed.pushes_by_spring_notice()) {
                Some(account) => store
                    .devices_of(&account)
                    .await
                    .map_err(|error| BusError::Unavailable(format!("push tokens: {error}")))?,
                None => Vec::new(),
            };
            Ok(mixed.direct_messages(&record, &devices))
        })
    })
}

const EVERY: Duration = Duration::from_secs(1);

/// Rewrites the ids of older messages while a Spring dm is there, from the start to the last one without a pause. An interrupted
/// pass is resumed. A Spring dm can read a conversation once all of its messages are rewritten, and every
/// conversation once the pass has ended, which is logged.
pub fn spawn_rewriting(context: &Context, store: Arc<dyn Store>) {
    let (holder, mut rounds) = (context.instance.clone(), context.lifecycle.rounds(EVERY));
    context.lifecycle.spawn("message-ids", async move {
        while rounds.next().await {
            let mut rewritten = false;
            loop {
                match rounds.interruptible(store.rewrite_ids(&holder)).await {
                    Some(Ok(true)) => rewritten = true,
                    Some(Ok(false)) => {
                        if rewritten {
                            tracing::info!("message ids rewritten");
                        }
                        break;
                    }
                    None => break,
                    Some(Err(error)) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "rewriting message ids failed; retrying"
                        );
                        break;
                    }
                }
            }
        }
        Ok(())
    });
}
