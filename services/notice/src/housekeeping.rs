//! Deletes notices, devices and memory against repeated events when they are old enough, and reads the size of the push queue.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_common::Context;
use sosohappy_common::settings::Live;
use tokio::time::MissedTickBehavior;

use crate::metrics::NoticeMetrics;
use crate::settings::Settings;
use crate::store::{Horizons, Store};

const EVERY: Duration = Duration::from_mins(10);

/// How often the gauges of the push queue are set.
const COUNTED_EVERY: Duration = Duration::from_secs(15);

/// Longer than any topic keeps a record that could be read again.
const MEMORY: Duration = Duration::from_hours(30 * 24);

/// Longer than the minute in which pushes are counted.
const WINDOWS: Duration = Duration::from_hours(1);

pub fn spawn(context: &Context, settings: Live<Settings>, store: Arc<dyn Store>, metrics: NoticeMetrics) {
    spawn_queue_gauges(context, store.clone(), metrics);
    let (clock, draining) = (context.clock.clone(), context.lifecycle.draining());
    context.lifecycle.spawn("notice-housekeeping", async move {
        let mut rounds = tokio::time::interval(EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while draining.run_until_cancelled(rounds.tick()).await.is_some() {
            let before = |age: Duration| clock.now().checked_sub(age).unwrap_or(Timestamp::MIN);
            let horizons = Horizons {
                notices: before(settings.get().inbox.retention),
                memory: before(MEMORY),
                windows: before(WINDOWS),
                devices: before(settings.get().push.device_retention),
            };
            if let Err(error) = store.sweep(horizons).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "deleting old notices failed");
            }
        }
        Ok(())
    });
}

fn spawn_queue_gauges(context: &Context, store: Arc<dyn Store>, metrics: NoticeMetrics) {
    let (clock, draining) = (context.clock.clone(), context.lifecycle.draining());
    context.lifecycle.spawn("push-queue-gauges", async move {
        let mut rounds = tokio::time::interval(COUNTED_EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while draining.run_until_cancelled(rounds.tick()).await.is_some() {
            // A database that is unavailable does not hold up the shutdown.
            let Some(queue) = draining.run_until_cancelled(store.push_queue()).await else {
                break;
            };
            match queue {
                Ok(queue) => metrics.queued(queue, clock.now()),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "counting waiting pushes failed"
                ),
            }
        }
        Ok(())
    });
}
