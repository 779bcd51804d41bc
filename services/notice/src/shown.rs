//! Reports about notices that a socket has shown.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_bus::delivery::Hop;
use sosohappy_common::Context;
use sosohappy_common::clock::Clock;
use sosohappy_events::EventId;
use sosohappy_realtime::{Marks, OnShown};

use crate::metrics::{NoticeMetrics, Outcome};
use crate::store::Store;

/// The delivery of a notice that is older when its frame is queued is not measured: its client was away.
const MEASURED: Duration = Duration::from_secs(30);

/// Settles the pushes of shown notices, and measures their delivery. Clones share the queue of marks.
#[derive(Debug, Clone)]
pub struct ShownReports {
    marks: Marks<EventId>,
    metrics: NoticeMetrics,
    clock: Arc<dyn Clock>,
}

impl ShownReports {
    pub fn spawn(context: &Context, store: &Arc<dyn Store>, metrics: &NoticeMetrics) -> Self {
        let store = store.clone();
        let marks = Marks::spawn(context, move |notices: Vec<EventId>, at| {
            let store = store.clone();
            Box::pin(async move { store.settle(&notices, at).await })
        });
        Self {
            marks,
            metrics: metrics.clone(),
            clock: context.clock.clone(),
        }
    }

    /// Returns the report for a frame that is being queued.
    pub fn queued(&self, notice: EventId, occurred_at: Timestamp) -> OnShown {
        let is_measured = self.clock.now().duration_since(occurred_at).unsigned_abs() <= MEASURED;
        let reached = |hop: Hop| {
            let (metrics, clock) = (self.metrics.clone(), self.clock.clone());
            move || {
                if is_measured {
                    metrics.reached(hop, occurred_at, clock.now());
                }
            }
        };
        let (metrics, acknowledged) = (self.metrics.clone(), reached(Hop::Acknowledged));
        let on_shown = self.marks.on_shown(notice, move || {
            metrics.notice(Outcome::Shown);
            acknowledged();
        });
        on_shown.on_written(reached(Hop::Written))
    }
}
