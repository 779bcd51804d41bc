//! Forgets resignations that no living token can contradict any more, and sweeps up after younger ones. Every replica does it; to do it
//! twice changes nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_common::Context;

use crate::store::Store;

const EVERY: Duration = Duration::from_hours(1);
/// Beyond the life of a token, for clocks that differ, and for a resignation that is delivered again: no topic keeps one longer
/// than a week.
const BEYOND: Duration = Duration::from_hours(192);

pub fn spawn(context: &Context, store: &Arc<dyn Store>, token_lifetime: Duration) {
    let (store, clock, draining) = (store.clone(), context.clock.clone(), context.lifecycle.draining());
    let keep = token_lifetime.saturating_add(BEYOND);
    context.lifecycle.spawn("forget-erasures", async move {
        let mut tick = tokio::time::interval(EVERY);
        while draining.run_until_cancelled(tick.tick()).await.is_some() {
            let before = clock.now().checked_sub(keep).unwrap_or(Timestamp::MIN);
            if let Err(error) = store.sweep(before).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "resignation sweep failed");
            }
        }
        Ok(())
    });
}
