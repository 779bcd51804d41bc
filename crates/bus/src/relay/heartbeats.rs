//! Heartbeats of a leading relay: readers that get none know that events may be missing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_common::Context;
use sosohappy_common::faults::Fault;
use sosohappy_common::lifecycle::Stage;
use sosohappy_events::types::RelayHeartbeat;
use sosohappy_events::{Envelope, Outgoing};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::{Bus, BusError};

const PERIOD: Duration = Duration::from_millis(500);

/// The moment up to which everything committed has been published; `None` without the lease.
pub(super) type PublishedUntil = watch::Sender<Option<Timestamp>>;

/// Spawns the task that publishes them, past the outbox: a heartbeat is worth nothing later.
pub(super) fn spawn(context: &Context, bus: Arc<dyn Bus>) -> PublishedUntil {
    let (sender, published_until) = watch::channel(None);
    let draining = context.lifecycle.draining_at(Stage::Publishing);
    let context = context.clone();
    let lifecycle = context.lifecycle.clone();
    lifecycle.spawn_at(Stage::Publishing, "relay-heartbeats", async move {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let faults = context.faults();
        let mut last = None;
        let mut in_flight = None;
        while draining.run_until_cancelled(ticks.tick()).await.is_some() {
            let until = *published_until.borrow();
            let is_busy = in_flight.as_ref().is_some_and(|task: &Publishing| !task.is_finished());
            // One at a time, so that heartbeats stay in order; one that the broker does not take in time is given up.
            if let Some(until) = until
                && last != Some(until)
                && !is_busy
                && !faults.has(Fault::MissingHeartbeats, &context.instance)
                && !faults.has(Fault::BrokerAway, &context.instance)
            {
                last = Some(until);
                let (bus, record) = (bus.clone(), heartbeat(&context, until));
                in_flight = Some(tokio::spawn(async move { bus.publish_reports(&[record]).await }));
            }
        }
        Ok(())
    });
    sender
}

type Publishing = tokio::task::JoinHandle<Result<(), BusError>>;

fn heartbeat(context: &Context, published_until: Timestamp) -> Outgoing {
    let heartbeat = RelayHeartbeat {
        service: context.service.to_string(),
        relay: context.instance.to_string(),
        sent_at: context.clock.now(),
        published_until,
    };
    Envelope::new(heartbeat, context).to_outgoing()
}
