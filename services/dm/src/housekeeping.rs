//! Forgets resignations that no valid token can contradict any more, sweeps up after younger ones, forgets the keys of repeated frames, and
//! fills positions. Every replica does it; it is idempotent.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_common::Context;

use crate::store::Store;

const EVERY: Duration = Duration::from_hours(1);
const POSITIONS_EVERY: Duration = Duration::from_mins(1);
/// Names that were published this long ago are known.
const SETTLED: Duration = Duration::from_hours(1);
/// How long the copy of a reported message is kept at most: far longer than a report waits for its decision.
const REPORTED_KEPT: Duration = Duration::from_hours(180 * 24);
const REPEAT_KEYS_EVERY: Duration = Duration::from_mins(1);
/// Beyond the life of a token, for clocks that differ, and for a resignation that is delivered again: no topic keeps one longer
/// than a week.
const BEYOND: Duration = Duration::from_hours(192);

/// Messages without a position stand at the end of a conversation until this finds them.
fn spawn_positions(context: &Context, store: &Arc<dyn Store>) {
    let (store, mut rounds) = (store.clone(), context.lifecycle.rounds(POSITIONS_EVERY));
    context.lifecycle.spawn("message-positions", async move {
        while rounds.next().await {
            if let Err(error) = store.fill_positions().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "filling message positions failed; retrying"
                );
            }
        }
        Ok(())
    });
}

/// Frees the keys by which repeated frames are recognised.
fn spawn_repeat_keys(context: &Context, store: &Arc<dyn Store>) {
    let (store, clock) = (store.clone(), context.clock.clone());
    let mut rounds = context.lifecycle.rounds(REPEAT_KEYS_EVERY);
    context.lifecycle.spawn("repeat-keys", async move {
        while rounds.next().await {
            if let Err(error) = store.forget_repeat_keys(clock.now()).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "forgetting keys of repeated frames failed; retrying"
                );
            }
        }
        Ok(())
    });
}

pub fn spawn(context: &Context, store: &Arc<dyn Store>, token_lifetime: Duration) {
    spawn_positions(context, store);
    spawn_repeat_keys(context, store);
    let (store, clock) = (store.clone(), context.clock.clone());
    let keep = token_lifetime.saturating_add(BEYOND);
    let mut rounds = context.lifecycle.rounds(EVERY);
    context.lifecycle.spawn("forget-erasures", async move {
        while rounds.next().await {
            let before = clock.now().checked_sub(keep).unwrap_or(Timestamp::MIN);
            let settled = clock.now().checked_sub(SETTLED).unwrap_or(Timestamp::MIN);
            if let Err(error) = store.sweep(before, settled).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "resignation sweep failed");
            }
            let before = clock.now().checked_sub(REPORTED_KEPT).unwrap_or(Timestamp::MIN);
            if let Err(error) = store.forget_reported(before).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "deleting old copies of reported messages failed"
                );
            }
        }
        Ok(())
    });
}
